"""``header-profile-handler``: the profile that a request header names.

For callers that run the stages of disaggregated serving themselves, one request after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferway.scheduling.decision import Refusal, RefusalReason
from inferway.scheduling.plugins.base import Context
from inferway.scheduling.plugins.types import (
    Kind,
    Making,
    Parameter,
    PluginType,
    Signal,
    Stability,
    not_empty,
)
from inferway.scheduling.profile import Choice, Profile, ProfileHandler


class HeaderProfileHandler(ProfileHandler):
    """Without the header the default profile; a single profile runs whatever the header says."""

    def __init__(self, making: Making) -> None:
        self._header: str = making.parameters["headerName"].lower()
        self._default: str = making.parameters["defaultProfile"]

    def choose(self, profiles: Mapping[str, Profile], context: Context, slots: list[int]) -> Choice:
        if len(profiles) == 1:
            name = next(iter(profiles))
        else:
            name = context.request.headers.get(self._header, "").strip() or self._default
        choice = Choice(name)
        profile = profiles.get(name)
        if profile is None:
            choice.refusal = Refusal(
                RefusalReason.UNKNOWN_PROFILE,
                f"The header {self._header} names the scheduling profile {name!r}. Profiles of "
                f"this pool: {', '.join(sorted(profiles))}.",
            )
            return choice
        choice.picked[name], choice.score = profile.run(context, slots)
        return choice

    def check(self, profiles: Sequence[str]) -> str:
        if len(profiles) < 2 or self._default in profiles:
            return ""
        return f"header-profile-handler needs its default profile {self._default!r}"


TYPE = PluginType(
    "header-profile-handler",
    Kind.PROFILE_HANDLER,
    HeaderProfileHandler,
    {
        "headerName": Parameter(str, "EPP-Profile", not_empty, "Header that names the profile."),
        "defaultProfile": Parameter(str, "decode", not_empty, "Profile without the header."),
    },
    does="Runs the profile that the header names, else the default one.",
    signals=(Signal.HEADERS,),
    stability=Stability.ALPHA,
    headers=lambda values: (values["headerName"],),
)

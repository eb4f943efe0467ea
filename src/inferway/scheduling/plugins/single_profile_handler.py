"""``single-profile-handler``: the only profile, for every request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferway.scheduling.plugins.base import Context
from inferway.scheduling.plugins.types import Kind, PluginType, plain
from inferway.scheduling.profile import Choice, Profile, ProfileHandler


class SingleProfileHandler(ProfileHandler):
    """Runs it once."""

    def choose(self, profiles: Mapping[str, Profile], context: Context, slots: list[int]) -> Choice:
        for name, profile in profiles.items():
            choice = Choice(name)
            choice.picked[name], choice.score = profile.run(context, slots)
            return choice
        raise AssertionError("a policy has a profile")

    def check(self, profiles: Sequence[str]) -> str:
        return "" if len(profiles) == 1 else "single-profile-handler takes exactly one profile"


TYPE = PluginType(
    "single-profile-handler",
    Kind.PROFILE_HANDLER,
    plain(SingleProfileHandler),
    does="Runs the only profile.",
)

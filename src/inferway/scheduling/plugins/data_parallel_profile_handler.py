"""``data-parallel-profile-handler``: the rank in a header, the request to the Pod's first port.

A sidecar behind that port passes the request on to the rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferway.scheduling.plugins.base import Context, Placed
from inferway.scheduling.plugins.types import Kind, Making, Parameter, PluginType, between
from inferway.scheduling.profile import Choice, Profile, ProfileHandler

HEADER = "x-data-parallel-host-port"
PORT = 8000


class DataParallelProfileHandler(ProfileHandler):
    """Runs the only profile, and sends the request to the primary port of the Pod."""

    def __init__(self, making: Making) -> None:
        self.port: int = making.parameters["primaryPort"]

    def choose(self, profiles: Mapping[str, Profile], context: Context, slots: list[int]) -> Choice:
        name, profile = next(iter(profiles.items()))
        choice = Choice(name)
        choice.picked[name], choice.score = profile.run(context, slots)
        return choice

    def request_headers(self, placed: Placed) -> Sequence[tuple[str, str]]:
        slot = placed.slot()
        if slot is None:
            return ()
        return ((HEADER, placed.context.snapshot.columns.address[slot]),)

    def check(self, profiles: Sequence[str]) -> str:
        if len(profiles) == 1:
            return ""
        return "data-parallel-profile-handler takes exactly one profile"


TYPE = PluginType(
    "data-parallel-profile-handler",
    Kind.PROFILE_HANDLER,
    DataParallelProfileHandler,
    {"primaryPort": Parameter(int, PORT, between(1, 65535), "Port that requests are sent to.")},
    does=f"Runs the only profile; `{HEADER}` names the server, the request goes to primaryPort.",
    instead="single-profile-handler",
)

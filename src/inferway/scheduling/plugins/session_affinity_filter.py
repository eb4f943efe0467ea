"""``session-affinity-filter``: a session stays on its server while that is there."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Filter
from inferway.scheduling.plugins.sessions import (
    PARAMETERS,
    SessionAffinity,
    headers,
    makes_sessions,
)
from inferway.scheduling.plugins.types import Kind, PluginType, Signal, Stability


class SessionAffinityFilter(SessionAffinity, Filter):
    """The session's server alone; all if it has none or that is no candidate."""

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        found = self.bound(context, slots)
        return slots if found is None else [found]


TYPE = PluginType(
    "session-affinity-filter",
    Kind.FILTER,
    SessionAffinityFilter,
    PARAMETERS,
    does="The session's server alone; all if it has none, or that is not among them.",
    signals=(Signal.HEADERS,),
    stability=Stability.ALPHA,
    headers=headers,
    names=makes_sessions,
)

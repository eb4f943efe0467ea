"""``session-affinity-scorer``: a session had better stay on its server."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Scorer
from inferway.scheduling.plugins.sessions import (
    PARAMETERS,
    SessionAffinity,
    headers,
    makes_sessions,
)
from inferway.scheduling.plugins.types import Kind, PluginType, Signal, Stability


class SessionAffinityScorer(SessionAffinity, Scorer):
    """1 for the session's server, else 0."""

    def score(self, context: Context, slots: list[int]) -> list[float]:
        found = self.bound(context, slots)
        return [1.0 if slot == found else 0.0 for slot in slots]


TYPE = PluginType(
    "session-affinity-scorer",
    Kind.SCORER,
    SessionAffinityScorer,
    PARAMETERS,
    does="1 for the session's server, else 0.",
    signals=(Signal.HEADERS,),
    stability=Stability.ALPHA,
    headers=headers,
    names=makes_sessions,
)

"""``session-id-producer`` and ``agent-identity``: a session's name, from headers or a cookie."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from inferway.scheduling.plugins.base import Context, SessionProducer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Parameter,
    Parameters,
    PluginType,
    Signal,
    Stability,
)

# Claude Code, OpenCode, Codex and its older form.
AGENT_HEADERS = ("x-claude-code-session-id", "x-session-affinity", "session-id", "session_id")
COOKIE_HEADER = "cookie"


class SessionIdProducer(SessionProducer):
    """One header, or one cookie."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        if bool(values["headerName"]) == bool(values["cookieName"]):
            raise ValueError("needs either headerName or cookieName")
        self._header: str = values["headerName"].lower()
        self._cookie: str = values["cookieName"]

    def session(self, context: Context) -> str:
        headers = context.request.headers
        if self._header:
            return headers.get(self._header, "")
        try:
            found = SimpleCookie(headers.get(COOKIE_HEADER, "")).get(self._cookie)
        except CookieError:
            return ""
        return "" if found is None else found.value


class AgentIdentity(SessionProducer):
    """The first header that has a value."""

    def __init__(self, making: Making) -> None:
        self._headers = agent_headers(making.parameters)

    def session(self, context: Context) -> str:
        headers = context.request.headers
        return next((headers[name] for name in self._headers if headers.get(name)), "")


def agent_headers(values: Parameters) -> list[str]:
    """Lower-case names in their order, the configured ones first."""
    return [*(name.lower() for name in values["additionalSessionHeaders"]), *AGENT_HEADERS]


TYPE = PluginType(
    "session-id-producer",
    Kind.PRODUCER,
    SessionIdProducer,
    {
        "headerName": Parameter(str, "", help="Header that holds the session."),
        "cookieName": Parameter(str, "", help="Cookie that holds it."),
    },
    does="The session's name, from a header or a cookie.",
    signals=(Signal.HEADERS,),
    gives=Data.SESSION,
    headers=lambda values: (values["headerName"] or COOKIE_HEADER,),
)
AGENT_TYPE = PluginType(
    "agent-identity",
    Kind.HEADERS,
    AgentIdentity,
    {
        "additionalSessionHeaders": Parameter(
            list, [], items=Parameter(str), help="Headers to look at before the known ones."
        )
    },
    does=f"The first of {', '.join(AGENT_HEADERS)}; also the fairness id of requests without one.",
    signals=(Signal.HEADERS,),
    stability=Stability.ALPHA,
    gives=Data.SESSION,
    headers=agent_headers,
)

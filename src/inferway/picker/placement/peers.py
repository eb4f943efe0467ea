"""How the pickers of a pool that do not lead tell the one that does what they are asked for.

A report of some hundred bytes goes once a second to the metrics port of the leader, whose address
is in the Lease; at once when a request begins to wait for an adapter. Reports only name adapters:
whoever sends them can cause no load of anything that no LoRAAdapter names. Lost ones are replaced
by the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

import aiohttp
import msgspec
from aiohttp import web

from inferway.api.resources import LEASES
from inferway.base.errors import InferwayError
from inferway.cluster.client import KubeClient
from inferway.cluster.store import Key
from inferway.scheduling.placement.demand import DemandMeter

_log = logging.getLogger(__name__)

PATH = "/placement/demand"
REPORT_SECONDS = 1.0
SEND_SECONDS_MAX = 2.0
# Adapters that were used in this time are named in a report.
RECENT_SECONDS = 2.0
# A waiting request is reported again before this.
WAITING_SECONDS = 3.0
REPORT_BYTES_MAX = 1024 * 1024
# The lead changes seldom; a leader that answers is asked for again after this many reports.
REPORTS_PER_LOOKUP = 30

Hear: TypeAlias = Callable[[str, Mapping[str, float], float, bool], None]


class Report(msgspec.Struct, frozen=True):
    """One picker's own demand: adapters used lately, and those that its requests wait for."""

    picker: str
    demand: dict[str, float]
    load: float
    waiting: list[str] = []


class Peers:
    """Both directions for one pool."""

    def __init__(
        self, pool: Key, hear: Hear, leads: Callable[[], bool], now: Callable[[], float]
    ) -> None:
        self._pool = f"{pool.namespace}/{pool.name}"
        self._hear = hear
        self._leads = leads
        self._now = now
        self._waiting: dict[str, tuple[float, float]] = {}
        self._reported_at = -REPORT_SECONDS
        self._reported: set[str] = set()
        self._sending = False
        self._leader = ""
        self._lookup_in = 0

    # -- telling ---------------------------------------------------------------------------

    def report(
        self, meter: DemandMeter, since: Mapping[str, float], identity: str
    ) -> Report | None:
        """What to tell, or nothing yet."""
        now = self._now()
        due = now - self._reported_at >= REPORT_SECONDS
        if self._sending or not (due or since.keys() - self._reported):
            return None
        self._reported_at, self._reported, self._sending = now, set(since), True
        demand = meter.own(now - RECENT_SECONDS)
        return Report(identity, demand, meter.own_load(), sorted(since))

    async def send(
        self, client: KubeClient, session: aiohttp.ClientSession, lease: Key, report: Report
    ) -> None:
        """Never fails; an unknown leader is told the next report."""
        try:
            if not self._leader or self._lookup_in <= 0:
                self._leader = await _holder(client, lease)
                self._lookup_in = REPORTS_PER_LOOKUP
            self._lookup_in -= 1
            if not self._leader:
                return
            async with session.post(
                f"http://{self._leader}{PATH}",
                params={"pool": self._pool},
                data=msgspec.json.encode(report),
                timeout=aiohttp.ClientTimeout(total=SEND_SECONDS_MAX),
            ) as answer:
                if answer.status >= 300:
                    self._leader = ""
        except (InferwayError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._leader = ""
            _log.debug("the leader was not told", extra={"data": {"error": str(error)}})
        finally:
            self._sending = False

    # -- hearing ---------------------------------------------------------------------------

    def receive(self, body: bytes) -> int:
        """The HTTP status of a report."""
        if not self._leads():
            return 409
        try:
            report = msgspec.json.decode(body, type=Report)
        except msgspec.MsgspecError:
            return 400
        now = self._now()
        for adapter in report.waiting:
            first = self._waiting.get(adapter, (now, now))[0]
            self._waiting[adapter] = (first, now + WAITING_SECONDS)
        self._hear(report.picker, report.demand, report.load, bool(report.waiting))
        return 204

    def waiting(self) -> dict[str, float]:
        """Since when requests of other pickers wait, by adapter."""
        now = self._now()
        self._waiting = {name: times for name, times in self._waiting.items() if times[1] > now}
        return {name: first for name, (first, _) in self._waiting.items()}

    def served(self, adapters: set[str]) -> None:
        """Nobody need wait for these."""
        for adapter in adapters & self._waiting.keys():
            del self._waiting[adapter]


async def _holder(client: KubeClient, lease: Key) -> str:
    """The address at the beginning of the Lease's holder, or nothing."""
    raw = await client.get(LEASES, lease.name, lease.namespace)
    holder = (raw.get("spec") or {}).get("holderIdentity")
    return str(holder or "").partition("/")[0]


def add_route(app: web.Application, pools: Mapping[Key, Peers]) -> None:
    """Where other pickers tell what they are asked for."""
    by_name = {f"{key.namespace}/{key.name}": peers for key, peers in pools.items()}

    async def demand(request: web.Request) -> web.Response:
        body = await request.content.read(REPORT_BYTES_MAX)
        peers = by_name.get(request.query.get("pool", ""))
        return web.Response(status=404 if peers is None else peers.receive(body))

    app.router.add_post(PATH, demand)

"""Who may read metrics: a table of bearers, certificates, and what the cluster is asked."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from inferway.base.clock import SystemClock
from inferway.base.errors import UnreachableError, UsageError
from inferway.picker import flags, metrics_auth
from inferway.picker.metrics_auth import ALLOWED_SECONDS, DENIED_SECONDS, TokenGuard
from inferway.picker.run import Picker
from inferway.scheduling.policy import CostPolicy


class Cluster:
    """Knows two tokens; only one of their accounts may get /metrics."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gone = False

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        assert method == "POST"
        if self.gone:
            raise UnreachableError("INFERWAY0701", "gone")
        self.asked.append(path.rpartition("/")[2])
        spec = body["spec"]
        if body["kind"] == "TokenReview":
            known = spec["token"] in ("scraper", "other")
            user = {"username": spec["token"], "groups": ["g"]}
            return {"status": {"authenticated": known, "user": user if known else {}}}
        attributes = spec["nonResourceAttributes"]
        assert attributes["verb"] == "get"
        assert spec["groups"] == ["g"]
        allowed = spec["user"] == "scraper" and attributes["path"] == "/metrics"
        return {"status": {"allowed": allowed}}


@pytest.mark.parametrize(
    ("authorization", "path", "status"),
    [
        ("Bearer scraper", "/metrics", 200),
        ("bearer  scraper ", "/metrics", 200),
        ("Bearer scraper", "/debug/decisions", 403),
        ("Bearer other", "/metrics", 403),
        ("Bearer nobody", "/metrics", 401),
        ("Bearer " + "x" * 20_000, "/metrics", 401),
        ("Basic c2NyYXBlcg==", "/metrics", 401),
        ("Bearer ", "/metrics", 401),
        ("", "/metrics", 401),
    ],
)
async def test_bearers(authorization: str, path: str, status: int) -> None:
    assert await TokenGuard(Cluster(), lambda: 0.0).status(authorization, path) == status


async def test_answers_are_kept_for_a_while() -> None:
    cluster, now = Cluster(), [0.0]
    guard = TokenGuard(cluster, lambda: now[0])
    for at, questions in ((0.0, 2), (ALLOWED_SECONDS - 1, 2), (ALLOWED_SECONDS + 1, 4)):
        now[0] = at
        assert await guard.status("Bearer scraper", "/metrics") == 200
        assert len(cluster.asked) == questions
    for later, questions in ((0.0, 5), (DENIED_SECONDS - 1, 5), (DENIED_SECONDS + 1, 6)):
        now[0] = 1000.0 + later
        assert await guard.status("Bearer nobody", "/metrics") == 401
        assert len(cluster.asked) == questions
    cluster.gone = True
    assert await guard.status("Bearer other", "/metrics") == 500
    cluster.gone = False
    assert await guard.status("Bearer other", "/metrics") == 403
    for number in range(1000):
        await guard.status(f"Bearer guess-{number}", "/metrics")
    assert len(guard._answers) == metrics_auth.ANSWERS_MAX


async def test_probes_are_for_everybody() -> None:
    app = web.Application()

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="page")

    for path in ("/metrics", "/debug/decisions", "/healthz", "/readyz", "/placement/demand"):
        app.router.add_get(path, page)
    metrics_auth.protect(app, TokenGuard(Cluster(), lambda: 0.0))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as session:
            for path, token, status in (
                ("/healthz", "", 200),
                ("/readyz", "", 200),
                ("/placement/demand", "", 200),
                ("/metrics", "", 401),
                ("/debug/decisions", "scraper", 403),
                ("/metrics", "scraper", 200),
            ):
                headers = {"authorization": f"Bearer {token}"}
                async with session.get(base + path, headers=headers) as answer:
                    assert answer.status == status, path
                    if status == 401:
                        assert answer.headers["www-authenticate"] == "Bearer"
    finally:
        await runner.cleanup()


def test_certificates_that_can_not_be_used(tmp_path: Path) -> None:
    assert metrics_auth.tls("", "") is None
    for folder in (tmp_path / "nothing", tmp_path):
        (tmp_path / "tls.crt").write_text("no certificate")
        (tmp_path / "tls.key").write_text("no key")
        with pytest.raises(UsageError) as caught:
            metrics_auth.tls(str(folder), "")
        assert caught.value.code == "INFERWAY0409"
        assert not isinstance(caught.value.__cause__, ssl.SSLError)


async def test_without_a_cluster_there_is_nobody_to_ask() -> None:
    argv = ["--endpoints=127.0.0.1:1", "--metrics-endpoint-auth"]
    picker = Picker(flags.parse(argv, {}), CostPolicy, SystemClock(), "test")
    with pytest.raises(UsageError) as caught:
        await picker.run(None, asyncio.Event())
    assert caught.value.code == "INFERWAY0405"
    assert "--metrics-client-ca-file" in str(caught.value)

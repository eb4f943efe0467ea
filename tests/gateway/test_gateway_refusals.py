"""What real Envoy refuses hurts nothing else, and is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gateway_rig import QUIET, Server, envoy, json_backend, own_address, request, rig

from inferway.gateway.envoy.names import LISTENER_TYPE, ROUTE_TYPE
from inferway.gateway.proxy.bootstrap import bootstrap_text
from inferway.gateway.translate import ir

pytestmark = pytest.mark.slow


def gateway(server: Server, path: ir.PathMatch, *, port: int = 8081) -> ir.Gateway:
    """A port whose table is always good, and one whose table has ``path``."""
    share = ir.Share("service/ns/web/80")
    good = ir.Route("good", ir.RequestMatch(), (share,))
    tried = ir.Route("tried", ir.RequestMatch(path), (share,))
    endpoint = ir.Endpoint(server.host, server.port)
    return ir.Gateway(
        "ns",
        "gw",
        (ir.Port(8080, (ir.Host("*", (good,)),)), ir.Port(port, (ir.Host("*", (tried,)),))),
        (ir.Cluster("service/ns/web/80", ir.ClusterKind.SERVICE, (endpoint,)),),
    )


GOOD = ir.PathMatch(ir.MatchKind.PREFIX, "/good")
BAD = ir.PathMatch(ir.MatchKind.REGEX, "/(")


async def test_refused_table_keeps_the_last_good_one_even_for_a_new_proxy() -> None:
    server = Server(json_backend("a"))
    await server.start(own_address(30))
    async with rig() as made:
        await made.publish(gateway(server, GOOD))
        assert (await request((made.host, 8081), "/good")).status == 200
        await made.publish(gateway(server, BAD), wait=False)
        await made.until(lambda: bool(made.hub.progress("ns/gw").refusals))
        (refusal,) = made.hub.progress("ns/gw").refusals
        assert (refusal.type_url, refusal.name) == (ROUTE_TYPE, "http/8081")
        assert "missing )" in refusal.message
        assert (await request((made.host, 8081), "/good")).status == 200
        arguments = ["--config-yaml", bootstrap_text(("ns", "gw"), "uid", made.xds), *QUIET]
        other = own_address(31)
        async with envoy(arguments, other, made.log):
            await made.until(lambda: made.hub.progress("ns/gw").connected == 2)
            await made.until(lambda: made.hub.progress("ns/gw").behind == 0)
            assert (await request((other, 8080), "/x")).status == 200
            assert (await request((other, 8081), "/good")).status == 200
        mended = replace(GOOD, value="/mended")
        await made.publish(gateway(server, mended))
        assert made.hub.progress("ns/gw").refusals == ()
        assert (await request((made.host, 8081), "/mended")).status == 200
    server.stop()


async def test_port_in_use_is_told_and_the_other_port_serves() -> None:
    server = Server(json_backend("a"))
    await server.start(own_address(30))
    taken = Server(json_backend("other"))
    async with rig() as made:
        await taken.start(made.host)
        await made.publish(gateway(server, GOOD, port=taken.port), wait=False)
        await made.until(lambda: bool(made.hub.progress("ns/gw").refusals))
        (refusal,) = made.hub.progress("ns/gw").refusals
        assert refusal.type_url == LISTENER_TYPE
        assert "Address already in use" in refusal.message
        await made.until(lambda: made.hub.progress("ns/gw").behind == 0)
        assert (await request((made.host, 8080), "/x")).status == 200
        taken.stop()
        made.hub.retry()
        await made.until(lambda: not made.hub.progress("ns/gw").refusals)
        assert (await request((made.host, taken.port), "/good")).status == 200
    server.stop()

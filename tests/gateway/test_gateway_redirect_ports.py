"""Which port a redirect names, by what is written and by the listener (Gateway API's rules)."""

from __future__ import annotations

import pytest

from inferway.gateway.translate import ir
from inferway.gateway.translate.hosts import HostTable
from inferway.gateway.translate.rules import Candidate


@pytest.mark.parametrize(
    ("listener", "scheme", "written", "port"),
    [
        # 0 keeps what the client wrote, which is no port where the listener has the usual one.
        (80, "", 0, 0),
        (80, "https", 0, 0),
        (80, "http", 80, 0),
        (80, "https", 8443, 8443),
        (8081, "", 0, 8081),
        (8081, "https", 0, 443),
        (8081, "http", 0, 80),
        (8081, "http", 80, 80),
        (8081, "", 9999, 9999),
    ],
)
def test_the_port_of_a_redirect(listener: int, scheme: str, written: int, port: int) -> None:
    route = ir.Route("r", ir.RequestMatch(), redirect=ir.Redirect(scheme=scheme, port=written))
    table = HostTable(listener)
    table.listen("")
    table.add("", ["*"], [Candidate((), route)])
    found = table.port().hosts[0].routes[0].redirect
    assert found is not None
    assert found.port == port

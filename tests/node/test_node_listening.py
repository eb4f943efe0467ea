"""The ports that a Pod offers, as the kernel tells them in its two ways."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack
from pathlib import Path

import pytest

from inferway.local.node.sandbox import listening

OWN = "127.254.253.252"


def test_the_kernel_tells_of_real_listeners_in_both_ways() -> None:
    with ExitStack() as stack:
        ports = {}
        for family, host in (
            (socket.AF_INET, "0.0.0.0"),
            (socket.AF_INET, OWN),
            (socket.AF_INET, "127.0.0.1"),
            (socket.AF_INET6, f"::ffff:{OWN}"),
            (socket.AF_INET6, "::1"),
        ):
            sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                sock.bind((host, 0))
            except OSError as error:
                pytest.skip(f"{host}: {error}")
            sock.listen()
            ports[host] = sock.getsockname()[1]
        client = stack.enter_context(socket.create_connection((OWN, ports[OWN])))
        inside = {ports["0.0.0.0"], ports[OWN], ports[f"::ffff:{OWN}"]}
        outside = {ports["127.0.0.1"], ports["::1"], client.getsockname()[1]}
        for found in (listening.listening_ports(OWN), listening.read_ports(OWN)):
            assert inside <= found
            assert not outside & found


def test_a_kernel_that_refuses_is_read_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object) -> socket.socket:
        raise OSError(f"no such socket: {words}")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(listening, "read_ports", lambda address: {len(address)})
    assert listening.listening_ports(OWN) == {len(OWN)}


def test_an_error_of_the_kernel_is_no_list() -> None:
    refused = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -2)
    with pytest.raises(OSError, match="does not tell"):
        listening.take(refused, 4, [])


def test_tables_as_text(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue\n"
    rows = {
        "tcp": [
            ("00000000:1F40", "0A"),
            ("0100007F:1F41", "0A"),
            ("05014D7F:1F42", "0A"),
            ("05014D7F:1F43", "01"),
            ("06014D7F:1F45", "0A"),
        ],
        "tcp6": [
            ("0" * 32 + ":1F44", "0A"),
            ("0" * 24 + "01000000:1F46", "0A"),
            ("0000000000000000FFFF000005014D7F:1F47", "0A"),
        ],
    }
    for name, lines in rows.items():
        text = "".join(
            f"   {number}: {local} 00000000:0000 {state} 00000000:00000000\n"
            for number, (local, state) in enumerate(lines)
        )
        (tmp_path / name).write_text(head + text)
    # Everybody's address and the Pod's own, but neither localhost nor other connections.
    assert listening.read_ports("127.77.1.5", str(tmp_path)) == {8000, 8002, 8004, 8007}

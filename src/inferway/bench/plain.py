"""Plain Envoy, the measure that everything is held against: one listener, one cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inferway.bench import backends, processes
from inferway.bench.target import Target

# Beside the Pods' addresses of a stack, at a port that no part of it uses.
PORT = 18080


def config(address: str, upstreams: Sequence[str]) -> dict[str, Any]:
    """A fixed configuration that spreads requests over the upstreams."""
    endpoints = [
        {
            "endpoint": {
                "address": {"socket_address": {"address": host, "port_value": backends.PORT}}
            }
        }
        for host in upstreams
    ]
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "pool", "timeout": "300s"}}]
    return {
        "static_resources": {
            "listeners": [backends.listener("plain", address, PORT, routes)],
            "clusters": [
                {
                    "name": "pool",
                    "type": "STATIC",
                    "lb_policy": "LEAST_REQUEST",
                    "load_assignment": {
                        "cluster_name": "pool",
                        "endpoints": [{"lb_endpoints": endpoints}],
                    },
                }
            ],
        }
    }


@contextmanager
def running(
    address: str, upstreams: Sequence[str], folder: Path, concurrency: int
) -> Iterator[Target]:
    """Plain Envoy while the block runs."""
    process = backends.start_envoy(config(address, upstreams), folder, concurrency)
    try:
        backends.wait_for_port(address, PORT, process, folder)
        yield Target("plain-envoy", f"http://{address}:{PORT}", {"envoy": [process.pid]})
    finally:
        processes.stop(process)

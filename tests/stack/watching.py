"""What tests of a running stack look at: the picker's counts, processes of Pods, conditions."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness import Stack, descendants, proc
from prometheus_client.parser import text_string_to_metric_families

T = TypeVar("T")
POLL_SECONDS = 0.05
ANSWER_SECONDS_MAX = 10
MODEL = "Qwen/Qwen2.5-1.5B-Instruct"


def eventually(probe: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """The first true value of a probe; fails with the last one after the time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; last: {value!r}"
        pause.wait(POLL_SECONDS)
    return value


@dataclass(frozen=True)
class Watch:
    """A stack with the kubectl to look at it."""

    stack: Stack
    kubectl_program: Path

    def kubectl(self, *args: str, text: str | None = None) -> str:
        return self.stack.kubectl(self.kubectl_program, *args, text=text)

    def pods(self, label: str, namespace: str = "default") -> list[dict[str, Any]]:
        """Pods that are not on their way out, oldest name first."""
        out = self.kubectl("get", "pods", "-n", namespace, "-l", label, "-o", "json")
        pods = [p for p in json.loads(out)["items"] if "deletionTimestamp" not in p["metadata"]]
        return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))

    def servers(self) -> list[dict[str, Any]]:
        return self.pods("app=vllm-qwen")

    def picker(self) -> dict[str, Any]:
        return self.pods("inferencepool=vllm-qwen-epp")[0]

    def wait_rollout(self, name: str = "vllm-qwen") -> None:
        self.kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")

    def pid(self, pod: dict[str, Any], words: str) -> int:
        """The process of a Pod whose command line holds ``words``."""
        needle = f"INFERWAY_POD_IP={pod['status']['podIP']}".encode()
        found = [
            pid
            for pid in descendants(self.stack.process.pid)
            if words.encode() in proc(pid, "cmdline").replace(b"\0", b" ")
            and needle in proc(pid, "environ").split(b"\0")
        ]
        assert len(found) == 1, f"{words!r} of {pod['metadata']['name']}: {found}"
        return found[0]

    def counts(self) -> Counts:
        """What the picker says of itself."""
        return Counts.read(self.picker()["status"]["podIP"])


@dataclass(frozen=True)
class Counts:
    """The picker's metrics as (name, labels) -> value."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def read(cls, address: str) -> Counts:
        url = f"http://{address}:9090/metrics"
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS_MAX) as answer:
            text = answer.read().decode()
        return cls(
            {
                (sample.name, frozenset(sample.labels.items())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    def total(self, name: str, **labels: str) -> int:
        """The sum over all series that have these labels."""
        wanted = set(labels.items())
        return round(
            sum(
                value
                for (found, having), value in self.values.items()
                if found == f"inferway_picker_{name}" and wanted <= having
            )
        )


def rss_bytes(pid: int) -> int:
    pages = int(proc(pid, "statm").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = proc(pid, "stat").rpartition(b") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(url: str, *, seconds: float = ANSWER_SECONDS_MAX, **more: object) -> tuple[int, Any]:
    """One completion through the gateway: status and decoded body."""
    body = {"model": MODEL, "prompt": "What is the warmest city?", "max_tokens": 4} | more
    request = urllib.request.Request(
        f"{url}/v1/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)

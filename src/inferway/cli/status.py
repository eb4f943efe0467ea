"""``inferway status``: how a stack is, for people and for scripts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

import msgspec
from rich.console import Console
from rich.markup import escape

from inferway.base.errors import UnreachableError
from inferway.cli.cluster_view import read_objects, summarize
from inferway.cli.state import EngineNote, StackRecord, StateFolder, open_folder, running_pid
from inferway.cli.summary import StackSummary
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient


def run(state: str | None, output: str, env: Mapping[str, str]) -> int:
    """Prints the summary; 0 when ready, 1 when not, 3 when no stack runs."""
    folder = open_folder(state, env, create=False)
    record = folder.read()
    if record is None or running_pid(folder) is None:
        raise UnreachableError(
            "INFERWAY0108",
            "no stack runs from this state",
            about=str(folder.root),
            fix="Start it with `inferway up`, or name another state: inferway status --state DIR",
        )
    result = asyncio.run(_read(folder, record))
    if output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n")
    else:
        print_summary(Console(), result)
    return 0 if result.ready else 1


async def _read(folder: StateFolder, record: StackRecord) -> StackSummary:
    async with KubeClient(kubeconfig.load(folder.kubeconfig)) as client:
        return summarize(await read_objects(client), folder, record)


def print_summary(console: Console, result: StackSummary) -> None:
    """A line per part, then what is missing."""

    def line(good: bool, name: str, text: str) -> None:
        mark = "[green]✓[/green]" if good else "[yellow]…[/yellow]"
        console.print(f"  {mark} {escape(name):34} {escape(text)}", highlight=False, soft_wrap=True)

    console.print(f"stack      {escape(result.state)}", highlight=False, soft_wrap=True)
    console.print(f"kubeconfig {escape(result.kubeconfig)}", highlight=False, soft_wrap=True)
    console.print(f"isolation  {escape(result.isolation or 'unknown')}", highlight=False)
    console.print(f"picks      {escape(picks_text(result.pick_module))}", highlight=False)
    console.print(
        f"engine     {escape(engine_text(result.engine))}", highlight=False, soft_wrap=True
    )
    for row in result.workloads:
        line(
            row.ready >= row.wanted,
            f"{row.namespace}/{row.name}",
            f"{row.ready} of {row.wanted} Pods ready",
        )
    for door in result.gateways:
        where = door.url or "no address yet"
        why = "" if door.programmed else f"  ({door.message})"
        line(door.programmed, f"gateway {door.namespace}/{door.name}", f"{where}{why}")
    console.print("ready" if result.ready else "not ready", highlight=False)


def picks_text(annotation: str) -> str:
    """How proxies ask pickers, in a line."""
    if annotation == "native":
        return "native filter"
    reason = annotation.removeprefix("none: ")
    return f"HTTP callout ({reason})" if reason else "unknown"


def engine_text(engine: EngineNote) -> str:
    """The engine of the stack in a line: what it is and why."""
    name = f"vLLM {engine.version}" if engine.name == "vllm" else "simulated vLLM"
    return f"{name} ({engine.why})" if engine.why else name

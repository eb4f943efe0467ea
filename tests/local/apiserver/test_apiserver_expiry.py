"""Events that nobody needs any more."""

from __future__ import annotations

from pathlib import Path

from apiserver_rig import CORE, running

from inferway.base.clock import ManualClock, rfc3339


async def test_old_events_go_when_new_ones_come(tmp_path: Path) -> None:
    clock = ManualClock()
    async with running(tmp_path, clock=clock) as rig:

        async def report(name: str) -> None:
            event = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name},
                "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"},
                "lastTimestamp": rfc3339(clock.wall()),
            }
            await rig.ok("POST", f"{CORE}/events", event)

        async def names() -> list[str]:
            listed = await rig.ok("GET", f"{CORE}/events")
            return [item["metadata"]["name"] for item in listed["items"]]

        await report("first")
        clock.advance(1800)
        await report("second")
        clock.advance(1801)
        await report("third")
        assert await names() == ["second", "third"]

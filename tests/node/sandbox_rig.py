"""A program that holds one Pod open, run by tests as another user or to be killed.

Arguments: folder, wanted isolation (``best`` or ``none``), address. Prints JSON lines: what the
machine allows, then each thing that happens. Needs the standard library only.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from inferway.local.node.sandboxes import Isolation, Launch, Launcher, SandboxEvent

SCRIPT = (
    "setsid sleep 98{port}1 & sleep 98{port}2 & "
    "echo user $(id -u); cat /rig/deep/file; echo from-pod; "
    "exec {python} -m http.server {port}"
)


def say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


async def main(folder: Path, wanted: str, address: str) -> None:
    port = int(sys.argv[4]) if len(sys.argv) > 4 else 8000
    folder.mkdir(exist_ok=True)
    (folder / "volume").mkdir(exist_ok=True)
    (folder / "volume" / "file").write_text("volume\n")
    async with Launcher() as launcher:
        best = await launcher.detect() if wanted == "best" else Isolation("none", reason="asked")
        say(isolation=best.level, user=best.user_namespace, reason=best.reason)
        ended = asyncio.Event()

        def notify(event: SandboxEvent) -> None:
            say(kind=event.kind, code=event.code, ports=event.ports, message=event.message)
            if event.kind == "gone":
                ended.set()

        network = address if best.level != "none" else ""
        sandbox = await launcher.create(best, network, "rig", notify)
        launch = Launch(
            argv=["/bin/sh", "-c", SCRIPT.format(python=sys.executable, port=port)],
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
            log=str(folder / "main.log"),
            mounts=[(str((folder / "volume").resolve()), "/rig/deep", True)],
            ports=[port],
        )
        sandbox.start("main", launch)
        say(pause=sandbox.pid)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))

"""``inferway down``: ends the stack that runs from a state folder."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Mapping

from inferway.base.errors import InferwayError
from inferway.cli.state import open_folder, running_pid

# A stack ends its Pods within their grace periods; the guide's servers have 30 s.
STOP_SECONDS_MAX = 60


def run(state: str | None, env: Mapping[str, str]) -> int:
    """Asks the stack to stop and waits until its process has gone."""
    folder = open_folder(state, env, create=False)
    pid = running_pid(folder)
    if pid is None:
        print(f"inferway: no stack runs from {folder.root}", file=sys.stderr)
        return 0
    # A pidfd names this very process, so that a reused number is never signalled or awaited.
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        ended, _, _ = select.select([handle], [], [], STOP_SECONDS_MAX)
    finally:
        os.close(handle)
    if not ended:
        raise InferwayError(
            "INFERWAY0107",
            f"the stack (process {pid}) did not stop within {STOP_SECONDS_MAX} s",
            about=str(folder.root),
            fix=f"End it at once: kill -9 {pid}; its Pods end with it and nothing stored is lost.",
        )
    print(f"stopped the stack of {folder.root}", file=sys.stderr)
    return 0

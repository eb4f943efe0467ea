"""The pauses before a container is started again, as a kubelet's flow control counts them."""

from __future__ import annotations

from dataclasses import dataclass

RESTART_FIRST_SECONDS = 10.0
RESTART_MAX_SECONDS = 300.0
# A container that lived this long since its last restart begins anew.
RESET_AFTER_SECONDS = 2 * RESTART_MAX_SECONDS


@dataclass(slots=True)
class RestartBackoff:
    """The first restart is immediate, the second waits 10 s, then 20 s and so on to 300 s."""

    seconds: float = 0.0
    updated_at: float = 0.0

    def waits_until(self, finished_at: float) -> float:
        """When a container that ended at ``finished_at`` may start."""
        if finished_at - self.updated_at > RESET_AFTER_SECONDS:
            return finished_at
        return finished_at + self.seconds

    def note_start(self, finished_at: float, now: float) -> None:
        """A restart happens."""
        if self.seconds == 0 or finished_at - self.updated_at > RESET_AFTER_SECONDS:
            self.seconds = RESTART_FIRST_SECONDS
        else:
            self.seconds = min(self.seconds * 2, RESTART_MAX_SECONDS)
        self.updated_at = now


def go_seconds(seconds: float) -> str:
    """Whole seconds as Go prints a duration: ``10s``, ``1m20s``, ``5m0s``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"

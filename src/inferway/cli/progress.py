"""Steps on a terminal, or lines in a log: what goes on while a stack starts.

Talk goes to stderr; a spinner and colours appear on a terminal only (NO_COLOR is obeyed).
"""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.status import Status


class Steps:
    """Shows one running step at a time, and a line for each that is done."""

    def __init__(self, console: Console, monotonic: Callable[[], float]) -> None:
        self._console = console
        self._monotonic = monotonic
        self._status: Status | None = None
        self._text = ""
        self._since = 0.0

    def begin(self, text: str) -> None:
        """Ends the running step, if one runs, and begins another."""
        self.end()
        self._text = text
        self._since = self._monotonic()
        if self._console.is_terminal:
            self._status = self._console.status(text)
            self._status.start()

    def detail(self, text: str) -> None:
        """Says more about the running step, such as `2 of 3 Pods`."""
        if self._status is not None:
            self._status.update(f"{self._text}  [dim]{text}[/dim]")

    def end(self) -> None:
        """The running step is done."""
        self.stop()
        if self._text:
            seconds = self._monotonic() - self._since
            self._console.print(
                f"  [green]✓[/green] {self._text} [dim]{seconds:.1f} s[/dim]", highlight=False
            )
        self._text = ""

    def stop(self) -> None:
        """Takes the spinner away and leaves the step unfinished."""
        if self._status is not None:
            self._status.stop()
            self._status = None

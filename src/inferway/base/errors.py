"""The tree of errors that people meet.

- InferwayError: something a person can mend; carries a code, an object and a way out
  - UsageError: the command line or a file it names is wrong (exit code 2)
  - UnreachableError: a server that is needed does not answer (exit code 3)

Programmer mistakes are assertions and stay outside of this tree.
"""

from __future__ import annotations


class InferwayError(Exception):
    """Says what happened, to which object, and what to do.

    ``code`` is stable (``INFERWAY0101``) and documented in docs/reference/errors.md.
    """

    exit_code = 1

    def __init__(self, code: str, what: str, *, about: str = "", fix: str = "") -> None:
        assert code.startswith("INFERWAY")
        assert code[8:].isdigit()
        self.code = code
        self.what = what
        self.about = about
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        subject = f"{self.about}: " if self.about else ""
        fix = f"\n  {self.fix}" if self.fix else ""
        return f"{subject}{self.what} [{self.code}]{fix}"


class UsageError(InferwayError):
    """The command line, or a file that it names, is wrong."""

    exit_code = 2


class UnreachableError(InferwayError):
    """A server that the command needs does not answer."""

    exit_code = 3

"""Conditions as a translation gives them: without times, which the writer of a status adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inferway.api.conditions import FALSE, TRUE

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something does not hold: a reason of the API, and words for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A mistake of a user, for the command line and for logs. ``about``: ``HTTPRoute ns/name``."""

    code: str
    about: str
    message: str

    def __str__(self) -> str:
        return f"{self.about}: {self.message} [{self.code}]"


def condition(type_: str, holds: bool, reason: str, message: str, generation: int) -> Object:
    """One condition as JSON."""
    return {
        "type": str(type_),
        "status": TRUE if holds else FALSE,
        "observedGeneration": generation,
        "reason": str(reason),
        "message": message,
    }


def judged(type_: str, problems: list[Problem], good: tuple[str, str], generation: int) -> Object:
    """True with ``good`` (reason, message), or False with the first reason and all messages."""
    if not problems:
        return condition(type_, True, good[0], good[1], generation)
    messages = list(dict.fromkeys(problem.message for problem in problems))
    return condition(type_, False, problems[0].reason, " ".join(messages), generation)

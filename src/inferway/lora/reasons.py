"""Why an adapter is not as it should be: the words of metrics and Events.

``refusal`` reads a server's answer. Its texts were collected from vLLM 0.10 and 0.32; one that is
not known stays as it is, under LOAD_FAILED. Pure.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """Stable names; each has a code in errors.py."""

    SOURCE_NOT_FOUND = "SourceNotFound"
    FETCH_FAILED = "FetchFailed"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    BAD_ARCHIVE = "BadArchive"
    STORE_NOT_WRITABLE = "StoreNotWritable"
    EXTRA_NOT_INSTALLED = "ExtraNotInstalled"
    BROKEN_ADAPTER = "BrokenAdapter"
    RANK_TOO_HIGH = "RankTooHigh"
    WRONG_BASE_MODEL = "WrongBaseModel"
    NO_FREE_SLOT = "NoFreeSlot"
    SERVER_DIED = "ServerDied"
    TIMED_OUT = "TimedOut"
    NOT_ALLOWED = "NotAllowed"
    LOAD_FAILED = "LoadFailed"
    UNLOAD_FAILED = "UnloadFailed"
    IN_BOTH_LISTS = "InBothLists"
    DUPLICATE_NAME = "DuplicateName"
    NAME_OF_BASE_MODEL = "NameOfBaseModel"


# A server that refuses for one of these has looked at the source only: what it serves is untouched.
BEFORE_ANY_CHANGE = frozenset(
    {Reason.SOURCE_NOT_FOUND, Reason.RANK_TOO_HIGH, Reason.BROKEN_ADAPTER, Reason.NOT_ALLOWED}
)
# The configuration must change; trying again is no help.
LEFT_ALONE = frozenset({Reason.IN_BOTH_LISTS, Reason.DUPLICATE_NAME, Reason.NAME_OF_BASE_MODEL})
# A message is for people; a list of all tensors of an adapter is not.
TEXT_CHARACTERS_MAX = 500


class Problem(msgspec.Struct, frozen=True):
    """A reason and what happened, in words that go on after "adapter NAME:"."""

    reason: Reason
    what: str


class Answer(msgspec.Struct, frozen=True):
    """What a server said; ``status`` 0 is no answer, and ``text`` says why.

    ``lost`` is a connection that broke, ``refused`` one that never came about; neither of the two
    is an answer that took too long.
    """

    status: int
    text: str = ""
    lost: bool = False
    refused: bool = False


_WRAPPED = re.compile(
    r"^Call to add_lora method failed: (?:Worker failed with error )?'?(?P<inner>.*?)'?"
    r"(?:, please check the stack trace above for the root cause)?$",
    re.DOTALL,
)
_KNOWN: tuple[tuple[str, Reason], ...] = (
    ("No adapter found", Reason.SOURCE_NOT_FOUND),
    ("greater than max_lora_rank", Reason.RANK_TOO_HIGH),
    ("expected target modules", Reason.WRONG_BASE_MODEL),
    ("must match the size of tensor", Reason.WRONG_BASE_MODEL),
    ("size mismatch", Reason.WRONG_BASE_MODEL),
    ("must be consistent with the base model", Reason.WRONG_BASE_MODEL),
    ("doesn't contain tensors", Reason.BROKEN_ADAPTER),
    ("deserializing header", Reason.BROKEN_ADAPTER),
    ("Missing required configuration fields", Reason.BROKEN_ADAPTER),
    ("enclosed in double quotes", Reason.BROKEN_ADAPTER),
    ("Expecting value", Reason.BROKEN_ADAPTER),
    ("does not support", Reason.BROKEN_ADAPTER),
    ("does not yet support", Reason.BROKEN_ADAPTER),
    ("only supports modules_to_save", Reason.BROKEN_ADAPTER),
    ("Adapter bias is not supported", Reason.BROKEN_ADAPTER),
    ("No free lora slots", Reason.NO_FREE_SLOT),
    ("No free adapter slots", Reason.NO_FREE_SLOT),
    ("LoRA is not enabled", Reason.NOT_ALLOWED),
    ("conflicts with a served base model", Reason.NAME_OF_BASE_MODEL),
)


def refusal(answer: Answer) -> Problem:
    """The problem in an answer that is no success."""
    if answer.status == 0:
        reason = Reason.LOAD_FAILED if answer.lost else Reason.TIMED_OUT
        return Problem(reason, answer.text or "no answer")
    if answer.status in (401, 403):
        return Problem(Reason.NOT_ALLOWED, f"the server wants an API key (status {answer.status})")
    if no_endpoint(answer):
        return Problem(Reason.NOT_ALLOWED, "the server has no endpoint to load adapters")
    text = inner_text(answer.text) or f"status {answer.status}"
    for part, reason in _KNOWN:
        if part in answer.text:
            return Problem(reason, text)
    return Problem(Reason.LOAD_FAILED, text)


def inner_text(text: str) -> str:
    """The cause inside the engine's wrapping, cut to a length for people."""
    found = _WRAPPED.match(text.strip())
    inner = " ".join((found.group("inner") if found else text).split())
    return inner if len(inner) <= TEXT_CHARACTERS_MAX else inner[:TEXT_CHARACTERS_MAX] + " ..."


def no_endpoint(answer: Answer) -> bool:
    """FastAPI's answer for a path that does not exist, in both of vLLM's shapes."""
    return answer.status in (404, 405) and answer.text.strip() in (
        "Not Found",
        "Method Not Allowed",
    )


def already_loaded(answer: Answer) -> bool:
    return answer.status == 400 and "has already been loaded" in answer.text


def already_gone(answer: Answer) -> bool:
    return answer.status == 404 and "cannot be found" in answer.text


def related(one: str, other: str) -> bool:
    """Whether two names of models may mean one: a model and its -Instruct form do.

    Only the last parts of names are compared, because a served model may be a folder.
    """
    first, second = (name.rstrip("/").rpartition("/")[2].lower() for name in (one, other))
    return first == second or first.startswith(second + "-") or second.startswith(first + "-")

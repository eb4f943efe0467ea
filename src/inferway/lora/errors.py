"""What the syncer tells people when something is wrong, each with its code.

- INFERWAY0601 the configuration file cannot be read
- INFERWAY0602 the configuration is not valid
- INFERWAY0603 the model server is not healthy
- INFERWAY0604 the model server does not let adapters be changed
- INFERWAY0605 an adapter could not be loaded or unloaded
- INFERWAY0606 a flag is wrong
- INFERWAY0607 the metrics port cannot be opened
- INFERWAY0608 the model server does not list its models
- INFERWAY0609 to INFERWAY0617 and INFERWAY0619 to 0621 what is wrong with one adapter: ``ABOUT``
- INFERWAY0618 the model server has lost adapters
- INFERWAY0622 an adapter names another base model than the server's
- INFERWAY0623 more adapters than slots
"""

from __future__ import annotations

from inferway.base.errors import InferwayError, UsageError
from inferway.lora.reasons import Problem, Reason

ALLOW = (
    "start the server with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=true; where it has "
    "a VLLM_API_KEY, the syncer needs it too"
)
# The code of each reason and what a person can do.
ABOUT: dict[Reason, tuple[str, str]] = {
    Reason.LOAD_FAILED: ("INFERWAY0605", "see the server's own log"),
    Reason.UNLOAD_FAILED: ("INFERWAY0605", "see the server's own log"),
    Reason.TIMED_OUT: ("INFERWAY0605", "see the server's own log; it may still be loading"),
    Reason.NOT_ALLOWED: ("INFERWAY0604", ALLOW),
    Reason.SOURCE_NOT_FOUND: ("INFERWAY0609", "correct the source, or mount it in the server"),
    Reason.FETCH_FAILED: ("INFERWAY0610", "check the address, the network and the credentials"),
    Reason.CHECKSUM_MISMATCH: ("INFERWAY0611", "correct the checksum, or do not trust the source"),
    Reason.BAD_ARCHIVE: ("INFERWAY0612", "pack the adapter's folder anew, plain files only"),
    Reason.BROKEN_ADAPTER: ("INFERWAY0613", "correct the adapter's files; vLLM takes PEFT's form"),
    Reason.RANK_TOO_HIGH: ("INFERWAY0614", "raise --max-lora-rank of the server"),
    Reason.WRONG_BASE_MODEL: ("INFERWAY0615", "use an adapter that was made for this base model"),
    Reason.NO_FREE_SLOT: ("INFERWAY0616", "raise --max-loras, or want fewer adapters"),
    Reason.SERVER_DIED: ("INFERWAY0617", "see the server's own log; other adapters come first"),
    Reason.IN_BOTH_LISTS: ("INFERWAY0619", "leave it in one of the two lists"),
    Reason.DUPLICATE_NAME: ("INFERWAY0619", "leave one of the entries"),
    Reason.NAME_OF_BASE_MODEL: ("INFERWAY0619", "give the adapter another id"),
    Reason.STORE_NOT_WRITABLE: (
        "INFERWAY0620",
        "mount a volume at --adapters-dir, at the same path in the server and in the syncer",
    ),
    Reason.EXTRA_NOT_INSTALLED: ("INFERWAY0621", "pip install 'inferway[sources]'"),
}


def adapter_problem(name: str, problem: Problem, retry_seconds: float = 0) -> InferwayError:
    """``retry_seconds`` 0: only a change of the configuration helps."""
    code, fix = ABOUT[problem.reason]
    if retry_seconds:
        fix += f"; the next attempt is in {retry_seconds:g} s, or when the entry changes"
    return InferwayError(code, problem.what, about=f"adapter {name}", fix=fix)


def unreadable(path: str, reason: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0601",
        f"the configuration cannot be read: {reason}",
        about=path,
        fix="mount the ConfigMap without subPath and name its file in DYNAMIC_LORA_ROLLOUT_CONFIG",
    )


def invalid(where: str, what: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0602",
        what,
        about=where,
        fix="see vLLMLoRAConfig: ensureExist.models need id and source, ensureNotExist.models id",
    )


def unhealthy(url: str, seconds: float, reason: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0603",
        f"the model server was not healthy within {seconds:g} s ({reason})",
        about=url,
        fix="check the server's own log; the syncer keeps trying",
    )


def bad_flag(what: str) -> UsageError:
    return UsageError("INFERWAY0606", what, fix="see --help")


def port_taken(address: str, reason: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0607",
        f"metrics cannot be served: {reason}",
        about=address,
        fix="choose another --metrics-port, or 0 for none; syncing goes on",
    )


def not_listed(url: str, reason: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0608",
        f"the model server does not list its models: {reason}",
        about=url,
        fix="check the server's own log; nothing is loaded or unloaded until it answers",
    )


def lost(url: str, names: list[str]) -> InferwayError:
    return InferwayError(
        "INFERWAY0618",
        f"the model server has lost {', '.join(names)}",
        about=url,
        fix="it was restarted, or someone else unloads adapters; they are loaded again",
    )


def other_base(name: str, wanted: str, served: list[str]) -> InferwayError:
    return InferwayError(
        "INFERWAY0622",
        f"it is for base model {wanted}, the server has {', '.join(served)}",
        about=f"adapter {name}",
        fix="vLLM does not compare them; wrong answers are all that shows an adapter of another "
        "model",
    )


def more_than_slots(url: str, count: int, slots: int) -> InferwayError:
    return InferwayError(
        "INFERWAY0623",
        f"{count} adapters share {slots} slots",
        about=url,
        fix="the server swaps adapters in and out; raise --max-loras where memory allows it",
    )

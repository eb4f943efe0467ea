"""What the headers of a request ask of the picker: both families of names, as one value.

The table says every header that is read besides the body, and whether servers get it. Where both
names of a pair are there the newer one, of llm-d, counts. A value that can not be understood counts
as none: a header is advice, and the request is good without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

# A client that asks for more than a day means that it has no limit.
SECONDS_MAX = 86_400.0
# Names longer than this are no names of objectives, tenants, models or sessions.
NAME_BYTES_MAX = 256


class Header(msgspec.Struct, frozen=True):
    """One header: its names, newest first, the field of ``Wishes`` it fills, and what it says."""

    names: tuple[str, ...]
    field: str
    meaning: str


HEADERS = (
    Header(
        ("x-llm-d-inference-objective", "x-gateway-inference-objective"),
        "objective",
        "name of an InferenceObjective of the pool; its priority counts, an unknown name has 0",
    ),
    Header(
        ("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"),
        "fairness_id",
        "the flow that shares the pool fairly with other flows, such as a tenant",
    ),
    Header(
        ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"),
        "model",
        "the model that the server gets instead of the body's, unless a rewrite has a rule for it; "
        "a proxy without the native pick filter cuts bodies only in pools with a rewrite",
    ),
    Header(
        ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms"),
        "slo_ttft_ms",
        "wanted time to the first token in milliseconds",
    ),
    Header(
        ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms"),
        "slo_tpot_ms",
        "wanted time for each further token in milliseconds",
    ),
    Header(
        ("x-llm-d-inference-ttl",),
        "ttl_seconds",
        "longest time in a queue of the picker: `500ms`, `2s`, or seconds",
    ),
    Header(("x-session-id", "x-session-token"), "session", "what sticky choices are made by"),
    Header(
        ("prefer",),
        "if_available",
        "`if-available`: 412 unless the chosen server has a part of the prompt in its cache",
    ),
    Header(
        ("prefer",),
        "restore_model",
        "`restore-model`: where the model was replaced, the answer's `model` is the body's again",
    ),
    Header(
        ("test-epp-endpoint-selection",),
        "only",
        "`ip` or `ip:port` list for conformance tests; needs the filter of that name",
    ),
    Header(
        ("content-encoding",),
        "encoded",
        "a body in another form than JSON text is not read: the request is routed by load",
    ),
    Header(("x-inferway-explain",), "explain", "keep the reasons of this decision"),
)


class Wishes(msgspec.Struct, frozen=True, gc=False):
    """What was asked for; zero and empty mean that it was not."""

    objective: str = ""
    fairness_id: str = ""
    model: str = ""
    slo_ttft_ms: float = 0.0
    slo_tpot_ms: float = 0.0
    ttl_seconds: float = 0.0
    session: bytes = b""
    if_available: bool = False
    restore_model: bool = False
    only: tuple[str, ...] = ()
    encoded: bool = False
    explain: bool = False


NO_WISHES = Wishes()
_NAMES = {header.field: tuple(name.encode() for name in header.names) for header in HEADERS}
# Lower-case names; a request without any of them has no wishes.
READ = frozenset(name for names in _NAMES.values() for name in names)


def wishes_of(headers: Mapping[bytes, bytes]) -> Wishes:
    """The wishes of headers with lower-case names."""
    get = headers.get

    def value(field: str) -> bytes:
        for name in _NAMES[field]:
            found = get(name)
            if found:
                return found.strip()
        return b""

    only = value("only")
    prefer = value("if_available")
    return Wishes(
        _name(value("objective")),
        _name(value("fairness_id")),
        _name(value("model")),
        _milliseconds(value("slo_ttft_ms")),
        _milliseconds(value("slo_tpot_ms")),
        _seconds(value("ttl_seconds")),
        value("session"),
        _prefers(prefer, b"if-available"),
        _prefers(prefer, b"restore-model"),
        tuple(only.decode(errors="replace").split(",")) if only else (),
        value("encoded").lower() not in (b"", b"identity"),
        bool(value("explain")),
    )


def _name(value: bytes) -> str:
    return value.decode(errors="replace") if len(value) <= NAME_BYTES_MAX else ""


def _number(text: bytes) -> float:
    """A number above 0, or 0 for anything else."""
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) and found > 0 else 0.0


def _milliseconds(text: bytes) -> float:
    return min(_number(text), SECONDS_MAX * 1e3)


def _seconds(text: bytes) -> float:
    if text.endswith(b"ms"):
        return min(_number(text[:-2]) * 1e-3, SECONDS_MAX)
    if text.endswith(b"m"):
        return min(_number(text[:-1]) * 60, SECONDS_MAX)
    return min(_number(text.removesuffix(b"s")), SECONDS_MAX)


def _prefers(value: bytes, token: bytes) -> bool:
    """Whether a ``Prefer`` header (RFC 7240) has a token, its parameters left out."""
    return any(one.partition(b";")[0].strip().lower() == token for one in value.split(b","))

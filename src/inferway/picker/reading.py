"""A callout as a request to decide about: body, headers, and the model that stands for another.

Pure. What is wrong with a request becomes the answer that its client gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from inferway.picker import splice
from inferway.picker.answers import FinalAnswer
from inferway.picker.apis import Call, parse
from inferway.picker.body import NOTHING, BadBody, Parsed, read_form
from inferway.picker.machine import Callout
from inferway.picker.restore import name_text
from inferway.picker.wishes import NO_WISHES, READ, Wishes, wishes_of
from inferway.scheduling.request import Request
from inferway.scheduling.rewrite import RewriteTable, StickyBy, draw


class Pool(Protocol):
    """What a pool has to say about requests."""

    rewrites: RewriteTable | None
    priorities: dict[str, int]
    declared: tuple[tuple[bytes, str], ...]


class Notes(Protocol):
    """Who counts what was done to requests."""

    def rewritten(self, rewrite: str, model: str, target: str) -> None:
        """A rewrite's rule gave a request for one model to another, or to the same."""
        ...


class Understood(msgspec.Struct, frozen=True, gc=False):
    """A request, what to cut out of its body, and the model that its client named if another.

    ``restore`` is what the answer is to name as its model, as JSON text; empty: what it names.
    """

    request: Request
    wishes: Wishes
    splice: bytes = b""
    alias: str = ""
    restore: str = ""


def understand(
    call: Callout, kind: Call, pool: Pool, request_id: bytes, notes: Notes
) -> Understood | FinalAnswer:
    """The request of a callout, or why it is none."""
    # What is encoded nobody looks into: it goes where there is least to do.
    wishes = NO_WISHES if READ.isdisjoint(call.headers) else wishes_of(call.headers)
    table = pool.rewrites
    parsed = NOTHING if wishes.encoded else _parsed(call, kind, table)
    if isinstance(parsed, FinalAnswer):
        return parsed
    if table is None and not (wishes.model and call.cuts):
        return Understood(_request(call, parsed, parsed.model, pool, wishes), wishes)
    model, restore = _target(
        call, kind, parsed, wishes, table=table, request_id=request_id, notes=notes
    )
    cut = b""
    if model != parsed.model:
        cut = _cut(call.body, kind, model, parsed) or b""
    if not cut:
        return Understood(_request(call, parsed, parsed.model, pool, wishes), wishes)
    named = name_text(parsed.model) if restore and parsed.model else ""
    return Understood(_request(call, parsed, model, pool, wishes), wishes, cut, parsed.model, named)


def _parsed(call: Callout, kind: Call, table: RewriteTable | None) -> Parsed | FinalAnswer:
    if not kind.claimed and call.body:
        text = "The pool's configuration has no parser for this path."
        return FinalAnswer(400, text, code="unsupported_path")
    optional = table is not None and table.generic is not None
    found = parse(kind, call.body, model_optional=optional)
    if not isinstance(found, BadBody):
        return found
    if call.body or call.method == b"POST":
        return FinalAnswer(400, found.message, found.param, found.code)
    # A method that needs no body is the server's to answer.
    return NOTHING


def _target(
    call: Callout,
    kind: Call,
    parsed: Parsed,
    wishes: Wishes,
    *,
    table: RewriteTable | None,
    request_id: bytes,
    notes: Notes,
) -> tuple[str, bool]:
    """The model that stands for the one that is named; a rule for it goes before a header.

    And whether the answer is to name the one that is named.
    """
    restore = wishes.restore_model
    if not parsed.model and not (kind.api.needed and call.body and not wishes.encoded):
        return parsed.model, restore
    rule = table.rule_for(parsed.model) if table is not None else None
    if rule is None:
        return wishes.model or parsed.model, restore
    model = draw(rule, _sticky_key(rule.sticky_by, request_id, wishes))
    notes.rewritten(rule.rewrite, parsed.model, model)
    return model, restore or rule.restore


def _cut(data: bytes, kind: Call, model: str, parsed: Parsed) -> bytes | None:
    if kind.api.read is read_form:
        return splice.splice_form(data, model)
    return splice.splice(data, model, named=bool(parsed.model))


def _request(call: Callout, parsed: Parsed, model: str, pool: Pool, wishes: Wishes) -> Request:
    kind, prompt, salt = parsed.kind, parsed.prompt, parsed.salt
    stream, most, size = parsed.stream, parsed.max_tokens, len(call.body)
    if (
        wishes is NO_WISHES
        and not pool.declared
        and call.subset is None
        and not parsed.counted_tokens
    ):
        return Request(model, kind, prompt, salt, stream, most, size)
    objective = wishes.objective
    return Request(
        model,
        kind,
        prompt,
        salt,
        stream,
        most,
        size,
        objective=objective,
        fairness_id=wishes.fairness_id,
        priority=pool.priorities.get(objective, 0) if objective else 0,
        only=wishes.only,
        headers=_declared(call.headers, pool),
        ttl_seconds=wishes.ttl_seconds,
        slo_ttft_ms=wishes.slo_ttft_ms,
        slo_tpot_ms=wishes.slo_tpot_ms,
        subset=None if call.subset is None else frozenset(call.subset),
        counted_bytes=parsed.counted_bytes,
        counted_tokens=parsed.counted_tokens,
    )


def _declared(headers: Mapping[bytes, bytes], pool: Pool) -> dict[str, str]:
    return {
        name: headers[key].decode(errors="replace") for key, name in pool.declared if key in headers
    }


def _sticky_key(by: StickyBy, request_id: bytes, wishes: Wishes) -> bytes:
    """What decides about a target; a client that does not say it is a new one each time."""
    if by is StickyBy.SESSION:
        return wishes.session or request_id
    if by is StickyBy.FAIRNESS_ID:
        return wishes.fairness_id.encode() or request_id
    return request_id

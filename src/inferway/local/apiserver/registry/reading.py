"""LIST and WATCH: pages, revisions, events in order.

Knows selectors and the revision log; bytes go to the client as they are stored where the version
allows it. Raises StatusError.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from inferway.base.clock import Clock
from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.registry.kinds import Kind
from inferway.local.apiserver.registry.options import ListOptions, Target, WatchOptions
from inferway.local.apiserver.registry.registry import Registry
from inferway.local.apiserver.registry.selectors import Selector
from inferway.local.apiserver.storage.values import Change, ChangeType, CompactedError, Stored

# Kubernetes sends a bookmark about every minute; clients take a silent watch for a dead one.
BOOKMARK_SECONDS = 55.0

CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start "
    "a new list without the continue parameter."
)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: the objects, the list's revision, where the next part begins."""

    items: list[Stored]
    revision: int
    continue_token: str = ""
    remaining: int = 0


class _Token(msgspec.Struct, array_like=True):
    revision: int
    namespace: str
    name: str


def list_page(registry: Registry, target: Target, options: ListOptions) -> Page:
    """The objects of a collection that match, at one revision."""
    store = registry.store
    resource = target.kind.resource
    revision, after = store.revision, ("", "")
    if options.continue_token:
        token = _decode_token(options.continue_token)
        revision, after = token.revision, (token.namespace, token.name)
    elif options.exact and options.revision:
        revision = options.revision
    if revision > store.revision or (options.revision or 0) > store.revision:
        raise future_revision(max(revision, options.revision or 0), store.revision)
    try:
        if revision == store.revision:
            items = store.objects(resource, target.namespace)
        else:
            items = store.objects_at(resource, target.namespace, revision)
    except CompactedError as error:
        text = CONTINUE_EXPIRED if options.continue_token else str(error)
        raise errors.expired(text) from None
    chosen = [
        stored
        for stored in items
        if (stored.key.namespace, stored.key.name) > after
        and options.selector.matches(stored.index)
    ]
    if not options.limit or len(chosen) <= options.limit:
        return Page(chosen, revision)
    page = chosen[: options.limit]
    last = page[-1].key
    token_bytes = msgspec.json.encode(_Token(revision, last.namespace, last.name))
    return Page(
        page,
        revision,
        base64.urlsafe_b64encode(token_bytes).decode(),
        len(chosen) - options.limit,
    )


def _decode_token(text: str) -> _Token:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text), type=_Token)
    except (binascii.Error, ValueError):
        raise errors.bad_request("continue key is not valid") from None


def future_revision(asked: int, current: int) -> errors.StatusError:
    """The client asks for a revision that is not there yet, such as one of another cluster."""
    error = errors.StatusError(
        504, "Timeout", f"Too large resource version: {asked}, current: {current}"
    )
    error.details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    return error


@dataclass(frozen=True, slots=True)
class WatchItem:
    """What a watch sends: a change, or a bookmark (``stored`` is None)."""

    type: str
    stored: Stored | None
    revision: int
    initial_end: bool = False


async def watch(
    registry: Registry, target: Target, options: WatchOptions, clock: Clock
) -> AsyncIterator[WatchItem]:
    """Events from a revision on until the timeout. Raises StatusError 410 when left behind."""
    store, resource = registry.store, target.kind.resource
    position = options.revision
    if position is None or options.initial_events:
        position = store.revision
        for stored in store.objects(resource, target.namespace):
            if options.selector.matches(stored.index):
                yield WatchItem(ChangeType.ADDED, stored, stored.revision)
        if options.initial_events:
            yield WatchItem("BOOKMARK", None, position, initial_end=True)
    elif position > store.revision:
        raise future_revision(position, store.revision)
    deadline = clock.monotonic() + options.timeout_seconds
    bookmark_at = clock.monotonic() + BOOKMARK_SECONDS
    while True:
        try:
            changes = store.changes_since(resource, position)
        except CompactedError as error:
            raise errors.expired(str(error)) from None
        for change in changes:
            position = change.stored.revision
            item = _seen(change, target.namespace, options.selector)
            if item is not None:
                yield item
        if changes:
            # While the client was sent these events, more may have come.
            continue
        seconds = min(deadline, bookmark_at) - clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await store.wait_changed(resource)
                continue
        except TimeoutError:
            pass
        # No change of this resource is older than the store's revision.
        position = max(position, store.revision)
        if options.bookmarks:
            yield WatchItem("BOOKMARK", None, position)
        if clock.monotonic() >= deadline:
            return
        bookmark_at = clock.monotonic() + BOOKMARK_SECONDS


def _seen(change: Change, namespace: str, selector: Selector) -> WatchItem | None:
    """A change as the selector's viewer sees it: objects come into view and leave it."""
    stored = change.stored
    if namespace and stored.key.namespace != namespace:
        return None
    before = change.previous is not None and selector.matches(change.previous.index)
    after = change.type is not ChangeType.DELETED and selector.matches(stored.index)
    if before and after:
        return WatchItem(ChangeType.MODIFIED, stored, stored.revision)
    if after:
        return WatchItem(ChangeType.ADDED, stored, stored.revision)
    if before:
        return WatchItem(ChangeType.DELETED, stored, stored.revision)
    return None


def body_of(kind: Kind, stored: Stored) -> bytes:
    """An object's JSON in the kind's version."""
    if kind.stored_as_is:
        return stored.body
    return msgspec.json.encode(kind.load(msgspec.json.decode(stored.body)))

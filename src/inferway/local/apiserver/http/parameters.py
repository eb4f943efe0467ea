"""Query parameters and option bodies, read strictly. Raises StatusError 400."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from inferway.local.apiserver.registry import errors, selectors
from inferway.local.apiserver.registry.kinds import Kind
from inferway.local.apiserver.registry.options import (
    DeleteOptions,
    ListOptions,
    WatchOptions,
    WriteOptions,
)
from inferway.local.apiserver.registry.selectors import Selector

# Kubernetes ends a watch without a timeout after 30 to 60 minutes, at random.
WATCH_SECONDS_MIN = 1800
WATCH_SECONDS_MAX = 3600
MANAGER_LENGTH_MAX = 128

Query = Mapping[str, str]


def flag(query: Query, name: str) -> bool:
    """A boolean parameter; absent is false."""
    text = query.get(name, "")
    if text in ("", "false", "0", "False", "f", "F", "FALSE"):
        return name in query and text == ""
    if text in ("true", "1", "True", "t", "T", "TRUE"):
        return True
    raise errors.bad_request(f'invalid value for {name}: "{text}" is not a boolean')


def number(query: Query, name: str) -> int | None:
    """A whole number that is not negative; None if it is absent."""
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise errors.bad_request(f'invalid value for {name}: "{text}" is not a whole number')
    return int(text)


def selector(query: Query, kind: Kind) -> Selector:
    return selectors.parse(kind, query.get("labelSelector", ""), query.get("fieldSelector", ""))


def list_options(query: Query, kind: Kind) -> ListOptions:
    match = query.get("resourceVersionMatch", "")
    revision = number(query, "resourceVersion")
    token = query.get("continue", "")
    if match and match not in ("Exact", "NotOlderThan"):
        raise errors.bad_request(f'invalid resourceVersionMatch "{match}"')
    if match and revision is None:
        raise errors.bad_request(
            "resourceVersionMatch is forbidden unless resourceVersion is provided"
        )
    if match == "Exact" and not revision:
        raise errors.bad_request(
            'resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'
        )
    if token and revision:
        raise errors.bad_request("specifying resource version is not allowed when using continue")
    return ListOptions(
        selector(query, kind), number(query, "limit") or 0, token, revision, match == "Exact"
    )


def watch_options(query: Query, kind: Kind) -> WatchOptions:
    initial = query.get("sendInitialEvents")
    match = query.get("resourceVersionMatch", "")
    bookmarks = flag(query, "allowWatchBookmarks")
    if initial is None and match:
        raise errors.bad_request(
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        )
    if initial is not None and match != "NotOlderThan":
        raise errors.bad_request(
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        )
    revision = number(query, "resourceVersion") or None
    wants_initial = initial is not None and flag(query, "sendInitialEvents")
    seconds = number(query, "timeoutSeconds")
    return WatchOptions(
        selector(query, kind),
        revision,
        bookmarks,
        wants_initial,
        float(seconds or random.randint(WATCH_SECONDS_MIN, WATCH_SECONDS_MAX)),
    )


def write_options(query: Query, user_agent: str, *, apply: bool = False) -> WriteOptions:
    validation = query.get("fieldValidation") or "Warn"
    if validation not in ("Ignore", "Warn", "Strict"):
        raise errors.bad_request(
            f'fieldValidation: Unsupported value: "{validation}": supported values: "Ignore", '
            '"Strict", "Warn"'
        )
    manager = query.get("fieldManager", "")
    if len(manager) > MANAGER_LENGTH_MAX:
        raise errors.bad_request(
            f"fieldManager: Too long: may not be more than {MANAGER_LENGTH_MAX} bytes"
        )
    if not manager and not apply:
        # As in Kubernetes: the program's name, which begins its User-Agent.
        manager = user_agent.split("/", 1)[0][:MANAGER_LENGTH_MAX] or "unknown"
    return WriteOptions(dry_run(query), validation, manager, flag(query, "force"))


def dry_run(query: Query) -> bool:
    text = query.get("dryRun", "")
    if text not in ("", "All"):
        raise errors.bad_request(f'dryRun: Unsupported value: "{text}": supported values: "All"')
    return text == "All"


_OPTION_KINDS = ("DeleteOptions", "DeleteOptionsList", "")


def delete_options(query: Query, body: Any) -> DeleteOptions:
    """Options of the body win over those of the query."""
    if body is not None and not isinstance(body, dict):
        raise errors.bad_request("the body of a deletion has to be DeleteOptions")
    given: dict[str, Any] = body or {}
    if given.get("kind") not in (*_OPTION_KINDS, None):
        raise errors.bad_request(
            f"the body of a deletion has to be DeleteOptions, not {given.get('kind')}"
        )
    propagation = given.get("propagationPolicy") or query.get("propagationPolicy") or None
    orphan = given.get("orphanDependents")
    if propagation is None and orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    if propagation not in (None, "Foreground", "Background", "Orphan"):
        raise errors.StatusError(
            422,
            "Invalid",
            'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: '
            f'"{propagation}": supported values: "Foreground", "Background", "Orphan", "nil"',
        )
    grace = given.get("gracePeriodSeconds")
    if grace is None:
        grace = number(query, "gracePeriodSeconds")
    if grace is not None and not isinstance(grace, int):
        raise errors.bad_request("gracePeriodSeconds: expected a whole number")
    preconditions = given.get("preconditions") or {}
    return DeleteOptions(
        bool(given.get("dryRun")) or dry_run(query),
        grace,
        propagation,
        str(preconditions.get("uid") or ""),
        str(preconditions.get("resourceVersion") or ""),
    )

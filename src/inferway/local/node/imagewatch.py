"""Looks after the files of the image table while a node runs, and tells what is wrong with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from inferway.local.node.imagekeeper import LOOK_SECONDS
from inferway.local.node.parts import NodeParts

_log = logging.getLogger(__name__)


async def watch_images(parts: NodeParts, changed: Callable[[], None]) -> None:
    """Calls ``changed`` after each change of the table; a wrong file is an Event of the Node."""
    name = parts.options.name
    about = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": name}
    seen, told = parts.table, frozenset[str]()
    while True:
        parts.images.look()
        if parts.table is not seen:
            seen = parts.table
            _log.info("the image table has changed", extra={"data": {"entries": len(seen.entries)}})
            changed()
        for problem in seen.problems:
            if problem not in told:
                _log.warning("a file of image mappings is wrong", extra={"data": {"what": problem}})
                text = f"{problem} [INFERWAY0202]; what the file said before stays in force"
                parts.events.event(about, "Warning", "InvalidImageTable", text)
        told = frozenset(seen.problems)
        await asyncio.sleep(LOOK_SECONDS)

"""JSON values in OpenAPI's words, and Go's regular expressions."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

# Patterns are compiled once; user-made CRDs have tens of them.
PATTERNS_KEPT_MAX = 1024


def type_name(value: Any) -> str:
    """The JSON type of a value in OpenAPI's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


@lru_cache(maxsize=PATTERNS_KEPT_MAX)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    # Go's end-of-text; its other differences do not occur in published CRDs.
    try:
        return re.compile(pattern.replace(r"\z", r"\Z"))
    except re.error:
        return None


def matches(pattern: str, text: str) -> bool:
    """Whether a Go regular expression is found in a text; one we can not read holds."""
    compiled = _compiled(pattern)
    if compiled is None:
        return True
    found = compiled.search(text)
    # Python's $ also matches before a final newline, Go's does not.
    return found is not None and not (text.endswith("\n") and pattern.endswith("$"))

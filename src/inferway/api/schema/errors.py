"""What is wrong with a field, in the words of Kubernetes' field errors.

``reason`` is the machine's word (FieldValueInvalid ...), ``field`` the path, ``message`` the text
after the path: a Status shows ``FIELD: MESSAGE``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field."""

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def shown(value: Any) -> str:
    """A value as error texts show it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _with(text: str, detail: str) -> str:
    return f"{text}: {detail}" if detail else text


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, _with("Required value", detail))


def invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, f"Invalid value: {shown(value)}: {detail}")


def refused(field: str, detail: str) -> FieldError:
    """Invalid, without showing a value that would be long."""
    return FieldError("FieldValueInvalid", field, f"Invalid value: {detail}")


def type_invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueTypeInvalid", field, f"Invalid value: {shown(value)}: {detail}")


def not_supported(field: str, value: Any, choices: Iterable[Any]) -> FieldError:
    known = ", ".join(shown(choice) for choice in choices)
    text = f"Unsupported value: {shown(value)}: supported values: {known}"
    return FieldError("FieldValueNotSupported", field, text)


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {shown(value)}")


def repeated(field: str, detail: str) -> FieldError:
    """Duplicate, without showing the value."""
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {detail}")


def forbidden(field: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, f"Forbidden: {detail}")


def not_found(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueNotFound", field, f"Not found: {shown(value)}")


def too_long(field: str, bytes_max: int) -> FieldError:
    text = f"Too long: may not be more than {bytes_max} bytes"
    return FieldError("FieldValueTooLong", field, text)


def too_many(field: str, count: int, items_max: int) -> FieldError:
    noun = "item" if items_max == 1 else "items"
    text = f"Too many: {count}: must have at most {items_max} {noun}"
    return FieldError("FieldValueTooMany", field, text)


def child(path: str, name: str) -> str:
    """``spec`` and ``port`` make ``spec.port``."""
    return f"{path}.{name}" if path else name


def key(path: str, name: str) -> str:
    """``metadata.labels`` and ``a/b`` make ``metadata.labels[a/b]``."""
    return f"{path}[{name}]"

"""Bodies to values: msgspec for those that are right, vLLM's words for those that are wrong."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

import msgspec

from inferway.simulator.bodies import CHECKS
from inferway.simulator.errors import ApiError, PlainError
from inferway.simulator.validation import Finding, report

T = TypeVar("T")
_BODY = ("body",)


class Decoder:
    """Decoders of all bodies, made once."""

    def __init__(self) -> None:
        self._decoders: dict[type, msgspec.json.Decoder[Any]] = {}

    def decode(self, kind: type[T], body: bytes, content_type: bytes) -> T:
        """Raises ApiError with vLLM's words."""
        media = content_type.split(b";", 1)[0].strip().lower()
        if media != b"application/json":
            raise ApiError(
                "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed",
                kind="Bad Request",
            )
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.json.Decoder(kind, strict=False)
        try:
            value: T = decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._slowly(kind, body)
        return value

    def refuse(self, kind: type, body: bytes) -> NoReturn:
        """Says what is wrong with a body that the decoder took. Raises ApiError."""
        self._slowly(kind, body)
        raise ApiError("The request body is not valid.", kind="Bad Request", param="body")

    def _slowly(self, kind: type[T], body: bytes) -> T:
        raw = _parse(body)
        taken, findings = CHECKS[kind](raw, _BODY)
        if raw is None:
            findings = [Finding("missing", _BODY, "Field required", None)]
        if findings:
            raise _invalid(findings)
        try:
            value: T = msgspec.convert(taken, kind, strict=False)
        except msgspec.ValidationError as error:
            raise ApiError(f"1 validation error:\n  {error}", kind="Bad Request") from None
        return value


def _invalid(findings: list[Finding]) -> ApiError:
    return ApiError(report(findings), kind="Bad Request", param=".".join(findings[0].place))


def _parse(body: bytes) -> Any:
    """A JSON value; nothing is null. The standard library words errors, as in FastAPI."""
    if not body:
        return None
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        finding = Finding(
            "json_invalid",
            ("body", str(error.pos)),
            "JSON decode error",
            {},
            {"error": error.msg},
        )
        raise _invalid([finding]) from None
    except UnicodeDecodeError:
        raise PlainError("There was an error parsing the body", 400) from None

"""Errors as vLLM's HTTP API tells them.

Handlers answer ``{"error": {message, type, param, code}}``; what is refused before a handler is
reached is answered by FastAPI itself as ``{"detail": ...}``.
"""

from __future__ import annotations

import msgspec

# "This error is about no value": None is a value that a request may have.
_NO_VALUE = object()


class ErrorInfo(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: int


class ErrorBody(msgspec.Struct):
    error: ErrorInfo


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "BadRequestError",
        param: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> bytes:
        info = ErrorInfo(self.message, self.kind, self.param, self.status)
        return msgspec.json.encode(ErrorBody(info))


class PlainError(ApiError):
    """What FastAPI answers by itself; ``headers`` are further lines of the head."""

    def __init__(self, message: str, status: int, headers: bytes = b"") -> None:
        super().__init__(message, status=status)
        self.headers = headers

    def body(self) -> bytes:
        return msgspec.json.encode({"detail": self.message})


def bad_value(message: str, parameter: str, value: object = _NO_VALUE) -> ApiError:
    """A parameter that vLLM itself refuses; its messages end in the parameter and the value."""
    tail = f"parameter={parameter}"
    if value is not _NO_VALUE:
        tail += f", value={value}"
    return ApiError(f"{message} ({tail})", param=parameter)


def model_not_found(name: str, known: tuple[str, ...]) -> ApiError:
    return ApiError(
        f"The model `{name}` does not exist. Valid aliases: {', '.join(known)}.",
        status=404,
        kind="NotFoundError",
        param="model",
    )

"""Errors as vLLM's HTTP API tells them: ``{"error": {message, type, param, code}}``."""

from __future__ import annotations

import msgspec


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


def model_not_found(name: str) -> ApiError:
    return ApiError(
        f"The model `{name}` does not exist.", status=404, kind="NotFoundError", param="model"
    )


def invalid_body(message: str, param: str | None = None) -> ApiError:
    """What FastAPI's validation says, in vLLM's envelope."""
    return ApiError(message, kind="Bad Request", param=param)

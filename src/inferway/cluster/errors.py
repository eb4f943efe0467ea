"""What a Kubernetes API server can answer instead of an object.

- InferwayError
  - ApiError: the server answered with a Status
    - UnauthorizedError (401), ForbiddenError (403), NotFoundError (404)
    - ConflictError (409, the object is newer), AlreadyExistsError (409, the name is taken)
    - GoneError (410, a resourceVersion is too old), InvalidError (422), BadAnswerError
  - ServerUnreachableError: nothing answered, or the connection broke

Knows metav1.Status; knows nothing of requests.
"""

from __future__ import annotations

from typing import Any

from inferway.base.errors import InferwayError, UnreachableError, UsageError


class ApiError(InferwayError):
    """The server refused a request. ``status`` is the HTTP code, ``reason`` a metav1 reason."""

    error_code = "INFERWAY0701"
    way_out = ""

    def __init__(
        self, status: int, reason: str, message: str, *, details: dict[str, Any] | None = None
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or {}
        super().__init__(self.error_code, message, fix=self.way_out)

    @property
    def retry_after_seconds(self) -> float | None:
        """The pause that the server asks for, if it does."""
        seconds = self.details.get("retryAfterSeconds")
        return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else None


class NotFoundError(ApiError):
    """There is no such object, or no such kind."""

    error_code = "INFERWAY0702"


class AlreadyExistsError(ApiError):
    """The name is taken."""

    error_code = "INFERWAY0703"


class ConflictError(ApiError):
    """The object changed since it was read, or another manager owns an applied field."""

    error_code = "INFERWAY0704"


class GoneError(ApiError):
    """A resourceVersion or continue token is older than the server's memory."""

    error_code = "INFERWAY0705"


class ForbiddenError(ApiError):
    """The credential may not do this."""

    error_code = "INFERWAY0706"
    way_out = "Grant the verb to the service account or user that this program runs as."


class InvalidError(ApiError):
    """The object breaks its schema."""

    error_code = "INFERWAY0707"


class UnauthorizedError(ApiError):
    """The server does not know the credential."""

    error_code = "INFERWAY0711"
    way_out = "The credential is wrong or has expired: write a new kubeconfig or token."


class BadAnswerError(ApiError):
    """The answer is not JSON, or larger than the client accepts."""

    error_code = "INFERWAY0712"
    way_out = "Check that the server address belongs to a Kubernetes API server."


class ServerUnreachableError(UnreachableError):
    """The server did not answer, or the connection broke on the way."""

    def __init__(self, server: str, cause: str) -> None:
        super().__init__(
            "INFERWAY0708",
            f"the Kubernetes API server does not answer: {cause}",
            about=server,
            fix="Check that it runs and that the address in the kubeconfig is right.",
        )


class KubeconfigError(UsageError):
    """A kubeconfig is missing, malformed, or asks for something that is not supported."""

    def __init__(self, path: str, what: str, fix: str) -> None:
        super().__init__("INFERWAY0709", what, about=path, fix=fix)


class NotInClusterError(UsageError):
    """The in-cluster files or variables are missing."""

    def __init__(self, what: str) -> None:
        super().__init__(
            "INFERWAY0710",
            what,
            about="in-cluster configuration",
            fix="Run inside of a Pod with a service account, or give --kubeconfig.",
        )


_BY_REASON: dict[str, type[ApiError]] = {
    "NotFound": NotFoundError,
    "AlreadyExists": AlreadyExistsError,
    "Conflict": ConflictError,
    "Gone": GoneError,
    "Expired": GoneError,
    "Forbidden": ForbiddenError,
    "Invalid": InvalidError,
    "Unauthorized": UnauthorizedError,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
}


def from_status(status: int, body: Any) -> ApiError:
    """The error of an answer; ``body`` is a decoded Status, or the text of something else."""
    if isinstance(body, dict) and body.get("kind") == "Status":
        code = body.get("code")
        reason = str(body.get("reason") or "")
        message = str(body.get("message") or reason or f"HTTP status {status}")
        details = body.get("details")
        status = code if isinstance(code, int) and code else status
    else:
        text = body if isinstance(body, str) else ""
        reason, details = "", None
        message = text.strip()[:300] or f"the server answered with HTTP status {status}"
    kind = _BY_REASON.get(reason) or _BY_STATUS.get(status, ApiError)
    return kind(status, reason, message, details=details if isinstance(details, dict) else None)

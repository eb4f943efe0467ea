"""Kubernetes' Status errors: codes, reasons and texts that clients match on.

One exception, ``StatusError``; the functions are its cases.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One field of an object that is wrong, as in ``details.causes``."""

    reason: str
    field: str
    message: str

    def to_json(self) -> dict[str, str]:
        return {"reason": self.reason, "message": self.message, "field": self.field}


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an error is about."""

    group: str
    resource: str
    name: str = ""
    kind: str = ""

    @property
    def qualified(self) -> str:
        """``pods`` or ``deployments.apps``."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


@dataclass(slots=True)
class StatusError(Exception):
    """An answer that is not a success; becomes a ``v1`` Status on the wire."""

    code: int
    reason: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    def to_object(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status


def _details(subject: Subject) -> dict[str, Any]:
    entries = {"name": subject.name, "group": subject.group, "kind": subject.resource}
    return {key: value for key, value in entries.items() if value}


def not_found(subject: Subject) -> StatusError:
    return StatusError(
        404, "NotFound", f'{subject.qualified} "{subject.name}" not found', _details(subject)
    )


def path_not_found() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def already_exists(subject: Subject) -> StatusError:
    return StatusError(
        409,
        "AlreadyExists",
        f'{subject.qualified} "{subject.name}" already exists',
        _details(subject),
    )


def modified(subject: Subject) -> StatusError:
    """The writer's resourceVersion is not the current one."""
    return conflict(
        subject,
        "the object has been modified; please apply your changes to the latest version and "
        "try again",
    )


def conflict(subject: Subject, why: str, causes: list[Cause] | None = None) -> StatusError:
    details = _details(subject)
    if causes:
        details["causes"] = [cause.to_json() for cause in causes]
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {subject.qualified} "{subject.name}": {why}',
        details,
    )


def apply_conflict(message: str, causes: list[Cause]) -> StatusError:
    """Server-side apply meets fields of other managers."""
    details = {"causes": [cause.to_json() for cause in causes]}
    return StatusError(409, "Conflict", message, details)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def invalid(subject: Subject, causes: list[Cause]) -> StatusError:
    """The object breaks rules of its kind."""
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    kind = f"{subject.kind}.{subject.group}" if subject.group else subject.kind
    details = _details(subject) | {
        "kind": subject.kind,
        "causes": [cause.to_json() for cause in causes],
    }
    return StatusError(422, "Invalid", f'{kind} "{subject.name}" is invalid: {joined}', details)


def forbidden(subject: Subject, why: str, causes: list[Cause] | None = None) -> StatusError:
    details = _details(subject)
    if causes:
        details["causes"] = [cause.to_json() for cause in causes]
    name = f' "{subject.name}"' if subject.name else ""
    return StatusError(403, "Forbidden", f"{subject.qualified}{name} is forbidden: {why}", details)


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def method_not_allowed(what: str = "") -> StatusError:
    return StatusError(
        405,
        "MethodNotAllowed",
        what or "the server does not allow this method on the requested resource",
    )


def not_acceptable(accepted: list[str]) -> StatusError:
    return StatusError(
        406,
        "NotAcceptable",
        f"only the following media types are accepted: {', '.join(accepted)}",
    )


def unsupported_media_type(accepted: list[str]) -> StatusError:
    return StatusError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted),
    )


def expired(message: str) -> StatusError:
    """A revision or a continue token that has left the log."""
    return StatusError(410, "Expired", message)


def request_too_large(message: str) -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", message)


def too_many_requests(message: str, retry_seconds: int) -> StatusError:
    return StatusError(429, "TooManyRequests", message, {"retryAfterSeconds": retry_seconds})


def internal(message: str) -> StatusError:
    return StatusError(500, "InternalError", f"Internal error occurred: {message}")


def unavailable(message: str) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message)

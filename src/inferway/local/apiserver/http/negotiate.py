"""Media types: what a client accepts, and what a body is.

JSON is spoken; YAML and Kubernetes' protobuf are read. No answer is given in protobuf or CBOR:
every client that asks for them takes JSON as its second choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from inferway.local.apiserver.http import protobuf
from inferway.local.apiserver.http.protobuf import WireTable
from inferway.local.apiserver.registry import errors

JSON = "application/json"
YAML = "application/yaml"
ACCEPTED = [JSON, YAML]
# Aliases make a short YAML text stand for a huge value. A body of the largest size that is taken
# holds fewer values than this when it is written out.
YAML_VALUES_MAX = 1_000_000
_WILDCARDS = ("*/*", "application/*", "")


@dataclass(frozen=True, slots=True)
class Accept:
    """The form of an answer: ``as_kind`` is Table, PartialObjectMetadata(List) or empty."""

    as_kind: str = ""
    version: str = ""
    group: str = ""
    yaml: bool = False


@dataclass(frozen=True, slots=True)
class _Clause:
    media: str
    parameters: dict[str, str]
    quality: float


def _clauses(header: str) -> list[_Clause]:
    clauses = []
    for part in header.split(","):
        media, *rest = (piece.strip() for piece in part.split(";"))
        parameters = {}
        for piece in rest:
            name, _, value = piece.partition("=")
            parameters[name.strip().lower()] = value.strip().strip('"')
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        clauses.append(_Clause(media.lower(), parameters, quality))
    # Python's sort keeps the client's order among equals.
    return sorted((c for c in clauses if c.quality > 0), key=lambda clause: -clause.quality)


def accept(header: str, *, as_kinds: tuple[str, ...] = ()) -> Accept:
    """The best form that both sides know. Raises StatusError 406."""
    for clause in _clauses(header):
        if clause.media not in (JSON, YAML, *_WILDCARDS):
            continue
        wanted = clause.parameters.get("as", "")
        if wanted and wanted not in as_kinds:
            continue
        return Accept(
            wanted,
            clause.parameters.get("v", ""),
            clause.parameters.get("g", ""),
            clause.media == YAML,
        )
    raise errors.not_acceptable(ACCEPTED)


def decode_body(content_type: str, body: bytes, wire: WireTable | None = None) -> Any:
    """A request's body as a JSON value. Raises StatusError 400 and 415."""
    media = content_type.split(";")[0].strip().lower()
    if media in (YAML, "application/apply-patch+yaml", "text/yaml", "application/x-yaml"):
        return _decode_yaml(body)
    if media in (JSON, "", "application/x-www-form-urlencoded") or media.endswith("+json"):
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise errors.bad_request(f"the body of the request is not JSON: {error}") from None
    if media == protobuf.MEDIA_TYPE and wire is not None:
        try:
            return protobuf.decode(wire, body)
        except protobuf.WireError as error:
            raise errors.bad_request(f"the body of the request can not be read: {error}") from None
    raise errors.unsupported_media_type(ACCEPTED)


def _decode_yaml(body: bytes) -> Any:
    try:
        # JSON is YAML, and kubectl and Helm send it here; its decoder is a hundred times faster.
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        loaded = yaml.safe_load(body)
        if _values(loaded, {}) > YAML_VALUES_MAX:
            raise errors.bad_request(
                f"the body of the request is not YAML: its aliases stand for more than "
                f"{YAML_VALUES_MAX} values"
            )
        return msgspec.json.decode(msgspec.json.encode(loaded))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise errors.bad_request(f"the body of the request is not YAML: {text}") from None


def _values(value: Any, counted: dict[int, int]) -> int:
    """How many values this is when every alias is written out. Each is looked at once."""
    if not isinstance(value, dict | list):
        return 1
    known = counted.get(id(value))
    if known is None:
        # An alias to a value around itself would never end.
        counted[id(value)] = YAML_VALUES_MAX
        inner = value.values() if isinstance(value, dict) else value
        known = counted[id(value)] = 1 + sum(_values(item, counted) for item in inner)
    return known


def encode(value: Any, form: Accept) -> tuple[bytes, str]:
    """The bytes and the media type of an answer."""
    if form.yaml:
        plain = msgspec.json.decode(msgspec.json.encode(value))
        return yaml.safe_dump(plain, sort_keys=False).encode(), YAML
    return msgspec.json.encode(value), JSON

"""Token usage out of responses, into dynamic metadata for the access log.

JSON answers are read by json_to_metadata, streams by sse_to_metadata, which passes each event on
before it looks at it. Knows OpenAI's ``usage`` object; a response without one leaves no trace.
"""

from __future__ import annotations

from typing import Any

from envoy.extensions.filters.http.json_to_metadata.v3 import json_to_metadata_pb2
from google.protobuf import any_pb2

from inferway.gateway.envoy.names import USAGE_NAMESPACE
from inferway.gateway.envoy.pack import pack, typed_struct

JSON_FILTER = "inferway.usage.json"
STREAM_FILTER = "inferway.usage.stream"
_PATHS = {
    "prompt_tokens": ("usage", "prompt_tokens"),
    "completion_tokens": ("usage", "completion_tokens"),
    "cached_tokens": ("usage", "prompt_tokens_details", "cached_tokens"),
}
# One event of a stream with logprobs of 20 alternatives takes some tens of kilobytes; a longer
# one is passed on unread.
EVENT_BYTES_MAX = 256 * 1024


def json_filter() -> any_pb2.Any:
    """Reads whole JSON bodies."""
    message = json_to_metadata_pb2.JsonToMetadata()
    for key, path in _PATHS.items():
        rule = message.response_rules.rules.add()
        for part in path:
            rule.selectors.add(key=part)
        rule.on_present.metadata_namespace = USAGE_NAMESPACE
        rule.on_present.key = key
        rule.on_present.type = json_to_metadata_pb2.JsonToMetadata.NUMBER
    return pack(message)


def stream_filter() -> any_pb2.Any:
    """Reads server-sent events; the last usage wins."""
    rules = [{"rule": _rule(key, path)} for key, path in _PATHS.items()]
    parser = {
        "@type": "type.googleapis.com/envoy.extensions.content_parsers.json.v3.JsonContentParser",
        "rules": rules,
    }
    return typed_struct(
        "envoy.extensions.filters.http.sse_to_metadata.v3.SseToMetadata",
        {
            "response_rules": {
                "content_parser": {"name": "envoy.content_parsers.json", "typed_config": parser},
                "max_event_size": EVENT_BYTES_MAX,
            }
        },
    )


def _rule(key: str, path: tuple[str, ...]) -> dict[str, Any]:
    return {
        "selectors": [{"key": part} for part in path],
        "on_present": {"metadata_namespace": USAGE_NAMESPACE, "key": key, "type": "NUMBER"},
    }

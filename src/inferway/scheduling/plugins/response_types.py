"""Plugin types that read answers, which pass the picker by: accepted, and said to do nothing."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Plugin
from inferway.scheduling.plugins.types import (
    REQUIRED,
    Kind,
    Parameter,
    PluginType,
    not_empty,
    plain,
    section,
)

_ATTRIBUTE = Parameter(
    dict,
    {},
    fields={
        "key": section(
            {
                "namespace": Parameter(str, "envoy.lb", unused=True),
                "name": Parameter(str, REQUIRED, not_empty, "Key of the metadata."),
            }
        ),
        "expression": Parameter(str, REQUIRED, not_empty, "Number to tell, in CEL."),
        "condition": Parameter(str, "", unused=True),
    },
)

TYPES = (
    PluginType(
        "request-attribute-reporter",
        Kind.HEADERS,
        plain(Plugin),
        {"attributes": Parameter(list, REQUIRED, not_empty, items=_ATTRIBUTE)},
        does="Numbers of the usage as metadata of the proxy.",
        idle="answers go through Envoy alone, which has their usage in its access log",
    ),
    PluginType(
        "destination-endpoint-served-verifier",
        Kind.HEADERS,
        plain(Plugin),
        does="`x-conformance-test-served-endpoint` on answers; for conformance tests.",
        idle="answers go through Envoy alone",
    ),
)

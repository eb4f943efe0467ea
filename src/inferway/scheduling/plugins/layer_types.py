"""The plugin types around the decision: sources and extractors of data, discovery, parsers.

Inferway scrapes, watches and parses by itself; what a configuration says of it is taken where it
means something here, and is accepted where it only names what goes without saying.
"""

from __future__ import annotations

from typing import Any

from inferway.scheduling.plugins import topology
from inferway.scheduling.plugins.types import (
    REQUIRED,
    Kind,
    Parameter,
    PluginType,
    between,
    duration,
    not_empty,
    one_of,
)

_SCHEME = Parameter(str, "http", one_of("http", "https"), "http or https.")
_TLS: dict[str, Any] = {
    "insecureSkipVerify": Parameter(bool, True, help="Whether any certificate will do."),
    "caCertPath": Parameter(str, "", help="Certificates of authorities, as a file."),
    "clientCertPath": Parameter(str, "", help="Own certificate, as a file."),
    "clientKeyPath": Parameter(str, "", help="Its key, as a file."),
    "interval": duration("0s", unused=True),
}
_ENGINE: dict[str, Any] = {
    "name": Parameter(str, REQUIRED, not_empty, "Value of the engine label."),
    "queuedRequestsSpec": Parameter(str, "", help="Metric of waiting requests."),
    "runningRequestsSpec": Parameter(str, "", help="Metric of running requests."),
    "kvUsageSpec": Parameter(str, "", help="Metric of the share of KV cache in use."),
    "loraSpec": Parameter(str, "", help="Metric of adapters."),
    "cacheInfoSpec": Parameter(str, "", help="Metric with the cache's size in labels."),
    "cacheBlockSizeLabelName": Parameter(str, "", help="Its label of tokens in a block."),
    "cacheNumBlocksLabelName": Parameter(str, "", help="Its label of blocks."),
    "cacheBlockSizeSpec": Parameter(str, "", help="Metric of tokens in a block."),
    "cacheNumBlocksSpec": Parameter(str, "", help="Metric of blocks."),
    "customMetrics": Parameter(
        list,
        [],
        help="Further metrics, as attributes of endpoints.",
        items=Parameter(
            dict,
            {},
            fields={
                "attributeKey": Parameter(str, REQUIRED, not_empty, "Name of the attribute."),
                "metricSpec": Parameter(str, REQUIRED, not_empty, "Metric: `name{label=value}`."),
            },
        ),
    ),
}

SOURCES = (
    PluginType(
        "metrics-data-source",
        Kind.SOURCE,
        parameters={
            "scheme": _SCHEME,
            "path": Parameter(str, "/metrics", not_empty, "Path of the page."),
            "port": Parameter(int, None, between(1, 65535), "Port; none: the endpoint's."),
            **_TLS,
        },
        does="Reads the servers' metric pages.",
    ),
    PluginType(
        "core-metrics-extractor",
        Kind.EXTRACTOR,
        parameters={
            "engineLabelKey": Parameter(
                str, "llm-d.ai/engine-type", not_empty, "Label that names the engine."
            ),
            "defaultEngine": Parameter(str, "vllm", not_empty, "Engine of Pods without it."),
            "engineConfigs": Parameter(
                list,
                [],
                help="Metric names of further engines.",
                items=Parameter(dict, {}, fields=_ENGINE),
            ),
        },
        does="Reads waiting and running requests, KV cache use and adapters off the page.",
    ),
    PluginType(
        "models-data-source",
        Kind.SOURCE,
        parameters={
            "scheme": _SCHEME,
            "path": Parameter(str, "/v1/models", unused=True),
            **_TLS,
        },
        does="Asks the servers which models they have; the picker always does.",
    ),
    PluginType(
        "models-data-extractor",
        Kind.EXTRACTOR,
        does="Reads models and adapters off the answer; the picker always does.",
    ),
    topology.TYPE,
    PluginType(
        "endpoint-notification-source",
        Kind.SOURCE,
        does="Tells plugins of endpoints that come and go; the picker always does.",
    ),
    PluginType(
        "k8s-notification-source",
        Kind.SOURCE,
        parameters={
            "group": Parameter(str, "", unused=True),
            "version": Parameter(str, "", unused=True),
            "kind": Parameter(str, "", unused=True),
        },
        does="Tells plugins of Kubernetes objects; the picker watches what it needs.",
    ),
    PluginType(
        "file-discovery",
        Kind.DISCOVERY,
        parameters={
            "path": Parameter(str, REQUIRED, not_empty, "File of endpoints."),
            "watchFile": Parameter(bool, False, help="Whether to follow changes of the file."),
        },
        does="Reads the endpoints from a file, without Kubernetes.",
    ),
)

PARSERS = tuple(
    PluginType(name, Kind.PARSER, does=does)
    for name, does in (
        ("openai-parser", "OpenAI's completions, chat, embeddings, responses and so on."),
        ("anthropic-parser", "Anthropic's messages."),
        ("vllmhttp-parser", "vLLM's `/inference/v1/generate`."),
        ("sglanghttp-parser", "SGLang's `/generate`."),
        ("passthrough-parser", "Anything; the body is not understood."),
    )
)
_GRPC = "speaks gRPC to the model server, which this picker does not parse"
REFUSED = tuple(
    PluginType(name, kind, refused=why)
    for name, kind, why in (
        ("vllmgrpc-parser", Kind.PARSER, _GRPC),
        (
            "vertexai-parser",
            Kind.PARSER,
            "parses Vertex AI's paths, which are not known here",
        ),
        ("tokenizer", Kind.PRODUCER, "needs the tokenizer sidecar; token-producer needs none"),
        ("dcgm-data-source", Kind.SOURCE, "needs NVIDIA's DCGM exporter beside each server"),
        ("dcgm-extractor", Kind.EXTRACTOR, "needs NVIDIA's DCGM exporter beside each server"),
        *(
            (f"multicluster-{name}", kind, "needs the pickers of other clusters")
            for name, kind in (
                ("queue-scorer", Kind.SCORER),
                ("kv-cache-utilization-scorer", Kind.SCORER),
                ("prefix-cache-scorer", Kind.SCORER),
                ("session-affinity-filter", Kind.FILTER),
                ("metrics-data-source", Kind.SOURCE),
                ("metrics-extractor", Kind.EXTRACTOR),
                ("file-discovery", Kind.DISCOVERY),
                ("approx-prefix-cache-producer", Kind.PRODUCER),
            )
        ),
    )
)

"""Every flag of the picker, as data: what the published pickers take, and our own.

``without`` says why a flag has no effect here; it is accepted so that published charts start this
picker unchanged. Values are read by ``flags``; the reference page is made from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "list", "number", "port", "bool", "duration", "size"]

BOTH = ("v1.1", "llm-d")
FIRST = ("v1.1",)
LLM_D = ("llm-d",)


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``of`` names the published pickers that have it; none: it is our own."""

    name: str
    kind: Kind
    default: str
    help: str
    of: tuple[str, ...] = ()
    # Why it has no effect; empty: it has.
    without: str = ""


_SERVERS_FLAG = "the engine's own names come after it; empty: they alone"
_SCRAPE = "scrapes adapt to load: 0.2 s while busy, 5 s while idle"
_LIVE = "metrics are computed when they are asked for"
_GO_LOG = "logs are JSON lines in a Pod and plain lines on a terminal"
_GO_PROFILE = "a Python process is profiled from outside, by py-spy or perf"

POOLS = (
    Flag("pool-name", "list", "", "InferencePools to pick for; NAMESPACE/NAME is one too.", BOTH),
    Flag("pool-namespace", "list", "", "Their namespace; one for all, or one for each.", BOTH),
    Flag(
        "pool-group",
        "list",
        "inference.networking.k8s.io",
        "API group of the pools, inference.networking.x-k8s.io for the older kind; one for all, or "
        "one for each.",
        BOTH,
    ),
    Flag(
        "endpoint-selector",
        "text",
        "",
        "Label selector of the model servers' Pods, instead of a pool.",
        LLM_D,
    ),
    Flag("endpoint-target-ports", "list", "", "Their 1 to 8 ports.", LLM_D),
    Flag("endpoints", "text", "", "Servers host:port,host:port, instead of a pool's Pods."),
    Flag("endpoints-file", "text", "", "File that lists the servers; read again as it changes."),
    Flag("kubeconfig", "text", "", "Cluster to use outside of a Pod (default: KUBECONFIG)."),
)

LISTENING = (
    Flag("bind-address", "text", "", "Listen here (default: INFERWAY_POD_IP, 0.0.0.0)."),
    Flag("grpc-port", "port", "9002", "Port of the Endpoint Picker Protocol (ext_proc).", BOTH),
    Flag("grpc-health-port", "port", "9003", "Port of gRPC health.", BOTH),
    Flag("pick-port", "port", "9004", "Port of the pick callout and the pick channel."),
    Flag("pick-socket", "text", "", "Unix socket of both (default: INFERWAY_PICK_SOCKET)."),
    Flag("feedback-port", "port", "9005", "Port of the access log service."),
    Flag("metrics-port", "port", "9090", "Port of /metrics, /healthz, /readyz and /debug.", BOTH),
    Flag(
        "metric-families",
        "list",
        "own,gie,llm-d",
        "Whose names /metrics uses: own (always), gie, llm-d.",
    ),
    Flag("secure-serving", "bool", "true", "TLS of ext_proc.", BOTH),
    Flag("cert-path", "text", "", "Folder of tls.crt and tls.key (default: self-signed).", BOTH),
    Flag("enable-cert-reload", "bool", "true", "Read them again as they change: always.", LLM_D),
    Flag("tls-min-version", "text", "", "VersionTLS12; a higher one can not be held.", LLM_D),
    Flag("tls-cipher-suites", "list", "", "Go's names of the suites of TLS 1.2.", LLM_D),
    Flag("grpc-max-recv-msg-size", "size", "", "Largest gRPC message to read, as 10MiB.", LLM_D),
    Flag("grpc-max-send-msg-size", "size", "", "Largest gRPC message to send.", LLM_D),
    Flag("health-checking", "bool", "true", "gRPC health on the ext_proc port too: always.", BOTH),
)

PICKING = (
    Flag("config-file", "text", "", "EndpointPickerConfig as a file.", BOTH),
    Flag("config-text", "text", "", "EndpointPickerConfig as text.", BOTH),
    Flag("check", "bool", "false", "Say what the configuration becomes, and start nothing."),
    Flag("allow-experimental-plugins", "bool", "false", "Allow plugins that may change.", LLM_D),
    Flag("disable-endpoint-subset-filter", "bool", "false", "Ignore the subset hint.", LLM_D),
    Flag(
        "emit-endpoint-scores",
        "bool",
        "false",
        "Tell scores in the metadata.",
        LLM_D,
        "scores stand in /debug/decisions",
    ),
    Flag("drain-timeout", "duration", "30s", "Longest wait for open requests at the end.", LLM_D),
    Flag(
        "ha-enable-leader-election",
        "bool",
        "false",
        "One picker leads.",
        BOTH,
        "all replicas pick, and tell each other what they reserve",
    ),
)

REPLICAS = (
    Flag("exchange-port", "port", "9006", "Port at which other replicas hear of reservations."),
    Flag("peers", "text", "", "Other replicas host:port,host:port (default: found by labels)."),
)

SERVERS = (
    Flag("model-server-metrics-port", "port", "0", "Port of metrics (0: the target port).", BOTH),
    Flag("model-server-metrics-path", "text", "/metrics", "Path of metrics.", BOTH),
    Flag("model-server-metrics-scheme", "text", "http", "http or https.", BOTH),
    Flag(
        "model-server-metrics-https-insecure-skip-verify",
        "bool",
        "true",
        "Take any certificate of a model server.",
        BOTH,
    ),
    Flag("total-queued-requests-metric", "text", "", f"Waiting requests: {_SERVERS_FLAG}.", FIRST),
    Flag("total-running-requests-metric", "text", "", f"Running requests: {_SERVERS_FLAG}.", FIRST),
    Flag(
        "kv-cache-usage-percentage-metric", "text", "", f"Use of the cache: {_SERVERS_FLAG}.", FIRST
    ),
    Flag("lora-info-metric", "text", "", f"Adapters: {_SERVERS_FLAG}.", FIRST),
    Flag("cache-info-metric", "text", "", f"Size of the cache: {_SERVERS_FLAG}.", FIRST),
    Flag("refresh-metrics-interval", "duration", "50ms", "Time between scrapes.", BOTH, _SCRAPE),
    Flag(
        "metrics-staleness-threshold",
        "duration",
        "2s",
        "Age at which metrics count as stale.",
        BOTH,
        "a metric counts less the older it is, without a step",
    ),
)

METRICS = (
    Flag(
        "metrics-endpoint-auth",
        "bool",
        "true",
        "Give /metrics and /debug only to bearers of a token that the cluster accepts and allows "
        "to get that path.",
        BOTH,
    ),
    Flag("metrics-cert-dir", "text", "", "Folder of tls.crt and tls.key of metrics.", LLM_D),
    Flag("metrics-client-ca-file", "text", "", "CA whose clients may read metrics.", LLM_D),
    Flag("refresh-prometheus-metrics-interval", "duration", "5s", "Age of gauges.", BOTH, _LIVE),
    Flag(
        "enable-grpc-stream-metrics",
        "bool",
        "false",
        "Metrics of ext_proc streams.",
        LLM_D,
    ),
    Flag("metric-families", "text", "own,gie,llm-d", "Published names to show: own, gie, llm-d."),
    Flag("enable-pprof", "bool", "true", "Go's profiler.", BOTH, _GO_PROFILE),
    Flag("tracing", "bool", "true", "OpenTelemetry, where OTEL_* say to whom.", BOTH),
)

LOGGING = (
    Flag("v", "number", "2", "Verbosity; 4 and more log in detail.", BOTH),
    Flag("zap-log-level", "text", "", "debug, info, error, or a number as of -v.", BOTH),
    Flag("zap-devel", "bool", "false", "Form of logs.", BOTH, _GO_LOG),
    Flag("zap-encoder", "text", "", "Form of logs.", BOTH, _GO_LOG),
    Flag("zap-stacktrace-level", "text", "", "Form of logs.", BOTH, _GO_LOG),
    Flag("zap-time-encoding", "text", "", "Form of logs.", BOTH, _GO_LOG),
)

GROUPS: tuple[tuple[str, tuple[Flag, ...]], ...] = (
    ("Pools and servers", POOLS),
    ("Listening", LISTENING),
    ("Picking", PICKING),
    ("Replicas", REPLICAS),
    ("Model servers' metrics", SERVERS),
    ("Metrics and tracing", METRICS),
    ("Logging", LOGGING),
)
FLAGS: tuple[Flag, ...] = tuple(flag for _, group in GROUPS for flag in group)

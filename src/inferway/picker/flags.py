"""The picker's command line: the published pickers' flags, read as Go reads them, and our own.

``--flag value``, ``--flag=value`` and ``-flag`` are the same; a boolean flag alone is true. Other
than Go's, a boolean flag takes a following ``true`` or ``false``: the published chart writes it so.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from inferway.base import durations
from inferway.base.errors import UsageError

Kind = Literal["text", "number", "bool", "duration"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``used`` is False where it is accepted only so that published charts work."""

    name: str
    kind: Kind
    default: str
    help: str
    used: bool = True


FLAGS = (
    Flag("pool-name", "text", "", "InferencePool to pick for (required without --endpoints)."),
    Flag("pool-namespace", "text", "", "Its namespace (default: NAMESPACE, else default)."),
    Flag("pool-group", "text", "inference.networking.k8s.io", "API group of the pool."),
    Flag("config-file", "text", "", "EndpointPickerConfig as a file."),
    Flag("config-text", "text", "", "EndpointPickerConfig as text."),
    Flag("endpoints", "text", "", "Static servers host:port,host:port instead of a pool's Pods."),
    Flag("bind-address", "text", "", "Listen here (default: INFERWAY_POD_IP, 0.0.0.0)."),
    Flag("pick-port", "number", "9004", "Port of the pick callout."),
    Flag("pick-socket", "text", "", "Unix socket of the callout (default: INFERWAY_PICK_SOCKET)."),
    Flag("feedback-port", "number", "9005", "Port of the access log service."),
    Flag("grpc-health-port", "number", "9003", "Port of gRPC health."),
    Flag("metrics-port", "number", "9090", "Port of /metrics, /healthz, /readyz and /debug."),
    Flag("kubeconfig", "text", "", "Cluster to use outside of a Pod."),
    Flag("model-server-metrics-port", "number", "0", "Port of metrics (0: the target port)."),
    Flag("model-server-metrics-path", "text", "/metrics", "Path of metrics."),
    Flag("model-server-metrics-scheme", "text", "http", "http or https."),
    Flag(
        "model-server-metrics-https-insecure-skip-verify",
        "bool",
        "true",
        "Take any certificate of a model server.",
    ),
    Flag("total-queued-requests-metric", "text", "", "Another name of the waiting metric."),
    Flag("total-running-requests-metric", "text", "", "Another name of the running metric."),
    Flag("kv-cache-usage-percentage-metric", "text", "", "Another name of the KV use metric."),
    Flag("lora-info-metric", "text", "", "Another name of the adapter metric."),
    Flag("cache-info-metric", "text", "", "Another name of the cache configuration metric."),
    Flag("v", "number", "2", "Verbosity; 4 and more log each decision's inputs."),
    Flag("grpc-port", "number", "9002", "Port of ext_proc.", used=False),
    Flag("refresh-metrics-interval", "duration", "50ms", "Scrapes adapt to load.", used=False),
    Flag("refresh-prometheus-metrics-interval", "duration", "5s", "Metrics are live.", used=False),
    Flag("metrics-staleness-threshold", "duration", "2s", "Age is weighed.", used=False),
    Flag("metrics-endpoint-auth", "bool", "true", "Tokens for /metrics.", used=False),
    Flag("enable-pprof", "bool", "true", "Go's profiler.", used=False),
    Flag("secure-serving", "bool", "true", "TLS of ext_proc.", used=False),
    Flag("health-checking", "bool", "false", "Health on the ext_proc port.", used=False),
    Flag("cert-path", "text", "", "Certificate of ext_proc.", used=False),
    Flag("ha-enable-leader-election", "bool", "false", "All replicas pick.", used=False),
    Flag("tracing", "bool", "true", "OpenTelemetry.", used=False),
    Flag("allow-experimental-plugins", "bool", "false", "Allow plugins that may change."),
    Flag("zap-devel", "bool", "false", "Go's logger.", used=False),
    Flag("zap-encoder", "text", "", "Go's logger.", used=False),
    Flag("zap-log-level", "text", "", "Go's logger.", used=False),
    Flag("zap-stacktrace-level", "text", "", "Go's logger.", used=False),
    Flag("zap-time-encoding", "text", "", "Go's logger.", used=False),
)


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One pool to pick for: an InferencePool, or ``endpoints`` (host:port) that are given."""

    namespace: str
    name: str
    group: str
    endpoints: tuple[str, ...] = ()


USAGE_HINT = "See them all: inferway picker --help"


@dataclass(frozen=True, slots=True)
class Options:
    """Checked values by flag name, and the names of flags that were given without an effect."""

    values: Mapping[str, str]
    without_effect: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        return self.values[name]

    def number(self, name: str) -> int:
        return int(self.values[name])

    def flag(self, name: str) -> bool:
        return self.values[name] == "true"

    @property
    def pools(self) -> tuple[PoolSpec, ...]:
        """What to pick for, at least one."""
        endpoints = tuple(part for part in self.values["endpoints"].split(",") if part)
        v = self.values
        return (PoolSpec(v["pool-namespace"], v["pool-name"], v["pool-group"], endpoints),)

    @property
    def needs_cluster(self) -> bool:
        """Whether a pool's servers are found in Kubernetes."""
        return not all(pool.endpoints for pool in self.pools)


def parse(argv: Sequence[str], env: Mapping[str, str]) -> Options:
    """Flags over environment over defaults. Raises UsageError."""
    known = {flag.name: flag for flag in FLAGS}
    given: dict[str, str] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word in {"-", "--"}:
            raise UsageError("INFERWAY0402", f"unexpected argument {word!r}", fix=USAGE_HINT)
        name, equals, value = word.lstrip("-").partition("=")
        flag = known.get(name)
        if flag is None:
            raise _unknown(name, known)
        if not equals:
            if flag.kind == "bool":
                value = words.pop(0) if words and words[0] in {"true", "false"} else "true"
            elif words:
                value = words.pop(0)
            else:
                raise UsageError("INFERWAY0403", f"--{name} needs a value", fix=flag.help)
        given[name] = _checked(flag, value)
    values = {flag.name: given.get(flag.name, flag.default) for flag in FLAGS}
    values["pool-namespace"] = values["pool-namespace"] or env.get("NAMESPACE") or "default"
    values["bind-address"] = values["bind-address"] or env.get("INFERWAY_POD_IP") or "0.0.0.0"
    values["pick-socket"] = values["pick-socket"] or env.get("INFERWAY_PICK_SOCKET", "")
    _require(values)
    unused = tuple(name for name in given if not known[name].used)
    return Options(values, unused)


def _require(values: Mapping[str, str]) -> None:
    if not values["pool-name"]:
        raise UsageError("INFERWAY0404", "--pool-name is missing", fix="--pool-name NAME")
    if values["config-file"] and values["config-text"]:
        raise UsageError(
            "INFERWAY0405",
            "--config-file and --config-text exclude each other",
            fix="Give one of them.",
        )
    for address in values["endpoints"].split(","):
        host, colon, port = address.rpartition(":")
        if address and not (host and colon and port.isdigit() and 0 < int(port) < 65536):
            raise UsageError(
                "INFERWAY0403",
                f"--endpoints: {address!r} is not host:port",
                fix="--endpoints 127.0.0.1:8000,127.0.0.1:8001",
            )


def _unknown(name: str, known: Mapping[str, Flag]) -> UsageError:
    close = difflib.get_close_matches(name, known, n=1)
    fix = f"Did you mean --{close[0]}?" if close else USAGE_HINT
    return UsageError("INFERWAY0401", f"unknown flag --{name}", fix=fix)


def _checked(flag: Flag, value: str) -> str:
    try:
        if flag.kind == "number":
            if not 0 <= int(value) <= 65535:
                raise ValueError
        elif flag.kind == "duration":
            durations.parse_go(value)
        elif flag.kind == "bool":
            return {"true": "true", "1": "true", "t": "true", "false": "false", "0": "false"}[
                value.lower()
            ]
    except (ValueError, KeyError):
        raise UsageError(
            "INFERWAY0403", f"--{flag.name}: {value!r} is not a {flag.kind}", fix=flag.help
        ) from None
    return value


def usage() -> str:
    """The help text."""
    lines = ["Usage: inferway picker --pool-name NAME [flags]", ""]
    for flag in FLAGS:
        default = f" [{flag.default}]" if flag.default else ""
        note = "" if flag.used else " (accepted, without effect)"
        lines.append(f"  --{flag.name}{default}\n        {flag.help}{note}")
    return "\n".join(lines)

"""The picker's command line: the published pickers' flags, read as Go reads them, and our own.

``--flag value``, ``--flag=value`` and ``-flag`` are the same; a boolean flag alone is true. Other
than Go's, a boolean flag takes a following ``true`` or ``false``: the published chart writes it so,
and its author means it. The flags themselves stand in ``flag_table``.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from inferway.base import durations, quantities
from inferway.base.errors import UsageError
from inferway.picker.flag_table import FLAGS, GROUPS, Flag
from inferway.picker.pool_specs import PoolSpec, file_pool, pool_specs

USAGE_HINT = "See them all: inferway picker --help"
PORT_MAX = 65535
# As the published pickers count: 2 default, 3 verbose, 4 debug, 5 trace.
DEBUG_VERBOSITY = 4
_ZAP_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "panic": logging.CRITICAL,
}
_BOOLEANS = {"true": "true", "1": "true", "t": "true", "false": "false", "0": "false", "f": "false"}


def _duration(text: str) -> str:
    durations.parse_go(text)
    return text


_THRESHOLDS: dict[str, tuple[str, Callable[[str], int | float | str], str]] = {
    "SD_QUEUE_DEPTH_THRESHOLD": ("queueDepthThreshold", int, "5"),
    "SD_KV_CACHE_UTIL_THRESHOLD": ("kvCacheUtilThreshold", float, "0.8"),
    "SD_METRICS_STALENESS_THRESHOLD": ("metricsStalenessThreshold", _duration, "200ms"),
}
# A metric, or one with labels that must be equal.
_SPEC = re.compile(r"[^{}\s]+(?:\{[^{}]*\})?")
_METRICS = frozenset(f.name for f in FLAGS if f.name.endswith("-metric"))


@dataclass(frozen=True, slots=True)
class Options:
    """Checked values by flag name, the pools, and which flags were given.

    ``without_effect`` holds those of them that have none, with the reason.
    """

    values: Mapping[str, str]
    pools: tuple[PoolSpec, ...]
    given: frozenset[str] = frozenset()
    without_effect: Mapping[str, str] = field(default_factory=dict)
    # ``saturationDetector`` of a configuration that has none, from the environment.
    saturation: Mapping[str, int | float | str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        return self.values[name]

    def number(self, name: str) -> int:
        return int(self.values[name])

    def flag(self, name: str) -> bool:
        return self.values[name] == "true"

    def seconds(self, name: str) -> float:
        return durations.parse_go(self.values[name])

    def items(self, name: str) -> tuple[str, ...]:
        """The parts of a list."""
        return split(self.values[name])

    @property
    def log_level(self) -> int | None:
        """What the flags ask for; None: nothing in particular."""
        word = self.values["zap-log-level"].lower()
        # zap's numbers count detail as klog's do.
        detail = int(word) if word.isdigit() else self.number("v")
        if word in _ZAP_LEVELS:
            return _ZAP_LEVELS[word]
        return logging.DEBUG if detail >= DEBUG_VERBOSITY else None

    @property
    def needs_cluster(self) -> bool:
        """Whether a pool's servers are found in Kubernetes."""
        return any(pool.in_cluster for pool in self.pools)


def split(text: str) -> tuple[str, ...]:
    """Parts between commas, without blanks around them and without empty ones."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse(argv: Sequence[str], env: Mapping[str, str]) -> Options:
    """Flags over environment over defaults. Raises UsageError."""
    known = {flag.name: flag for flag in FLAGS}
    given: dict[str, str] = {}
    words = list(argv)
    while words:
        flag, value = _next(words, known)
        if flag.kind == "list" and flag.name in given:
            value = f"{given[flag.name]},{value}"
        given[flag.name] = value
    values = {flag.name: given.get(flag.name, flag.default) for flag in FLAGS}
    values["bind-address"] = values["bind-address"] or env.get("INFERWAY_POD_IP") or "0.0.0.0"
    values["pick-socket"] = values["pick-socket"] or env.get("INFERWAY_PICK_SOCKET", "")
    values["kubeconfig"] = values["kubeconfig"] or env.get("KUBECONFIG", "")
    _agree(values, frozenset(given))
    pools = pool_specs(values, env)
    if not pools and not (values["config-file"] or values["config-text"]):
        raise missing_pool()
    unused = {name: known[name].without for name in given if known[name].without}
    return Options(values, pools, frozenset(given), unused, _saturation(env))


def _saturation(env: Mapping[str, str]) -> dict[str, int | float | str]:
    """Thresholds that v1.1 takes from the environment."""
    found: dict[str, int | float | str] = {}
    for name, (key, read, example) in _THRESHOLDS.items():
        if text := env.get(name):
            try:
                found[key] = read(text)
            except ValueError:
                raise UsageError(
                    "INFERWAY0403", f"{name}: {text!r} can not be read", fix=f"{name}={example}"
                ) from None
    return found


def with_file(
    options: Options, file: tuple[str, bool], env: Mapping[str, str], about: str
) -> Options:
    """The options where a configuration names a file of servers. Raises UsageError."""
    if len(options.pools) > 1 or any(not pool.is_named_only for pool in options.pools):
        raise UsageError(
            "INFERWAY0405",
            "it names a file of servers, and flags name others",
            about=about,
            fix="Leave dataLayer.discovery out, or the flags; one --pool-name may name the pool.",
        )
    return replace(options, pools=(file_pool(options.values, env, *file),))


def missing_pool() -> UsageError:
    """Nothing says what to pick for."""
    return UsageError(
        "INFERWAY0404",
        "--pool-name is missing",
        fix="--pool-name NAME; without an InferencePool --endpoint-selector, --endpoints or "
        "--endpoints-file.",
    )


def _next(words: list[str], known: Mapping[str, Flag]) -> tuple[Flag, str]:
    """Takes one flag and its checked value off the words."""
    word = words.pop(0)
    name, equals, value = word[2 if word.startswith("--") else 1 :].partition("=")
    if not word.startswith("-") or not name or name.startswith("-"):
        raise UsageError("INFERWAY0402", f"unexpected argument {word!r}", fix=USAGE_HINT)
    flag = known.get(name)
    if flag is None:
        raise _unknown(name, known)
    if not equals:
        if flag.kind == "bool":
            value = words.pop(0) if words and words[0].lower() in {"true", "false"} else "true"
        elif words:
            value = words.pop(0)
        else:
            raise UsageError("INFERWAY0403", f"--{name} needs a value", fix=flag.help)
    # A chart that writes --flag="value" into a list of arguments leaves the quotes in the value.
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return flag, _checked(flag, value)


def _agree(values: Mapping[str, str], given: frozenset[str]) -> None:
    """Refuses what can not be together."""
    if values["config-file"] and values["config-text"]:
        raise UsageError(
            "INFERWAY0405",
            "--config-file and --config-text exclude each other",
            fix="Give one of them.",
        )
    if values["metrics-client-ca-file"] and not values["metrics-cert-dir"]:
        raise UsageError(
            "INFERWAY0405",
            "--metrics-client-ca-file checks certificates of clients, which needs TLS",
            fix="Give --metrics-cert-dir, the folder of tls.crt and tls.key, too.",
        )
    auth = values["metrics-endpoint-auth"] == "true"
    if values["metrics-cert-dir"] and not values["metrics-client-ca-file"] and not auth:
        raise UsageError(
            "INFERWAY0405",
            "--metrics-cert-dir with --metrics-endpoint-auth=false would let anybody read metrics",
            fix="Give --metrics-client-ca-file, or leave --metrics-endpoint-auth on.",
        )


def _unknown(name: str, known: Mapping[str, Flag]) -> UsageError:
    close = difflib.get_close_matches(name, known, n=1)
    fix = f"Did you mean --{close[0]}?" if close else USAGE_HINT
    return UsageError("INFERWAY0401", f"unknown flag --{name}", fix=fix)


def _checked(flag: Flag, value: str) -> str:
    try:
        if flag.kind == "port":
            if not 0 <= int(value) <= PORT_MAX:
                raise ValueError
        elif flag.kind == "number":
            int(value)
        elif flag.kind == "duration":
            durations.parse_go(value)
        elif flag.kind == "size" and value:
            # Go's flag takes 10MB and 10MiB for Kubernetes' 10M and 10Mi.
            size = value.strip().removesuffix("B").removesuffix("b")
            return str(int(quantities.parse(size)))
        elif flag.kind == "bool":
            return _BOOLEANS[value.lower()]
        elif flag.name == "zap-log-level" and value:
            if not value.isdigit() and value.lower() not in _ZAP_LEVELS:
                raise KeyError(value)
        elif flag.name in _METRICS and value and not _SPEC.fullmatch(value):
            raise ValueError
    except (ValueError, KeyError):
        what = {"zap-log-level": "level"}.get(flag.name, flag.kind)
        what = "name{label=value}" if flag.name in _METRICS else what
        raise UsageError(
            "INFERWAY0403", f"--{flag.name}: {value!r} is not a {what}", fix=flag.help
        ) from None
    return value


def usage() -> str:
    """The help text."""
    lines = ["Usage: inferway picker --pool-name NAME [flags]"]
    for title, flags in GROUPS:
        lines += ["", f"{title}:"]
        for flag in flags:
            default = f" [{flag.default}]" if flag.default else ""
            note = f" Accepted, without effect: {flag.without}." if flag.without else ""
            lines.append(f"  --{flag.name}{default}\n        {flag.help}{note}")
    return "\n".join(lines)

"""The ext_proc server of a picker process, from its flags and its pools."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from inferway.base.errors import UsageError
from inferway.picker.extproc.certificates import use_suites
from inferway.picker.extproc.machine import Settings
from inferway.picker.extproc.server import MESSAGE_BYTES_MAX, ExtProcServer, ServingOptions
from inferway.picker.extproc.stream import Asker
from inferway.picker.flags import Options
from inferway.picker.health import HealthService
from inferway.scheduling.decision import Policy
from inferway.scheduling.events import Event
from inferway.scheduling.plugins.header_based_testing_filter import HeaderBasedTestingFilter
from inferway.scheduling.profile import ProfilePolicy


def serving_options(options: Options) -> ServingOptions:
    """What the flags say of the port. Raises UsageError for what TLS can not be held to here."""
    least = options.text("tls-min-version")
    if least not in ("", "VersionTLS12"):
        raise UsageError(
            "INFERWAY0416",
            f"{least!r} can not be the least version of TLS: gRPC for Python takes 1.2 and 1.3",
            about="--tls-min-version",
            fix="Give VersionTLS12, or leave the flag out.",
        )
    return ServingOptions(
        secure=options.flag("secure-serving"),
        cert_path=options.text("cert-path"),
        receive_bytes_max=_size(options.text("grpc-max-recv-msg-size")),
        send_bytes_max=_size(options.text("grpc-max-send-msg-size")),
        counted=options.flag("enable-grpc-stream-metrics"),
    )


def _size(text: str) -> int:
    return int(text) if text else MESSAGE_BYTES_MAX


def drain_seconds(options: Options) -> float:
    """How long open requests may go on after the picker was told to stop."""
    return options.seconds("drain-timeout")


def server(
    options: Options,
    policies: Mapping[str, Policy],
    ask: Asker,
    settle: Callable[[Event], None],
    health: HealthService,
) -> ExtProcServer:
    """A server for pools (``namespace/name``), which does not listen yet. Raises UsageError."""
    use_suites(options.items("tls-cipher-suites"), os.environ)
    subset = not options.flag("disable-endpoint-subset-filter")
    pools = {
        pool: Settings(pool, subset=subset, tests=_tests(policy))
        for pool, policy in policies.items()
    }
    return ExtProcServer(pools, ask, settle, health, serving_options(options))


def _tests(policy: Policy) -> bool:
    """Whether conformance tests may restrict the choice; then they are told who answered, too."""
    return isinstance(policy, ProfilePolicy) and any(
        isinstance(plugin, HeaderBasedTestingFilter) for plugin in policy.plugins
    )

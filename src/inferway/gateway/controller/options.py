"""How the controller runs: flags over environment over defaults."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inferway.gateway.envoy.tracing import Tracing
from inferway.observe.otlp import tracing_options

XDS_PORT = 18000
METRICS_PORT = 9090
# As whose spans those of the proxies are sent, unless OTEL_SERVICE_NAME says another one.
SERVICE_NAME = "inferway-gateway"


@dataclass(frozen=True, slots=True)
class Options:
    """``bind_address`` is the Pod's own where the Pod shares its machine's network."""

    namespace: str = "inferway-system"
    pod_name: str = "gateway-controller"
    pod_ip: str = ""
    bind_address: str = "0.0.0.0"
    xds_port: int = XDS_PORT
    metrics_port: int = METRICS_PORT
    xds_service: str = ""
    inference: bool = True
    extra_classes: tuple[str, ...] = ()
    kubeconfig: str = ""
    pool_header: bool = True
    # Where the proxies send spans; the OTEL_* variables of the controller say it for all of them.
    tracing: Tracing | None = None


def parse(argv: Sequence[str], env: Mapping[str, str]) -> Options:
    """The options; argparse ends the process with a usage message on a mistake."""
    parser = argparse.ArgumentParser(prog="inferway gateway-controller", description=__doc__)
    own_ip = env.get("INFERWAY_POD_IP", "")
    parser.add_argument(
        "--bind-address",
        default=env.get("INFERWAY_BIND_ADDRESS") or own_ip or "0.0.0.0",
        help="address of the xDS and metrics ports",
    )
    parser.add_argument("--xds-port", type=int, default=XDS_PORT)
    parser.add_argument("--metrics-port", type=int, default=METRICS_PORT)
    parser.add_argument(
        "--xds-service",
        default=env.get("INFERWAY_XDS_SERVICE", ""),
        help="Service of this controller, whose cluster address the proxies use",
    )
    parser.add_argument(
        "--extra-gateway-classes",
        default=env.get("INFERWAY_EXTRA_GATEWAY_CLASSES", ""),
        help="names of further GatewayClasses to create, with commas between",
    )
    parser.add_argument(
        "--inference-extension",
        choices=("true", "false"),
        default=env.get("INFERWAY_INFERENCE_EXTENSION", "true").lower(),
        help="whether InferencePools are watched",
    )
    parser.add_argument(
        "--pool-response-header",
        choices=("true", "false"),
        default=env.get("INFERWAY_POOL_RESPONSE_HEADER", "true").lower(),
        help="whether answers of pools carry x-went-into-resp-headers",
    )
    parser.add_argument("--kubeconfig", default="", help="instead of the Pod's own credential")
    given = parser.parse_args(list(argv))
    return Options(
        namespace=env.get("POD_NAMESPACE") or "inferway-system",
        pod_name=env.get("POD_NAME") or "gateway-controller",
        pod_ip=env.get("POD_IP") or own_ip,
        bind_address=given.bind_address,
        xds_port=given.xds_port,
        metrics_port=given.metrics_port,
        xds_service=given.xds_service,
        inference=given.inference_extension == "true",
        extra_classes=tuple(
            name.strip() for name in given.extra_gateway_classes.split(",") if name.strip()
        ),
        kubeconfig=given.kubeconfig,
        pool_header=given.pool_response_header == "true",
        tracing=_tracing(env),
    )


def _tracing(env: Mapping[str, str]) -> Tracing | None:
    found = tracing_options(env, SERVICE_NAME)
    if found is None:
        return None
    resource = {key: str(value) for key, value in found.resource.items()}
    sampler = found.sampler
    return Tracing(
        found.endpoint,
        found.protocol,
        sampler.share,
        sampler.parent_based,
        resource.pop("service.name"),
        found.headers,
        resource,
    )

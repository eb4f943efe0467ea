"""Inferway's own kinds. Their published form is the chart ``inferway-crds``; a test compares."""

from __future__ import annotations

from typing import Annotated

from inferway.api.codec import ApiStruct
from inferway.api.fields import Int32, field
from inferway.api.meta import ObjectMeta

INFERWAY_GROUP = "inferway.dev"
CONTROLLER_NAME = "inferway.dev/gateway-controller"
GATEWAY_CLASS_NAME = "inferway"

QuantityField = Annotated[
    str | int,
    field(anyOf=[{"type": "integer"}, {"type": "string"}], x_kubernetes_int_or_string=True),
]


class ProxyResources(ApiStruct, frozen=True, kw_only=True):
    """Requests and limits of a proxy, as in a container."""

    limits: Annotated[dict[str, QuantityField], field("Most that a proxy may use.")] = {}
    requests: Annotated[dict[str, QuantityField], field("What is kept for a proxy.")] = {}


class GatewayParametersSpec(ApiStruct, frozen=True, kw_only=True):
    """The proxies. Empty values are Inferway's own."""

    replicas: Annotated[
        Int32, field("How many proxies serve the Gateway.", default=1, minimum=0)
    ] = 1
    image: Annotated[str, field("The proxies' image, an Envoy.", minLength=1)] = ""
    resources: Annotated[
        ProxyResources, field("Requests and limits of a proxy, as in a container.")
    ] = ProxyResources()
    service_type: Annotated[
        str,
        field(
            "The type of the proxies' Service.",
            default="LoadBalancer",
            enum=["ClusterIP", "NodePort", "LoadBalancer"],
        ),
    ] = "LoadBalancer"
    pod_labels: Annotated[dict[str, str], field("Further labels of the proxies' Pods.")] = {}


class GatewayParameters(ApiStruct, frozen=True, kw_only=True):
    """The proxies of a Gateway, or of every Gateway of a GatewayClass."""

    api_version: str = f"{INFERWAY_GROUP}/v1alpha1"
    kind: str = "GatewayParameters"
    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[GatewayParametersSpec, field(required=True)] = GatewayParametersSpec()

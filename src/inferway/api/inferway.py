"""Inferway's own kinds. Their published form is the chart ``inferway-crds``; a test compares."""

from __future__ import annotations

from typing import Annotated, ClassVar

from inferway.api.codec import ApiStruct
from inferway.api.fields import Duration, Int32, Rule, field, map_of, waiting
from inferway.api.inference import Conditions, PoolRef
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


class LoRAAdapterSpec(ApiStruct, frozen=True, kw_only=True):
    """An adapter, and how many servers of the pool shall have it."""

    cel: ClassVar[tuple[Rule, ...]] = (
        (
            "!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            "minReplicas must not be more than maxReplicas",
        ),
    )

    pool_ref: Annotated[PoolRef, field("The pool whose servers load the adapter.")]
    adapter_name: Annotated[
        str,
        field(
            "The model name that requests use; the object's name where it is not set.",
            minLength=1,
            maxLength=253,
        ),
    ] = ""
    source: Annotated[
        str,
        field(
            "Where a server finds the adapter: a path on the server, a Hugging Face id, or "
            "whatever else its engine resolves.",
            minLength=1,
            maxLength=2048,
        ),
    ]
    base_model: Annotated[
        str,
        field(
            "Name of the base model as the servers list it; only servers that have it are used. "
            "Not set: any server of the pool.",
            minLength=1,
            maxLength=253,
        ),
    ] = ""
    min_replicas: Annotated[
        Int32,
        field("Servers that have the adapter at all times.", default=0, minimum=0, maximum=4096),
    ] = 0
    max_replicas: Annotated[
        Int32 | None,
        field(
            "The most servers that may have the adapter, however hot it is. Not set: all.",
            minimum=1,
            maximum=4096,
        ),
    ] = None
    load_on_demand: Annotated[
        bool,
        field(
            "Whether a request for the adapter loads it where no server has it; the request "
            "waits for that.",
            default=True,
        ),
    ] = True
    pinned: Annotated[
        bool,
        field("Whether a loaded copy stays when others need its slot.", default=False),
    ] = False
    min_residency: Annotated[
        Duration,
        field("How long a copy stays at least before it makes room for another.", default="3s"),
    ] = "3s"


class AdapterEndpoint(ApiStruct, frozen=True, kw_only=True):
    """The adapter on one server."""

    address: Annotated[str, field("Address and port of the server.", required=True)] = ""
    name: Annotated[str, field("The server's Pod.")] = ""
    state: Annotated[
        str,
        field(
            "What is the case there.",
            required=True,
            enum=["Loading", "Loaded", "Draining", "Unloading", "Failed"],
        ),
    ] = ""
    placed: Annotated[
        bool,
        field("Whether placement has loaded it. What somebody else has loaded is never unloaded."),
    ] = False
    source: Annotated[str, field("What it was loaded from, if placement did.")] = ""
    message: Annotated[str, field("What the server said when it failed.", maxLength=1024)] = ""


class LoRAAdapterStatus(ApiStruct, frozen=True, kw_only=True):
    """Where the adapter is."""

    conditions: Annotated[
        Conditions, field("Conditions of the adapter.", default=waiting("Accepted", "Placed"))
    ] = ()
    replicas: Annotated[Int32, field("Servers that have the adapter.")] = 0
    wanted_replicas: Annotated[
        Int32, field("Servers that minimum and demand ask for at present.")
    ] = 0
    endpoints: Annotated[
        tuple[AdapterEndpoint, ...],
        field("Servers one by one.", maxItems=4096, **map_of("address")),
    ] = ()


class LoRAAdapter(ApiStruct, frozen=True, kw_only=True):
    """A LoRA adapter that a pool's picker loads where it is needed."""

    api_version: str = f"{INFERWAY_GROUP}/v1alpha1"
    kind: str = "LoRAAdapter"
    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[LoRAAdapterSpec | None, field(required=True)] = None
    status: LoRAAdapterStatus = LoRAAdapterStatus()

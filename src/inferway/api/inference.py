"""The inference kinds in all published groups: pools, objectives, model rewrites, imports.

Typed views for reading, and the source of the CRDs that the embedded API server stores.
``pool_from_legacy`` reads a v1alpha2 pool as a v1 pool.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from inferway.api.codec import ApiStruct
from inferway.api.fields import (
    ATOMIC,
    ControllerName,
    GroupName,
    Int32,
    KindName,
    LabelValue,
    NamespaceName,
    ObjectName,
    PortNumber,
    Rule,
    field,
    map_of,
    waiting,
)
from inferway.api.meta import Condition, ObjectMeta

INFERENCE_GROUP = "inference.networking.k8s.io"
LEGACY_GROUP = "inference.networking.x-k8s.io"
LLM_D_GROUP = "llm-d.ai"
GATEWAY_GROUP = "gateway.networking.k8s.io"

FAIL_OPEN = "FailOpen"
FAIL_CLOSE = "FailClose"
LEGACY_PICKER_PORT = 9002

Conditions = Annotated[tuple[Condition, ...], field(maxItems=8, **map_of("type"))]
_FAILURE_MODE = field(
    "What happens to requests when the picker does not answer.",
    default=FAIL_CLOSE,
    enum=[FAIL_OPEN, FAIL_CLOSE],
)


class Port(ApiStruct, frozen=True, kw_only=True):
    """A port."""

    number: Annotated[PortNumber, field("The port's number.")]


class EndpointPickerRef(ApiStruct, frozen=True, kw_only=True):
    """The Service of the endpoint picker."""

    cel: ClassVar[tuple[Rule, ...]] = (
        (
            "self.kind != 'Service' || has(self.port)",
            "port is required when kind is 'Service' or unspecified (defaults to 'Service')",
        ),
    )
    group: Annotated[GroupName, field("Group of the picker.", default="", minLength=0)] = ""
    kind: Annotated[KindName, field("Kind of the picker.", default="Service")] = "Service"
    name: Annotated[ObjectName, field("Name of the picker.")]
    port: Annotated[Port | None, field("Port of the picker's Service.")] = None
    failure_mode: Annotated[str, _FAILURE_MODE] = FAIL_CLOSE


class PoolSelector(ApiStruct, frozen=True, kw_only=True):
    """Pods by their labels."""

    match_labels: Annotated[
        dict[str, LabelValue],
        field("Labels that must be equal.", minProperties=1, maxProperties=64),
    ]


class InferencePoolSpec(ApiStruct, frozen=True, kw_only=True):
    """Model servers and who chooses among them."""

    selector: Annotated[PoolSelector, field("Pods of the pool.")]
    target_ports: Annotated[
        tuple[Port, ...],
        field(
            "Ports of the model servers; each is an endpoint of its own.",
            minItems=1,
            maxItems=8,
            **ATOMIC,
            x_kubernetes_validations=[
                {
                    "rule": "self.all(p1, self.exists_one(p2, p1.number==p2.number))",
                    "message": "port number must be unique",
                }
            ],
        ),
    ]
    app_protocol: Annotated[
        str,
        field("Protocol of the model servers.", default="http", enum=["http", "kubernetes.io/h2c"]),
    ] = "http"
    endpoint_picker_ref: Annotated[
        EndpointPickerRef | None, field("Who chooses the endpoint of a request.")
    ] = None


class PoolParentReference(ApiStruct, frozen=True, kw_only=True):
    """A Gateway that serves the pool."""

    group: Annotated[
        GroupName, field("Group of the parent.", default=GATEWAY_GROUP, minLength=0)
    ] = GATEWAY_GROUP
    kind: Annotated[KindName, field("Kind of the parent.", default="Gateway")] = "Gateway"
    name: Annotated[ObjectName, field("Name of the parent.")]
    namespace: Annotated[NamespaceName, field("Namespace of the parent.")] = ""


class PoolParentStatus(ApiStruct, frozen=True, kw_only=True):
    """What one controller says about the pool at one parent."""

    parent_ref: Annotated[PoolParentReference, field("The parent.")]
    controller_name: Annotated[ControllerName, field("Who says it.")] = ""
    conditions: Annotated[Conditions, field("Conditions of the pool.")] = ()


class InferencePoolStatus(ApiStruct, frozen=True, kw_only=True):
    """What controllers say about the pool."""

    parents: Annotated[
        tuple[PoolParentStatus, ...], field("The parents one by one.", maxItems=32, **ATOMIC)
    ] = ()


class InferencePool(ApiStruct, frozen=True, kw_only=True):
    """Model servers that serve the same models, as a backend of routes."""

    api_version: str = f"{INFERENCE_GROUP}/v1"
    kind: str = "InferencePool"
    metadata: ObjectMeta = ObjectMeta()
    spec: InferencePoolSpec
    status: InferencePoolStatus = InferencePoolStatus()


class LegacyExtensionRef(ApiStruct, frozen=True, kw_only=True):
    """The Service of the endpoint picker."""

    group: Annotated[GroupName, field("Group of the picker.", default="")] = ""
    kind: Annotated[KindName, field("Kind of the picker.", default="Service")] = "Service"
    name: Annotated[ObjectName, field("Name of the picker.")]
    port_number: Annotated[PortNumber | None, field("Port of the picker's Service.")] = None
    failure_mode: Annotated[str, _FAILURE_MODE] = FAIL_CLOSE


class LegacyInferencePoolSpec(ApiStruct, frozen=True, kw_only=True):
    """Model servers and who chooses among them."""

    selector: Annotated[dict[str, LabelValue], field("Labels of the pool's Pods.")]
    target_port_number: Annotated[PortNumber, field("Port of the model servers.")]
    extension_ref: Annotated[LegacyExtensionRef, field("Who chooses the endpoint of a request.")]


class LegacyParentReference(ApiStruct, frozen=True, kw_only=True):
    """A Gateway that serves the pool."""

    group: Annotated[GroupName, field("Group of the parent.", default=GATEWAY_GROUP)] = (
        GATEWAY_GROUP
    )
    kind: Annotated[KindName, field("Kind of the parent.", default="Gateway")] = "Gateway"
    name: Annotated[ObjectName, field("Name of the parent.")]
    namespace: Annotated[NamespaceName, field("Namespace of the parent.")] = ""


class LegacyParentStatus(ApiStruct, frozen=True, kw_only=True):
    """What is said about the pool at one parent."""

    parent_ref: Annotated[LegacyParentReference, field("The parent.")]
    conditions: Annotated[
        Conditions, field("Conditions of the pool.", default=waiting("Accepted"))
    ] = ()


class LegacyInferencePoolStatus(ApiStruct, frozen=True, kw_only=True):
    """What controllers say about the pool."""

    parent: Annotated[
        tuple[LegacyParentStatus, ...], field("The parents one by one.", maxItems=32)
    ] = ()


class LegacyInferencePool(ApiStruct, frozen=True, kw_only=True):
    """Model servers that serve the same models; v1 in another group has replaced this kind."""

    api_version: str = f"{LEGACY_GROUP}/v1alpha2"
    kind: str = "InferencePool"
    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[LegacyInferencePoolSpec | None, field()] = None
    status: Annotated[
        LegacyInferencePoolStatus,
        field(
            "What controllers say.",
            default={
                "parent": [
                    {
                        "conditions": waiting("Accepted"),
                        "parentRef": {"kind": "Status", "name": "default"},
                    }
                ]
            },
        ),
    ] = LegacyInferencePoolStatus()


def pool_from_legacy(pool: LegacyInferencePool) -> InferencePool | None:
    """The v1 pool that says the same; None for a pool without a spec or without labels."""
    if pool.spec is None or not pool.spec.selector:
        return None
    ref = pool.spec.extension_ref
    return InferencePool(
        metadata=pool.metadata,
        spec=InferencePoolSpec(
            selector=PoolSelector(match_labels=pool.spec.selector),
            target_ports=(Port(number=pool.spec.target_port_number),),
            endpoint_picker_ref=EndpointPickerRef(
                group=ref.group,
                kind=ref.kind,
                name=ref.name,
                # The legacy kind's picker listens on the protocol's port unless it says otherwise.
                port=Port(number=ref.port_number or LEGACY_PICKER_PORT),
                failure_mode=ref.failure_mode,
            ),
        ),
    )


class PoolRef(ApiStruct, frozen=True, kw_only=True):
    """The pool that an object belongs to."""

    group: Annotated[GroupName, field("Group of the pool.", default=INFERENCE_GROUP)] = (
        INFERENCE_GROUP
    )
    kind: Annotated[KindName, field("Kind of the pool.", default="InferencePool")] = "InferencePool"
    name: Annotated[ObjectName, field("Name of the pool.")]


class InferenceObjectiveSpec(ApiStruct, frozen=True, kw_only=True):
    """How important requests with this objective are."""

    priority: Annotated[
        Int32 | None, field("Higher is more important; none is 0.", format="int32")
    ] = None
    pool_ref: Annotated[PoolRef, field("The pool.")]


class InferenceObjectiveStatus(ApiStruct, frozen=True, kw_only=True):
    """What controllers say about the objective."""

    conditions: Annotated[
        Conditions, field("Conditions of the objective.", default=waiting("Ready"))
    ] = ()


class InferenceObjective(ApiStruct, frozen=True, kw_only=True):
    """What requests with this name want of a pool."""

    api_version: str = f"{LLM_D_GROUP}/v1alpha2"
    kind: str = "InferenceObjective"
    metadata: ObjectMeta = ObjectMeta()
    spec: InferenceObjectiveSpec | None = None
    status: InferenceObjectiveStatus = InferenceObjectiveStatus()


class ModelMatch(ApiStruct, frozen=True, kw_only=True):
    """A condition on the model's name."""

    type: Annotated[str, field("How it is compared.", default="Exact", enum=["Exact"])] = "Exact"
    value: Annotated[str, field("The model's name.", minLength=1)]


class RewriteMatch(ApiStruct, frozen=True, kw_only=True):
    """A condition on a request."""

    model: Annotated[ModelMatch, field("The model that is asked for.")]


class TargetModel(ApiStruct, frozen=True, kw_only=True):
    """A model that takes a share of the requests."""

    model_rewrite: Annotated[str, field("The model's name that the server gets.")]
    weight: Annotated[
        Int32 | None,
        field("Share among the targets.", format="int32", minimum=1, maximum=1_000_000),
    ] = None


class RewriteRule(ApiStruct, frozen=True, kw_only=True):
    """Requests that match, and the models they get."""

    matches: Annotated[
        tuple[RewriteMatch, ...], field("Any of these must hold; none means all requests.")
    ] = ()
    targets: Annotated[tuple[TargetModel, ...], field("The models, by weight.", minItems=1)] = ()


class InferenceModelRewriteSpec(ApiStruct, frozen=True, kw_only=True):
    """Which models stand for which."""

    pool_ref: Annotated[PoolRef, field("The pool.")]
    rules: Annotated[tuple[RewriteRule, ...], field("Rules; the best match wins.")]


class InferenceModelRewriteStatus(ApiStruct, frozen=True, kw_only=True):
    """What controllers say about the rewrite."""

    conditions: Annotated[
        Conditions, field("Conditions of the rewrite.", default=waiting("Accepted"))
    ] = ()


class InferenceModelRewrite(ApiStruct, frozen=True, kw_only=True):
    """Other names for models of a pool, and shares between models."""

    api_version: str = f"{LLM_D_GROUP}/v1alpha2"
    kind: str = "InferenceModelRewrite"
    metadata: ObjectMeta = ObjectMeta()
    spec: InferenceModelRewriteSpec | None = None
    status: InferenceModelRewriteStatus = InferenceModelRewriteStatus()


class ExportingCluster(ApiStruct, frozen=True, kw_only=True):
    """A cluster that exports the pool."""

    name: Annotated[ObjectName, field("Name of the cluster.")]


class ImportController(ApiStruct, frozen=True, kw_only=True):
    """What one controller knows of the imported pool."""

    name: Annotated[ControllerName, field("The controller.")]
    exporting_clusters: Annotated[
        tuple[ExportingCluster, ...], field("Clusters that export the pool.")
    ] = ()
    parents: Annotated[
        tuple[PoolParentStatus, ...], field("The parents one by one.", **ATOMIC)
    ] = ()
    conditions: Annotated[Conditions, field("Conditions of the import.")] = ()


class InferencePoolImportStatus(ApiStruct, frozen=True, kw_only=True):
    """What controllers know of the imported pool."""

    controllers: Annotated[
        tuple[ImportController, ...],
        field("The controllers one by one.", required=True, maxItems=8, **map_of("name")),
    ] = ()


class InferencePoolImport(ApiStruct, frozen=True, kw_only=True):
    """A pool of another cluster, as a backend of routes."""

    api_version: str = f"{LEGACY_GROUP}/v1alpha1"
    kind: str = "InferencePoolImport"
    metadata: ObjectMeta = ObjectMeta()
    status: InferencePoolImportStatus = InferencePoolImportStatus()

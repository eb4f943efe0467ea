"""CustomResourceDefinitions of the kinds that the embedded API server brings, one table.

Pure: gives objects. On a cluster users install the projects' own bundles; these definitions are
made from our typed structs and say the same in our own words. Inferway's own kinds are left out of
``builtin_definitions``, because the chart ``inferway-crds`` brings them and Helm only touches what
it made itself.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from inferway.api import inference
from inferway.api.codec import ApiStruct, Object
from inferway.api.gateway import GATEWAY_GROUP, Gateway, GatewayClass, HTTPRoute, ReferenceGrant
from inferway.api.grpcroute import GRPCRoute
from inferway.api.inferway import INFERWAY_GROUP, GatewayParameters, LoRAAdapter
from inferway.api.structural import kind_schema

# The release of the Gateway API that the structs describe, with its experimental fields.
GATEWAY_BUNDLE = {
    "gateway.networking.k8s.io/bundle-version": "v1.6.1",
    "gateway.networking.k8s.io/channel": "experimental",
}
_GATEWAY_APPROVED = {
    "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/4530"
}
_POOL_APPROVED = {
    "api-approved.kubernetes.io": (
        "https://github.com/kubernetes-sigs/gateway-api-inference-extension/pull/1173"
    )
}
_UNAPPROVED = {"api-approved.kubernetes.io": "unapproved, experimental-only"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0

    def to_json(self) -> Object:
        column: Object = {"name": self.name, "type": self.type, "jsonPath": self.path}
        return column | ({"priority": self.priority} if self.priority else {})


AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True, slots=True)
class Definition:
    """A custom kind. The first version is the stored one; all versions have one schema."""

    struct: type[ApiStruct]
    group: str
    kind: str
    plural: str
    versions: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    status: bool = True
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.plural}.{self.group}"


def _gateway_api(
    struct: type[ApiStruct],
    plural: str,
    versions: tuple[str, ...],
    columns: tuple[Column, ...],
    **more: Any,
) -> Definition:
    annotations = tuple((_GATEWAY_APPROVED | GATEWAY_BUNDLE).items())
    return Definition(
        struct,
        GATEWAY_GROUP,
        struct.__name__,
        plural,
        versions,
        columns,
        categories=("gateway-api",),
        annotations=annotations,
        **more,
    )


_OBJECTIVE_COLUMNS = (
    Column("Inference Pool", ".spec.poolRef.name"),
    Column("Priority", ".spec.priority"),
    AGE,
)
_REWRITE_COLUMNS = (Column("Inference Pool", ".spec.poolRef.name"), AGE)


def _gateway_kinds() -> tuple[Definition, ...]:
    hostnames = Column("Hostnames", ".spec.hostnames")
    condition = '.status.conditions[?(@.type=="{}")].status'
    return (
        _gateway_api(
            GatewayClass,
            "gatewayclasses",
            ("v1", "v1beta1"),
            (
                Column("Controller", ".spec.controllerName"),
                Column("Accepted", condition.format("Accepted")),
                AGE,
                Column("Description", ".spec.description", priority=1),
            ),
            short_names=("gc",),
            namespaced=False,
        ),
        _gateway_api(
            Gateway,
            "gateways",
            ("v1", "v1beta1"),
            (
                Column("Class", ".spec.gatewayClassName"),
                Column("Address", ".status.addresses[*].value"),
                Column("Programmed", condition.format("Programmed")),
                AGE,
            ),
            short_names=("gtw",),
        ),
        _gateway_api(HTTPRoute, "httproutes", ("v1", "v1beta1"), (hostnames, AGE)),
        _gateway_api(GRPCRoute, "grpcroutes", ("v1",), (hostnames, AGE)),
        _gateway_api(
            ReferenceGrant,
            "referencegrants",
            ("v1beta1", "v1"),
            (AGE,),
            short_names=("refgrant",),
            status=False,
        ),
    )


def _pool_kinds() -> tuple[Definition, ...]:
    legacy = inference.LEGACY_GROUP
    return (
        Definition(
            inference.InferencePool,
            inference.INFERENCE_GROUP,
            "InferencePool",
            "inferencepools",
            ("v1",),
            (
                Column("Ports", ".spec.targetPorts[*].number"),
                Column("Picker", ".spec.endpointPickerRef.name"),
                Column("Failure Mode", ".spec.endpointPickerRef.failureMode", priority=1),
                Column(
                    "Accepted",
                    '.status.parents[*].conditions[?(@.type=="Accepted")].status',
                ),
                AGE,
            ),
            short_names=("infpool",),
            annotations=tuple(_POOL_APPROVED.items()),
        ),
        Definition(
            inference.LegacyInferencePool,
            legacy,
            "InferencePool",
            "inferencepools",
            ("v1alpha2",),
            (
                Column("Port", ".spec.targetPortNumber"),
                Column("Picker", ".spec.extensionRef.name"),
                AGE,
            ),
            short_names=("xinfpool",),
            annotations=tuple(_UNAPPROVED.items()),
        ),
        Definition(
            inference.InferencePoolImport,
            legacy,
            "InferencePoolImport",
            "inferencepoolimports",
            ("v1alpha1",),
            (AGE,),
            short_names=("infpimp",),
        ),
    )


def _model_kinds() -> tuple[Definition, ...]:
    """Kinds that two groups publish with one schema."""
    groups = (inference.LEGACY_GROUP, inference.LLM_D_GROUP)
    return (
        *(
            Definition(
                inference.InferenceObjective,
                group,
                "InferenceObjective",
                "inferenceobjectives",
                ("v1alpha2",),
                _OBJECTIVE_COLUMNS,
            )
            for group in groups
        ),
        *(
            Definition(
                inference.InferenceModelRewrite,
                group,
                "InferenceModelRewrite",
                "inferencemodelrewrites",
                ("v1alpha2",),
                _REWRITE_COLUMNS,
            )
            for group in groups
        ),
    )


GATEWAY_PARAMETERS = Definition(
    GatewayParameters,
    INFERWAY_GROUP,
    "GatewayParameters",
    "gatewayparameters",
    ("v1alpha1",),
    (Column("Replicas", ".spec.replicas", "integer"), AGE),
    short_names=("gwparams",),
    status=False,
)


LORA_ADAPTERS = Definition(
    LoRAAdapter,
    INFERWAY_GROUP,
    "LoRAAdapter",
    "loraadapters",
    ("v1alpha1",),
    (
        Column("Pool", ".spec.poolRef.name"),
        Column("Min", ".spec.minReplicas", "integer"),
        Column("Wanted", ".status.wantedReplicas", "integer"),
        Column("Loaded", ".status.replicas", "integer"),
        Column("Placed", '.status.conditions[?(@.type=="Placed")].status'),
        Column("Reason", '.status.conditions[?(@.type=="Placed")].reason', priority=1),
        Column("Source", ".spec.source", priority=1),
        AGE,
    ),
    short_names=("lora",),
)


def own_definitions() -> tuple[Definition, ...]:
    """Inferway's own kinds, which the chart ``inferway-crds`` installs."""
    return (GATEWAY_PARAMETERS, LORA_ADAPTERS)


def builtin_definitions() -> tuple[Definition, ...]:
    """The kinds that an embedded API server stores at its first start."""
    return (*_gateway_kinds(), *_pool_kinds(), *_model_kinds())


def all_definitions() -> tuple[Definition, ...]:
    """Every custom kind that Inferway describes."""
    return (*builtin_definitions(), *own_definitions())


def to_object(definition: Definition) -> Object:
    """The CustomResourceDefinition object of a kind."""
    kind = definition.kind
    metadata: Object = {"name": definition.name}
    if definition.annotations:
        metadata["annotations"] = dict(definition.annotations)
    names: Object = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": definition.plural,
        "singular": kind.lower(),
    }
    if definition.short_names:
        names["shortNames"] = list(definition.short_names)
    if definition.categories:
        names["categories"] = list(definition.categories)
    schema = kind_schema(definition.struct)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": definition.group,
            "names": names,
            "scope": "Namespaced" if definition.namespaced else "Cluster",
            "versions": [
                _version(definition, version, place == 0, schema)
                for place, version in enumerate(definition.versions)
            ],
        },
    }


def _version(definition: Definition, version: str, stored: bool, schema: Object) -> Object:
    result: Object = {
        "name": version,
        "served": True,
        "storage": stored,
        "additionalPrinterColumns": [column.to_json() for column in definition.columns],
        "schema": {"openAPIV3Schema": copy.deepcopy(schema)},
    }
    return result | ({"subresources": {"status": {}}} if definition.status else {})

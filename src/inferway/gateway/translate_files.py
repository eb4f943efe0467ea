"""Manifests in, IR and Envoy resources and statuses out: the translation without a cluster.

Pure. Takes decoded YAML documents and gives plain data that is equal for equal input. A Gateway
whose GatewayClass is not among the documents is taken as ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from google.protobuf import json_format

from inferway.api.codec import DecodeError, decode
from inferway.api.core import Namespace, Pod, Service
from inferway.api.discovery import EndpointSlice
from inferway.api.gateway import (
    Gateway,
    GatewayClass,
    GatewayClassSpec,
    HTTPRoute,
    ReferenceGrant,
)
from inferway.api.inference import InferenceModelRewrite, InferencePool
from inferway.api.inferway import GatewayParameters
from inferway.api.meta import ObjectMeta
from inferway.gateway.envoy.listener import Site
from inferway.gateway.envoy.resources import Built
from inferway.gateway.translate.snapshot import CONTROLLER_NAME, Key, Snapshot, pod_view
from inferway.gateway.translate.translation import Result, translate
from inferway.gateway.translate.verdicts import Diagnostic

Object = dict[str, Any]

CODE_DOCUMENT = "INFERWAY0307"
_GATEWAY_GROUP = "gateway.networking.k8s.io"
_DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class _Kind:
    field: str
    type: Any
    namespaced: bool = True


def _kinds() -> Mapping[tuple[str, str], _Kind]:
    return {
        (_GATEWAY_GROUP, "GatewayClass"): _Kind("gateway_classes", GatewayClass, namespaced=False),
        (_GATEWAY_GROUP, "Gateway"): _Kind("gateways", Gateway),
        (_GATEWAY_GROUP, "HTTPRoute"): _Kind("http_routes", HTTPRoute),
        (_GATEWAY_GROUP, "ReferenceGrant"): _Kind("reference_grants", ReferenceGrant),
        ("inference.networking.k8s.io", "InferencePool"): _Kind("inference_pools", InferencePool),
        ("llm-d.ai", "InferenceModelRewrite"): _Kind("model_rewrites", InferenceModelRewrite),
        ("inference.networking.x-k8s.io", "InferenceModelRewrite"): _Kind(
            "legacy_model_rewrites", InferenceModelRewrite
        ),
        ("inferway.dev", "GatewayParameters"): _Kind("gateway_parameters", GatewayParameters),
        ("", "Namespace"): _Kind("namespaces", Namespace, namespaced=False),
        ("", "Service"): _Kind("services", Service),
        ("discovery.k8s.io", "EndpointSlice"): _Kind("endpoint_slices", EndpointSlice),
        ("", "Pod"): _Kind("pods", Pod),
    }


def read_documents(documents: Iterable[Object]) -> tuple[Snapshot, list[Diagnostic]]:
    """The snapshot of some documents; kinds that play no part are passed over."""
    kinds = _kinds()
    found: dict[str, dict[Key, Any]] = {kind.field: {} for kind in kinds.values()}
    diagnostics = []
    for document in documents:
        group = str(document.get("apiVersion") or "").rpartition("/")[0]
        kind = kinds.get((group, str(document.get("kind"))))
        if kind is None:
            continue
        try:
            value = decode(kind.type, _placed(document, kind))
        except DecodeError as error:
            name = (document.get("metadata") or {}).get("name", "?")
            about = f"{document['kind']} {name}"
            diagnostics.append(Diagnostic(CODE_DOCUMENT, about, str(error)))
            continue
        key = (value.metadata.namespace, value.metadata.name)
        found[kind.field][key] = pod_view(value) if kind.type is Pod else value
    return Snapshot(**found), diagnostics


def translate_documents(documents: Iterable[Object]) -> Object:
    """``ir``, ``xds`` and ``status`` as plain data, and ``diagnostics`` as lines of text."""
    snapshot, diagnostics = read_documents(documents)
    named = {key for key, _ in snapshot.gateway_classes.items()}
    result = translate(_with_classes(snapshot))
    return {
        "ir": {_name(key): _plain(plan.ir) for key, plan in result.gateways.items()},
        "xds": _plain(
            {_name(key): _resources(Built(plan.ir)) for key, plan in result.gateways.items()}
        ),
        "status": _statuses(result, named),
        "diagnostics": [str(item) for item in (*diagnostics, *result.diagnostics)],
    }


def _placed(document: Object, kind: _Kind) -> Object:
    if not kind.namespaced:
        return document
    meta = document.get("metadata")
    if not isinstance(meta, dict) or meta.get("namespace"):
        return document
    return {**document, "metadata": {**meta, "namespace": _DEFAULT_NAMESPACE}}


def _with_classes(snapshot: Snapshot) -> Snapshot:
    wanted = {item.spec.gateway_class_name for item in snapshot.gateways.values()}
    classes = dict(snapshot.gateway_classes)
    for name in sorted(wanted):
        implied = GatewayClass(
            metadata=ObjectMeta(name=name), spec=GatewayClassSpec(controller_name=CONTROLLER_NAME)
        )
        classes.setdefault(("", name), implied)
    return replace(snapshot, gateway_classes=classes)


def _plain(value: Any) -> Any:
    """Plain lists and dictionaries, as printers want them."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _resources(built: Built) -> Object:
    found: Object = {}
    for type_url, resources in built.at(Site()).items():
        short = type_url.rpartition(".")[2]
        found[short] = {
            name: json_format.MessageToDict(item.body, preserving_proto_field_name=True)
            for name, item in resources.items()
        }
    return found


def _statuses(result: Result, named: set[Key]) -> Object:
    found: Object = {}
    for key, status in result.class_statuses.items():
        if key in named:
            found[f"GatewayClass {key[1]}"] = status
    for key, plan in result.gateways.items():
        found[f"Gateway {_name(key)}"] = plan.status
    for key, entries in result.route_statuses.items():
        found[f"HTTPRoute {_name(key)}"] = {"parents": entries}
    for key, entries in result.pool_statuses.items():
        if entries:
            found[f"InferencePool {_name(key)}"] = {"parents": entries}
    return _plain(found)  # type: ignore[no-any-return]


def _name(key: Key) -> str:
    return f"{key[0]}/{key[1]}"

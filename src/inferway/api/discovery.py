"""EndpointSlices: the addresses behind a Service."""

from __future__ import annotations

from inferway.api.codec import ApiStruct
from inferway.api.core import ObjectReference
from inferway.api.meta import ObjectMeta

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


class EndpointConditions(ApiStruct, frozen=True, kw_only=True):
    """None means unknown, which a reader takes as ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(ApiStruct, frozen=True, kw_only=True):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    target_ref: ObjectReference | None = None

    @property
    def ready(self) -> bool:
        return self.conditions.ready is not False


class EndpointPort(ApiStruct, frozen=True, kw_only=True):
    """``port`` None stands for all ports."""

    name: str = ""
    port: int | None = None
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSlice(ApiStruct, frozen=True, kw_only=True):
    api_version: str = "discovery.k8s.io/v1"
    kind: str = "EndpointSlice"
    metadata: ObjectMeta = ObjectMeta()
    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service(self) -> str:
        """The Service whose addresses these are; empty if it is nobody's."""
        return self.metadata.labels.get(SERVICE_NAME_LABEL, "")

"""What every kind has: metadata, owners, selectors, conditions."""

from __future__ import annotations

from typing import Annotated

from inferway.api.codec import ApiStruct
from inferway.api.fields import field


class OwnerReference(ApiStruct, frozen=True, kw_only=True):
    """An object whose end is the end of this one."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(ApiStruct, frozen=True, kw_only=True):
    """Name, labels and life of an object. managedFields are left out: only the server reads them.

    Times are RFC 3339 texts; empty where there is none.
    """

    name: str = ""
    namespace: str = ""
    generate_name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()

    @property
    def deleting(self) -> bool:
        return self.deletion_timestamp != ""

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class LabelSelectorRequirement(ApiStruct, frozen=True, kw_only=True):
    """One expression of a label selector."""

    key: Annotated[str, field("The label's key.")]
    operator: Annotated[str, field("In, NotIn, Exists or DoesNotExist.")]
    values: Annotated[
        tuple[str, ...],
        field("Values for In and NotIn.", x_kubernetes_list_type="atomic"),
    ] = ()


class LabelSelector(ApiStruct, frozen=True, kw_only=True):
    """A query over labels: all of its parts must hold. An empty one matches everything."""

    match_labels: Annotated[dict[str, str], field("Labels that must be equal.")] = {}
    match_expressions: Annotated[
        tuple[LabelSelectorRequirement, ...],
        field("Expressions that must hold.", x_kubernetes_list_type="atomic"),
    ] = ()


class Condition(ApiStruct, frozen=True, kw_only=True, omit_defaults=False):
    """One observation about an object. All fields are written, because readers demand them."""

    type: Annotated[
        str,
        field(
            "Type of the condition in CamelCase.",
            maxLength=316,
            pattern=(
                r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
                r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
            ),
        ),
    ]
    status: Annotated[str, field("Whether the condition holds.", enum=["True", "False", "Unknown"])]
    observed_generation: Annotated[
        int,
        field("Generation of the object that was looked at.", format="int64", minimum=0),
    ] = 0
    last_transition_time: Annotated[
        str,
        field("When the status changed last.", required=True, format="date-time"),
    ] = ""
    reason: Annotated[
        str,
        field(
            "Why the condition has its status, in CamelCase.",
            required=True,
            maxLength=1024,
            minLength=1,
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        ),
    ] = ""
    message: Annotated[str, field("Details for people.", required=True, maxLength=32768)] = ""

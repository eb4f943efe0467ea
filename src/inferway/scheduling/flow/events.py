"""What a pool's queue is told, and what it tells."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec

from inferway.scheduling.flow.capacity import Capacity
from inferway.scheduling.flow.options import FlowOptions


class Arrived(msgspec.Struct, frozen=True):
    """A request that may have to wait. ``tokens`` is what it is estimated to cost its flow.

    ``ttl_seconds`` and ``slo_seconds`` (to the first token) are the client's wishes; 0: none.
    """

    key: int
    priority: int = 0
    flow: str = ""
    size: int = 0
    tokens: float = 1.0
    ttl_seconds: float = 0.0
    slo_seconds: float = 0.0


class Left(msgspec.Struct, frozen=True):
    """The client of a request is gone; unknown keys are none of ours."""

    key: int


class Endpoints(msgspec.Struct, frozen=True):
    """How many endpoints the pool has from here on."""

    count: int


class Measured(msgspec.Struct, frozen=True):
    """How full the servers are; ``passed`` requests have used the credit since the last time."""

    capacity: Capacity
    passed: int = 0


class Configured(msgspec.Struct, frozen=True):
    """Other options hold from here on, for those that wait already too."""

    options: FlowOptions


class Tick(msgspec.Struct, frozen=True):
    """Nothing but time has changed."""


class Drain(msgspec.Struct, frozen=True):
    """The picker ends; nobody may wait any longer."""


Event: TypeAlias = Arrived | Left | Endpoints | Measured | Configured | Tick | Drain


class Why(StrEnum):
    """Why a request is refused."""

    # It may be shed, and there is no room.
    SATURATED = "saturated"
    # As many wait as may.
    QUEUE_FULL = "queue_full"
    # The pool has no endpoint, and the request may not wait for one, or not with so many others.
    NO_ENDPOINTS = "no_endpoints"
    EMPTY_FULL = "empty_full"
    # It waited for room, or for an endpoint, as long as it may.
    TIMEOUT = "timeout"
    EMPTY_TIMEOUT = "empty_timeout"
    # It gave way to a request of a higher priority.
    PRESSURE = "pressure"
    STOPPING = "stopping"


# What became of a request, as the published metrics name it.
DISPATCHED = "Dispatched"
LEFT = "EvictedContextCancelled"
OUTCOMES = {
    Why.SATURATED: "RejectedCapacity",
    Why.QUEUE_FULL: "RejectedCapacity",
    Why.NO_ENDPOINTS: "RejectedNoEndpoints",
    Why.EMPTY_FULL: "RejectedNoEndpoints",
    Why.TIMEOUT: "EvictedTTL",
    Why.EMPTY_TIMEOUT: "EvictedNoEndpoints",
    Why.PRESSURE: "EvictedOther",
    Why.STOPPING: "EvictedOther",
}
# What its client reads in ``x-llm-d-request-dropped-reason``.
DROPPED = {
    Why.SATURATED: "rejected-saturated",
    Why.QUEUE_FULL: "rejected-saturated",
    Why.NO_ENDPOINTS: "rejected-no-endpoints",
    Why.EMPTY_FULL: "rejected-no-endpoints",
    Why.TIMEOUT: "rejected-ttl-expired",
    Why.EMPTY_TIMEOUT: "rejected-ttl-expired",
    Why.PRESSURE: "evicted-queue-pressure",
    Why.STOPPING: "rejected-shutting-down",
}


class Dispatch(msgspec.Struct, frozen=True):
    """Choose a server for the request."""

    key: int
    waited_seconds: float = 0.0


class Refuse(msgspec.Struct, frozen=True):
    """A final answer; a client that comes back after ``retry_seconds`` finds room, as it seems."""

    key: int
    why: Why
    waited_seconds: float = 0.0
    retry_seconds: float = 0.0


Command: TypeAlias = Dispatch | Refuse

"""What a Pod asks of a node.

Pure. Init containers run one after another before the others, sidecars (init containers with
restartPolicy Always) stay: so a Pod asks for the larger of its running sum and its heaviest start.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from inferway.base import quantities
from inferway.local.controllers.objects import Raw, spec

Amounts = Mapping[str, Decimal]


def parse(values: object) -> dict[str, Decimal]:
    """Quantities by resource name; what is no quantity counts as nothing."""
    result: dict[str, Decimal] = {}
    if not isinstance(values, dict):
        return result
    for name, text in values.items():
        try:
            result[str(name)] = quantities.parse(text)
        except ValueError:
            continue
    return result


def plus(left: Amounts, right: Amounts) -> dict[str, Decimal]:
    result = dict(left)
    for name, amount in right.items():
        result[name] = result.get(name, Decimal(0)) + amount
    return result


def larger(left: Amounts, right: Amounts) -> dict[str, Decimal]:
    result = dict(left)
    for name, amount in right.items():
        result[name] = max(result.get(name, Decimal(0)), amount)
    return result


def of_container(container: Raw) -> dict[str, Decimal]:
    """Requests; a limit without a request is one."""
    resources = container.get("resources") or {}
    return {**parse(resources.get("limits")), **parse(resources.get("requests"))}


def of_pod(pod: Raw) -> dict[str, Decimal]:
    """The requests of a whole Pod, with its overhead."""
    running: dict[str, Decimal] = {}
    for container in spec(pod).get("containers") or ():
        running = plus(running, of_container(container))
    sidecars: dict[str, Decimal] = {}
    starting: dict[str, Decimal] = {}
    for container in spec(pod).get("initContainers") or ():
        asked = of_container(container)
        if container.get("restartPolicy") == "Always":
            sidecars = plus(sidecars, asked)
            starting = larger(starting, sidecars)
        else:
            starting = larger(starting, plus(sidecars, asked))
    total = larger(plus(running, sidecars), starting)
    return plus(total, parse(spec(pod).get("overhead")))

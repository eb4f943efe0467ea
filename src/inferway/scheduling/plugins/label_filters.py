"""``label-selector-filter`` with its deprecated names ``by-label-selector`` and ``by-label``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferway.scheduling.plugins.base import Context, Filter
from inferway.scheduling.plugins.types import Kind, Making, Parameter, PluginType, Signal

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def _check_expressions(value: Any) -> str:
    for index, one in enumerate(value):
        if not isinstance(one, dict) or not one.get("key"):
            return f"[{index}] needs a key"
        if one.get("operator") not in OPERATORS:
            return f"[{index}].operator must be one of {', '.join(OPERATORS)}"
        unknown = set(one) - {"key", "operator", "values"}
        if unknown:
            return f"[{index}] has unknown fields: {', '.join(sorted(unknown))}"
        values = one.get("values") or []
        if bool(values) != (one["operator"] in {"In", "NotIn"}):
            return f"[{index}].values do not fit the operator {one['operator']}"
    return ""


def _check_labels(value: Any) -> str:
    fits = all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())
    return "" if fits else "must map text to text"


SELECTOR_PARAMETERS = {
    "matchLabels": Parameter(dict, {}, _check_labels, "Labels and their values."),
    "matchExpressions": Parameter(
        list, [], _check_expressions, "Expressions of `key`, `operator`, `values`."
    ),
}
BY_LABEL_PARAMETERS = {
    **SELECTOR_PARAMETERS,
    "label": Parameter(str, "", help="A label."),
    "validValues": Parameter(list, [], items=Parameter(str), help="Values of it to keep."),
    "allowsNoLabel": Parameter(bool, False, help="Whether to keep Pods without it."),
}


class LabelSelectorFilter(Filter):
    """Keeps Pods that match all labels and expressions, as a Kubernetes selector does."""

    def __init__(self, making: Making) -> None:
        self._labels: Mapping[str, str] = making.parameters["matchLabels"]
        self._expressions: list[dict[str, Any]] = making.parameters["matchExpressions"]

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        labels = context.snapshot.columns.labels
        return [slot for slot in slots if self._fits(labels[slot])]

    def _fits(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self._labels.items()) and all(
            _matches(labels, one) for one in self._expressions
        )


class ByLabelFilter(LabelSelectorFilter):
    """The older form: one label, its valid values, and whether it may be absent."""

    def __init__(self, making: Making) -> None:
        super().__init__(making)
        parameters = making.parameters
        self._label: str = parameters["label"]
        self._values = frozenset(parameters["validValues"])
        self._absent: bool = parameters["allowsNoLabel"]

    def _fits(self, labels: Mapping[str, str]) -> bool:
        if not super()._fits(labels):
            return False
        if not self._label:
            return True
        value = labels.get(self._label)
        return self._absent if value is None else value in self._values


def _matches(labels: Mapping[str, str], expression: Mapping[str, Any]) -> bool:
    value = labels.get(expression["key"])
    operator = expression["operator"]
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    inside = value in expression["values"]
    return inside if operator == "In" else not inside


_DOES = "Pods that match all labels and expressions, as a Kubernetes selector does."
_INSTEAD = "label-selector-filter"
TYPES = (
    PluginType(
        "label-selector-filter",
        Kind.FILTER,
        LabelSelectorFilter,
        SELECTOR_PARAMETERS,
        does=_DOES,
        signals=(Signal.LABELS,),
    ),
    PluginType(
        "by-label-selector",
        Kind.FILTER,
        LabelSelectorFilter,
        SELECTOR_PARAMETERS,
        does=_DOES,
        signals=(Signal.LABELS,),
        instead=_INSTEAD,
    ),
    PluginType(
        "by-label",
        Kind.FILTER,
        ByLabelFilter,
        BY_LABEL_PARAMETERS,
        does="Pods whose label has one of the values.",
        signals=(Signal.LABELS,),
        instead=_INSTEAD,
    ),
)

"""``decode-filter``, ``prefill-filter``, ``encode-filter``: by the label ``llm-d.ai/role``."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Filter
from inferway.scheduling.plugins.types import Kind, PluginType, Signal, plain

ROLE_LABEL = "llm-d.ai/role"
DECODE_ROLES = frozenset({"decode", "prefill-decode", "encode-prefill-decode", "both"})
PREFILL_ROLES = frozenset(
    {"prefill", "prefill-decode", "encode-prefill", "encode-prefill-decode", "both"}
)
ENCODE_ROLES = frozenset({"encode", "encode-prefill", "encode-prefill-decode"})


class RoleFilter(Filter):
    """Keeps the roles; a Pod without the label decodes."""

    def __init__(self, roles: frozenset[str], *, unlabelled: bool) -> None:
        self._roles = roles
        self._unlabelled = unlabelled

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        labels = context.snapshot.columns.labels
        return [slot for slot in slots if self._fits(labels[slot].get(ROLE_LABEL))]

    def _fits(self, role: str | None) -> bool:
        return self._unlabelled if role is None else role in self._roles


def _type(name: str, roles: frozenset[str], *, unlabelled: bool = False) -> PluginType:
    without = ", or without the label" if unlabelled else ""
    return PluginType(
        name,
        Kind.FILTER,
        plain(lambda: RoleFilter(roles, unlabelled=unlabelled)),
        does=f"Label `{ROLE_LABEL}` is one of {', '.join(sorted(roles))}{without}.",
        signals=(Signal.LABELS,),
    )


TYPES = (
    _type("decode-filter", DECODE_ROLES, unlabelled=True),
    _type("prefill-filter", PREFILL_ROLES),
    _type("encode-filter", ENCODE_ROLES),
)

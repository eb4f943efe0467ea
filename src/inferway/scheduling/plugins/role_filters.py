"""``decode-filter``, ``prefill-filter``, ``encode-filter``: by the label ``llm-d.ai/role``."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Filter

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

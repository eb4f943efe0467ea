"""``header-based-testing-filter``: conformance tests name the endpoints in a header."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Filter
from inferway.scheduling.plugins.types import Kind, PluginType, plain


class HeaderBasedTestingFilter(Filter):
    """Keeps the named ``ip`` or ``ip:port``; without the header everything."""

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        only = context.request.only
        if not only:
            return slots
        address = context.snapshot.columns.address
        return [
            slot
            for slot in slots
            if address[slot] in only or address[slot].rpartition(":")[0] in only
        ]


TYPE = PluginType(
    "header-based-testing-filter",
    Kind.FILTER,
    plain(HeaderBasedTestingFilter),
    does="Endpoints that `test-epp-endpoint-selection` names; for conformance tests.",
)

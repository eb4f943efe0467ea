"""Writes docs/reference/metrics.md from the catalogue, so that the page cannot go stale.

Run by ``make reference``; a test compares the page with what this prints.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from inferway.observe.catalogue import catalogue
from inferway.observe.metric import Family, Kind, Metric

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "metrics.md"
HEADING = """# The picker's metrics

At `/metrics` of port 9090, as Prometheus' text or, where asked for, as OpenMetrics. The flag
`--metric-families` says whose names are used besides our own: `gie`, the names of the Gateway API
inference extension's picker v1.1, and `llm-d`, those of llm-d's. A metric without a value yet is
left out.

The label `pool` is `namespace/name`; `name` and `inference_pool` are the bare name. `model_name` is
what the client asked for, `target_model_name` what the server was asked for. Of both together, and
of `fairness_id`, 1000 different values are told apart, of all combinations with the priority 1000;
what comes later is counted as `other`. Requests for models that no server has are `other` as well.

Times, tokens and sizes are those of answers that a server gave well (status below 300). Where
proxies report by access logs, and more than eight answers end at once, a quarter of them is read
for times and sizes; native proxies report all times and no sizes.

This page is generated: `make reference`.
"""
TITLES = {
    Family.OWN: "Our own",
    Family.GIE: "As the Gateway API inference extension names them",
    Family.LLM_D: "As llm-d names them",
}
# Longer lists of bounds are shown by their ends.
BOUNDS_SHOWN_MAX = 6


def page() -> str:
    """The whole page."""
    metrics = list(catalogue().values())
    parts = [HEADING]
    for family, title in TITLES.items():
        found = [metric for metric in metrics if metric.family is family]
        parts.append(f"\n## {title}\n\n{table(found)}")
    return "".join(parts)


def table(metrics: Iterable[Metric]) -> str:
    """One row per metric."""
    rows = ["| metric | type | labels | what |", "|---|---|---|---|"]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
        kind = metric.kind.value
        if metric.kind is Kind.HISTOGRAM:
            kind += f", {bounds(metric.buckets)}"
        text = " ".join(filter(None, (metric.help, metric.note)))
        rows.append(f"| `{metric.name}` | {kind} | {labels} | {text} |")
    return "\n".join(rows) + "\n"


def bounds(buckets: tuple[float, ...]) -> str:
    """Bounds of buckets, all of them or the first and the last."""
    shown = [f"{bucket:g}" for bucket in buckets]
    if len(shown) > BOUNDS_SHOWN_MAX:
        shown = [*shown[:2], "...", shown[-1]]
    return " ".join(shown)


if __name__ == "__main__":
    PAGE.write_text(page())

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

llm-d's gate `enableLegacyMetrics` is understood and changes nothing: `--metric-families` alone says
which names are shown.

This page is generated: `make reference`.
"""
# Published names without their prefix, and why nobody can know them here or needs them.
NOT_SHOWN = (
    (
        "`request_streaming_itl_seconds`",
        (
            "The picker never sees an answer, and so no time between two of its tokens; "
            "`request_streaming_tpot_seconds` is their mean."
        ),
    ),
    ("`response_processing_duration_seconds`", "Answers do not pass the picker."),
    (
        "`plugin_duration_seconds`",
        "A decision is timed as a whole: two readings of the clock cost more than most plugins.",
    ),
    (
        "`plugin_data_scope_violations_total`",
        "Plugins get a snapshot and have no way around it.",
    ),
    (
        (
            "`flow_control_request_enqueue_duration_seconds`, "
            "`flow_control_dispatch_cycle_duration_seconds`"
        ),
        "Both are microseconds within one event, below the first bound of the published buckets.",
    ),
    (
        (
            "`flow_control_revocations_*`, `flow_control_reclaim_target`, "
            "`flow_control_pending_reclaim`, `flow_control_revocation_confirmation_seconds`"
        ),
        "What a server works on is never taken back.",
    ),
    (
        (
            "`request_predicted_tpot_seconds`, `request_*_prediction_duration_seconds`, "
            "`request_slo_violation_total`, `inference_request_metric`"
        ),
        "They are of the sidecar that predicts latency. The cost model predicts the first token.",
    ),
    ("`encoder_cache_*`", "What encoders have cached is a guess that no answer confirms."),
    ("`program_aware_*`", "They are of a fairness policy that is not here."),
    (
        "`kv_cache_index_*`, `kv_cache_events_*`",
        "Of our index `inferway_picker_kv_*` and `inferway_picker_prefix_*` say how good it is.",
    ),
    (
        "`datalayer_extract_errors_total`",
        "A page without a usable value counts in `datalayer_poll_errors_total`.",
    ),
)
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
    rows = "\n".join(f"| {names} | {why} |" for names, why in NOT_SHOWN)
    parts.append(f"\n## Published ones that are not here\n\n| metric | why |\n|---|---|\n{rows}\n")
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

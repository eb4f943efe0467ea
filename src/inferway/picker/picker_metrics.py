"""The figures of one pool's requests: our own names, and the published pickers'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version

from inferway.cluster.store import Key
from inferway.observe.catalogue_gie import SCHEDULING_BUCKETS
from inferway.observe.catalogue_own import DECISION_BUCKETS
from inferway.observe.histogram import Histogram, coarser, total
from inferway.observe.metric import Rows
from inferway.observe.otlp import Exporter
from inferway.picker.feedback import FeedbackService
from inferway.picker.series import Series
from inferway.picker.telemetry import SECONDS_BUCKETS, Telemetry
from inferway.scheduling.profile import ProfilePolicy

# Who counts what is in flight, as the published metric names plugins.
PRODUCER = "inferway"


class ScrapeView:
    """What may be asked of the scraper: address, age in seconds or None, errors."""

    def __init__(self, read: Callable[[], Iterable[tuple[str, float | None, int]]]) -> None:
        self.read = read


class ProcessSource:
    """What is no pool's."""

    def __init__(self, reports: FeedbackService, spans: Exporter | None = None) -> None:
        self._reports = reports
        self._spans = spans

    def read(self) -> Iterator[tuple[str, Rows]]:
        yield "inferway_picker_log_entries_skipped_total", {(): self._reports.skipped}
        spans: Rows = {}
        if self._spans is not None:
            spans = {("sent",): self._spans.sent, ("dropped",): self._spans.dropped}
        yield "inferway_picker_spans_total", spans
        info = {("", version("inferway")): 1}
        yield "inference_extension_info", info
        yield "llm_d_epp_info", info


class PickerSource:
    """What has no model: our own metrics, and decisions under the published names."""

    def __init__(self, telemetry: Telemetry, key: Key, scrapes: ScrapeView) -> None:
        self._telemetry = telemetry
        self._key = key
        self._scrapes = scrapes

    def read(self) -> Iterator[tuple[str, Rows]]:
        t = self._telemetry
        t.count()
        pool = t.pool
        one = (pool,)
        decisions = total((t.at_once, t.after_waiting))
        yield "inferway_picker_decisions_total", _labelled(pool, t.decisions)
        yield (
            "inferway_picker_decision_seconds",
            {one: coarser(decisions, SECONDS_BUCKETS, DECISION_BUCKETS)},
        )
        codes = {(pool, str(code)): count for code, count in t.finished.items()}
        yield "inferway_picker_requests_finished_total", codes
        yield "inferway_picker_requests_retried_total", {one: t.retried}
        yield "inferway_picker_usage_reports_total", {one: t.usages}
        tokens = {**t.tokens, "cached_predicted": round(t.predicted_tokens)}
        yield "inferway_picker_tokens_total", _labelled(pool, tokens)
        yield "inferway_picker_reservations_released_total", _labelled(pool, t.released)
        yield from self._gauges()
        yield from self._decisions()

    def _gauges(self) -> Iterator[tuple[str, Rows]]:
        t = self._telemetry
        s = t.scheduler
        pool = t.pool
        one = (pool,)
        yield "inferway_picker_endpoints_ready", {one: len(s.columns.live)}
        yield "inferway_picker_reservations", {one: len(s.ledger)}
        yield "inferway_picker_prefix_entries", {one: s.prefixes.entries}
        yield "inferway_picker_in_flight", _labelled(pool, s.in_flight())
        scrapes = list(self._scrapes.read())
        errors = {address: count for address, _, count in scrapes}
        yield "inferway_picker_scrape_errors_total", _labelled(pool, errors)
        ages = {address: age for address, age, _ in scrapes if age is not None}
        yield "inferway_picker_scrape_age_seconds", _labelled(pool, ages)
        polls = {("metrics-data-source",): sum(errors.values())}
        yield "llm_d_epp_datalayer_poll_errors_total", polls
        c = s.columns
        for name, column in (("requests", c.in_flight), ("tokens", c.in_flight_tokens)):
            yield (
                f"llm_d_epp_inflight_{name}",
                {
                    (c.name[slot], self._key.namespace, PRODUCER, "", ""): column[slot]
                    for slot in c.live
                },
            )
        yield (
            "llm_d_epp_request_predicted_ttft_seconds",
            {(model, model): found.read() for model, found in t.predicted_ttft.items()},
        )

    def _decisions(self) -> Iterator[tuple[str, Rows]]:
        t = self._telemetry
        fine = total((t.at_once, t.after_waiting))
        decisions = coarser(fine, SECONDS_BUCKETS, SCHEDULING_BUCKETS)
        for prefix in ("inference_extension_", "llm_d_epp_"):
            yield prefix + "scheduler_e2e_duration_seconds", {(): decisions}
            yield prefix + "prefix_indexer_size", {(): t.scheduler.prefixes.entries}
            yield prefix + "prefix_indexer_hit_ratio", {(): t.hit_ratio.read()}
            yield prefix + "prefix_indexer_hit_bytes", {(): t.hit_bytes.read()}
        fine = total((t.at_once, t.with_waiting))
        answers = coarser(fine, SECONDS_BUCKETS, SCHEDULING_BUCKETS)
        yield "llm_d_epp_request_processing_duration_seconds", {(): answers}
        attempts: dict[tuple[str, ...], float] = {}
        for (model, name, address), count in t.attempts.items():
            port = address.rpartition(":")[2]
            attempts["success", model, name, self._key.namespace, port] = count
        for model, count in t.failures.items():
            attempts["failure", model, "", "", ""] = count
        yield "llm_d_epp_scheduler_attempts_total", attempts
        yield from self._stages()

    def _stages(self) -> Iterator[tuple[str, Rows]]:
        policy = self._telemetry.scheduler.policy
        handler = policy.handler_names if isinstance(policy, ProfilePolicy) else ("", "")
        rows = {
            (*handler, model, stages): count
            for (model, stages), count in self._telemetry.stages.items()
        }
        yield "llm_d_epp_disagg_decision_total", rows
        without = {key: count for key, count in rows.items() if not key[-1].startswith("encode")}
        yield "llm_d_epp_pd_decision_total", without


class RequestSource:
    """What has a model."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def read(self) -> Iterator[tuple[str, Rows]]:
        self._telemetry.count()
        series = list(self._telemetry.table)
        yield from _llm_d(series)
        yield from _gie(series)


# Both names of a histogram that each request has one value of.
_HISTOGRAMS: tuple[tuple[str, str, Callable[[Series], Histogram]], ...] = (
    ("request_duration_seconds", "request_duration_seconds", lambda s: s.duration),
    ("request_size_bytes", "request_sizes", lambda s: s.sizes),
    ("request_input_tokens", "input_tokens", lambda s: s.input_tokens),
    ("request_output_tokens", "output_tokens", lambda s: s.output_tokens),
    ("request_ntpot_seconds", "normalized_time_per_output_token_seconds", lambda s: s.ntpot),
    ("response_size_bytes", "response_sizes", lambda s: s.answer_sizes),
    ("request_cached_tokens", "", lambda s: s.cached_tokens),
    ("request_streaming_tpot_seconds", "", lambda s: s.tpot),
)


def _llm_d(series: list[Series]) -> Iterator[tuple[str, Rows]]:
    chosen = [s for s in series if s.chosen]
    yield "llm_d_epp_request_total", {s.names.labels: s.chosen for s in chosen}
    running = {s.names.labels: s.chosen - s.ended for s in chosen}
    yield "llm_d_epp_request_running", running
    errors = {(*s.names.labels, code): count for s in series for code, count in s.errors.items()}
    yield "llm_d_epp_request_error_total", errors
    for name, _, histogram in _HISTOGRAMS:
        yield "llm_d_epp_" + name, {s.names.labels: histogram(s).read() for s in chosen}
    ttft = {
        (*s.names.labels, streaming): s.ttft[streaming == "true"].read()
        for s in chosen
        for streaming in ("false", "true")
        if any(s.ttft[streaming == "true"].counts)
    }
    yield "llm_d_epp_request_ttft_seconds", ttft


def _gie(series: list[Series]) -> Iterator[tuple[str, Rows]]:
    """The older names know nothing of flows and priorities."""
    models: dict[tuple[str, str], list[Series]] = {}
    running: Counter[tuple[str, ...]] = Counter()
    errors: Counter[tuple[str, ...]] = Counter()
    for s in series:
        models.setdefault((s.names.model, s.names.target), []).append(s)
        if s.chosen:
            running[s.names.model,] += s.chosen - s.ended
        for code, count in s.errors.items():
            errors[s.names.model, s.names.target, code] += count
    counts = {names: sum(s.chosen for s in found) for names, found in models.items()}
    yield "inference_objective_request_total", {n: count for n, count in counts.items() if count}
    yield "inference_objective_request_error_total", dict(errors)
    yield "inference_objective_running_requests", dict(running)
    for _, name, histogram in _HISTOGRAMS:
        if name:
            yield (
                "inference_objective_" + name,
                {
                    names: total(map(histogram, found))
                    for names, found in models.items()
                    if counts[names]
                },
            )


def _labelled(pool: str, counts: Mapping[str, float]) -> Rows:
    return {(pool, name): count for name, count in counts.items()}

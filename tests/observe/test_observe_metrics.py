"""The catalogue's own rules, and the page as Prometheus' parsers read it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import pytest
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from inferway.observe.catalogue import catalogue, families
from inferway.observe.catalogue_gie import INPUT_TOKENS_BUCKETS
from inferway.observe.exposition import PIECE_LINES, Exposition
from inferway.observe.metric import Distribution, Family, Kind, Metric, Rows

PREFIXES = {
    Family.OWN: ("inferway_",),
    Family.GIE: ("inference_objective_", "inference_pool_", "inference_extension_"),
    Family.LLM_D: ("llm_d_epp_",),
}


@pytest.mark.parametrize("metric", catalogue().values(), ids=lambda metric: metric.name)
def test_entries_are_whole(metric: Metric) -> None:
    assert metric.name.startswith(PREFIXES[metric.family])
    assert re.fullmatch(r"[a-z][a-z_0-9]*[a-z0-9]", metric.name)
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    assert (metric.kind is Kind.HISTOGRAM) == bool(metric.buckets)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert len(set(metric.labels)) == len(metric.labels)
    assert metric.help.endswith(".")


def test_published_bounds_keep_the_slip() -> None:
    assert 32778.0 in INPUT_TOKENS_BUCKETS
    assert 32768.0 not in INPUT_TOKENS_BUCKETS
    assert INPUT_TOKENS_BUCKETS[-1] == 1048576.0


class Example:
    """Rows for each metric of the catalogue, with labels that need escapes."""

    def read(self) -> Iterator[tuple[str, Rows]]:
        for metric in catalogue().values():
            labels = tuple('a "b"\\\n' for _ in metric.labels)
            if metric.kind is Kind.HISTOGRAM:
                counts = [0, 2, *([0] * (len(metric.buckets) - 2)), 1]
                yield metric.name, {labels: Distribution(counts, 7.5)}
            else:
                yield metric.name, {labels: 3}


def page(accept: str = "", shown: str = "gie,llm-d", count: int = 1) -> str:
    sources = [Example() for _ in range(count)]
    body, kind = Exposition(catalogue(), families(shown), sources).text(accept)
    assert kind.startswith(accept.partition(";")[0])
    return body.decode()


@pytest.mark.parametrize("openly", [False, True])
def test_parsers_read_back_every_metric(openly: bool) -> None:
    if openly:
        text = page("application/openmetrics-text; version=1.0.0")
        read = list(openmetrics_parser.text_string_to_metric_families(text))
    else:
        text = page()
        read = list(parser.text_string_to_metric_families(text))
    found = {f"{family.name}{'_total' * (family.type == 'counter')}": family for family in read}
    assert found.keys() == catalogue().keys()
    for name, metric in catalogue().items():
        assert found[name].type == metric.kind.value
        assert found[name].documentation == metric.help
        samples = found[name].samples
        assert all(
            sample.labels[label] == 'a "b"\\\n' for sample in samples for label in metric.labels
        )
        if metric.kind is Kind.HISTOGRAM:
            bounds = [float(s.labels["le"]) for s in samples if s.name.endswith("_bucket")]
            assert bounds == [*metric.buckets, math.inf]
            assert [s.value for s in samples if s.name.endswith(("_count", "_sum"))] == [3, 7.5]
        else:
            assert [s.value for s in samples] == [3]


def test_rows_of_several_sources_with_the_same_labels_are_summed() -> None:
    text = page(count=2)
    assert "inference_extension_scheduler_e2e_duration_seconds_sum 15.0" in text
    assert 'inference_extension_scheduler_e2e_duration_seconds_bucket{le="0.0002"} 4.0' in text
    assert text.count("inference_extension_scheduler_e2e_duration_seconds_sum") == 1


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("", {Family.OWN}),
        ("own", {Family.OWN}),
        ("gie", {Family.OWN, Family.GIE}),
        ("own, gie,llm-d", set(Family)),
    ],
)
def test_families_choose_names(asked: str, shown: set[Family]) -> None:
    assert families(asked) == shown
    text = page(shown=asked)
    for family, prefixes in PREFIXES.items():
        assert any(f"# TYPE {prefix}" in text for prefix in prefixes) == (family in shown)


def test_families_refuse_a_word_that_is_none() -> None:
    with pytest.raises(ValueError, match="gei"):
        families("own,gei")


class Many:
    """A metric with buckets and one without, of many models."""

    def read(self) -> Iterator[tuple[str, Rows]]:
        names = [(f"m-{number}", "t", "f", "0") for number in range(700)]
        bounds = len(catalogue()["llm_d_epp_request_duration_seconds"].buckets) + 1
        yield "llm_d_epp_request_total", dict.fromkeys(names, 3)
        yield (
            "llm_d_epp_request_duration_seconds",
            {labels: Distribution([1] * bounds, 7.5) for labels in names},
        )


@pytest.mark.parametrize("openly", [False, True])
def test_a_long_page_is_written_in_pieces_and_read_as_one(openly: bool) -> None:
    accept = "application/openmetrics-text; version=1.0.0" * openly
    shown = Exposition(catalogue(), families("llm-d"), [Many()])
    pieces = list(shown.pieces(accept)[0])
    assert max(piece.count(b"\n") for piece in pieces) <= PIECE_LINES + 2
    text = shown.text(accept)[0]
    assert text == b"".join(pieces)
    assert text.count(b"# TYPE") == 2
    assert text.count(b"# EOF") == openly
    read = openmetrics_parser if openly else parser
    families_read = list(read.text_string_to_metric_families(text.decode()))
    assert len(families_read) == 2
    for family in families_read:
        assert len({sample.labels["model_name"] for sample in family.samples}) == 700


def test_content_types() -> None:
    assert openmetrics.exposition.CONTENT_TYPE_LATEST.startswith("application/openmetrics-text")
    with pytest.raises(AssertionError, match="not in the catalogue"):
        Exposition(catalogue(), families(""), [Stranger()]).text()


class Stranger:
    """Reads what nobody knows."""

    def read(self) -> Iterator[tuple[str, Rows]]:
        yield "inferway_nobody_knows", {(): 1}

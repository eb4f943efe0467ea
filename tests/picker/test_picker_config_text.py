"""YAML with places: what a configuration says, and on which line it says it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inferway.base.errors import UsageError
from inferway.picker import config_file, flags
from inferway.picker.config_text import ConfigTextError, parse
from inferway.picker.main import main

TEXT = """\
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- {type: max-score-picker, parameters: {maxNumOfEndpoints: 2}}
"""


def test_places_are_lines_and_columns_of_keys_and_entries() -> None:
    document, places = parse(TEXT)
    assert document == yaml.safe_load(TEXT)
    assert places["kind"] == (1, 1)
    assert places["plugins[0]"] == (3, 3)
    assert places["plugins[0].type"] == (3, 3)
    assert places["plugins[1].parameters.maxNumOfEndpoints"] == (4, 41)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", "line 2, column 1: 'a' is given twice"),
        ("a: [1, 2\n", "line 2, column 1"),
        ("a: b: c\n", "line 1, column 5"),
        ("[1]: 2\n", "line 1, column 1"),
        ("a: !!python/object:x {}\n", "has no meaning here"),
        ("a: 2026-99-99\n", "month must be in 1..12"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("- " * 60 + "x", "too deep"),
        (f"[{'1,' * 20_001}]", "too many values"),
    ],
)
def test_what_is_no_document(text: str, expected: str) -> None:
    with pytest.raises(ConfigTextError, match=r".*") as caught:
        parse(text)
    assert expected in str(caught.value)


def test_aliases_are_followed_and_bounded() -> None:
    text = "base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\n"
    document, places = parse(text)
    assert document == {"base": {"x": 1, "y": 2}, "other": {"x": 1, "y": 3}}
    assert places["other.y"] == (4, 3)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigTextError, match="too many values"):
        parse("\n".join(lines))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigTextError):
        parse(text)


def test_all_mistakes_of_a_file_are_told_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "plugins.yaml"
    file.write_text(
        """\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scoreer
- type: prefix-cache-scorer
  parameters:
    matchLengthWeigth: 0.5
- type: session-affinity-filter
schedulingProfiles:
- name: main
  plugins:
  - pluginRef: prefix-cache
    weight: -1
"""
    )
    options = flags.parse(["--pool-name=p", f"--config-file={file}"], {})
    with pytest.raises(UsageError) as caught:
        config_file.policy(options)
    text = str(caught.value)
    lines = text.replace("unknown ", "").splitlines()
    starts = [line.strip().split(": ")[:2] for line in lines if line.startswith("  line")]
    assert starts == [
        ["line 4, column 3", "plugins[0].type"],
        ["line 7, column 5", "plugins[1].parameters.matchLengthWeigth"],
        ["line 8, column 3", "plugins[2].type"],
        ["line 12, column 5", "schedulingProfiles[0].plugins[0].pluginRef"],
        ["line 13, column 5", "schedulingProfiles[0].plugins[0].weight"],
    ]
    for name in ("queue-scorer", "matchLengthWeight", "prefix-cache-scorer"):
        assert f"did you mean {name}?" in text
    assert "allow it by --allow-experimental-plugins" in text
    assert str(file) in text


def test_check_says_what_a_file_becomes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plugins.yaml"
    file.write_text(
        """\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
- {type: by-label, parameters: {label: gpu, validValues: [h100]}}
- {type: prefix-cache-scorer}
- {type: header-profile-handler}
schedulingProfiles:
- name: main
  plugins: [{pluginRef: by-label}, {pluginRef: prefix-cache-scorer, weight: 2.5}]
"""
    )
    assert main([f"--config-file={file}", "--check", "--allow-experimental-plugins"], {}) == 0
    assert capsys.readouterr().out.splitlines() == [
        "profile main: filter by-label, scorer prefix-cache-scorer x 2.5, picker max-score-picker",
        "profile handler: header-profile-handler",
        "with approx-prefix-cache-producer",
        "reads the headers epp-profile",
        "flow control: on",
        "note: plugins[0].type: by-label is deprecated; label-selector-filter is newer",
    ]
    assert main(["--check", "--pool-name=p"], {}) == 0
    assert "no configuration: the default policy" in capsys.readouterr().out
    with pytest.raises(UsageError, match="is alpha"):
        main([f"--config-file={file}", "--check"], {})

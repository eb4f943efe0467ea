"""The benchmark of decisions gives the rows that its readers count on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferway.bench import decisions


@pytest.mark.slow
def test_rows_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decisions, "DECISIONS_PER_ROUND", 2 * decisions.ROUNDS)
    monkeypatch.setattr(decisions, "ENDPOINTS", (10,))
    monkeypatch.setattr(decisions, "BODY_BYTES", (1024, 4096))
    monkeypatch.setattr(decisions, "OUTPUT", tmp_path / "build" / "decide.json")
    # The collector's thresholds are the process's; this one goes on with other tests.
    monkeypatch.setattr(decisions.gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(decisions.gc, "freeze", lambda: None)
    assert decisions.main("compiled") == 0
    assert "us/decision" in capsys.readouterr().out
    report = json.loads((tmp_path / "build" / "decide.json").read_text())
    assert report["machine"]
    assert [(row["endpoints"], row["body_bytes"]) for row in report["rows"]] == [
        (10, 1024),
        (10, 4096),
    ]
    for row in report["rows"]:
        assert row["us_per_decision"] > 0
        assert row["cpu_ms_per_request"] > 0

"""Golden pairs: manifests in, IR, statuses and diagnostics out.

``pytest tests/gateway --update-golden`` rewrites the outputs and deletes stale ones; the diff is
the review.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from inferway.gateway.translate_files import translate_documents

FOLDER = Path(__file__).parent / "testdata"
CASES = sorted(path.name.removesuffix(".in.yaml") for path in FOLDER.glob("*.in.yaml"))
# Envoy's messages are long; one case shows all of them, the others are about the translation.
WITH_XDS = {"pool", "rich"}


def slim(value: Any) -> Any:
    """Without what is empty, so that a case shows what it is about."""
    if isinstance(value, dict):
        found = {key: slim(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item not in ({}, [], None, "", False)}
    if isinstance(value, list):
        return [slim(item) for item in value]
    return value


def translated(case: str) -> str:
    text = (FOLDER / f"{case}.in.yaml").read_text()
    result = translate_documents([item for item in yaml.safe_load_all(text) if item])
    parts = {"ir": slim(result["ir"]), "status": slim(result["status"])}
    parts["diagnostics"] = result["diagnostics"]
    if case in WITH_XDS:
        parts["xds"] = result["xds"]
    return yaml.safe_dump(parts, sort_keys=True, width=100)


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, update_golden: bool) -> None:
    path = FOLDER / f"{case}.out.yaml"
    found = translated(case)
    if update_golden:
        path.write_text(found)
    assert found == path.read_text()


def test_no_stale_outputs(update_golden: bool) -> None:
    stale = [
        path
        for path in FOLDER.glob("*.out.yaml")
        if path.name.removesuffix(".out.yaml") not in CASES
    ]
    if update_golden:
        for path in stale:
            path.unlink()
        stale = []
    assert stale == []


@pytest.mark.parametrize("case", CASES)
def test_order_of_documents_does_not_matter(case: str) -> None:
    text = (FOLDER / f"{case}.in.yaml").read_text()
    documents = [item for item in yaml.safe_load_all(text) if item]
    forward = translate_documents(documents)
    backward = translate_documents(list(reversed(documents)))
    assert forward == backward

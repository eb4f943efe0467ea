"""``inferway translate``: what manifests become, printed as text that is the same every time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from inferway.base.errors import UsageError
from inferway.gateway.translate_files import translate_documents


def run(files: list[str], wanted: list[str], output: str) -> int:
    """Prints the wanted parts; 1 when a manifest has mistakes, which the statuses name."""
    documents: list[dict[str, Any]] = []
    for name in files:
        documents += _read(name)
    result = translate_documents(documents)
    chosen = {part: result[part] for part in ("ir", "xds", "status") if part in wanted}
    if output == "json":
        json.dump(chosen, sys.stdout, indent=2, sort_keys=True)
        sys.stdout.write("\n")
    else:
        yaml.safe_dump(chosen, sys.stdout, sort_keys=True, default_flow_style=False)
    for text in result["diagnostics"]:
        print(text, file=sys.stderr)
    return 1 if result["diagnostics"] else 0


def _read(name: str) -> list[dict[str, Any]]:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
    except OSError as error:
        raise UsageError(
            "INFERWAY0109",
            f"the file cannot be read: {error.strerror}",
            about=name,
            fix="Name a file with Kubernetes objects, or - for standard input.",
        ) from None
    try:
        loaded = [item for item in yaml.safe_load_all(text) if item]
    except yaml.YAMLError as error:
        raise UsageError(
            "INFERWAY0110",
            f"this is not YAML: {error}",
            about=name,
            fix="Mend the line that the message names.",
        ) from None
    documents: list[dict[str, Any]] = []
    for item in loaded:
        if not isinstance(item, dict) or "kind" not in item:
            raise UsageError(
                "INFERWAY0111",
                "a document is not a Kubernetes object",
                about=name,
                fix="Each document needs apiVersion, kind and metadata.",
            )
        documents += item["items"] if str(item["kind"]).endswith("List") else [item]
    return documents

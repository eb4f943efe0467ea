"""Writes docs/reference/plugins.md from the table of plugins, so that the page cannot go stale.

Run by ``make reference``; a test compares the page with what this prints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from inferway.scheduling.plugins.registry import DEFAULT_PRODUCERS, ROWS
from inferway.scheduling.plugins.types import REQUIRED, Kind, Parameter, PluginType, Stability

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "plugins.md"
HEADING = """# Plugins of the picker

What an `EndpointPickerConfig` may name, under the names, parameters and defaults of the published
pickers, and `inferway-cost-scorer`. [How to write one](../how-to/configure-scheduling.md) shows
files.

Scores are cut to 0..1, multiplied by their weight (1 without one) and added up. *Candidates* are
the servers that the filters before have left. Plugins marked *alpha* need
`--allow-experimental-plugins`. Parameters marked *no effect* are taken so that existing files load.
Where a plugin reads what another one makes, a parameter may name which; without it the default
producer is taken, and made if the configuration has none.

This page is generated: `make reference`.
"""
TITLES = {
    Kind.FILTER: "Filters",
    Kind.SCORER: "Scorers",
    Kind.PICKER: "Pickers",
    Kind.PROFILE_HANDLER: "Profile handlers",
    Kind.DECIDER: "Deciders",
    Kind.PRODUCER: "Data producers",
    Kind.SCREENER: "Screeners",
    Kind.ADMITTER: "Admitters",
    Kind.DETECTOR: "Saturation detectors",
    Kind.FAIRNESS: "Fairness policies",
    Kind.ORDERING: "Ordering policies",
    Kind.USAGE_LIMIT: "Usage limit policies",
    Kind.EVICTION_FILTER: "Eviction",
    Kind.EVICTION_ORDER: "Eviction",
    Kind.SOURCE: "Data sources and extractors",
    Kind.EXTRACTOR: "Data sources and extractors",
    Kind.DISCOVERY: "Discovery",
    Kind.PARSER: "Parsers",
    Kind.HEADERS: "Headers",
}


def page() -> str:
    """The whole page."""
    parts = [HEADING]
    for title in dict.fromkeys(TITLES.values()):
        rows = [row for row in ROWS if TITLES[row.kind] == title and not row.refused]
        if rows:
            parts.append(f"\n## {title}\n")
            parts += [_plugin(row) for row in rows]
    parts.append("\n## Refused\n\nA configuration with one of these does not load.\n\n")
    parts.append("| type | why |\n|---|---|\n")
    parts += [f"| `{row.name}` | It {row.refused}. |\n" for row in ROWS if row.refused]
    return "".join(parts)


def _plugin(row: PluginType) -> str:
    marks = []
    if row.stability is Stability.ALPHA:
        marks.append("alpha")
    if row.also:
        marks.append(f"also a {' and a '.join(kind.value for kind in row.also)}")
    if row.instead:
        marks.append(f"deprecated: {row.instead} is newer")
    if row.gives in DEFAULT_PRODUCERS and DEFAULT_PRODUCERS[row.gives] == row.name:
        marks.append(f"default producer of {row.gives.value}")
    if row.signals:
        marks.append(f"reads {', '.join(signal.value for signal in row.signals)}")
    text = f"\n### {row.name}\n\n{row.does}\n"
    if row.idle:
        text += f"\nNo effect: {row.idle}.\n"
    if marks:
        text += f"\n*{'; '.join(marks)}*\n"
    lines = list(_lines("", row.parameters))
    if lines:
        text += "\n| parameter | default | |\n|---|---|---|\n" + "".join(lines)
    return text


def _lines(prefix: str, parameters: Mapping[str, Parameter]) -> Iterator[str]:
    for name, one in parameters.items():
        items = one.items.fields if one.items is not None else None
        inside = one.fields or items
        suffix = "[]" if one.items is not None else ""
        yield f"| `{prefix}{name}{suffix}` | {_default(one)} | {_help(one)} |\n"
        if inside:
            yield from _lines(f"{prefix}{name}{suffix}.", inside)


def _default(one: Parameter) -> str:
    if one.default is REQUIRED:
        return "required"
    if one.default in (None, "", [], {}):
        return ""
    return f"`{json.dumps(one.default).strip(chr(34))}`"


def _help(one: Parameter) -> str:
    return "No effect." if one.unused else one.help


if __name__ == "__main__":
    PAGE.write_text(page())

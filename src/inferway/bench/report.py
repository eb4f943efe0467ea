"""A benchmark's result: a table on stdout and build/bench/NAME.json."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from inferway.base.errors import InferwayError

Row = Mapping[str, object]
DIGITS = 3
# Wide enough for the longest name with all columns, also where the output is no terminal.
TABLE_COLUMNS_MIN = 150


def rounded(row: Row) -> dict[str, object]:
    """The row with floats short enough to read."""
    return {
        key: round(value, DIGITS) if isinstance(value, float) else value
        for key, value in row.items()
    }


def write(path: Path, machine: Mapping[str, object], rows: Sequence[Row]) -> None:
    """Writes the JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": dict(machine), "rows": [rounded(row) for row in rows]}, indent=1)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(text + "\n")
    unfinished.replace(path)


def run(
    name: str,
    output: Path,
    measure: Callable[[Path], tuple[Mapping[str, object], Sequence[Row]]],
) -> Sequence[Row] | int:
    """Measures with a folder that goes afterwards, and writes the file: the rows.

    Or the exit code, where there was an error, which is one message.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f"inferway-{name}-") as folder:
            machine, rows = measure(Path(folder))
    except InferwayError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    write(output, machine, rows)
    return rows


def show(title: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Prints the chosen columns; what a row lacks is left empty."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "system" else "right", no_wrap=True)
    for row in map(rounded, rows):
        table.add_row(*[str(row.get(column, "")) for column in columns])
    console = Console()
    console.width = max(console.width, TABLE_COLUMNS_MIN)
    console.print(table)

"""Writes the chart inferway-crds from the typed structs of ``api/``.

Knows where the chart keeps the specs of Inferway's own kinds; talks to no cluster. Run
``make manifests`` after a change of src/inferway/api/inferway.py; a test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from inferway.api import crds

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "charts" / "inferway-crds" / "files"
OWN = crds.own_definitions()
HEADER = "# Written by tools/render_crds.py from src/inferway/api; change those and run it again.\n"


class PlainDumper(yaml.SafeDumper):
    """Writes every value out, because an alias is hard to read and to copy from."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> dict[str, str]:
    """The text of each file by its name: the spec alone, because the chart adds the metadata."""
    return {
        f"{definition.plural}.spec.yaml": HEADER
        + yaml.dump(
            {"spec": crds.to_object(definition)["spec"]},
            Dumper=PlainDumper,
            sort_keys=False,
            width=96,
        )
        for definition in OWN
    }


def main() -> int:
    """Writes the files that differ and names them."""
    for name, content in render().items():
        path = FILES / name
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())

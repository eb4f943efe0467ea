"""Documents point to what is there: relative links, anchors left out, and all pages of errors."""

from __future__ import annotations

import re
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\((?!https?://|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")


def pages(root: Path) -> list[Path]:
    return [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "examples").rglob("*.md")]


def test_relative_links_lead_somewhere(root: Path) -> None:
    broken = [
        f"{page.relative_to(root)}: {target}"
        for page in pages(root)
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_page_of_errors_is_in_the_index(root: Path) -> None:
    reference = root / "docs" / "reference"
    linked = set(LINK.findall((reference / "errors.md").read_text()))
    assert {f"errors/{page.name}" for page in (reference / "errors").glob("*.md")} <= linked


def test_every_document_is_in_the_index(root: Path) -> None:
    docs = root / "docs"
    listed = {
        (docs / target).resolve() for target in LINK.findall((docs / "README.md").read_text())
    }
    for folder in ("tutorial", "how-to", "explanation"):
        for page in (docs / folder).glob("*.md"):
            assert page.resolve() in listed, page.name

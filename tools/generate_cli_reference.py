"""Writes docs/reference/cli.md from the command tree, so that the page cannot go stale.

Run by ``make reference``; a test compares the page with what this prints.
"""

from __future__ import annotations

from pathlib import Path

import click

from inferway.cli.commands import cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"
HEADING = """# The command line

Data goes to standard output, talk to standard error. Exit codes: 0 done or ready, 1 failed or not
ready, 2 the command line is wrong, 3 nothing answers. Each option can be set in the environment:
`INFERWAY_COMMAND_OPTION`, such as `INFERWAY_UP_STATE`. `NO_COLOR` turns colours off.

This page is generated: `make reference`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEADING]
    # Commands inherit from the root, such as the names of the help option.
    root = click.Context(cli, info_name="inferway", max_content_width=90, **cli.context_settings)
    for name, command in sorted(cli.commands.items()):
        context = click.Context(command, info_name=name, parent=root)
        parts.append(f"\n## inferway {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())

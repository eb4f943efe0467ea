"""The command ``inferway``: which word runs what.

Programs of Pods parse their own arguments, since several of them imitate another program's; they
are found before the command line library is imported, because every Pod pays for start-up time.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

from inferway.base import compiled
from inferway.base.errors import InferwayError

_log = logging.getLogger(__name__)

# Word -> module with ``main(argv, env) -> int``.
PROGRAMS = {
    "gateway-controller": "inferway.gateway.controller.main",
    "picker": "inferway.picker.main",
    "lora-syncer": "inferway.lora.main",
    "simulator": "inferway.simulator.main",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the return value is the exit code: 0, 1 failed, 2 usage, 3 unreachable."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words and words[0] in PROGRAMS:
            return _run_program(words[0], words[1:])
        commands = importlib.import_module("inferway.cli.commands")
        code: int = commands.run(words)
    except InferwayError as error:
        print(f"inferway: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as in `inferway status | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _run_program(word: str, argv: list[str]) -> int:
    from inferway.observe import logs

    if word != "simulator":
        # The simulated server prints what vLLM prints and needs no handler.
        logs.install(os.environ.get("INFERWAY_LOG_LEVEL", "info"))
    if word == "picker":
        why = compiled.use(os.environ)
        _log.info("compiled code", extra={"data": {"runs": not why, "why_not": why}})
    program = importlib.import_module(PROGRAMS[word])
    code: int = program.main(argv, os.environ)
    return code


if __name__ == "__main__":
    sys.exit(main())

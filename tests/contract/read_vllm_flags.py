"""Says how the command line parser of a real vLLM takes some words: JSON in, JSON out.

    PYTHON_WITH_VLLM read_vllm_flags.py < {"case": ["--flag", ...], ...}

Answers with every flag of the parser (its kind: "switch", "value" or "values") and, for each case,
the exit code and the message of the parser, empty where it has nothing against the words.
"""

import argparse
import contextlib
import io
import json
import sys

from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser


def kind(action: argparse.Action) -> str:
    """How many words a flag takes."""
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return "switch"
    return "value" if action.nargs is None else "values"


def message(parser: argparse.ArgumentParser, words: list[str]) -> tuple[int, str]:
    """Exit code and the last line about an error."""
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args(words)
    except SystemExit as stop:
        return int(stop.code or 0), err.getvalue().strip().rpartition("error: ")[2]
    except (ValueError, TypeError, OSError) as error:
        return 1, str(error)
    return 0, ""


def main() -> None:
    parser = make_arg_parser(FlexibleArgumentParser())
    flags = {}
    for action in parser._actions:
        for name in action.option_strings:
            flags[name] = kind(action)
    cases = {name: message(parser, words) for name, words in json.load(sys.stdin).items()}
    json.dump({"flags": flags, "cases": cases}, sys.stdout)


if __name__ == "__main__":
    main()

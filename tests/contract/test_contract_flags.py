"""Flags of ``vllm serve``: what the parser takes, and what it says about what it refuses."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import contract_cases
import pytest
import yaml
from contract_differences import FLAGS
from contract_target import engine_python

from inferway.base.errors import InferwayError
from inferway.simulator import flags
from inferway.simulator.flag_tables import (
    IGNORED_SWITCHES,
    IGNORED_VALUES,
    SHORT_SWITCHES,
    SHORT_VALUES,
)

UPDATE = os.environ.get("INFERWAY_UPDATE_GOLDEN") == "1"
PYTHON = engine_python()
HERE = Path(__file__).parent
QUESTIONS: dict[str, list[str]] = yaml.safe_load((HERE / "testdata/flags.words.yaml").read_text())
PARSED_HERE = frozenset(
    name for action in flags.build_parser()._actions for name in action.option_strings
)


def simulated(words: list[str]) -> tuple[int, str]:
    """Exit code and message of the simulated server, as the real parser is asked for them."""
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            flags.parse(words, {})
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
        return code, err.getvalue().strip().rpartition("error: ")[2]
    except InferwayError as error:
        return error.exit_code, str(error)
    return 0, ""


@pytest.mark.skipif(not PYTHON, reason="the environment names no real vLLM")
@pytest.mark.slow
def test_the_record_is_what_the_real_parser_says() -> None:
    script = HERE / "read_vllm_flags.py"
    answer = subprocess.run(
        [PYTHON, str(script)], input=json.dumps(QUESTIONS), capture_output=True, text=True,
        check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(answer.stdout[answer.stdout.index('{"flags"') :])
    if UPDATE:
        contract_cases.write_answers("flags", found)
        contract_cases.answers.cache_clear()
    assert found == contract_cases.answers("flags")


@pytest.mark.parametrize("name", QUESTIONS)
def test_words(name: str) -> None:
    wanted = tuple(contract_cases.answers("flags")["cases"][name])
    found = simulated(QUESTIONS[name])
    difference = FLAGS.get(name)
    if difference is None:
        assert found == wanted
        return
    assert found != wanted, "this difference is gone: take it off the list"
    assert str(found[0]) == difference.status


def test_every_flag_of_vllm_is_known_with_its_kind() -> None:
    unknown = []
    for name, kind in contract_cases.answers("flags")["flags"].items():
        positive = f"--{name[5:]}" if name.startswith("--no-") else name
        if positive in PARSED_HERE or name in PARSED_HERE:
            continue
        known = {
            "switch": positive in IGNORED_SWITCHES or name in SHORT_SWITCHES,
            "value": IGNORED_VALUES.get(name) is False or name in SHORT_VALUES,
            "values": IGNORED_VALUES.get(name) is True or name in SHORT_VALUES,
        }
        if not known[kind]:
            unknown.append((name, kind))
    assert not unknown

"""Every question of testdata/*.in.yaml gets the answer that a real vLLM gave.

The same tests ask a real vLLM when the environment names one (see contract_target), and then prove
the record. With INFERWAY_UPDATE_GOLDEN=1 and a real vLLM the record is written anew.
"""

from __future__ import annotations

import os
from typing import Any

import contract_cases
import contract_shape
import pytest
from contract_cases import Case
from contract_differences import DIFFERENCES, FLAGS
from contract_target import Target
from contract_wire import ask

ALONE = tuple(group for group in contract_cases.groups() if group != "lora")
UPDATE = os.environ.get("INFERWAY_UPDATE_GOLDEN") == "1"


async def answer(target: Target, case: Case) -> Any:
    """What of the server's answer is the contract."""
    found = await ask(target.url, case.method, case.path, case.headers, case.body)
    shape = contract_shape.shape(found, exact=case.exact)
    if case.status_only:
        shape = {"status": shape["status"]}
    return target.masked(shape)


def check(target: Target, group: str, name: str, found: Any) -> None:
    """Compares with the record, or with the difference that is on purpose."""
    wanted = contract_cases.answers(group)[name]
    difference = None if target.real else DIFFERENCES.get(f"{group}/{name}")
    if difference is None:
        assert contract_cases.text_of(found) == contract_cases.text_of(wanted)
        return
    assert found != wanted, "this difference is gone: take it off the list"
    assert found["status"] == difference.status


def record(target: Target, group: str, found: dict[str, Any]) -> None:
    if UPDATE and target.real:
        contract_cases.write_answers(group, {**contract_cases.answers(group), **found})
        contract_cases.answers.cache_clear()


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group in ALONE for name in contract_cases.cases(group)],
)
async def test_answer(target: Target, group: str, name: str) -> None:
    case = contract_cases.cases(group, target.adapters)[name]
    found = await answer(target, case)
    record(target, group, {name: found})
    check(target, group, name, found)


async def test_adapters_come_and_go(target: Target) -> None:
    """One conversation in the order of the file: load, use, refuse, unload."""
    found = {
        name: await answer(target, case)
        for name, case in contract_cases.cases("lora", target.adapters).items()
    }
    record(target, "lora", found)
    for name, shape in found.items():
        check(target, "lora", name, shape)


def test_the_record_has_an_answer_to_every_question() -> None:
    for group in contract_cases.groups():
        assert list(contract_cases.answers(group)) == list(contract_cases.cases(group))


def test_every_reason_for_a_difference_is_told_to_users() -> None:
    page = (contract_cases.DATA.parents[2] / "docs/reference/simulator.md").read_text()
    for difference in (*DIFFERENCES.values(), *FLAGS.values()):
        assert difference.reason in page

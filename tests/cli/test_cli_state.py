"""One stack's folder: locks, records and addresses, with real files and sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from inferway.base.errors import InferwayError, UsageError
from inferway.cli import state


@pytest.fixture
def folder(tmp_path: Path) -> state.StateFolder:
    return state.open_folder(str(tmp_path / "s"), {}, create=True)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/inferway"),
        ({"HOME": "/h"}, "/h/.local/state/inferway"),
    ],
)
def test_default_folder_follows_xdg(env: dict[str, str], expected: str) -> None:
    assert state.default_root(env) == Path(expected)


def test_a_second_holder_is_told_who_holds_it(folder: state.StateFolder) -> None:
    with state.held(folder):
        state.own_record(folder, "127.99", empty=True)
        with (
            pytest.raises(InferwayError, match=f"process {os.getpid()}") as caught,
            state.held(folder),
        ):
            pass
    assert caught.value.code == "INFERWAY0103"
    with state.held(folder):
        pass


def test_the_record_names_the_running_process(folder: state.StateFolder) -> None:
    assert state.running_pid(folder) is None
    record = state.own_record(folder, "127.99", empty=False)
    assert state.running_pid(folder) == os.getpid()
    folder.write(state.StackRecord(network="127.99", pid=record.pid, start_time="1"))
    assert state.running_pid(folder) is None


def test_a_broken_record_is_one_clear_error(folder: state.StateFolder) -> None:
    folder.record_file.write_text("{")
    with pytest.raises(InferwayError) as caught:
        folder.read()
    assert caught.value.code == "INFERWAY0101"
    assert f"rm {folder.record_file}" in caught.value.fix


# Above what stacks on this machine reach in practice, so that they do not meet.
FIRST = 240


def test_stacks_never_share_a_network(folder: state.StateFolder) -> None:
    with (
        state.claimed_network(folder, FIRST) as first,
        state.claimed_network(folder, FIRST) as second,
    ):
        assert first != second


def test_a_network_in_use_is_passed_over(folder: state.StateFolder) -> None:
    with socket.socket() as taken:
        taken.bind((f"127.{FIRST}.0.1", state.API_PORT))
        with state.claimed_network(folder, FIRST) as network:
            assert network != f"127.{FIRST}"


def test_a_stack_keeps_its_network_or_says_who_has_it(folder: state.StateFolder) -> None:
    own = f"127.{FIRST + 10}"
    folder.write(state.StackRecord(network=own))
    with state.claimed_network(folder) as network:
        assert network == own
    with socket.socket() as taken:
        taken.bind((f"{own}.0.1", state.API_PORT))
        with pytest.raises(InferwayError, match="in use") as caught:
            state.claimed_network(folder).__enter__()
    assert caught.value.code == "INFERWAY0105"


def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as caught:
        state.open_folder(str(tmp_path / "file" / "s"), {}, create=True)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["stack.json", "lock"])
def test_a_state_file_that_is_a_folder_is_one_clear_error(
    folder: state.StateFolder, name: str
) -> None:
    (folder.root / name).mkdir()
    with pytest.raises(InferwayError) as caught, state.held(folder):
        state.own_record(folder, "127.99", empty=True)
    assert caught.value.code == "INFERWAY0114"
    assert name in caught.value.about


def test_a_state_below_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InferwayError) as caught:
        state.running_pid(state.open_folder(str(tmp_path / "file"), {}, create=False))
    assert caught.value.code == "INFERWAY0114"


def test_a_record_with_a_strange_network_is_a_broken_record(folder: state.StateFolder) -> None:
    folder.record_file.write_text('{"network": "kaputt"}')
    with pytest.raises(InferwayError) as caught:
        folder.read()
    assert caught.value.code == "INFERWAY0101"


def test_an_empty_state_is_no_wish_for_the_default() -> None:
    with pytest.raises(UsageError) as caught:
        state.open_folder("", {}, create=False)
    assert caught.value.code == "INFERWAY0115"

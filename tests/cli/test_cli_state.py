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


def test_networks_in_use_are_passed_over_and_the_own_one_is_remembered(
    folder: state.StateFolder,
) -> None:
    first = state.claim_network(folder)
    with socket.socket() as taken:
        taken.bind((f"{first}.0.1", state.API_PORT))
        taken.listen()
        assert state.claim_network(folder) != first
        folder.write(state.StackRecord(network=first))
        with pytest.raises(InferwayError, match="in use") as caught:
            state.claim_network(folder)
    assert caught.value.code == "INFERWAY0105"
    assert state.claim_network(folder) == first


def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as caught:
        state.open_folder(str(tmp_path / "file" / "s"), {}, create=True)
    assert caught.value.exit_code == 2

"""One stack's folder: where it is, who holds it, what is remembered in it.

Knows files and locks; starts nothing.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from inferway.base.errors import InferwayError, UsageError

API_PORT = 6443
KUBELET_PORT = 10250
FIRST_NETWORK = 77
# 127.77 to 127.254: more stacks than a machine can carry.
LAST_NETWORK = 254


class EngineNote(msgspec.Struct, frozen=True, rename="camel"):
    """What stands for images of vLLM, and why; what ``status`` says of it."""

    name: str = "simulator"
    why: str = ""
    version: str = ""
    models: dict[str, str] = {}
    """Names and the folders that answer for them."""


class StackRecord(msgspec.Struct, frozen=True, rename="camel"):
    """What a stack remembers of itself between starts (``stack.json``)."""

    network: Annotated[str, msgspec.Meta(pattern=r"^127\.[0-9]{1,3}$")]
    """The first two bytes of its loopback addresses, such as ``127.77``."""
    pid: int = 0
    start_time: str = ""
    """Field 22 of /proc/PID/stat: with the pid it names one process for ever."""
    empty: bool = False
    engine: EngineNote = EngineNote()


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Paths under one stack's folder."""

    root: Path

    @property
    def record_file(self) -> Path:
        return self.root / "stack.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "lock"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def api(self) -> Path:
        return self.root / "api"

    @property
    def node(self) -> Path:
        return self.root / "node"

    @property
    def engine(self) -> Path:
        return self.root / "engine"

    @property
    def log_file(self) -> Path:
        return self.root / "stack.log"

    def read(self) -> StackRecord | None:
        """The record, or None when no stack was ever started here."""
        try:
            return msgspec.json.decode(self.record_file.read_bytes(), type=StackRecord)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unusable(self.record_file, error) from None
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise InferwayError(
                "INFERWAY0101",
                f"the record of this stack cannot be read: {error}",
                about=str(self.record_file),
                fix=f"Remove it and start again: rm {self.record_file}; objects are kept.",
            ) from None

    def write(self, record: StackRecord) -> None:
        """Replaces the record in one step."""
        temporary = self.record_file.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
            temporary.replace(self.record_file)
        except OSError as error:
            raise unusable(self.record_file, error) from None


def unusable(path: Path, error: OSError) -> InferwayError:
    """What to tell of a file of the state that cannot be read or written."""
    return InferwayError(
        "INFERWAY0114",
        f"the state cannot be used: {error.strerror}",
        about=str(path),
        fix="Make room or mend its permissions, or name another state: --state DIR",
    )


def default_root(env: Mapping[str, str]) -> Path:
    """``$XDG_STATE_HOME/inferway``, by default ~/.local/state/inferway."""
    home = env.get("XDG_STATE_HOME") or str(
        Path(env.get("HOME") or "~").expanduser() / ".local/state"
    )
    return Path(home) / "inferway"


def open_folder(state: str | None, env: Mapping[str, str], *, create: bool) -> StateFolder:
    """The folder that ``--state`` names, or the user's own."""
    if state == "":
        raise UsageError(
            "INFERWAY0115",
            "--state is empty",
            fix="Name a folder, or leave --state out for your own stack.",
        )
    root = Path(state).expanduser().absolute() if state else default_root(env)
    folder = StateFolder(root)
    if create:
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(
                "INFERWAY0102",
                f"the state folder cannot be made: {error.strerror}",
                about=str(root),
                fix="Name another one: inferway up --state DIR",
            ) from None
    return folder


@contextmanager
def held(folder: StateFolder) -> Iterator[None]:
    """Holds the stack's lock while the block runs. Raises when another ``up`` holds it."""
    try:
        file = folder.lock_file.open("a+")
    except OSError as error:
        raise unusable(folder.lock_file, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            record = folder.read()
            pid = f" (process {record.pid})" if record and record.pid else ""
            raise InferwayError(
                "INFERWAY0103",
                f"a stack is already running from this state{pid}",
                about=str(folder.root),
                fix="See it with `inferway status`, end it with `inferway down`, or start a second "
                "one beside it with `inferway up --state OTHER_DIR`.",
            ) from None
        yield


def process_start_time(pid: int) -> str:
    """Field 22 of /proc/PID/stat, or an empty text when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def running_pid(folder: StateFolder) -> int | None:
    """The process of the stack that runs from this folder, if one does."""
    record = folder.read()
    if record is None or not record.pid:
        return None
    return record.pid if process_start_time(record.pid) == record.start_time else None


@contextmanager
def claimed_network(folder: StateFolder, first: int = FIRST_NETWORK) -> Iterator[str]:
    """Holds the stack's /16, as ``127.N``: the remembered one, else the first that is free.

    The claim is an abstract socket named after the network: two stacks that start in one moment,
    whoever's they are, never take the same one, and a killed stack leaves no claim behind.
    """
    record = folder.read()
    candidates = (
        [record.network] if record else [f"127.{n}" for n in range(first, LAST_NETWORK + 1)]
    )
    for network in candidates:
        with socket.socket(socket.AF_UNIX) as claim:
            if _is_free(network, claim):
                yield network
                return
    if record:
        raise InferwayError(
            "INFERWAY0105",
            f"the address {record.network}.0.1:{API_PORT} of this stack is in use",
            about=str(folder.root),
            fix=f"End the program that listens there (ss -ltnp 'sport = :{API_PORT}' names it), or "
            f"let the stack choose new addresses: rm {folder.record_file}",
        )
    raise InferwayError(
        "INFERWAY0105",
        f"port {API_PORT} is in use on all of 127.{first} to 127.{LAST_NETWORK}",
        fix=f"End the programs that listen there: ss -ltnp 'sport = :{API_PORT}'",
    )


def _is_free(network: str, claim: socket.socket) -> bool:
    try:
        claim.bind(f"\0inferway-network-{network}")
    except OSError:
        return False
    for address, port in ((f"{network}.0.1", API_PORT), (f"{network}.0.2", KUBELET_PORT)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def own_record(
    folder: StateFolder, network: str, *, empty: bool, engine: EngineNote | None = None
) -> StackRecord:
    """Records this process as the one that runs the stack."""
    pid = os.getpid()
    record = StackRecord(
        network=network,
        pid=pid,
        start_time=process_start_time(pid),
        empty=empty,
        engine=engine or EngineNote(),
    )
    folder.write(record)
    return record

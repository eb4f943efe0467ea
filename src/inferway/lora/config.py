"""The document that says which adapters a server must and must not have.

``parse`` is pure: text in, ``Parsed`` out, or an InferwayError that names the place. Unknown keys
and contradictions are warnings, because a typo must not take working adapters away.
"""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from inferway.lora.errors import invalid

# A ConfigMap holds at most 1 MiB in all.
CONFIG_BYTES_MAX = 1024 * 1024
ROOT = "vLLMLoRAConfig"
HOST_DEFAULT = "localhost"
PORT_DEFAULT = 8000

_ROOT_KEYS = frozenset(
    {"host", "port", "name", "defaultBaseModel", "ensureExist", "ensureNotExist"}
)
_LIST_KEYS = frozenset({"models"})
_MODEL_KEYS = frozenset({"id", "source", "base-model"})


class Adapter(msgspec.Struct, frozen=True):
    """An adapter that must be loaded."""

    id: str
    source: str
    base_model: str = ""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted. No id is in both lists."""

    host: str = HOST_DEFAULT
    port: int = PORT_DEFAULT
    name: str = ""
    wanted: tuple[Adapter, ...] = ()
    unwanted: tuple[str, ...] = ()


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
    _unknown(root, frozenset({ROOT}), "document", warnings)
    _unknown(body, _ROOT_KEYS, ROOT, warnings)
    default_base = _string(body, "defaultBaseModel", ROOT)
    wanted = _wanted(body, default_base, warnings)
    unwanted = _unwanted(body, warnings)
    both = sorted(wanted.keys() & unwanted)
    warnings += [
        f"adapter {name} is in ensureExist and in ensureNotExist and is left alone" for name in both
    ]
    config = Config(
        host=_string(body, "host", ROOT) or HOST_DEFAULT,
        port=_port(body.get("port")),
        name=_string(body, "name", ROOT),
        wanted=tuple(adapter for name, adapter in wanted.items() if name not in unwanted),
        unwanted=tuple(name for name in unwanted if name not in wanted),
    )
    return Parsed(config, tuple(warnings))


def _load(text: str) -> Any:
    if len(text) > CONFIG_BYTES_MAX:
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


def _unknown(value: dict[str, Any], known: frozenset[str], where: str, warnings: list[str]) -> None:
    warnings += [f"unknown key {key} in {where} is ignored" for key in value if key not in known]


def _string(value: dict[str, Any], key: str, where: str) -> str:
    found = value.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise invalid(f"{where}.{key}", f"must be a text, not {_kind(found)}")
    return found.strip()


def _port(value: Any) -> int:
    if value is None:
        return PORT_DEFAULT
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65_535:
        raise invalid(f"{ROOT}.port", f"must be a port from 1 to 65535, not {_kind(value)}")
    return value


def _models(
    body: dict[str, Any], key: str, warnings: list[str]
) -> list[tuple[str, dict[str, Any]]]:
    """(place, entry) of each model in one of the two lists."""
    where = f"{ROOT}.{key}"
    if body.get(key) is None:
        return []
    section = _mapping(body[key], where)
    _unknown(section, _LIST_KEYS, where, warnings)
    models = section.get("models")
    if models is None:
        return []
    if not isinstance(models, list):
        raise invalid(f"{where}.models", f"must be a list, not {_kind(models)}")
    entries = []
    for index, item in enumerate(models):
        place = f"{where}.models[{index}]"
        entry = _mapping(item, place)
        _unknown(entry, _MODEL_KEYS, place, warnings)
        if not _string(entry, "id", place):
            raise invalid(f"{place}.id", "is required")
        entries.append((place, entry))
    return entries


def _wanted(body: dict[str, Any], default_base: str, warnings: list[str]) -> dict[str, Adapter]:
    wanted: dict[str, Adapter] = {}
    for place, entry in _models(body, "ensureExist", warnings):
        name = _string(entry, "id", place)
        source = _string(entry, "source", place)
        if not source:
            raise invalid(f"{place}.source", "is required")
        if name in wanted:
            warnings.append(f"adapter {name} is twice in ensureExist; the last entry counts")
        base = _string(entry, "base-model", place) or default_base
        wanted[name] = Adapter(name, source, base)
    return wanted


def _unwanted(body: dict[str, Any], warnings: list[str]) -> dict[str, None]:
    return dict.fromkeys(
        _string(entry, "id", place) for place, entry in _models(body, "ensureNotExist", warnings)
    )

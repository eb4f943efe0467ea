"""The questions of the contract in testdata/*.in.yaml, and the recorded answers beside them.

A question names its method and path (``post: PATH`` or ``get: PATH`` for short) and its body as
``json``, ``raw`` text or ``hex``. ``tokens``, ``words`` and ``chat_words`` make prompts that are
too long to write down.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).parent / "testdata"


@dataclass(frozen=True, slots=True)
class Case:
    """One request of a group. ``headers`` without a value are left out of the request."""

    name: str
    method: str
    path: str
    body: bytes | None
    headers: dict[str, str] = field(default_factory=dict)
    exact: bool = False
    status_only: bool = False


def groups() -> list[str]:
    return sorted(path.name.removesuffix(".in.yaml") for path in DATA.glob("*.in.yaml"))


@functools.lru_cache
def cases(group: str, adapters: str = "") -> dict[str, Case]:
    """The questions of a group by name, in order. ``adapters`` is the folder of adapters."""
    raw = yaml.safe_load((DATA / f"{group}.in.yaml").read_text().replace("{adapters}", adapters))
    found = [_case(item) for item in raw]
    names = [case.name for case in found]
    assert len(set(names)) == len(names), "two cases have one name"
    return dict(zip(names, found, strict=True))


def _case(item: dict[str, Any]) -> Case:
    method, path = item.get("method", ""), item.get("path", "")
    for short in ("get", "post"):
        if short in item:
            method, path = short.upper(), item[short]
    body = _body(item)
    headers = {} if body is None else {"Content-Type": "application/json"}
    headers |= item.get("headers", {})
    return Case(
        name=item["name"],
        method=method,
        path=path,
        body=body,
        headers={name: value for name, value in headers.items() if value is not None},
        exact=item.get("exact", False),
        status_only=item.get("status_only", False),
    )


def _body(item: dict[str, Any]) -> bytes | None:
    if "raw" in item:
        return str(item["raw"]).encode()
    if "hex" in item:
        return bytes.fromhex(item["hex"])
    if "json" not in item:
        return None
    value = item["json"]
    if "tokens" in item:
        value = {**value, "prompt": [5] * item["tokens"]}
    if "words" in item:
        value = {**value, "prompt": "word " * item["words"]}
    if "chat_words" in item:
        content = "word " * item["chat_words"]
        value = {**value, "messages": [{"role": "user", "content": content}]}
    return json.dumps(value).encode()


@functools.lru_cache
def answers(group: str) -> dict[str, Any]:
    """What the real vLLM answered, by name of the question."""
    path = DATA / f"{group}.out.yaml"
    return yaml.safe_load(path.read_text()) or {} if path.exists() else {}


class _Dumper(yaml.SafeDumper):
    """Blocks without anchors, so that every answer can be read alone."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def text_of(value: Any) -> str:
    """An answer as text, in which the order of fields counts."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def write_answers(group: str, found: dict[str, Any]) -> None:
    """Records what a real vLLM answers."""
    (DATA / f"{group}.out.yaml").write_text(text_of(found))

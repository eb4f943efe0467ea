"""Descriptions of built-in fields for ``kubectl explain``.

Source: the docstrings of the installed package lightkube-models, which carry Kubernetes' own
texts. Its modules are read and never run, because running them needs a package that we do not
have. Without the package there are no descriptions.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_PARAMETERS = "**parameters**"
_FIELD = re.compile(r"^\* \*\*(?P<name>\w+)\*\* ``[^`]*``(?: - (?P<text>.*))?$")
# io.k8s.api.core.v1.Pod, io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta: group, version, kind.
_DEFINITION = re.compile(r"\.(?P<group>[a-z0-9]+)\.(?P<version>v[0-9][a-z0-9]*)\.(?P<kind>\w+)$")


@dataclass(frozen=True, slots=True)
class Description:
    """The text of a definition and the texts of its fields."""

    text: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


NOTHING = Description()


class Descriptions:
    """Descriptions by definition name; a module is read when it is asked for first."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)
        self._modules: dict[str, Mapping[str, Description]] = {}

    @classmethod
    def installed(cls) -> Self:
        """Those of the installed package."""
        spec = importlib.util.find_spec("lightkube")
        places = spec.submodule_search_locations if spec is not None else None
        return cls(Path(place) / "models" for place in places or ())

    def of(self, definition: str) -> Description:
        """The description of a definition such as ``io.k8s.api.core.v1.Pod``."""
        match = _DEFINITION.search(definition)
        if match is None:
            return NOTHING
        module = f"{match['group']}_{match['version']}"
        if module not in self._modules:
            self._modules[module] = self._read(module)
        return self._modules[module].get(match["kind"], NOTHING)

    def _read(self, module: str) -> Mapping[str, Description]:
        for folder in self._folders:
            try:
                tree = ast.parse((folder / f"{module}.py").read_text(encoding="utf-8"))
            except (OSError, SyntaxError, ValueError):
                continue
            return {
                node.name: parse(ast.get_docstring(node) or "")
                for node in tree.body
                if isinstance(node, ast.ClassDef)
            }
        return {}


def parse(docstring: str) -> Description:
    """The texts of a docstring with a list of parameters."""
    head, _, tail = docstring.partition(_PARAMETERS)
    fields: dict[str, list[str]] = {}
    current: list[str] = []
    for line in tail.splitlines():
        stripped = line.strip()
        match = _FIELD.match(stripped)
        if match is not None:
            # Names that are words of Python carry an underscore there.
            current = fields.setdefault(match["name"].rstrip("_"), [])
            stripped = match["text"] or ""
        current.append(stripped)
    return Description(_joined(head.splitlines()), {k: _joined(v) for k, v in fields.items()})


def _joined(lines: Iterable[str]) -> str:
    """Wrapped lines as paragraphs."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(line.strip() for line in lines).strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)

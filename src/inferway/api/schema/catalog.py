"""The schemas of Kubernetes' built-in kinds, made when they are asked for.

Reads ``_gen/kubernetes.json``, which tools/generate_kubernetes_schema.py writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any, Self

from inferway.api.schema.load import build, load_schema
from inferway.api.schema.model import FREE_FORM, Schema

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_KIND = "x-kubernetes-group-version-kind"


class Catalog:
    """Definitions by name, and kinds by group, version and kind."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self.definitions = definitions
        self._made: dict[str, Schema] = {}
        self._kinds = {
            (kind["group"], kind["version"], kind["kind"]): name
            for name, raw in definitions.items()
            for kind in raw.get(_KIND, ())
        }

    @classmethod
    def load(cls) -> Self:
        """The catalogue of the installed package."""
        file = resources.files("inferway.api") / "_gen" / "kubernetes.json"
        return cls(json.loads(file.read_text())["definitions"])

    def definition(self, name: str) -> Schema:
        """A definition; free form if the catalogue does not have it."""
        if name in self._made:
            return self._made[name]
        raw = self.definitions.get(name)
        if raw is None:
            return FREE_FORM
        # Entered before its fields are made, because definitions refer to themselves.
        properties: dict[str, Schema] = {}
        schema = build(raw, properties, self.definition, name)
        self._made[name] = schema
        for field, inner in raw.get("properties", {}).items():
            properties[field] = load_schema(inner, self.definition)
        return schema

    def name_of(self, group: str, version: str, kind: str) -> str | None:
        """The definition's name of a kind."""
        return self._kinds.get((group, version, kind))

    def kind(self, group: str, version: str, kind: str) -> Schema | None:
        """The schema of a built-in kind; None if the catalogue does not have it."""
        name = self.name_of(group, version, kind)
        return None if name is None else self.definition(name)

    @property
    def object_meta(self) -> Schema:
        return self.definition(OBJECT_META)

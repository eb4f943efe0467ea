"""YAML (or JSON) of a configuration -> document, and where each part of it stands.

Parts are known by their path, ``plugins[2].type``; places are line and column from 1, as editors
count.
"""

from __future__ import annotations

from typing import Any

import yaml

# A configuration has some hundred values. Aliases can make one of a few bytes that has billions.
NODES_MAX = 20_000
DEPTH_MAX = 50
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class ConfigTextError(Exception):
    """The text is not a document; the message says where and why."""


class _Walk:
    """One document on its way from nodes to values."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader = loader
        self.places: dict[str, tuple[int, int]] = {}
        self._nodes = 0

    def value(self, node: yaml.Node, path: str, depth: int = 0) -> Any:
        """The value of a node. Raises ConfigTextError."""
        self._nodes += 1
        if self._nodes > NODES_MAX or depth > DEPTH_MAX:
            raise ConfigTextError(f"{_at(node)}: there are too many values, or too deep ones")
        self.places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
            raise ConfigTextError(f"{_at(node)}: the tag {node.tag!r} has no meaning here")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(one, f"{path}[{index}]", depth + 1)
                for index, one in enumerate(node.value)
            ]
        return self._loader.construct_object(node, deep=True)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        own = {id(key) for key, _ in node.value}
        seen = set()
        self._loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            key = self._loader.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise ConfigTextError(f"{_at(key_node)}: a key must be text")
            # What was merged in may be said again; what is written here may not.
            if id(key_node) in own and key in seen:
                raise ConfigTextError(f"{_at(key_node)}: {key!r} is given twice")
            if id(key_node) in own:
                seen.add(key)
            where = f"{path}.{key}" if path else str(key)
            found[key] = self.value(value_node, where, depth + 1)
            self.places[where] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        return found


def _at(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"


def parse(text: str) -> tuple[Any, dict[str, tuple[int, int]]]:
    """The document, None if there is none, and the places. Raises ConfigTextError."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, {}
            walk = _Walk(loader)
            return walk.value(node, ""), walk.places
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise ConfigTextError(what) from None

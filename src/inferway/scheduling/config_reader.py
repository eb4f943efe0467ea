"""Reading a configuration document: every mistake with its place, none of them fatal by itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from inferway.scheduling.plugins.types import REQUIRED, Parameter, Parameters

# A path in the document, such as ``plugins[2].type``, and where it stands: line and column from 1.
Places = Mapping[str, tuple[int, int]]

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "a mapping",
    list: "a list",
}


class Reader:
    """Collects what is wrong with a document, and what is worth knowing about it."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._problems: list[tuple[tuple[int, int], str]] = []
        self.notes: list[str] = []

    @property
    def problems(self) -> list[str]:
        """In the order of the document."""
        return [text for _, text in sorted(self._problems, key=lambda found: found[0])]

    @property
    def count(self) -> int:
        """How many things are wrong so far."""
        return len(self._problems)

    def problem(self, place: str, what: str) -> None:
        """Something is wrong at a place of the document."""
        position = self._position(place)
        where = f"line {position[0]}, column {position[1]}: " if position else ""
        self._problems.append((position or (0, 0), f"{where}{place or 'document'}: {what}"))

    def note(self, place: str, what: str) -> None:
        """Something is taken otherwise than one might think."""
        self.notes.append(f"{place}: {what}")

    def _position(self, place: str) -> tuple[int, int] | None:
        """Where a path stands; what is not written stands where it would have to be."""
        while place not in self._places:
            cut = max(place.rfind("."), place.rfind("["))
            if cut <= 0:
                return self._places.get("")
            place = place[:cut]
        return self._places[place]

    def keys(self, place: str, value: Any, known: Iterable[str]) -> dict[str, Any]:
        """The mapping at a place, its unknown keys reported."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problem(place, "must be a mapping")
            return {}
        known = list(known)
        for key in value:
            if key not in known:
                where = f"{place}.{key}" if place else str(key)
                self.problem(where, unknown("field", str(key), known))
        return value

    def items(self, place: str, value: Any) -> list[Any]:
        """The list at a place."""
        if value is None:
            return []
        if not isinstance(value, list):
            self.problem(place, "must be a list")
            return []
        return value

    def text(self, place: str, value: Any) -> str:
        """The text at a place; empty if it is missing, which is reported."""
        if isinstance(value, str) and value:
            return value
        self.problem(place, "is missing" if value in (None, "") else "must be text")
        return ""

    def values(self, place: str, fields: Mapping[str, Parameter], value: Any) -> Parameters:
        """Checked values by name, with defaults filled in."""
        given = self.keys(place, value, fields)
        return {
            name: self.value(f"{place}.{name}", field, given.get(name))
            for name, field in fields.items()
        }

    def value(self, place: str, parameter: Parameter, raw: Any) -> Any:
        """One checked value."""
        if raw is None:
            if parameter.default is REQUIRED:
                self.problem(place, "is missing")
                return _nothing(parameter)
            raw = parameter.default
            if raw is None:
                return None
        what = _mismatch(parameter, raw)
        if what:
            self.problem(place, what)
            return _nothing(parameter)
        if parameter.fields is not None:
            return self.values(place, parameter.fields, raw)
        if parameter.items is not None:
            raw = [
                self.value(f"{place}[{index}]", parameter.items, one)
                for index, one in enumerate(raw)
            ]
        if parameter.convert is not None:
            try:
                raw = parameter.convert(raw)
            except ValueError as error:
                self.problem(place, str(error))
                return _nothing(parameter)
        elif parameter.type is float:
            raw = float(raw)
        what = parameter.check(raw)
        if what:
            self.problem(place, what)
        return raw

    def misfit(self, place: str, error: ValueError) -> None:
        """What a plugin can not be made of; the error may begin with the parameter's path."""
        path, colon, what = str(error).partition(": ")
        if colon and " " not in path:
            self.problem(f"{place}.{path}", what)
        else:
            self.problem(place, str(error))


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not known, with the nearest one that is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown {what} {name!r}{hint}"


def _mismatch(parameter: Parameter, value: Any) -> str:
    wanted: tuple[type, ...] = (parameter.type,)
    if parameter.type is float:
        wanted = (int, float)
    if not isinstance(value, wanted) or (isinstance(value, bool) and parameter.type is not bool):
        return f"must be {_WORDS[parameter.type]}, not {value!r}"
    return ""


def _nothing(parameter: Parameter) -> Any:
    """A stand-in for a value that is wrong; what is made of it is never used."""
    if parameter.fields is not None:
        return {name: _nothing(field) for name, field in parameter.fields.items()}
    return parameter.type()

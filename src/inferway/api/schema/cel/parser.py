"""Expressions from text: a lexer by regular expression and a parser by descent.

Raises UnsupportedError for what it can not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from inferway.api.schema.cel.tree import (
    Binary,
    Call,
    Choice,
    Index,
    ListOf,
    Literal,
    Macro,
    MapOf,
    Name,
    Node,
    Select,
    Unary,
    UnsupportedError,
)

# Published rules nest less than ten deep; a hostile one must not exhaust the stack.
DEPTH_MAX = 40
# Expressions are parsed once; user-made CRDs have tens of them.
EXPRESSIONS_KEPT_MAX = 1024

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
  | (?P<string>[rR]?(?:'''.*?'''|\"\"\".*?\"\"\"
      |'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))
  | (?P<number>0x[0-9a-fA-F]+u?|\d+\.\d+(?:[eE][-+]?\d+)?|\d+(?:[eE][-+]?\d+)|\d+u?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_LEVELS = (
    ("||",),
    ("&&",),
    ("==", "!=", "<", "<=", ">", ">=", "in"),
    ("+", "-"),
    ("*", "/", "%"),
)
_MACROS = {"all": 2, "exists": 2, "exists_one": 2, "filter": 2, "map": 2}
_CONSTANTS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


@lru_cache(maxsize=EXPRESSIONS_KEPT_MAX)
def parse(text: str) -> Node:
    """The tree of an expression."""
    parser = _Parser(_tokens(text))
    node = parser.expression()
    parser.finish()
    return node


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise UnsupportedError(f"unexpected {text[position]!r}")
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup, match[0]))
        position = match.end()
    return [*tokens, _Token("end", "")]


def _unquoted(text: str) -> str:
    raw = text[0] in "rR"
    body = text[1:] if raw else text
    width = 3 if body[:3] in ("'''", '"""') else 1
    body = body[width:-width]
    return body if raw else _ESCAPE.sub(_unescaped, body)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _ESCAPED.get(match[3], match[3])


class _Parser:
    """Reads tokens from left to right."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, text: str) -> bool:
        if self._next.text == text and self._next.kind in ("sign", "name"):
            self._place += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise UnsupportedError(f"expected {text!r} before {self._next.text!r}")

    def _word(self) -> str:
        token = self._next
        if token.kind != "name":
            raise UnsupportedError(f"expected a name before {token.text!r}")
        self._place += 1
        return token.text

    def finish(self) -> None:
        if self._next.kind != "end":
            raise UnsupportedError(f"unexpected {self._next.text!r}")

    def expression(self) -> Node:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise UnsupportedError("nested too deeply")
        node = self._binary(0)
        if self._take("?"):
            yes = self.expression()
            self._expect(":")
            node = Choice(node, yes, self.expression())
        self._depth -= 1
        return node

    def _binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        node = self._binary(level + 1)
        while self._next.text in _LEVELS[level] and self._next.kind in ("sign", "name"):
            operator = self._next.text
            self._place += 1
            node = Binary(operator, node, self._binary(level + 1))
        return node

    def _unary(self) -> Node:
        signs = []
        while self._next.kind == "sign" and self._next.text in ("!", "-"):
            signs.append(self._next.text)
            self._place += 1
        node = self._member(self._primary())
        for sign in reversed(signs):
            node = Unary(sign, node)
        return node

    def _member(self, node: Node) -> Node:
        while True:
            if self._take("."):
                name = self._word()
                node = self._method(node, name) if self._take("(") else Select(node, _plain(name))
            elif self._take("["):
                node = Index(node, self.expression())
                self._expect("]")
            else:
                return node

    def _method(self, operand: Node, name: str) -> Node:
        arguments = self._arguments(")")
        if name in _MACROS and len(arguments) >= _MACROS[name]:
            *variables, body = arguments
            bodies: tuple[Node, ...] = (body,)
            if name == "map" and len(variables) == 2:
                variables, bodies = variables[:1], (variables[1], body)
            if not all(isinstance(variable, Name) for variable in variables):
                raise UnsupportedError(f"{name} takes a name first")
            named = tuple(v.name for v in variables if isinstance(v, Name))
            return Macro(name, operand, named, bodies)
        return Call(name, arguments, operand)

    def _arguments(self, end: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._take(end):
            items.append(self.expression())
            if not self._take(","):
                self._expect(end)
                break
        return tuple(items)

    def _primary(self) -> Node:
        token = self._next
        if self._take("("):
            node = self.expression()
            self._expect(")")
            return node
        if self._take("["):
            return ListOf(self._arguments("]"))
        if self._take("{"):
            return self._map()
        self._place += 1
        if token.kind == "string":
            return Literal(_unquoted(token.text))
        if token.kind == "number":
            return Literal(_number(token.text))
        if token.kind != "name":
            raise UnsupportedError(f"unexpected {token.text!r}")
        if token.text in _CONSTANTS:
            return Literal(_CONSTANTS[token.text])
        if self._take("("):
            return self._function(token.text)
        return Name(token.text)

    def _function(self, name: str) -> Node:
        arguments = self._arguments(")")
        if name == "has":
            if len(arguments) != 1 or not isinstance(arguments[0], Select):
                raise UnsupportedError("has takes a field")
            return Select(arguments[0].operand, arguments[0].field, test=True)
        return Call(name, arguments)

    def _map(self) -> Node:
        entries = []
        while not self._take("}"):
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression()))
            if not self._take(","):
                self._expect("}")
                break
        return MapOf(tuple(entries))


def _number(text: str) -> int | float:
    digits = text.removesuffix("u")
    if digits.startswith("0x"):
        return int(digits, 16)
    return float(digits) if re.search(r"[.eE]", digits) else int(digits)


def _plain(name: str) -> str:
    """A field whose name is a word of the language is written between underscores."""
    match = re.fullmatch(r"__([a-z]+)__", name)
    return match[1] if match else name

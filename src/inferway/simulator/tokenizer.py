"""Text to tokens and back, about four characters a token, without a vocabulary.

A token is at most six bytes: up to six letters of a word with the blank before it counted in, one
digit, or a few marks. Its id is those bytes read as a number, so that every server and every test
computes the same ids, ids stay below 2**49 (exact in JSON), and any id can be turned back to text.
Special tokens have ids above the byte range.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_SPECIALS = ("\0", "<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SPECIAL_BASE = 1 << 48
_PIECES = re.compile(
    r"\0|<\|(?:endoftext|im_start|im_end)\|>"
    r"| [A-Za-z]{1,5}|[A-Za-z]{1,6}|[0-9]| ?[!-/:-@\[-`{-~]{1,3}|[ \t]{1,4}|[\r\n]{1,4}|[\s\S]"
)
# Ids are below it: pieces, then specials.
VOCABULARY_SIZE = _SPECIAL_BASE + len(_SPECIALS)
# The longest piece is a special token; a text cannot have fewer tokens than this tells.
PIECE_CHARACTERS_MAX = max(map(len, _SPECIALS))
# Texts whose tokens are remembered, because system prompts come again and again. Together with
# the limit on their length this is at most some 30 MB.
_REMEMBERED_TEXTS = 256
REMEMBERED_CHARACTERS_MAX = 32_768
# Entries of the table of known pieces; English prose uses some ten thousand.
_REMEMBERED_PIECES_MAX = 200_000


class _Vocabulary(dict[str, int]):
    """Ids of pieces, computed when they are first met."""

    def __missing__(self, piece: str) -> int:
        if piece in _SPECIALS:
            number = _SPECIAL_BASE + _SPECIALS.index(piece)
        else:
            number = int.from_bytes(piece.encode("utf-8", "surrogatepass"), "big")
        if len(self) < _REMEMBERED_PIECES_MAX:
            self[piece] = number
        return number


_VOCABULARY = _Vocabulary()


def pieces(text: str) -> list[str]:
    """The text cut into tokens; joined they are the text."""
    return _PIECES.findall(text)


def encode(text: str) -> tuple[int, ...]:
    """Token ids of a text."""
    return _remembered(text) if len(text) <= REMEMBERED_CHARACTERS_MAX else _encode(text)


@lru_cache(maxsize=_REMEMBERED_TEXTS)
def _remembered(text: str) -> tuple[int, ...]:
    return _encode(text)


def _encode(text: str) -> tuple[int, ...]:
    return tuple(map(_VOCABULARY.__getitem__, _PIECES.findall(text)))


def piece_id(piece: str) -> int:
    """The id of one piece."""
    return _VOCABULARY[piece]


def decode_one(token: int) -> str:
    """The text of one token; unknown bytes become replacement characters."""
    if token >= _SPECIAL_BASE:
        index = token - _SPECIAL_BASE
        return _SPECIALS[index] if index < len(_SPECIALS) else "\N{REPLACEMENT CHARACTER}"
    raw = token.to_bytes(max((token.bit_length() + 7) // 8, 1), "big")
    return raw.decode("utf-8", "replace")


def decode(tokens: Iterable[int]) -> str:
    """The text of token ids."""
    return "".join(map(decode_one, tokens))

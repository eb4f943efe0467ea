"""Reads token usage out of an answer on its way, JSON or event stream. Keeps a bounded rest.

Understands the ``usage`` objects of OpenAI's completions and responses and of Anthropic's messages.
"""

from __future__ import annotations

import re

import msgspec

# A usage object beyond this is none; vLLM's with all details has about 300 bytes.
USAGE_BYTES_MAX = 1024
# A number beyond this is no number of tokens.
TOKENS_MAX = 1 << 31

_KEY = b'"usage"'
_OPENS = re.compile(rb'"usage"[ \t\r\n]*:[ \t\r\n]*(\{)?')
_BRACE = re.compile(rb"[{}]")
# How much of the key, the colon and blanks may stand at the end of a piece.
_KEY_BYTES_MAX = 32


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None


_decode = msgspec.json.Decoder(_Usage).decode


class UsageReader:
    """One answer. Counts are those told last; None means that nothing was told."""

    def __init__(self) -> None:
        self.prompt: int | None = None
        self.completion: int | None = None
        self.cached: int | None = None
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """The next bytes of the answer."""
        data = self._rest + piece if self._rest else piece
        at = data.find(_KEY)
        if at < 0:
            self._rest = data[1 - len(_KEY) :]
            return
        while at >= 0:
            after = self._at(data, at)
            if after is None:
                # It goes on in the next piece.
                self._rest = data[at:]
                return
            at = data.find(_KEY, after)
            if at < 0:
                self._rest = data[max(after, len(data) - len(_KEY) + 1) :]

    def _at(self, data: bytes, at: int) -> int | None:
        """Reads the key's value; where to look further, None if that needs more bytes."""
        match = _OPENS.match(data, at)
        if match is None or match[1] is None:
            ends = len(data) if match is None else match.end()
            if ends == len(data) and len(data) - at < _KEY_BYTES_MAX and _unfinished(data[at:]):
                return None
            return at + len(_KEY)
        begin = match.start(1)
        end = _end(data, begin)
        if end is None:
            return None if len(data) - begin < USAGE_BYTES_MAX else begin + 1
        self._take(data[begin:end])
        return end

    def _take(self, text: bytes) -> None:
        try:
            found = _decode(text)
        except (msgspec.DecodeError, RecursionError):
            return
        details = found.prompt_tokens_details or found.input_tokens_details
        cached = details.cached_tokens if details is not None else found.cache_read_input_tokens
        prompt = _first(found.prompt_tokens, found.input_tokens)
        if prompt is not None and found.cache_read_input_tokens is not None and details is None:
            # Anthropic counts what was read from the cache beside the input.
            prompt += _first(found.cache_read_input_tokens) or 0
        self.prompt = _first(prompt, self.prompt)
        self.completion = _first(found.completion_tokens, found.output_tokens, self.completion)
        self.cached = _first(cached, self.cached)


def _unfinished(text: bytes) -> bool:
    """Whether a value may follow in the next piece."""
    return text[len(_KEY) :].strip(b" \t\r\n") in (b"", b":")


def _first(*counts: int | None) -> int | None:
    return next((n for n in counts if n is not None and 0 <= n < TOKENS_MAX), None)


def _end(data: bytes, begin: int) -> int | None:
    """Behind the object that begins there; braces in strings do not occur in what is read here."""
    depth = 0
    for brace in _BRACE.finditer(data, begin, begin + USAGE_BYTES_MAX):
        depth += 1 if brace[0] == b"{" else -1
        if depth == 0:
            return brace.end()
    return None

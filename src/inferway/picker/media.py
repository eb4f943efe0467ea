"""Pictures, sound and films in a chat's content parts: how many bytes and tokens they stand for.

They lie in the raw messages as base64 or as addresses, so the prefix hash has them anyway. Here is
what the token estimate needs, found by looking for the braces of parts and without decoding the
JSON. The estimates are those of llm-d: a picture has a token per 1024 pixels and is 640 x 360 where
its size is not known, a film has two such pictures each second.
"""

from __future__ import annotations

import binascii
import re
from struct import unpack_from
from typing import NamedTuple

# Braces that are looked at; a request with more is estimated by these.
BRACES_MAX = 1024
# Brackets before the first array of parts that are looked at, before it is searched by name.
ARRAYS_MAX = 32
PIXELS_PER_TOKEN = 1024
PICTURE_PIXELS = 640 * 360
# Nobody's model takes a longer side; a forged head must not count for the whole pool.
SIDE_PIXELS_MAX = 16_384
FILM_SECONDS = 10.0
FILM_PICTURES_PER_SECOND = 2.0
FILM_TOKENS = FILM_SECONDS * FILM_PICTURES_PER_SECOND * PICTURE_PIXELS / PIXELS_PER_TOKEN
# Whisper-like encoders make 25 tokens of a second; sound is mostly 16 kHz with 16 bits.
SOUND_TOKENS_PER_SECOND = 25.0
SOUND_BYTES_PER_SECOND = 32_000
SOUND_SECONDS = 10.0
SOUND_SECONDS_MAX = 3600.0
# So much of a picture has its size in nearly every file; base64 makes four of three bytes.
PICTURE_HEAD_BYTES = 6 * 1024
# What a part is called before its content begins is shorter than this.
PART_HEAD_BYTES = 256

_CONTENT_ARRAY = re.compile(rb'"content"[ \t\r\n]*:[ \t\r\n]*\Z')
_CONTENT = b'"content"'
_CONTENT_BYTES = 24
# The type of a part or, where a client sorts its keys, the name of its content.
_PART = re.compile(
    rb'\{[ \t\r\n]*"(?:type"[ \t\r\n]*:[ \t\r\n]*")?(?:input_)?'
    rb'(image|audio|video|file|document|source)(?:_url|_embeds)?"'
)
_DATA = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*"')
_INLINE = b";base64,"


class Media(NamedTuple):
    """Bytes of the prompt that are no text, and tokens of all parts that are no text."""

    bytes: int = 0
    tokens: float = 0.0


NO_MEDIA = Media()


def media_of(body: bytes, key: bytes = b'"messages"') -> Media:
    """What a chat's body has besides text, from where ``key`` stands.

    A body whose messages have plain texts only costs little more than a search for one byte.
    """
    at = _first_part(body, body.find(key))
    size, tokens = 0, 0.0
    for _ in range(BRACES_MAX):
        at = body.find(b"{", at) if at >= 0 else -1
        if at < 0:
            break
        part = _PART.match(body, at)
        if part is None:
            at += 1
            continue
        begin, end = _payload(body, part.end())
        size += end - begin
        tokens += _tokens(part[1], body, begin, end)
        at = end
    return Media(size, tokens) if tokens else NO_MEDIA


def _first_part(body: bytes, at: int) -> int:
    """Where the first array of content parts behind ``at`` begins, or -1 if there is none."""
    for _ in range(ARRAYS_MAX):
        at = body.find(b"[", at + 1)
        if at < 0:
            return -1
        near = max(0, at - _CONTENT_BYTES)
        if body.find(_CONTENT, near, at) >= 0 and _CONTENT_ARRAY.search(body, near, at):
            return at
    # Much text with brackets: look for what every part has.
    return body.rfind(b"{", 0, max(0, body.find(b'"type"', at)))


def _payload(body: bytes, at: int) -> tuple[int, int]:
    """Begin and end of the base64 of a part whose head begins at ``at``; empty if it has none."""
    begin = body.find(_INLINE, at, at + PART_HEAD_BYTES)
    if begin >= 0:
        begin += len(_INLINE)
    else:
        value = _DATA.search(body, at, at + PART_HEAD_BYTES)
        if value is None:
            return at, at
        begin = value.end()
    end = body.find(b'"', begin)
    return begin, end if end >= 0 else len(body)


def _tokens(kind: bytes, body: bytes, begin: int, end: int) -> float:
    if kind == b"video":
        return FILM_TOKENS
    if kind == b"audio":
        seconds = (end - begin) * 0.75 / SOUND_BYTES_PER_SECOND if end > begin else SOUND_SECONDS
        return min(seconds, SOUND_SECONDS_MAX) * SOUND_TOKENS_PER_SECOND
    pixels = picture_pixels(body[begin : min(end, begin + PICTURE_HEAD_BYTES)])
    return (pixels or PICTURE_PIXELS) / PIXELS_PER_TOKEN


def picture_pixels(text: bytes) -> int:
    """Pixels of a picture (PNG, GIF, JPEG) from its base64, or 0 if that is not seen."""
    try:
        data = binascii.a2b_base64(text[: PICTURE_HEAD_BYTES // 4 * 4])
    except binascii.Error:
        return 0
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        width, height = unpack_from(">II", data, 16)
    elif data.startswith((b"GIF87a", b"GIF89a")) and len(data) >= 10:
        width, height = unpack_from("<HH", data, 6)
    elif data.startswith(b"\xff\xd8"):
        height, width = _jpeg_size(data)
    else:
        return 0
    return int(min(width, SIDE_PIXELS_MAX) * min(height, SIDE_PIXELS_MAX))


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width from the frame header, the first segment of type C0 to CF with a size."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = unpack_from(">HH", data, at + 5)
            return height, width
        at += 2 + int(unpack_from(">H", data, at + 2)[0])
    return 0, 0

"""Pictures, sound and films in a chat's content parts: how many bytes and tokens they stand for.

They lie in the raw messages as base64 or as addresses, so the prefix hash has them anyway. Here
is what the token estimate needs, found by looking for keys and without decoding the JSON. The
estimates are those of llm-d: a picture has a token per 1024 pixels and is 640 x 360 where its size
is not known, a film has two such pictures each second.
"""

from __future__ import annotations

import binascii
import re
from struct import unpack_from
from typing import NamedTuple

# Parts that are looked at; a request with more is estimated by these.
PARTS_MAX = 256
# Arrays in a chat that are looked at before all of it is searched for parts.
ARRAYS_MAX = 32
PIXELS_PER_TOKEN = 1024
PICTURE_PIXELS = 640 * 360
FILM_SECONDS = 10.0
FILM_PICTURES_PER_SECOND = 2.0
FILM_TOKENS = FILM_SECONDS * FILM_PICTURES_PER_SECOND * PICTURE_PIXELS / PIXELS_PER_TOKEN
# Whisper-like encoders make 25 tokens of a second; sound is mostly 16 kHz with 16 bits.
SOUND_TOKENS_PER_SECOND = 25.0
SOUND_BYTES_PER_SECOND = 32_000
SOUND_SECONDS = 10.0
# So much of a picture has its size in nearly every file; base64 makes four of three bytes.
PICTURE_HEAD_BYTES = 6 * 1024
# A text under the key "data" that is shorter than this is no picture.
DATA_BYTES_MIN = 64

_CONTENT_ARRAY = re.compile(rb'"content"[ \t\r\n]*:[ \t\r\n]*\Z')
_TYPE = b'"type"'
_PART = re.compile(
    rb'[ \t\r\n]*:[ \t\r\n]*"(?:input_)?(image|audio|video)(?:_url|_embeds)?"', re.DOTALL
)
_DATA = b'"data"'
_DATA_VALUE = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*"')
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
    if at < 0:
        return NO_MEDIA
    pictures = sounds = films = 0
    for _ in range(PARTS_MAX):
        at = body.find(_TYPE, at)
        if at < 0:
            break
        at += len(_TYPE)
        part = _PART.match(body, at)
        if part is None:
            continue
        kind = part[1]
        if kind == b"image":
            pictures += 1
        elif kind == b"audio":
            sounds += 1
        else:
            films += 1
    if not (pictures or sounds or films):
        return NO_MEDIA
    inline = _inline(body)
    size = sum(end - begin for begin, end in inline)
    tokens = films * FILM_TOKENS
    # In what order the parts came is not known, so the first payloads count as pictures.
    sized = [found for begin, end in inline if (found := picture_pixels(body[begin:end]))]
    unsized = max(0, pictures - len(sized))
    pixels = sum(sized[:pictures]) + unsized * PICTURE_PIXELS
    tokens += pixels / PIXELS_PER_TOKEN
    if sounds:
        heard = [end - begin for begin, end in inline if not picture_pixels(body[begin:end])]
        seconds = [min(one * 0.75 / SOUND_BYTES_PER_SECOND, 3600.0) for one in heard[:sounds]]
        seconds += [SOUND_SECONDS] * (sounds - len(seconds))
        tokens += sum(seconds) * SOUND_TOKENS_PER_SECOND
    return Media(size, tokens)


def _first_part(body: bytes, at: int) -> int:
    """Where the first array of content parts behind ``at`` begins, or -1 if there is none."""
    for _ in range(ARRAYS_MAX):
        at = body.find(b"[", at + 1)
        if at < 0:
            return -1
        if body.rfind(b'"content"', max(0, at - 24), at) >= 0 and _CONTENT_ARRAY.search(
            body, max(0, at - 24), at
        ):
            return at
    # Much text with brackets: look for what every part has.
    return body.find(_TYPE, at)


def _inline(body: bytes) -> list[tuple[int, int]]:
    """Begin and end of what is inside the body as base64."""
    found: list[tuple[int, int]] = []
    at = 0
    while len(found) < PARTS_MAX:
        at = body.find(_INLINE, at)
        if at < 0:
            break
        begin = at + len(_INLINE)
        at = body.find(b'"', begin)
        if at < 0:
            break
        found.append((begin, at))
    at = 0
    while len(found) < PARTS_MAX:
        at = body.find(_DATA, at)
        if at < 0:
            break
        at += len(_DATA)
        value = _DATA_VALUE.match(body, at)
        if value is None:
            continue
        end = body.find(b'"', value.end())
        if end < 0:
            break
        if end - value.end() >= DATA_BYTES_MIN and not body.startswith(b"data:", value.end()):
            found.append((value.end(), end))
        at = end
    return found


def picture_pixels(text: bytes) -> int:
    """Pixels of a picture (PNG, GIF, JPEG) from its base64, or 0 if that is not seen."""
    head = text[: PICTURE_HEAD_BYTES // 4 * 4]
    try:
        data = binascii.a2b_base64(head)
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
    # Nobody's model takes a side of more; a forged head must not count for the whole pool.
    return int(min(width, 16_384) * min(height, 16_384))


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

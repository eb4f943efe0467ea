"""What is not text in a chat: found in any form, never in text, bounded."""

from __future__ import annotations

import json
from base64 import b64encode
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.media import (
    ARRAYS_MAX,
    FILM_TOKENS,
    NO_MEDIA,
    PICTURE_PIXELS,
    PIXELS_PER_TOKEN,
    SOUND_SECONDS,
    SOUND_TOKENS_PER_SECOND,
    media_of,
    picture_pixels,
)

PICTURE_TOKENS = PICTURE_PIXELS / PIXELS_PER_TOKEN
PNG = b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + pack(">II", 1024, 512) + b"\0" * 300).decode()
GIF = b64encode(b"GIF89a" + pack("<HH", 64, 32) + b"\0" * 90).decode()
JPEG = b64encode(
    b"\xff\xd8\xff\xe0" + pack(">H", 16) + b"J" * 14 + b"\xff\xc0" + pack(">HBHH", 17, 8, 48, 96)
    + b"\0" * 99
).decode()  # fmt: skip
SOUND = b64encode(b"\1" * 64_000).decode()


def chat(*parts: Any, **more: Any) -> bytes:
    messages = [{"role": "system", "content": "[be] good"}, {"role": "user", "content": parts}]
    return json.dumps({"model": "m", "messages": messages, **more}).encode()


def url(kind: str, value: str) -> dict[str, Any]:
    return {"type": kind, kind: {"url": value}}


TEXT = {"type": "text", "text": "what is it?"}


@pytest.mark.parametrize(
    ("parts", "size", "tokens"),
    [
        ([TEXT], 0, 0.0),
        ([TEXT, url("image_url", "https://example.com/a.png")], 0, PICTURE_TOKENS),
        ([url("image_url", f"data:image/png;base64,{PNG}"), TEXT], len(PNG), 512.0),
        ([{"image_url": {"url": f"data:image/png;base64,{PNG}"}, "type": "image_url"}],
         len(PNG), 512.0),
        ([{"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": GIF}}],
         len(GIF), 2.0),
        ([url("image_url", f"data:image/jpeg;base64,{JPEG}")], len(JPEG), 4.5),
        ([{"type": "input_image", "image_url": "https://example.com/a"}], 0, PICTURE_TOKENS),
        ([{"type": "document", "source": {"type": "base64", "data": SOUND}}], len(SOUND),
         PICTURE_TOKENS),
        ([url("video_url", "https://example.com/a.mp4")], 0, FILM_TOKENS),
        ([{"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}}],
         len(SOUND), len(SOUND) * 0.75 / 32_000 * SOUND_TOKENS_PER_SECOND),
        ([url("audio_url", "https://example.com/a.wav")], 0,
         SOUND_SECONDS * SOUND_TOKENS_PER_SECOND),
        ([url("image_url", "https://a/b"), url("image_url", "https://a/c")], 0, 2 * PICTURE_TOKENS),
    ],
)  # fmt: skip
def test_parts(parts: list[Any], size: int, tokens: float) -> None:
    found = media_of(chat(*parts))
    assert found.bytes == size
    assert found.tokens == pytest.approx(tokens)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        json.dumps({"messages": [{"role": "user", "content": 'a "type": "image_url" b'}]}).encode(),
        json.dumps(
            {"messages": [{"role": "user", "content": "[1] [2] [3]" * ARRAYS_MAX}]}
        ).encode(),
        json.dumps({"tools": [{"type": "image"}], "messages": [{"content": "x"}]}).encode(),
        chat({"type": "text", "text": 'see {"a": "image"} and {"imagery": 1}'}),
        chat(TEXT, tools=[{"type": "function", "enum": ["image"]}]),
    ],
)
def test_text_alone_is_no_media(body: bytes) -> None:
    assert media_of(body) == NO_MEDIA


def test_parts_behind_much_text_with_brackets_are_found() -> None:
    text = {"role": "user", "content": "[1] " * 2 * ARRAYS_MAX}
    picture = {"role": "user", "content": [url("image_url", "https://a/b")]}
    body = json.dumps({"messages": [text, picture]}).encode()
    assert media_of(body).tokens == PICTURE_TOKENS


def test_a_forged_size_counts_as_a_large_picture_at_most() -> None:
    forged = b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\xff" * 8 + b"\0" * 90)
    assert picture_pixels(forged) == 16_384**2


@pytest.mark.fuzz
@given(st.binary(max_size=300))
def test_no_picture_raises(data: bytes) -> None:
    assert picture_pixels(data) >= 0
    assert picture_pixels(b64encode(b"\xff\xd8" + data)) >= 0
    assert media_of(b'{"messages":[{"content":[{"type":"image","data":"' + data).tokens >= 0

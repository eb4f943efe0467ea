"""Adapters from archives, buckets and web servers into the store."""

from __future__ import annotations

import asyncio
import hashlib
import io
import struct
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import msgspec
import pytest
from aiohttp import web

from inferway.lora import fetch, folder
from inferway.lora.buckets import Bucket, BucketError, open_bucket
from inferway.lora.fetch import UNDER_WAY, Fetching, prepare, tidy
from inferway.lora.messages import Prepare
from inferway.lora.reasons import Problem, Reason
from inferway.lora.source import Adapter, Kind, kind_of, served_path, shown

DEADLINE_SECONDS = 10.0


def weights(width: int = 128) -> bytes:
    """A safetensors file with one projection of rank 1."""
    tensor = {"dtype": "F32", "shape": [1, width], "data_offsets": [0, 4 * width]}
    head = msgspec.json.encode({"base.layers.0.q_proj.lora_A.weight": tensor})
    return struct.pack("<Q", len(head)) + head + b"\0" * (4 * width)


CONFIG = b'{"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}'
GOOD = {"adapter_config.json": CONFIG, "adapter_model.safetensors": weights()}


def packed(files: dict[str, bytes], inside: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(inside + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


class MemoryBucket:
    """What fsspec's file systems have, over a dict."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    def find(self, path: str) -> list[str]:
        return [name for name in self.objects if name.startswith(path + "/")]

    def open(self, path: str, mode: str) -> IO[bytes]:
        if path not in self.objects:
            raise FileNotFoundError(path)
        return io.BytesIO(self.objects[path])


def options(bucket: Bucket | None = None, bytes_max: int = 1_000_000) -> Fetching:
    def opener(scheme: str) -> Bucket:
        assert bucket is not None
        return bucket

    return Fetching(open_bucket=opener, bytes_max=bytes_max, seconds_max=DEADLINE_SECONDS)


async def fetched(
    store: Path, source: str, how: Fetching, checksum: str = ""
) -> tuple[Problem | None, Path]:
    adapter = Adapter("food", source, checksum=checksum)
    path = served_path(adapter, str(store))
    async with fetch.session() as http:
        problem = await prepare(Prepare(adapter, path), http, how)
    leftovers = [p.name for p in store.iterdir() if p.name.startswith(UNDER_WAY)]
    assert leftovers == []
    return problem, Path(path)


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], object],
) -> AsyncIterator[str]:
    """A web server; yields its address."""
    server = web.Server(handler)  # type: ignore[arg-type]
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("inside", ["", "./", "food/", "a/b/"])
async def test_an_archive_of_a_web_server_is_in_the_store_at_once(
    tmp_path: Path, inside: str
) -> None:
    body = packed(GOOD, inside)
    asked = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        return web.Response(body=body)

    checksum = "sha256:" + hashlib.sha256(body).hexdigest()
    async with serving(answer) as url:
        problem, path = await fetched(tmp_path, url + "/a?key=1", options(), checksum)
        assert problem is None
        assert {p.name: p.read_bytes() for p in path.iterdir()} == GOOD
        assert path.stat().st_mode & 0o777 == 0o755
        # What is there is not fetched again.
        assert (await fetched(tmp_path, url + "/a?key=1", options(), checksum))[0] is None
    assert asked == ["/a"]


async def test_redirects_are_followed_and_endless_ones_given_up(tmp_path: Path) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path == "/there":
            return web.Response(body=packed(GOOD))
        place = "/there" if request.path == "/once" else "/again"
        return web.Response(status=302, headers={"Location": place})

    async with serving(answer) as url:
        assert (await fetched(tmp_path, url + "/once", options()))[0] is None
        problem, _ = await fetched(tmp_path, url + "/again", options())
    assert problem is not None
    assert problem.reason is Reason.FETCH_FAILED


@pytest.mark.parametrize(
    ("status", "body", "checksum", "reason", "words"),
    [
        (404, b"", "", Reason.SOURCE_NOT_FOUND, "there is nothing at http"),
        (503, b"", "", Reason.FETCH_FAILED, "answers status 503"),
        (200, b"<html>", "", Reason.BAD_ARCHIVE, "cannot be unpacked"),
        (200, packed(GOOD), "sha256:" + "0" * 64, Reason.CHECKSUM_MISMATCH, "its archive is"),
        (200, packed({"other": b"x"}), "", Reason.BROKEN_ADAPTER, "no adapter_config.json"),
        (200, b"x" * 2_000_000, "", Reason.BAD_ARCHIVE, "more than 1000000 bytes"),
        (200, packed({"../evil": b"x"}), "", Reason.BAD_ARCHIVE, "leads outside"),
    ],
    ids=["gone", "down", "html", "checksum", "no-adapter", "large", "outside"],
)  # fmt: skip
async def test_what_is_wrong_is_a_problem_and_leaves_nothing(
    tmp_path: Path, status: int, body: bytes, checksum: str, reason: Reason, words: str
) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, body=body)

    store = tmp_path / "store"
    store.mkdir()
    async with serving(answer) as url:
        problem, path = await fetched(store, url + "/a?secret=1", options(), checksum)
    assert problem is not None
    assert problem.reason is reason
    assert words in problem.what
    assert "secret" not in problem.what
    assert not path.exists()
    assert list(tmp_path.iterdir()) == [store]


async def test_a_source_that_stands_still_is_given_up(tmp_path: Path) -> None:
    stop = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.Response:
        await stop.wait()
        return web.Response()

    async with serving(answer) as url:
        how = Fetching(open_bucket=open_bucket, seconds_max=0.05)
        problem, _ = await fetched(tmp_path, url, how)
        stop.set()
    assert problem is not None
    assert "did not come in time" in problem.what


async def test_a_server_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response()

    async with serving(answer) as url:
        pass
    problem, _ = await fetched(tmp_path, url + "/a.zip?key=1", options())
    assert problem is not None
    assert problem.reason is Reason.FETCH_FAILED
    assert "key" not in problem.what


async def test_a_store_that_cannot_be_written_says_what_to_mount(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    adapter = Adapter("food", "https://example.com/a.zip")
    path = served_path(adapter, str(tmp_path / "file" / "store"))
    async with fetch.session() as http:
        problem = await prepare(Prepare(adapter, path), http, options())
    assert problem is not None
    assert problem.reason is Reason.STORE_NOT_WRITABLE


async def test_archives_on_disk_are_unpacked_and_stay(tmp_path: Path) -> None:
    archive = tmp_path / "food.tar.gz"
    archive.write_bytes(packed(GOOD))
    store = tmp_path / "store"
    store.mkdir()
    for source in (str(archive), f"file://{archive}"):
        assert (await fetched(store, source, options()))[0] is None
    assert archive.exists()
    problem, _ = await fetched(store, str(tmp_path / "gone.tgz"), options())
    assert problem is not None
    assert problem.reason is Reason.SOURCE_NOT_FOUND


async def test_buckets_hold_archives_and_folders(tmp_path: Path) -> None:
    objects = {f"bucket/food/{name}": content for name, content in GOOD.items()}
    bucket = MemoryBucket({**objects, "bucket/food.tar.gz": packed(GOOD), "bucket/foodish": b""})
    for source in ("s3://bucket/food", "gs://bucket/food/", "s3://bucket/food.tar.gz"):
        problem, path = await fetched(tmp_path, source, options(bucket))
        assert problem is None
        assert {p.name: p.read_bytes() for p in path.iterdir()} == GOOD


@pytest.mark.parametrize(
    ("source", "objects", "reason"),
    [
        ("s3://bucket/gone", {}, Reason.SOURCE_NOT_FOUND),
        ("s3://bucket/gone.zip", {}, Reason.SOURCE_NOT_FOUND),
        ("s3://bucket/big", {"bucket/big/a": b"x" * 2_000_000}, Reason.BAD_ARCHIVE),
        ("s3://bucket/evil", {"bucket/evil/../../a": b"x"}, Reason.BAD_ARCHIVE),
        ("s3://bucket/half", {"bucket/half/adapter_config.json": CONFIG}, Reason.BROKEN_ADAPTER),
    ],
)
async def test_what_is_wrong_in_a_bucket_is_a_problem(
    tmp_path: Path, source: str, objects: dict[str, bytes], reason: Reason
) -> None:
    problem, path = await fetched(tmp_path, source, options(MemoryBucket(objects)))
    assert problem is not None
    assert problem.reason is reason
    assert not path.exists()


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(BucketError) as caught:
        open_bucket("s3")
    assert caught.value.reason is Reason.EXTRA_NOT_INSTALLED


def test_folders_that_nobody_wants_are_removed(tmp_path: Path) -> None:
    for name in ("kept", "old", UNDER_WAY + "1"):
        (tmp_path / name).mkdir()
    keep = frozenset({str(tmp_path / "kept")})
    assert tidy(tmp_path, keep, busy=True) == ["old"]
    assert tidy(tmp_path, keep, busy=False) == [UNDER_WAY + "1"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert tidy(tmp_path / "none", keep, busy=False) == []


@pytest.mark.parametrize(
    ("files", "base", "reason", "words"),
    [
        (GOOD, {"hidden_size": 128}, None, ""),
        (GOOD, {"hidden_size": 64}, Reason.WRONG_BASE_MODEL, "width 128, the server's has 64"),
        (GOOD, None, None, ""),
        (GOOD, [], None, ""),
        ({}, None, Reason.BROKEN_ADAPTER, "no adapter_config.json"),
        ({"adapter_config.json": CONFIG}, None, Reason.BROKEN_ADAPTER, "has no adapter_model"),
        ({**GOOD, "adapter_config.json": b"{"}, None, Reason.BROKEN_ADAPTER, "not a JSON object"),
        ({**GOOD, "adapter_config.json": b"{}"}, None, Reason.BROKEN_ADAPTER, "lacks r, lora_al"),
        ({**GOOD, "adapter_config.json": CONFIG.replace(b"8", b"0")}, None,
         Reason.BROKEN_ADAPTER, "rank r 0"),
        ({**GOOD, "adapter_model.safetensors": weights()[:-1]}, None,
         Reason.BROKEN_ADAPTER, "cut off"),
        ({**GOOD, "adapter_model.safetensors": b"x"}, None, Reason.BROKEN_ADAPTER, "cut off"),
    ],
)  # fmt: skip
def test_folders_are_looked_through(
    tmp_path: Path, files: dict[str, bytes], base: object, reason: Reason | None, words: str
) -> None:
    adapter, model = tmp_path / "adapter", tmp_path / "model"
    adapter.mkdir()
    model.mkdir()
    for name, content in files.items():
        (adapter / name).write_bytes(content)
    if base is not None:
        (model / "config.json").write_bytes(msgspec.json.encode(base))
    problem = folder.check(adapter, str(model))
    assert (problem.reason if problem else None) is reason
    assert words in (problem.what if problem else "")


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("org/name", Kind.SERVER),
        ("there", Kind.SERVER),
        ("hf://org/name", Kind.SERVER),
        ("./here", Kind.SERVER),
        ("/models/food", Kind.FOLDER),
        ("~/food", Kind.FOLDER),
        ("file:///models/food", Kind.FOLDER),
        ("/models/food.tar.gz", Kind.FILE),
        ("file:///models/food.zip", Kind.FILE),
        ("https://example.com/a", Kind.HTTP),
        ("HTTP://example.com/a", Kind.HTTP),
        ("s3://bucket/a", Kind.BUCKET),
        ("gs://bucket/a.tgz", Kind.BUCKET),
    ],
)
def test_kinds_of_sources(source: str, kind: Kind) -> None:
    assert kind_of(source) is kind


def test_each_source_has_a_folder_of_its_own() -> None:
    one = Adapter("a/../b", "https://example.com/1.zip")
    two = msgspec.structs.replace(one, source="https://example.com/2.zip")
    three = msgspec.structs.replace(one, checksum="sha256:" + "0" * 64)
    paths = {served_path(adapter, "/store") for adapter in (one, two, three)}
    assert len(paths) == 3
    assert all(Path(path).parent == Path("/store") and ".." not in path for path in paths)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("org/name", "org/name"),
        ("https://user:pw@host/a.zip?sig=1", "https://host/a.zip?..."),
        ("https://[broken/a?sig=1", "https://[broken/a"),
    ],
)
def test_secrets_in_addresses_are_not_shown(source: str, text: str) -> None:
    assert shown(source) == text

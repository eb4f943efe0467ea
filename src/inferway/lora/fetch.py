"""Brings an adapter from an archive or a bucket into the store.

An adapter appears in the store at once or not at all: it is fetched and unpacked beside its place,
looked through, and renamed. Whatever goes wrong is a Problem. Knows HTTP, files and fsspec; does
not know the server.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec

from inferway.lora import folder
from inferway.lora.buckets import Bucket, BucketError, copy
from inferway.lora.messages import Prepare
from inferway.lora.reasons import TEXT_CHARACTERS_MAX, Problem, Reason
from inferway.lora.source import Adapter, Kind, is_archive, plain_path, shown
from inferway.lora.threads import beside
from inferway.lora.unpack import ArchiveError, Limits, Stopped, unpack

# Adapters of the largest models at high ranks stay under 4 GiB.
ADAPTER_BYTES_MAX = 8 * 1024**3
# That much over a slow line; a source that stands still is given up much earlier.
FETCH_SECONDS_MAX = 1800.0
CONNECT_SECONDS_MAX = 15.0
SILENCE_SECONDS_MAX = 60.0
REDIRECTS_MAX = 5
PIECE_BYTES = 1024 * 1024
# Folders under way; whatever bears this name at start was left by a syncer that was killed.
UNDER_WAY = ".fetch-"


class FetchError(Exception):
    """Carries a Problem."""

    def __init__(self, reason: Reason, what: str) -> None:
        self.problem = Problem(reason, what[:TEXT_CHARACTERS_MAX])
        super().__init__(what)


class Fetching(msgspec.Struct, frozen=True):
    """``open_bucket`` gives the file system of a scheme. Raises BucketError."""

    open_bucket: Callable[[str], Bucket]
    bytes_max: int = ADAPTER_BYTES_MAX
    seconds_max: float = FETCH_SECONDS_MAX


def session() -> aiohttp.ClientSession:
    """For archives: through the proxies of the environment, and bytes as they are stored."""
    timeout = aiohttp.ClientTimeout(
        total=None, connect=CONNECT_SECONDS_MAX, sock_read=SILENCE_SECONDS_MAX
    )
    return aiohttp.ClientSession(
        trust_env=True,
        auto_decompress=False,
        timeout=timeout,
        headers={"Accept-Encoding": "identity", "User-Agent": "inferway-lora-syncer"},
    )


async def prepare(
    command: Prepare, http: aiohttp.ClientSession, options: Fetching
) -> Problem | None:
    """Makes the folder of an adapter; None when it is there and can be loaded."""
    place = Path(command.path)
    if place.is_dir() and folder.check(place) is None:
        return None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=UNDER_WAY, dir=place.parent))
    except OSError as error:
        what = f"the folder {place.parent} cannot be written: {error.strerror or error}"
        return Problem(Reason.STORE_NOT_WRITABLE, what)
    try:
        async with asyncio.timeout(options.seconds_max):
            files = await _files(command.adapter, work, http, options)
        await beside(lambda _: _put(files, place, work), "lora-put")
    except FetchError as error:
        return error.problem
    except BucketError as error:
        return Problem(error.reason, str(error)[:TEXT_CHARACTERS_MAX])
    except ArchiveError as error:
        return Problem(Reason.BAD_ARCHIVE, f"{shown(command.adapter.source)}: {error}")
    except TimeoutError:
        what = f"{shown(command.adapter.source)} did not come in time"
        return Problem(Reason.FETCH_FAILED, what)
    except OSError as error:
        return Problem(Reason.STORE_NOT_WRITABLE, f"{place.parent}: {error.strerror or error}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return None


async def _files(
    adapter: Adapter, work: Path, http: aiohttp.ClientSession, options: Fetching
) -> Path:
    """The folder with the adapter's files, somewhere under ``work``. Raises FetchError and more."""
    source = adapter.source
    into = work / "files"
    into.mkdir(mode=0o755)
    archive = work / "archive"
    kind = adapter.kind
    if kind is Kind.HTTP:
        await _download(source, archive, http, options.bytes_max)
    elif kind is Kind.FILE:
        archive = Path(plain_path(source)).expanduser()
        if not archive.is_file():
            raise FetchError(Reason.SOURCE_NOT_FOUND, f"there is no file {archive}")
    else:
        assert kind is Kind.BUCKET
        target = archive if is_archive(source) else into
        await beside(
            lambda stopped: copy(source, target, options.open_bucket, _limits(options, stopped)),
            "lora-bucket",
        )
        if target is into:
            return into
    if adapter.checksum:
        await beside(lambda stopped: _verify(archive, adapter.checksum, stopped), "lora-checksum")
    await beside(lambda stopped: unpack(archive, into, _limits(options, stopped)), "lora-unpack")
    return into


def _limits(options: Fetching, stopped: Callable[[], bool]) -> Limits:
    return Limits(options.bytes_max, stopped)


async def _download(
    source: str, archive: Path, http: aiohttp.ClientSession, bytes_max: int
) -> None:
    size = 0
    try:
        async with http.get(source, max_redirects=REDIRECTS_MAX) as response:
            if response.status in (404, 410):
                raise FetchError(Reason.SOURCE_NOT_FOUND, f"there is nothing at {shown(source)}")
            if response.status != 200:
                what = f"{shown(source)} answers status {response.status}"
                raise FetchError(Reason.FETCH_FAILED, what)
            with archive.open("xb") as file:
                async for piece in response.content.iter_chunked(PIECE_BYTES):
                    size += len(piece)
                    if size > bytes_max:
                        raise ArchiveError(f"it has more than {bytes_max} bytes")
                    file.write(piece)
    except (aiohttp.ClientError, ValueError) as error:
        # Messages of the client may repeat the address, and with it what signs it.
        text = str(error).replace(source, shown(source)) or type(error).__name__
        raise FetchError(Reason.FETCH_FAILED, f"{shown(source)}: {text}") from None


def _verify(archive: Path, checksum: str, stopped: Callable[[], bool]) -> None:
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            if stopped():
                raise Stopped
            digest.update(piece)
    found = f"sha256:{digest.hexdigest()}"
    if found != checksum:
        raise FetchError(Reason.CHECKSUM_MISMATCH, f"its archive is {found}, not {checksum}")


def _put(files: Path, place: Path, work: Path) -> None:
    """Renames the adapter's folder to its place. Blocking."""
    found = _adapter_folder(files)
    problem = folder.check(found)
    if problem is not None:
        what = problem.what.replace(str(found), "the archive")
        raise FetchError(problem.reason, what)
    if place.exists():
        # What is there cannot be loaded, or it would have been left alone.
        place.rename(work / "old")
    found.chmod(0o755)
    found.rename(place)


def _adapter_folder(files: Path) -> Path:
    """Archives often hold one folder, which holds the adapter."""
    found = files
    for _ in range(3):
        inner = list(found.iterdir())
        if (found / folder.CONFIG_NAME).exists() or len(inner) != 1 or not inner[0].is_dir():
            break
        found = inner[0]
    return found


def tidy(store: Path, keep: frozenset[str], busy: bool) -> list[str]:
    """Removes folders that nobody wants; their names. ``busy``: fetches are under way. Blocking."""
    removed = []
    if not store.is_dir():
        return []
    for path in sorted(store.iterdir()):
        if str(path) in keep or (busy and path.name.startswith(UNDER_WAY)):
            continue
        shutil.rmtree(path, ignore_errors=True)
        removed.append(path.name)
    return removed

"""Archives from strangers."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.lora.unpack import ArchiveError, Limits, Stopped, unpack

LIMITS = Limits(bytes_max=10_000, stopped=lambda: False)
FILES = {"adapter_config.json": b"{}", "inner/weights.bin": b"w" * 3000}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


def tar(path: Path, mode: str, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, f"w:{mode}") as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def unpacked(archive: Path, into: Path, limits: Limits = LIMITS) -> dict[str, bytes]:
    into.mkdir()
    unpack(archive, into, limits)
    return {
        str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("mode", ["", "gz", "bz2", "xz"])
def test_tar_files_are_unpacked(tmp_path: Path, mode: str) -> None:
    archive = tar(tmp_path / "a", mode, *((member(n), c) for n, c in FILES.items()))
    assert unpacked(archive, tmp_path / "out") == FILES
    # Nothing is left beside them.
    assert {path.name for path in tmp_path.iterdir()} == {"a", "out"}


def test_zip_files_are_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("inner")
        for name, content in FILES.items():
            archive.writestr(name, content)
    assert unpacked(tmp_path / "a", tmp_path / "out") == FILES


def test_files_can_be_read_by_the_server_whatever_the_archive_says(tmp_path: Path) -> None:
    info = member("a")
    info.mode = 0o4000
    unpacked(tar(tmp_path / "a", "", (info, b"x")), tmp_path / "out")
    assert (tmp_path / "out" / "a").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize(
    ("info", "what"),
    [
        (member("../out2"), "leads outside"),
        (member("a/../../b"), "leads outside"),
        (member("/etc/passwd"), "leads outside"),
        (member("a\\b"), "leads outside"),
        (member("link", tarfile.SYMTYPE, "/etc/passwd"), "a link or a device"),
        (member("link", tarfile.LNKTYPE, "adapter_config.json"), "a link or a device"),
        (member("pipe", tarfile.FIFOTYPE), "a link or a device"),
        (member("disk", tarfile.BLKTYPE), "a link or a device"),
        (member("/".join("a" * 20)), "too deep"),
        (member("ok"), "twice"),
        (member("ok/inner"), "twice"),
    ],
)
def test_what_could_do_harm_is_refused(tmp_path: Path, info: tarfile.TarInfo, what: str) -> None:
    archive = tar(tmp_path / "a", "gz", (member("ok"), b"fine"), (info, b""))
    with pytest.raises(ArchiveError, match=what):
        unpacked(archive, tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]
    assert {path.name for path in tmp_path.iterdir()} == {"a", "out"}


def test_links_in_zip_files_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="a link or a device"):
        unpacked(tmp_path / "a", tmp_path / "out")


def test_a_small_archive_of_a_large_file_is_refused(tmp_path: Path) -> None:
    many = b"\0" * 200_000
    packed = tar(tmp_path / "a", "gz", (member("zeros"), many))
    assert packed.stat().st_size < 2000
    with pytest.raises(ArchiveError, match="more than 10000 bytes"):
        unpacked(packed, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "b", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", many)
    with pytest.raises(ArchiveError, match="more than 10000 bytes"):
        unpacked(tmp_path / "b", tmp_path / "out2")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = member("long", tarfile.XHDTYPE)
    info.size = 1 << 32
    (tmp_path / "a").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    with pytest.raises(ArchiveError, match="header"):
        unpacked(tmp_path / "a", tmp_path / "out")


def test_a_zip_directory_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 9, 9, 1 << 31, 0, 0)
    (tmp_path / "a").write_bytes(b"PK\x03\x04" + end)
    with pytest.raises(ArchiveError, match="members"):
        unpacked(tmp_path / "a", tmp_path / "out")


def test_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferway.lora.unpack.MEMBERS_MAX", 3)
    archive = tar(tmp_path / "a", "", *((member(f"f{i}"), b"") for i in range(5)))
    with pytest.raises(ArchiveError, match="more than 3 members"):
        unpacked(archive, tmp_path / "out")


def test_the_work_can_be_called_off(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a", "gz", (member("a"), b"x"))
    with pytest.raises(Stopped):
        unpacked(archive, tmp_path / "out", Limits(bytes_max=10_000, stopped=lambda: True))


@pytest.mark.parametrize(
    "cut", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"<html>" + raw]
)
@pytest.mark.parametrize("mode", ["", "gz", "bz2", "xz"])
def test_what_is_no_archive_is_refused(
    tmp_path: Path, mode: str, cut: Callable[[bytes], bytes]
) -> None:
    path = tar(tmp_path / "a", mode, (member("a"), bytes(range(256)) * 30))
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(ArchiveError, match="cannot be unpacked"):
        unpacked(path, tmp_path / "out")


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_damage_is_one_clear_error_or_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    mode = data.draw(st.sampled_from(["", "gz", "zip"]))
    path = folder / "a"
    if mode == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
    else:
        tar(path, mode, *((member(n), c) for n, c in FILES.items()))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw))
    with suppress(ArchiveError):
        unpacked(path, folder / "out")
    outside = {p.name for p in folder.iterdir()} - {"a", "out"}
    assert not outside

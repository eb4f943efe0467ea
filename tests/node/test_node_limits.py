"""Control groups on a stand-in of the cgroup file system, because few machines delegate them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inferway.api import codec
from inferway.api.pods import Container
from inferway.local.node.limits import Limits, detect_limits, limit_files


def container(**limits: Any) -> Container:
    return codec.decode(Container, {"name": "c", "resources": {"limits": limits}})


@pytest.mark.parametrize(
    ("limits", "files"),
    [
        ({}, {}),
        ({"memory": "64Mi"}, {"memory.max": "67108864", "memory.oom.group": "1"}),
        ({"cpu": "1500m"}, {"cpu.max": "150000 100000"}),
        ({"cpu": "1m"}, {"cpu.max": "1000 100000"}),
        ({"nvidia.com/gpu": "1"}, {}),
    ],
)
def test_what_is_written(limits: dict[str, Any], files: dict[str, str]) -> None:
    assert limit_files(container(**limits)) == files


def tree(folder: Path, *, offered: str = "cpu memory pids") -> tuple[Path, Path]:
    root = folder / "cgroup"
    (root / "app.slice/own.scope").mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory pids")
    (root / "app.slice/cgroup.subtree_control").write_text(offered)
    own = folder / "self"
    own.write_text("0::/app.slice/own.scope\n")
    return root, own


def test_a_group_for_each_container_and_none_afterwards(tmp_path: Path) -> None:
    limits = detect_limits(*tree(tmp_path))
    assert limits.annotation == "cgroup"
    assert limits.folder is not None
    assert limits.folder.parent == tmp_path / "cgroup/app.slice"
    procs = limits.group("u1", container(memory="1Ki"))
    group = limits.folder / "pod-u1/c"
    assert procs == str(group / "cgroup.procs")
    assert (group / "memory.max").read_text() == "1024"
    assert limits.group("u1", container()) == ""
    assert not limits.was_out_of_memory("u1", "c")
    (group / "memory.events").write_text("oom 1\noom_kill 1\n")
    assert limits.was_out_of_memory("u1", "c")


@pytest.mark.parametrize("case", ["no v2", "not delegated", "no own group"])
def test_why_there_are_no_limits(tmp_path: Path, case: str) -> None:
    root, own = tree(tmp_path, offered="pids" if case == "not delegated" else "cpu memory")
    if case == "no v2":
        (root / "cgroup.controllers").unlink()
    if case == "no own group":
        own.write_text("1:name=x:/\n")
    limits = detect_limits(root, own)
    assert limits.folder is None
    assert limits.annotation.startswith("none: ")
    assert limits.group("u", container(memory="1Gi")) == ""


def test_nothing_to_do_without_groups() -> None:
    limits = Limits(None, "reason")
    limits.remove("u")
    limits.close()
    assert not limits.was_out_of_memory("u", "c")

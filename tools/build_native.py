"""Compiles Envoy's native pick filter from ``native/`` with this machine's C compiler.

    python tools/build_native.py [FOLDER]

Called by the build of the package. Without a compiler it says so and succeeds: the filter makes the
gateway faster and nothing depends on it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "native"
FOLDER = ROOT / "src" / "inferway" / "_native"
LIBRARY = "libinferway_pick.so"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = (
    *("-std=gnu11", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"),
    # Only Envoy's hooks are to be seen from outside.
    *("-fPIC", "-pthread", "-shared", "-fvisibility=hidden"),
)
COMPILE_SECONDS_MAX = 120


def compiler(env: Mapping[str, str]) -> list[str]:
    """The words that start the compiler: ``CC``, or the first that is there; empty for none."""
    if env.get("CC"):
        return shlex.split(env["CC"])
    return next(([found] for name in COMPILERS if (found := shutil.which(name))), [])


def build(folder: Path, env: Mapping[str, str]) -> str:
    """Puts the library into ``folder``; what stood in the way, or nothing."""
    target = folder / LIBRARY
    target.unlink(missing_ok=True)
    if not sys.platform.startswith("linux"):
        return f"Envoy's native pick filter is for Linux, and this is {sys.platform}"
    words = compiler(env)
    if not words:
        return "no C compiler was found; on Debian: apt-get install gcc libc6-dev"
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(source) for source in SOURCES.glob("*.c"))
    try:
        done = subprocess.run(
            [*words, *FLAGS, "-o", str(target), *sources],
            capture_output=True,
            text=True,
            timeout=COMPILE_SECONDS_MAX,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the C compiler does not run: {error}"
    if done.returncode:
        target.unlink(missing_ok=True)
        return f"the C compiler refused native/: {done.stderr.strip()}"
    return ""


def main(argv: list[str]) -> int:
    """Says what it did."""
    problem = build(Path(argv[0]) if argv else FOLDER, os.environ)
    if problem:
        print(f"Inferway is built without its native pick filter: {problem}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

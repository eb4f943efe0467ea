"""Compiles the modules that every request passes with mypyc, which is mypy and a C compiler.

    python tools/build_compiled.py

Called by the build of the package, and by make when a source may have changed. Where it can not be
done it says so and succeeds, because nothing depends on compiled modules but speed; only without
mypyc it fails, for who has none lets pip build the package, which brings it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path

from build_native import compiler

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from inferway.base import compiled  # noqa: E402  # The table of modules, from this very tree.

COMPILE_SECONDS_MAX = 300
# Types are judged by make check; here they are only read.
MYPY_WORDS = ("--config-file=", "--follow-imports=silent", "--ignore-missing-imports")
OPTIMIZATION = "2"
NO_MYPYC = "mypyc was not found; pip install 'mypy[mypyc]'"


def build(folder: Path, env: Mapping[str, str]) -> str:
    """Puts the compiled modules into ``folder``; what stood in the way, or nothing."""
    words = compiler(env)
    if not words:
        return "no C compiler was found; on Debian: apt-get install gcc libc6-dev python3-dev"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python.h was not found; on Debian: apt-get install python3-dev"
    if importlib.util.find_spec("mypyc") is None or importlib.util.find_spec("setuptools") is None:
        return NO_MYPYC
    digests = compiled.digests()
    with tempfile.TemporaryDirectory(prefix="inferway-mypyc-") as work:
        why = _compile(Path(work), {**env, "CC": " ".join(words)})
        if why:
            return why
        made = Path(work, "made")
        manifest = {"suffix": compiled.SUFFIX, "sources": digests}
        _replace(folder, made, manifest)
    return ""


def _compile(work: Path, env: Mapping[str, str]) -> str:
    """Runs this file again as a compiler, because mypyc ends its process where it fails."""
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--into", str(work)],
            capture_output=True,
            text=True,
            timeout=COMPILE_SECONDS_MAX,
            cwd=compiled.SOURCES,
            env={**env, "LDSHARED": f"{env['CC']} -shared"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"mypyc does not run: {error}"
    said = f"{done.stdout}\n{done.stderr}".strip()
    return f"mypyc refused them: {said[-2000:]}" if done.returncode else ""


def compile_into(work: Path) -> None:
    """What the second process does, in the folder of the sources."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    paths = [str(compiled.source(name).relative_to(Path.cwd())) for name in compiled.MODULES]
    extensions = mypycify(
        [*MYPY_WORDS, f"--cache-dir={work / 'cache'}", *paths],
        opt_level=OPTIMIZATION,
        debug_level="0",
        group_name=compiled.GROUP,
        target_dir=str(work / "c"),
    )
    command = Distribution({"name": compiled.GROUP, "ext_modules": extensions}).get_command_obj(
        "build_ext"
    )
    command.build_lib = str(work / "made")
    command.build_temp = str(work / "objects")
    command.parallel = len(os.sched_getaffinity(0))
    command.ensure_finalized()
    command.run()


def _replace(folder: Path, made: Path | None, manifest: Mapping[str, object]) -> None:
    """Swaps the folder, so that nobody finds half of it; a picker that runs keeps what it has."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="compiled-", dir=folder.parent))
    if made is not None:
        shutil.copytree(made, fresh, dirs_exist_ok=True)
    (fresh / compiled.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    fresh.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def main(argv: list[str]) -> int:
    """Says what it did."""
    if argv:
        compile_into(Path(argv[1]))
        return 0
    if not compiled.problem():
        return 0
    problem = build(compiled.FOLDER, os.environ)
    if problem:
        _replace(compiled.FOLDER, None, {"problem": problem})
        print(f"Inferway's pickers will run interpreted: {problem}", file=sys.stderr)
    return int(problem == NO_MYPYC)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

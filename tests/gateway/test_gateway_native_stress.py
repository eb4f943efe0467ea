"""The native pick filter under sanitizers, between a false Envoy and a false picker."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "native"
SECONDS = 2
# A sanitizer is slow on a busy machine.
SECONDS_MAX = 300


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_no_memory_is_misused(c_compiler: str, sanitizer: str, tmp_path: Path) -> None:
    """Also: each choice is reported or taken back, whatever clients and pickers do."""
    program = tmp_path / "stress"
    built = subprocess.run(
        [
            *(c_compiler, "-std=gnu11", "-g", "-O1", "-pthread", "-D_GNU_SOURCE"),
            *(f"-fsanitize={sanitizer}", f"-I{NATIVE}", "-o", program),
            *sorted(NATIVE.glob("*.c")),
            HERE / "native_stress.c",
        ],
        capture_output=True,
        text=True,
    )
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip("no sanitizers")
    assert built.returncode == 0, built.stderr
    # Old sanitizers can not place their memory where the kernel has shuffled the rest.
    command = ["setarch", "-R", str(program), str(tmp_path / "s.sock"), str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    if "personality" in done.stderr:
        done = subprocess.run(command[2:], capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.returncode == 0, done.stdout + done.stderr

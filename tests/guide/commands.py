"""Commands out of documentation, and a shell that runs them as a person pastes them.

Knows Markdown's fences and one bash; knows nothing of Inferway.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
HERE_DOCUMENT = re.compile(r"<<\s*'?(\w+)'?\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
# What a pasted command begins with. Other blocks of a guide show output or a picture.
COMMAND = re.compile(r"(?:(?:kubectl|helm|curl|export|inferway)\b|IP=)")
OUTPUT_LINE_BYTES_MAX = 8 * 2**20  # a list of objects can be one long line


def fenced(markdown: str) -> list[tuple[str, str]]:
    """Each fenced block as (info string, text)."""
    return [(match["info"].strip(), match["text"]) for match in FENCE.finditer(markdown)]


def pasted(markdown: str) -> list[str]:
    """The blocks that a person pastes: those marked bash, or unmarked ones that are commands."""
    return [
        text
        for info, text in fenced(markdown)
        if info == "bash" or (not info and COMMAND.match(text))
    ]


def here_documents(block: str) -> list[str]:
    """The texts that a block gives to its commands by ``<<EOF``."""
    return [match[2] for match in HERE_DOCUMENT.finditer(block)]


def words(block: str) -> list[list[str]]:
    """The commands of a block as words; here documents and comments left out."""
    joined = HERE_DOCUMENT.sub("", block).replace("\\\n", " ")
    commands = []
    buffered = ""
    for line in joined.splitlines():
        buffered += line + "\n"
        try:
            parts = shlex.split(buffered, comments=True)
        except ValueError:  # a quotation that goes on in the next line
            continue
        buffered = ""
        if parts:
            commands.append(parts)
    return commands


def replaced(block: str, replacements: Mapping[str, str]) -> str:
    """The block with each text replaced by another, the longest first."""
    for text in sorted(replacements, key=len, reverse=True):
        block = block.replace(text, replacements[text])
    return block


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pasted block did: its exit code, and what it wrote on both streams."""

    block: str
    code: int
    output: str

    def succeeded(self) -> str:
        """The output; fails with all there is to see when the code is not 0."""
        assert self.code == 0, f"exit code {self.code} of\n{self.block}\n{self.output}"
        return self.output


class Shell:
    """One bash, so that a variable that one block sets is there in the next."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = {**os.environ, **env}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            "bash",
            "--norc",
            cwd=self._folder,
            env=self._env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=OUTPUT_LINE_BYTES_MAX,
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._running()
        # With all that a block has left in the background, which would hold our pipe open.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def paste(self, block: str, *, seconds: float) -> Outcome:
        """Runs a block and tells the exit code of the first command that failed, or 0.

        Later commands of the block run all the same, as they do when pasted. Raises TimeoutError.
        """
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        end = f"end-of-block-{uuid.uuid4().hex}"
        remember = "code=$?; if [ $first_failure = 0 ]; then first_failure=$code; fi"
        script = (
            f"first_failure=0; trap '{remember}' ERR\n{block}\ntrap - ERR\n"
            f"echo; echo {end} $first_failure\n"
        )
        process.stdin.write(script.encode())
        await process.stdin.drain()
        lines: list[str] = []
        async with asyncio.timeout(seconds):
            while True:
                raw = await process.stdout.readline()
                line = raw.decode(errors="replace")
                if line.startswith(end):
                    return Outcome(block, int(line.split()[1]), "".join(lines).rstrip("\n"))
                if not raw:
                    return Outcome(block, 255, "".join(lines) + "the shell ended")
                lines.append(line)

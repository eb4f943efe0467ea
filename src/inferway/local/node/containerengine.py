"""Talks to podman or docker: is an image here, fetch it, remove containers.

Knows processes only. Both programs are asked in the same words.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from inferway.local.node.images import ImageProblem, Runtime

# An image of vLLM has 10 GB; what takes longer than this does not arrive.
PULL_SECONDS_MAX = 3600.0
# Removing kills first, which takes a busy machine a moment.
ASK_SECONDS_MAX = 60.0
MESSAGE_CHARACTERS_MAX = 500
_HUB = "docker.io/"


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """An image that is here; ``pulled`` tells of its arrival, empty if it was here before."""

    ident: str
    pulled: str = ""


@dataclass(frozen=True, slots=True)
class ContainerEngine:
    """``program`` is the path of the client, ``environment`` its own environment."""

    runtime: Runtime
    program: str
    environment: Mapping[str, str]

    async def image(
        self, name: str, policy: str, now: Callable[[], float], pulling: Callable[[], None]
    ) -> ContainerImage | ImageProblem:
        """The image as a pull policy of Kubernetes wants it; ``pulling`` is called before it."""
        wanted = policy or default_policy(name)
        found = await self._inspect(name) if wanted != "Always" else ""
        if found:
            return ContainerImage(found)
        if wanted == "Never":
            text = f'Container image "{name}" is not present with pull policy of Never'
            return ImageProblem("ErrImageNeverPull", text)
        pulling()
        began = now()
        full = full_name(name)
        code, out, error = await self._ask("pull", "-q", full, seconds=PULL_SECONDS_MAX)
        if code:
            # An image that was built or loaded here is in no registry.
            found = await self._inspect(name)
            if found:
                return ContainerImage(found)
            return ImageProblem("ErrImagePull", f"{self.runtime}: {last_line(error or out)}")
        took = f"{now() - began:.3f}s"
        found = await self._inspect(full) or full
        return ContainerImage(found, f'Successfully pulled image "{name}" in {took}')

    async def _inspect(self, name: str) -> str:
        code, out, _ = await self._ask("image", "inspect", "--format", "{{.Id}}", name)
        ident = out.strip().partition("\n")[0]
        if code or not ident:
            return ""
        return ident if ident.startswith("sha256:") else f"sha256:{ident}"

    async def complaint(self) -> str:
        """Why the engine does not work; empty if it does."""
        code, _, error = await self._ask("info")
        return last_line(error) if code else ""

    async def remove(self, names: list[str]) -> None:
        """Kills containers and takes them away; those that are gone are no error."""
        for name in names:
            await self._ask("rm", "--force", "--volumes", name)

    async def is_running(self, name: str) -> bool:
        """The container's main process runs."""
        words = ("container", "inspect", "--format", "{{.State.Running}}", name)
        code, out, _ = await self._ask(*words)
        return code == 0 and out.strip() == "true"

    async def kill(self, name: str) -> None:
        """Ends all processes of a container at once."""
        await self._ask("kill", "--signal", "KILL", name)

    async def leftovers(self, label: str) -> list[str]:
        """The names of containers with a label, running or not."""
        words = ("ps", "--all", "--filter", f"label={label}", "--format", "{{.Names}}")
        code, out, _ = await self._ask(*words)
        return [] if code else out.split()

    async def _ask(self, *words: str, seconds: float = ASK_SECONDS_MAX) -> tuple[int, str, str]:
        """Exit code, output and error output; code -1 with a reason if there is none."""
        try:
            process = await asyncio.create_subprocess_exec(
                self.program,
                *words,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            return -1, "", f"{self.program}: {error.strerror}"
        try:
            async with asyncio.timeout(seconds):
                out, error_out = await process.communicate()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            return -1, "", f"{self.program} {words[0]} did not end within {seconds:.0f} s"
        except asyncio.CancelledError:
            # An engine that is killed while it removes leaves half a container behind.
            if words[0] == "pull":
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            raise
        code = process.returncode if process.returncode is not None else -1
        return code, out.decode(errors="replace"), error_out.decode(errors="replace")


def default_policy(name: str) -> str:
    """Kubernetes' for containers that name none: Always for latest, else IfNotPresent."""
    tag = name.rpartition("/")[2].partition("@")[0].partition(":")[2]
    if "@" in name:
        return "IfNotPresent"
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def full_name(name: str) -> str:
    """A name with its registry; podman asks a person about a short one."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"{_HUB}{name}" if slash else f"{_HUB}library/{name}"


def last_line(text: str) -> str:
    """What a program says last is why it failed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:MESSAGE_CHARACTERS_MAX] if lines else "it failed without a word"

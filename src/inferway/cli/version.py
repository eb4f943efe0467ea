"""``inferway version``: which Inferway, Python and Envoy this is."""

from __future__ import annotations

import json
import platform
import subprocess

from inferway.cli.envoy_binary import find_envoy

ENVOY_VERSION_SECONDS_MAX = 10


def run(own: str, output: str) -> int:
    """Prints the versions; a missing Envoy is said and is no failure."""
    versions = {"inferway": own, "python": platform.python_version(), "envoy": _envoy_version()}
    if output == "json":
        print(json.dumps(versions))
    else:
        for name, value in versions.items():
            print(f"{name:9} {value}")
    return 0


def _envoy_version() -> str:
    binary = find_envoy()
    if binary is None:
        return "not found"
    try:
        result = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=ENVOY_VERSION_SECONDS_MAX,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{binary} does not run: {error}"
    # The line reads: envoy version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL
    parts = result.stdout.strip().split("/")
    return parts[-4] if len(parts) >= 4 else result.stdout.strip()

"""A profile as a YAML (or JSON) file: read for a server, written by ``inferway calibrate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from inferway.base.errors import UsageError
from inferway.simulator.engine.profiles import Profile

# A profile is a page; anything longer is another file.
FILE_BYTES_MAX = 1 << 20


def load(path: str, builtin: Sequence[str]) -> Profile:
    """Reads a profile. Raises UsageError."""
    # Most servers run a built-in profile and need not pay for the import.
    import yaml

    fix = f"built-in profiles: {', '.join(builtin)}; or name a file of `inferway calibrate`"
    try:
        with Path(path).open("rb") as file:
            raw = yaml.safe_load(file.read(FILE_BYTES_MAX))
            # YAML takes 5e-05 for a text.
            profile = msgspec.convert(raw, Profile, strict=False)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise UsageError("INFERWAY0504", f"no profile {path!r}: {error}", fix=fix) from None
    for name, value in msgspec.structs.asdict(profile).items():
        if isinstance(value, int | float) and not 0 <= value < float("inf"):
            raise UsageError(
                "INFERWAY0504", f"profile {path!r}: {name} must not be negative", fix=fix
            )
    return profile

"""The scheduling configuration from a flag: text or a file, YAML or JSON; none is the default."""

from __future__ import annotations

from pathlib import Path

import yaml

from inferway.base.errors import UsageError
from inferway.picker.flags import Options
from inferway.scheduling.config import build
from inferway.scheduling.decision import Policy
from inferway.scheduling.plugins.registry import plugin_types
from inferway.scheduling.policy import CostPolicy

# A configuration is a page of text.
CONFIG_BYTES_MAX = 1024 * 1024


def policy(options: Options) -> Policy:
    """Raises UsageError."""
    place, text = "--config-text", options.text("config-text")
    if options.text("config-file"):
        place = options.text("config-file")
        text = _read(place)
    if not text.strip():
        return CostPolicy()
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise UsageError(
            "INFERWAY0407", f"it is not YAML: {what}", about=place, fix="Mend the text."
        ) from None
    return build(
        document,
        plugin_types(),
        allow_alpha=options.flag("allow-experimental-plugins"),
        about=place,
    )


def _read(path: str) -> str:
    try:
        data = Path(path).read_bytes()
        if len(data) > CONFIG_BYTES_MAX:
            raise UsageError("INFERWAY0407", "it is too large", about=path, fix="Shorten it.")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "INFERWAY0407",
            f"it can not be read: {error}",
            about=path,
            fix="Give a readable file, or leave --config-file out for the default policy.",
        ) from None

"""Compiled copies of the modules that every request passes: which, and whether they may run.

``tools/build_compiled.py`` makes them with mypyc where Inferway is installed, in a folder of their
own, so that a plain import takes the ``.py`` file. ``use`` puts them in front for one process, and
does so only while every source is the one that its compiled copy was made of.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

# All of them or none: they read each other's objects without asking Python.
MODULES = (
    "inferway.scheduling.accounting",
    "inferway.scheduling.cost",
    "inferway.scheduling.decide",
    "inferway.scheduling.kvcache",
    "inferway.scheduling.learn",
    "inferway.scheduling.lora",
    "inferway.scheduling.observer",
    "inferway.scheduling.policy",
    "inferway.scheduling.pool",
    "inferway.scheduling.precision",
    "inferway.scheduling.prefix",
    "inferway.scheduling.rates",
    "inferway.scheduling.snapshot",
    "inferway.scheduling.tokens",
)
# "off" leaves a picker interpreted, to compare or to exclude compiled code as a cause.
SWITCH_VARIABLE = "INFERWAY_COMPILED"
SOURCES = Path(__file__).resolve().parent.parent.parent
FOLDER = SOURCES / "inferway" / "_native" / "compiled"
MANIFEST = "manifest.json"
# The one library that holds them all; beside it each has a file that only names it.
GROUP = "inferway_hot"
LIBRARY = f"{GROUP}__mypyc"
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))


def source(module: str) -> Path:
    """The file of a module."""
    return SOURCES.joinpath(*module.split(".")).with_suffix(".py")


def digests() -> dict[str, str]:
    """What the sources are, by module."""
    return {name: hashlib.sha256(source(name).read_bytes()).hexdigest() for name in MODULES}


def problem(folder: Path = FOLDER) -> str:
    """Why the compiled modules in ``folder`` may not run here, or nothing."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return "they were not made; make compiled"
    except ValueError:
        return f"{MANIFEST} can not be read; make compiled"
    if manifest.get("problem"):
        return str(manifest["problem"])
    if manifest["suffix"] != SUFFIX:
        return f"they are for another Python, with {manifest['suffix']}"
    if manifest["sources"] != digests():
        return "the sources have changed since; make compiled"
    return ""


def use(env: Mapping[str, str], folder: Path = FOLDER) -> str:
    """Lets this process import compiled modules; what stands in the way, or nothing.

    To be called before the first of them is imported.
    """
    if env.get(SWITCH_VARIABLE) == "off":
        return f"switched off by {SWITCH_VARIABLE}"
    why = problem(folder)
    if why:
        return why
    early = sorted(sys.modules.keys() & set(MODULES))
    if early:
        return f"{early[0]} is imported already"
    place = importlib.util.spec_from_file_location(LIBRARY, folder / f"{LIBRARY}{SUFFIX}")
    assert place is not None
    assert place.loader is not None
    try:
        library = importlib.util.module_from_spec(place)
        place.loader.exec_module(library)
    except ImportError as error:
        return f"they can not be loaded: {error}"
    sys.modules[LIBRARY] = library
    for package in sorted({name.rpartition(".")[0] for name in MODULES}):
        paths = importlib.import_module(package).__path__
        paths.insert(0, str(folder.joinpath(*package.split("."))))
    return ""

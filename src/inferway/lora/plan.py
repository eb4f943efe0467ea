"""What differs between a server and its configuration, as steps. Pure.

``make`` takes what is and what is wanted, and gives the requests that close the gap, in the order
in which they harm least: first put back what worked, then make room, then load, and last what
failed before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from inferway.lora.config import Config
from inferway.lora.messages import Load, Model, Place, Unload
from inferway.lora.source import FETCHED, Adapter, served_path

Step = Load | Unload


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What planning looks at besides the configuration."""

    url: str
    place: Place
    models: Mapping[str, Model]
    # Paths that an id had before an attempt to replace it went wrong.
    restore: Mapping[str, str]
    # Fetched adapters whose folder is in the store.
    ready: frozenset[Adapter]
    # Whether the server has this very adapter under the root that it reports.
    is_current: Callable[[Adapter, str], bool]
    pausing: Callable[[str], bool]
    failed_before: Callable[[str], bool]


def bases(models: Mapping[str, Model]) -> dict[str, str]:
    """id -> root of the base models."""
    return {name: model.root for name, model in models.items() if not model.parent}


def make(config: Config, known: Known) -> list[Step]:
    """The steps towards the configuration. Base models are in no step."""
    base_models = bases(known.models)
    base_root = next(iter(base_models.values()), "")
    first: list[Step] = []
    loads: list[Step] = []
    for adapter in config.wanted:
        listed = known.models.get(adapter.id)
        if adapter.id in base_models:
            continue
        if adapter.id in known.restore:
            path = known.restore[adapter.id]
            first.append(
                Load(url=known.url, adapter=adapter, path=path, in_place=listed is not None)
            )
            continue
        if listed is not None and known.is_current(adapter, listed.root):
            continue
        if known.pausing(adapter.id) or (adapter.kind in FETCHED and adapter not in known.ready):
            continue
        loads.append(
            Load(
                url=known.url,
                adapter=adapter,
                path=served_path(adapter, known.place.store),
                in_place=listed is not None,
                base_root=base_root,
            )
        )
    loads.sort(key=lambda step: isinstance(step, Load) and known.failed_before(step.adapter.id))
    return [*first, *_unloads(config, known, base_models), *loads]


def _unloads(config: Config, known: Known, base_models: Mapping[str, str]) -> list[Step]:
    return [
        Unload(known.url, name)
        for name in config.unwanted
        if name in known.models and name not in base_models and not known.pausing(name)
    ]


def kept_folders(config: Config, models: Mapping[str, Model], store: str) -> frozenset[str]:
    """Folders of the store that are wanted or that the server may still read."""
    wanted = {served_path(a, store) for a in config.wanted if a.kind in FETCHED}
    listed = {model.root for model in models.values() if model.root.startswith(store + "/")}
    return frozenset(wanted | listed)

"""What the syncer believes the server to have. Pure.

The server's list is the truth; between two lists the answers to loads and unloads stand in for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from inferway.lora import plan
from inferway.lora.messages import Model
from inferway.lora.source import Adapter, served_path


class Served:
    """One server's models, and where its adapters can go back to."""

    def __init__(self, store: str) -> None:
        self._store = store
        # None before the first list.
        self.models: dict[str, Model] | None = None
        # How many adapters fit in a batch; 0 is not known.
        self.slots = 0
        # Paths to go back to: what an id had before an attempt to replace it.
        self.restore: dict[str, str] = {}
        # Roots that the server reports for paths which were loaded from here.
        self._roots: dict[tuple[str, str], str] = {}

    def take(self, models: dict[str, Model]) -> None:
        """A list. A root that follows a load belongs to what was loaded."""
        self.models = models
        self._roots = {key: root or self.root(key[0]) for key, root in self._roots.items()}

    def root(self, name: str) -> str:
        """What the server has under a name; empty for nothing."""
        model = (self.models or {}).get(name)
        return model.root if model else ""

    def adapters(self) -> set[str]:
        return {name for name, model in (self.models or {}).items() if model.parent}

    def loaded(self, name: str, path: str) -> None:
        """A load has ended well."""
        self.restore.pop(name, None)
        self._forget(name)
        models = dict(self.models or {})
        models[name] = Model(path, next(iter(plan.bases(models)), "") or "unknown")
        self.models = models
        self._roots[(name, path)] = ""

    def unloaded(self, name: str) -> None:
        self._forget(name)
        self.models = {n: model for n, model in (self.models or {}).items() if n != name}

    def is_current(self, adapter: Adapter, root: str) -> bool:
        """Whether the server has this very source. A server may report a root of its own making
        for it; that root is then remembered from the first list after the load.
        """
        path = served_path(adapter, self._store)
        return root == path or (root != "" and self._roots.get((adapter.id, path)) == root)

    def keep_restores(self, names: Iterable[str]) -> None:
        """Nobody goes back to what is wanted no more."""
        kept = set(names)
        self.restore = {name: path for name, path in self.restore.items() if name in kept}

    def _forget(self, name: str) -> None:
        self._roots = {key: root for key, root in self._roots.items() if key[0] != name}

"""What a Gateway's proxies may have: the wanted resources, less those that a proxy refused.

A refused version is replaced by the last version of that name that some proxy took, so that a new
proxy starts with what the others serve and never with a hole. Pure values and sets; no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping

from inferway.gateway.envoy.resources import Resource, Resources


class LastGood:
    """Remembers verdicts of one Gateway's proxies."""

    def __init__(self) -> None:
        self._good: dict[tuple[str, str], Resource] = {}
        self._refused: dict[tuple[str, str], dict[str, str]] = {}
        # Refused versions that are tried once more: a port can become free.
        self._trial: set[tuple[str, str, str]] = set()

    def accepted(self, type_url: str, resource: Resource) -> None:
        """Notes that a proxy took a resource.

        A version that another proxy refused is no good one: which of the two is right can not be
        known, so the refusal stands until the content changes or a trial goes well.
        """
        key = (type_url, resource.name)
        trial = (type_url, resource.name, resource.version)
        if trial in self._trial:
            self._trial.discard(trial)
            del self._refused[key][resource.version]
        if resource.version not in self._refused.get(key, ()):
            self._good[key] = resource

    def refused(self, type_url: str, name: str, version: str, message: str) -> bool:
        """Notes a refusal; True if it changes what proxies may have."""
        verdicts = self._refused.setdefault((type_url, name), {})
        tried = (type_url, name, version) in self._trial
        self._trial.discard((type_url, name, version))
        news = version not in verdicts
        verdicts[version] = message
        return news or tried

    def retry(self) -> bool:
        """Puts all refused versions on trial; False if there are none.

        They count as refused in reports until a proxy takes them.
        """
        self._trial = {
            (url, name, version)
            for (url, name), verdicts in self._refused.items()
            for version in verdicts
        }
        return bool(self._trial)

    def effective(self, wanted: Resources) -> Resources:
        """``wanted`` with refused versions replaced, or left out where nothing good is known."""
        if not self._refused:
            return wanted
        return {url: self._type(url, resources) for url, resources in wanted.items()}

    def refusals(self, wanted: Resources) -> dict[tuple[str, str], str]:
        """The refusals that concern what is wanted: (type, name) to Envoy's words."""
        found = {}
        for (url, name), verdicts in sorted(self._refused.items()):
            resource = wanted[url].get(name)
            if resource is not None and resource.version in verdicts:
                found[url, name] = verdicts[resource.version]
        return found

    def forget(self, wanted: Resources) -> None:
        """Drops what is about names that do not exist any more."""
        for memory in (self._good, self._refused):
            for url, name in [key for key in memory if key[1] not in wanted[key[0]]]:
                del memory[url, name]

    def _type(self, url: str, resources: Mapping[str, Resource]) -> Mapping[str, Resource]:
        chosen = {}
        for name, resource in resources.items():
            refused = resource.version in self._refused.get((url, name), ())
            if refused and (url, name, resource.version) not in self._trial:
                good = self._good.get((url, name))
                if good is None:
                    continue
                resource = good
            chosen[name] = resource
        return chosen

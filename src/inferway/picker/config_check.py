"""What a scheduling configuration becomes, in a few lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from inferway.scheduling.config import DEFAULT_PICKER, Loaded
from inferway.scheduling.plugins.base import Plugin
from inferway.scheduling.profile import Profile, ProfilePolicy

DEFAULT = "the default policy: predicted time to the first token, and the delay of others"


def summary(loaded: Loaded | None) -> str:
    """Profiles with their plugins and weights, flow control, and what is worth a note."""
    return "\n".join(_lines(loaded))


def _lines(loaded: Loaded | None) -> Iterator[str]:
    if loaded is None:
        yield f"no configuration: {DEFAULT}"
        return
    policy = loaded.policy
    if isinstance(policy, ProfilePolicy):
        for name, profile in policy.profiles.items():
            yield f"profile {name}: {', '.join(_parts(policy, profile))}"
        yield f"profile handler: {policy.names[policy.handler]}"
        others = [name for plugin, name in policy.names.items() if not _shown(policy, plugin)]
        if others:
            yield f"with {', '.join(others)}"
        if policy.headers:
            yield f"reads the headers {', '.join(sorted(policy.headers))}"
    else:
        yield DEFAULT
    gate = {True: "on", False: "off", None: "as by default"}[loaded.flow.gate]
    yield f"flow control: {gate}"
    for note in loaded.notes:
        yield f"note: {note}"


def _parts(policy: ProfilePolicy, profile: Profile) -> Iterator[str]:
    for one in profile.filters:
        yield f"filter {policy.names[one]}"
    for weighted in profile.scorers:
        yield f"scorer {weighted.name} x {weighted.weight:g}"
    yield f"picker {policy.names.get(profile.picker, DEFAULT_PICKER)}"


def _shown(policy: ProfilePolicy, plugin: Plugin) -> bool:
    """Whether a profile or the handler names it; the others are there because those read them."""
    return plugin is policy.handler or any(
        plugin in (*profile.filters, profile.picker, *(w.scorer for w in profile.scorers))
        for profile in policy.profiles.values()
    )

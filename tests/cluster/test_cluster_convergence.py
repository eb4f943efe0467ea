"""However own writes, events and lists interleave, the copy ends equal to the server's state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from cluster_fakes import pod
from hypothesis import given
from hypothesis import strategies as st

from inferway.api.resources import PODS
from inferway.cluster.client import KubeClient
from inferway.cluster.informer import Informer
from inferway.cluster.store import Change, Key, by_label
from inferway.cluster.watch import WatchEvent


@dataclass
class Server:
    """Objects, a log of what happened to them, and how far the watch has read it."""

    version: int = 0
    births: int = 0
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: list[WatchEvent] = field(default_factory=list)
    delivered: int = 0

    def write(self, name: str) -> dict[str, Any]:
        self.version += 1
        before = self.objects.get(name)
        if before is None:
            self.births += 1
            uid = f"{name}-{self.births}"
        else:
            uid = before["metadata"]["uid"]
        obj = pod(name, self.version, uid=uid, v=str(self.version % 2))
        self.objects[name] = obj
        self.log.append(WatchEvent("MODIFIED" if before else "ADDED", obj))
        return obj

    def remove(self, name: str) -> str:
        self.version += 1
        gone = self.objects.pop(name)
        meta = {**gone["metadata"], "resourceVersion": str(self.version)}
        self.log.append(WatchEvent("DELETED", {**gone, "metadata": meta}))
        return str(gone["metadata"]["uid"])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write-own", "remove", "remove-own", "deliver", "list", "late"]),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=40,
)


@given(STEPS)
def test_the_copy_ends_equal_to_the_server(steps: list[tuple[str, str]]) -> None:
    server = Server()
    informer: Informer[Any] = Informer(cast(KubeClient, None), PODS, indexers={"v": by_label("v")})
    mirror: dict[Key, Any] = {}

    def follow(change: Change[Any]) -> None:
        assert mirror.get(change.key) == change.old
        if change.new is None:
            del mirror[change.key]
        else:
            mirror[change.key] = change.new

    informer.subscribe_changes(follow)
    informer._replace([], "0")
    answers: list[dict[str, Any]] = []
    for step, name in steps:
        if step in ("write", "write-own"):
            written = server.write(name)
            answers.append(written)
            if step == "write-own":
                informer.absorb(written)
        elif step in ("remove", "remove-own") and name in server.objects:
            uid = server.remove(name)
            if step == "remove-own":
                informer.forget(Key("default", name), uid)
        elif step == "late" and answers:
            # The answer of a write may arrive long after the stream has told of it.
            informer.absorb(answers[len(name) % len(answers)])
        elif step == "deliver" and server.delivered < len(server.log):
            informer._handle(server.log[server.delivered])
            server.delivered += 1
        elif step == "list":
            informer._replace(list(server.objects.values()), str(server.version))
            server.delivered = len(server.log)
    for event in server.log[server.delivered :]:
        informer._handle(event)
    expected = {Key("default", name): obj for name, obj in server.objects.items()}
    assert dict(informer.store) == expected
    assert mirror == expected
    for value in ("0", "1"):
        filed = {o["metadata"]["name"] for o in informer.store.by("v", ("default", value))}
        wanted = {n for n, o in server.objects.items() if o["metadata"]["labels"]["v"] == value}
        assert filed == wanted

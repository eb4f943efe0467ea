"""The delta ADS session: conversations, and a proxy's model that must never see a hole.

The model warms clusters as Envoy does: a changed cluster serves only after its endpoints came
again, and is not asked for anew.
"""

from __future__ import annotations

from collections import deque

import pytest
from google.protobuf import any_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.gateway.envoy.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE
from inferway.gateway.envoy.resources import Resource, Resources
from inferway.gateway.xds.session import (
    Accepted,
    Command,
    Overdue,
    Publish,
    Refused,
    Request,
    Send,
    Session,
    Settled,
)

TABLE = "http/80"


def resource(name: str, version: str) -> Resource:
    return Resource(name, version, any_pb2.Any())


def world(clusters: dict[str, str], *, endpoints: str = "e1", bad: bool = False) -> Resources:
    """A target whose route table uses all of its clusters."""
    table = ",".join(sorted(clusters)) + ("!" if bad else "")
    return {
        CLUSTER_TYPE: {name: resource(name, version) for name, version in clusters.items()},
        ENDPOINT_TYPE: {name: resource(name, endpoints) for name in clusters},
        LISTENER_TYPE: {TABLE: resource(TABLE, "l1")},
        ROUTE_TYPE: {TABLE: resource(TABLE, f"uses {table}")},
    }


def sends(commands: list[Command]) -> list[str]:
    """Messages in short: ``Cluster+a+b``, ``Cluster-a``."""
    lines = []
    for command in commands:
        if isinstance(command, Send):
            kind = command.type_url.rpartition(".")[2]
            names = "".join(f"+{item.name}" for item in command.resources)
            lines.append(kind + names + "".join(f"-{name}" for name in command.removed))
    return lines


class Talk:
    """A session and the nonces of what it sent."""

    def __init__(self) -> None:
        self.session = Session()
        self.nonces: dict[str, str] = {}
        self.commands: list[Command] = []

    def say(self, event: Publish | Request | Overdue) -> list[str]:
        self.commands = self.session.handle(event)
        for command in self.commands:
            if isinstance(command, Send):
                self.nonces[command.type_url] = command.nonce
        return sends(self.commands)

    def ack(self, type_url: str, *, error: str | None = None, **fields: object) -> list[str]:
        nonce = self.nonces[type_url]
        return self.say(Request(type_url, nonce, error=error, **fields))  # type: ignore[arg-type]


def started() -> Talk:
    talk = Talk()
    talk.say(Publish(world({"a": "1"}), 1))
    assert talk.say(Request(CLUSTER_TYPE)) == ["Cluster+a"]
    assert talk.say(Request(LISTENER_TYPE)) == []
    assert talk.ack(CLUSTER_TYPE) == []
    first = Request(ENDPOINT_TYPE, subscribe=("a",))
    assert talk.say(first) == ["ClusterLoadAssignment+a"]
    assert talk.ack(ENDPOINT_TYPE) == ["Listener+http/80"]
    assert talk.ack(LISTENER_TYPE) == []
    assert talk.say(Request(ROUTE_TYPE, subscribe=(TABLE,))) == ["RouteConfiguration+http/80"]
    talk.ack(ROUTE_TYPE)
    assert Settled(1) in talk.commands
    return talk


def test_new_proxy_gets_clusters_before_routes() -> None:
    assert started().session.settled


def test_replaced_cluster_is_made_before_the_old_one_is_broken() -> None:
    talk = started()
    assert talk.say(Publish(world({"b": "1"}), 2)) == ["Cluster+b"]
    assert talk.ack(CLUSTER_TYPE) == []
    assert talk.say(Request(ENDPOINT_TYPE, subscribe=("b",))) == ["ClusterLoadAssignment+b"]
    assert talk.ack(ENDPOINT_TYPE) == ["RouteConfiguration+http/80"]
    assert talk.ack(ROUTE_TYPE) == ["Cluster-a"]
    assert not talk.session.settled
    assert talk.say(Request(ENDPOINT_TYPE, unsubscribe=("a",))) == []
    assert talk.ack(CLUSTER_TYPE) == []
    assert Settled(2) in talk.commands


def test_changed_cluster_gets_its_endpoints_again() -> None:
    talk = started()
    changed = Publish(world({"a": "2"}), 2)
    assert talk.say(changed) == ["Cluster+a", "ClusterLoadAssignment+a"]


def test_refused_table_is_told_and_settles() -> None:
    talk = started()
    assert talk.say(Publish(world({"a": "1"}, bad=True), 2)) == ["RouteConfiguration+http/80"]
    talk.ack(ROUTE_TYPE, error="bad regex")
    assert Refused(ROUTE_TYPE, TABLE, "uses a!", "bad regex") in talk.commands
    assert talk.session.settled


def test_refusal_of_one_cluster_leaves_the_others_good() -> None:
    talk = Talk()
    talk.say(Publish(world({"good": "1", "poor": "1"}), 1))
    assert talk.say(Request(CLUSTER_TYPE)) == ["Cluster+good+poor"]
    talk.ack(CLUSTER_TYPE, error="Error adding/updating cluster(s) poor: no")
    refused = Refused(CLUSTER_TYPE, "poor", "1", "Error adding/updating cluster(s) poor: no")
    assert refused in talk.commands
    assert Accepted(CLUSTER_TYPE, (("good", "1"),)) in talk.commands


def test_reconnect_resends_nothing_that_is_known() -> None:
    talk = Talk()
    talk.say(Publish(world({"a": "1"}), 5))
    known = Request(CLUSTER_TYPE, initial_versions={"a": "1", "stale": "1"})
    assert talk.say(known) == []
    assert talk.say(Request(LISTENER_TYPE, initial_versions={TABLE: "l1"})) == []
    versions = {"a": "e1"}
    again = Request(ENDPOINT_TYPE, subscribe=("a",), initial_versions=versions)
    assert talk.say(again) == []
    versions = {TABLE: "uses a"}
    routes = Request(ROUTE_TYPE, subscribe=(TABLE,), initial_versions=versions)
    # What the proxy has too much goes only when everything else is known to be there.
    assert talk.say(routes) == ["Cluster-stale"]


def test_unknown_names_are_answered() -> None:
    talk = started()
    missing = Request(ENDPOINT_TYPE, subscribe=("nobody",))
    assert talk.say(missing) == ["ClusterLoadAssignment-nobody"]
    secret = Request("type.googleapis.com/envoy.Secret", subscribe=("s",))
    assert talk.say(secret) == ["Secret-s"]


def test_overdue_opens_the_order() -> None:
    talk = started()
    talk.say(Publish(world({"b": "1"}), 2))
    assert talk.say(Overdue()) == ["RouteConfiguration+http/80", "Cluster-a"]


class Proxy:
    """Envoy's behaviour as far as order matters."""

    def __init__(self) -> None:
        self.clusters: dict[str, str] = {}
        self.warm: set[str] = set()
        self.routes: set[str] = set()
        self.asked: set[str] = set()
        self.listening = False

    def hello(self) -> list[Request]:
        return [Request(CLUSTER_TYPE), Request(LISTENER_TYPE)]

    def take(self, send: Send) -> list[Request]:
        replies = [Request(send.type_url, send.nonce)]
        if send.type_url == CLUSTER_TYPE:
            replies += self._clusters(send)
        elif send.type_url == ENDPOINT_TYPE:
            self.warm |= {item.name for item in send.resources} & set(self.clusters)
            assert not self.routes & set(send.removed), "endpoints in use are removed"
        elif send.type_url == LISTENER_TYPE and not self.listening:
            self.listening = True
            replies.append(Request(ROUTE_TYPE, subscribe=(TABLE,)))
        elif send.type_url == ROUTE_TYPE:
            (table,) = send.resources
            used = {name for name in table.version.removeprefix("uses ").split(",") if name}
            assert used <= self.warm, f"routes to {used}, but only {self.warm} can serve"
            self.routes = used
        return replies

    def _clusters(self, send: Send) -> list[Request]:
        replies = []
        for item in send.resources:
            self.clusters[item.name] = item.version
            if item.name not in self.asked:
                self.asked.add(item.name)
                replies.append(Request(ENDPOINT_TYPE, subscribe=(item.name,)))
        for name in send.removed:
            assert name not in self.routes, f"{name} is removed and still used"
            self.clusters.pop(name, None)
            self.warm.discard(name)
            if name in self.asked:
                self.asked.discard(name)
                replies.append(Request(ENDPOINT_TYPE, unsubscribe=(name,)))
        return replies


targets = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"), max_size=4)
steps = st.lists(
    st.one_of(st.just("deliver"), st.just("answer"), st.tuples(targets, st.sampled_from("12"))),
    max_size=40,
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(steps)
def test_no_order_of_events_makes_a_hole(actions: list[object]) -> None:
    session, proxy = Session(), Proxy()
    down: deque[Send] = deque()
    up: deque[Request] = deque(proxy.hello())
    sequence = 0
    target = world({"a": "1"})

    def feed(event: Publish | Request) -> None:
        down.extend(item for item in session.handle(event) if isinstance(item, Send))

    def deliver() -> None:
        if down:
            up.extend(proxy.take(down.popleft()))

    for action in actions:
        if action == "deliver":
            deliver()
        elif action == "answer" and up:
            feed(up.popleft())
        elif isinstance(action, tuple):
            sequence += 1
            target = world(action[0], endpoints=f"e{action[1]}")
            feed(Publish(target, sequence))
    feed(Publish(target, sequence + 1))
    while up or down:
        if up:
            feed(up.popleft())
        deliver()
    assert session.settled
    assert proxy.clusters == {n: item.version for n, item in target[CLUSTER_TYPE].items()}
    assert proxy.routes == set(target[CLUSTER_TYPE])
    assert proxy.warm == set(target[CLUSTER_TYPE])

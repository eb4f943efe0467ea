"""What pickers tell each other, as conversations, and under every loss and repetition."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.endpoints import Pod, decode_pod
from inferway.picker.exchange import finding, messages
from inferway.picker.exchange.machine import (
    GONE_SECONDS,
    Announcer,
    Command,
    Disconnect,
    Finish,
    Heard,
    Release,
    Reserve,
    Told,
)
from inferway.picker.exchange.messages import Batch, End, Hello, Message
from inferway.scheduling.announced import Announced
from inferway.scheduling.events import Finished

POOL = "ns/p"


def announced(pick: str) -> Announced:
    return Announced(pick, "10.0.0.1:80", "m", 400, 0, 100.0, True, [1, 2])


def words(commands: Iterable[Command]) -> list[str]:
    said = []
    for command in commands:
        if isinstance(command, Reserve):
            said.append(f"+{command.announced.pick}")
        elif isinstance(command, Release):
            said.append(f"-{command.pick}")
        elif isinstance(command, Finish):
            said.append(f"~{command.end.pick}")
        elif isinstance(command, Told):
            said.append(f"={command.end.pick}")
        else:
            said.append("hang up")
    return said


def sent(message: Message) -> Message:
    """As it comes out of the wire."""
    data = messages.frame(message)
    assert messages.length(data[:4]) == len(data) - 4
    return messages.decode(data[4:])


def hello(picker: str, number: int, *picks: str) -> Message:
    return sent(Hello(picker, number, {POOL: [announced(pick) for pick in picks]}))


def batch(number: int, opened: str = "", closed: str = "", ended: str = "") -> Message:
    ends = [End.of(Finished(pick, 200, "10.0.0.1:80", cached_tokens=3)) for pick in ended.split()]
    made = [(POOL, announced(pick)) for pick in opened.split()]
    return sent(Batch(number, made, closed.split(), ends))


def test_a_conversation() -> None:
    heard = Heard("a")
    script = [
        (batch(1, "b-1"), ["hang up"]),
        (hello("b", 4, "b-1", "b-2"), ["+b-1", "+b-2"]),
        (batch(5, "b-3", "b-1"), ["+b-3", "-b-1"]),
        # Twice, and an old one: nothing.
        (batch(5, "b-3", "b-1"), []),
        (batch(2, "b-0", "b-3"), []),
        # Opened and over within one batch.
        (batch(6, "b-4", "b-4 b-9"), ["+b-4", "-b-4"]),
        (batch(7, "b-7", ended="a-1 c-1 b-7"), ["+b-7", "=a-1", "=c-1", "~b-7"]),
        # One is missing.
        (batch(9, "b-5"), ["hang up"]),
        # It greets again and says what it has.
        (hello("b", 9, "b-2", "b-5"), ["-b-3", "+b-5"]),
        (batch(10, "b-6"), ["+b-6"]),
        # Twice the same greeting, and an older one.
        (hello("b", 10, "b-2", "b-5", "b-6"), []),
        (hello("b", 3), []),
        (hello("c", 1), ["hang up"]),
    ]
    for number, (message, wanted) in enumerate(script):
        assert words(heard.handle("first", message)) == wanted, number
    assert len(heard) == 3
    assert words(heard.handle("self", hello("a", 1, "a-1"))) == ["hang up"]


def test_a_picker_that_dies_is_let_go_and_one_that_comes_back_is_not() -> None:
    heard = Heard("a")
    heard.handle("b", hello("b", 0, "b-1"))
    heard.handle("c", hello("c", 0, "c-1"))
    assert heard.connected == 2
    heard.lost("b", 100.0)
    heard.lost("c", 100.0)
    assert heard.connected == 0
    assert words(heard.tick(100.0 + GONE_SECONDS - 1)) == []
    # A second connection of c, whose first ends late.
    assert words(heard.handle("c2", hello("c", 3, "c-1", "c-2"))) == ["+c-2"]
    heard.lost("c", 101.0)
    assert words(heard.handle("c", batch(4, "c-3"))) == ["hang up"]
    assert words(heard.tick(100.0 + GONE_SECONDS)) == ["-b-1"]
    assert len(heard) == 2
    assert words(heard.tick(1000.0)) == []


def test_a_report_that_comes_to_another_picker() -> None:
    heard = Heard("a")
    heard.handle("b", hello("b", 0, "b-1"))
    assert words(heard.ended_here("b-1")) == ["-b-1"]
    assert words(heard.ended_here("b-1")) == []
    # What its own picker says of it afterwards is no news.
    assert words(heard.handle("b", batch(1, closed="b-1"))) == []
    event = Finished("x", 200, "1:2", 2, True, 0.1, 0.2, 0.3, 4, 5, None)
    wire = messages.decode(messages.frame(Batch(1, ended=[End.of(event)]))[4:])
    assert isinstance(wire, Batch)
    assert wire.ended[0].event() == event


class Network:
    """One picker that speaks, one that hears, and what lies between them."""

    def __init__(self) -> None:
        self.speaker = Announcer("b")
        self.open: set[str] = set()
        self.heard = Heard("a")
        self.known: set[str] = set()
        self.connection = 0
        self.way: list[Message] = []
        self.count = 0
        self.connect()

    def connect(self) -> None:
        self.heard.lost(self.connection, 0.0)
        self.connection += 1
        self.flush()
        self.way = [sent(self.speaker.hello({POOL: [announced(p) for p in sorted(self.open)]}))]

    def act(self, rng: random.Random) -> None:
        if self.open and rng.random() < 0.4:
            pick = rng.choice(sorted(self.open))
            self.open.remove(pick)
            if rng.random() < 0.5:
                self.speaker.closed(pick)
            else:
                self.speaker.ended(End.of(Finished(pick, 200)))
        else:
            self.count += 1
            self.open.add(f"b-{self.count}")
            self.speaker.opened(POOL, announced(f"b-{self.count}"))

    def flush(self) -> None:
        self.way.append(sent(self.speaker.batch()))

    def deliver(self, index: int, *, keep: bool) -> None:
        message = self.way[index] if keep else self.way.pop(index)
        for command in self.heard.handle(self.connection, message):
            if isinstance(command, Reserve):
                assert command.announced.pick not in self.known
                self.known.add(command.announced.pick)
            elif isinstance(command, Release):
                # Released exactly once.
                self.known.remove(command.pick)
            elif isinstance(command, Finish):
                self.known.remove(command.end.pick)
            elif isinstance(command, Disconnect):
                self.connect()
                return


@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from("aaafflrdc"), max_size=60))
def test_losses_repetitions_and_disorder_do_no_harm(seed: int, steps: list[str]) -> None:
    rng = random.Random(seed)
    net = Network()
    for step in steps:
        if step == "a":
            net.act(rng)
        elif step == "f":
            net.flush()
        elif step == "c":
            net.connect()
        elif net.way:
            index = rng.randrange(len(net.way))
            if step == "l":
                del net.way[index]
            else:
                # In any order; once, or again and again.
                net.deliver(index, keep=step == "r")
        assert len(net.heard) == len(net.known)
    # After a quiet while everything is as it is.
    net.connect()
    net.act(rng)
    net.flush()
    while net.way:
        net.deliver(0, keep=False)
    assert net.known == net.open
    net.heard.lost(net.connection, 1.0)
    for command in net.heard.tick(1.0 + GONE_SECONDS):
        assert isinstance(command, Release)
        net.known.remove(command.pick)
    assert net.known == set()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none(data: bytes) -> None:
    try:
        message = messages.decode(data)
    except msgspec.MsgspecError:
        return
    Heard("a").handle("x", message)


def test_a_frame_nobody_would_send() -> None:
    with pytest.raises(ValueError, match="are the most"):
        messages.length(b"\xff\xff\xff\xff")


def test_siblings_are_known_by_their_labels() -> None:
    labels = {"app": "epp", "pod-template-hash": "x", "tier": "a"}
    assert finding.selector_of(labels) == "app=epp,tier=a"
    assert finding.selector_of({"pod-template-hash": "x"}) == ""
    assert finding.own_pod({"HOSTNAME": "p-1", "NAMESPACE": "n"}) == ("n", "p-1")
    assert finding.own_pod({"POD_NAME": "p", "POD_NAMESPACE": "m"}) == ("m", "p")

    def pod(name: str, ip: str, phase: str) -> Pod:
        raw = {"metadata": {"name": name}, "status": {"podIP": ip, "phase": phase}}
        return decode_pod(raw)

    pods = [
        pod("own", "10.0.0.1", "Running"),
        pod("b", "10.0.0.3", "Running"),
        pod("c", "fd00::1", "Running"),
        pod("d", "", "Running"),
        pod("e", "10.0.0.9", "Succeeded"),
    ]
    assert finding.addresses(pods, "own", 9006) == ["10.0.0.3:9006", "[fd00::1]:9006"]

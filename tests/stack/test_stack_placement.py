"""LoRAAdapters on a running stack: loaded by requests, evicted by others, shared by a canary.

Method: one stack with the demo, whose three servers have two adapters from their command line and
room for two more each; kubectl and HTTP through the gateway.
"""

from __future__ import annotations

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harness import start
from watching import Counts, Watch, ask, eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "lora-adapter"
OWN = {"food-review-0", "food-review-1"}
# Room on the three servers beside their own adapters.
SLOTS = 6


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, kubectl: Path) -> Iterator[Watch]:
    stack = start(tmp_path_factory.mktemp("placement") / "state")
    try:
        stack.wait_for("Ctrl-C stops it all.")
        watch = Watch(stack, kubectl)
        # A busy machine loads slowly; requests shall wait that long.
        watch.kubectl("annotate", "inferencepool/vllm-qwen", "inferway.dev/pick-timeout=30s")
        watch.wait_rollout()
        url = stack.url()
        eventually(lambda: ask(url)[0] == 200, "an answer", 60)
        yield watch
    finally:
        code = stack.stop()
    assert code == 0


@pytest.fixture
def url(demo: Watch) -> str:
    return demo.stack.url()


def adapter(name: str, **spec: object) -> str:
    values = {"poolRef": {"name": "vllm-qwen"}, "source": f"someone/{name}", **spec}
    return json.dumps(
        {
            "apiVersion": "inferway.dev/v1alpha1",
            "kind": "LoRAAdapter",
            "metadata": {"name": name},
            "spec": values,
        }
    )


def loaded(demo: Watch) -> dict[str, set[str]]:
    """Adapters by server, as the servers say; one that does not answer yet or any more has none."""
    found = {}
    for pod in demo.servers():
        where = f"http://{pod['status']['podIP']}:8000/v1/models"
        try:
            with urllib.request.urlopen(where, timeout=10) as answer:
                cards = json.load(answer)["data"]
        except OSError:
            cards = []
        found[pod["metadata"]["name"]] = {card["id"] for card in cards if card.get("parent")}
    return found


def status(demo: Watch, name: str) -> dict[str, Any]:
    raw = json.loads(demo.kubectl("get", "loraadapter", name, "-o", "json"))
    found: dict[str, Any] = raw["status"]
    return found


def forget(demo: Watch) -> None:
    """Takes all LoRAAdapters away, and waits until the servers have only their own adapters."""
    demo.kubectl("delete", "loraadapters", "--all")
    eventually(lambda: all(a == OWN for a in loaded(demo).values()), "only their own adapters")


def counted(demo: Watch, **labels: str) -> int:
    values = Counts.read(demo.picker()["status"]["podIP"]).values
    wanted = set(labels.items())
    return round(
        sum(
            value
            for (name, having), value in values.items()
            if name == "inferway_placement_actions_total" and wanted <= having
        )
    )


def test_a_request_loads_an_adapter_and_its_end_unloads_it(demo: Watch, url: str) -> None:
    code, body = ask(url, model="poems")
    assert code == 404, body
    demo.kubectl("apply", "-f", str(EXAMPLES / "adapter.yaml"))
    demo.kubectl("wait", "loraadapter/poems", "--for=condition=Accepted", "--timeout=30s")
    columns = demo.kubectl("get", "lora", "poems").splitlines()[0].split()
    assert columns == ["NAME", "POOL", "MIN", "WANTED", "LOADED", "PLACED", "AGE"]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: ask(url, seconds=40, model="poems"), range(8)))
    assert [code for code, _ in answers] == [200] * 8
    assert {body["model"] for _, body in answers} == {"poems"}
    assert counted(demo, adapter="poems", action="load") == 1
    eventually(lambda: status(demo, "poems")["replicas"] == 1, "the status")
    (endpoint,) = status(demo, "poems")["endpoints"]
    assert "poems" in loaded(demo)[endpoint["name"]]
    events = eventually(
        lambda: (
            "Loaded on" in (said := demo.kubectl("events", "--for", "loraadapter/poems")) and said
        ),
        "an Event",
    )
    assert endpoint["name"] in events
    forget(demo)
    assert ask(url, model="poems")[0] == 404


def test_a_minimum_is_kept_through_the_end_of_a_server(demo: Watch, url: str) -> None:
    demo.kubectl("apply", "-f", "-", text=adapter("always", minReplicas=3, pinned=True))
    demo.kubectl("wait", "loraadapter/always", "--for=condition=Placed", "--timeout=30s")
    assert all("always" in adapters for adapters in loaded(demo).values())
    victim = demo.servers()[0]["metadata"]["name"]
    demo.kubectl("delete", "pod", victim)
    eventually(
        lambda: (
            len(found := loaded(demo)) == 3
            and victim not in found
            and all("always" in adapters for adapters in found.values())
        ),
        "the new server has it as well",
        60,
    )
    forget(demo)


def test_more_adapters_than_slots_take_turns_and_no_request_fails(demo: Watch, url: str) -> None:
    names = [f"turn-{number}" for number in range(SLOTS + 2)]
    for name in names:
        demo.kubectl("apply", "-f", "-", text=adapter(name, minResidency="0s"))
    codes: Counter[int] = Counter()
    end = threading.Event()

    def keep_asking() -> None:
        # One adapter is in use all the time.
        while not end.is_set():
            codes[ask(url, seconds=40, model=names[0])[0]] += 1

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        for name in [*names, *names]:
            code, body = ask(url, seconds=40, model=name)
            assert code == 200, body
            held = loaded(demo)
            assert all(len(adapters) <= 4 for adapters in held.values()), held
            assert all(adapters >= OWN for adapters in held.values()), held
    finally:
        end.set()
        asking.join()
    assert set(codes) == {200}
    assert counted(demo, action="unload", outcome="done") >= 2
    forget(demo)


def test_a_canary_between_two_adapters(demo: Watch, url: str) -> None:
    demo.kubectl("apply", "-f", str(EXAMPLES / "canary.yaml"))
    demo.kubectl("wait", "loraadapter/poems-v1", "--for=condition=Placed", "--timeout=30s")
    served = eventually(lambda: both_served(url), "both adapters")
    assert served["poems-v1"] > served["poems-v2"] > 0
    demo.kubectl("delete", "inferencemodelrewrite", "poems-canary")
    forget(demo)


def both_served(url: str) -> Counter[str] | None:
    answers = [ask(url, seconds=40, model="poems-canary") for _ in range(60)]
    if any(code != 200 for code, _ in answers):
        return None
    served = Counter(str(body["model"]) for _, body in answers)
    return served if {"poems-v1", "poems-v2"} <= served.keys() else None


def test_a_broken_adapter_is_said(demo: Watch, url: str) -> None:
    source = "/no/such/folder"
    demo.kubectl("apply", "-f", "-", text=adapter("broken", source=source, minReplicas=1))

    def reason() -> str:
        conditions = status(demo, "broken")["conditions"]
        return str(next(c["reason"] for c in conditions if c["type"] == "Placed"))

    eventually(lambda: reason() == "LoadFailed", "the failure in the status")
    code, body = ask(url, model="broken")
    assert (code, body["error"]["code"]) == (503, "adapter_failed")
    assert "No adapter found" in body["error"]["message"]
    forget(demo)

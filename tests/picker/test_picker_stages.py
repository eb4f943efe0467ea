"""From a configuration of roles to the headers and counts of a request: one question, answered."""

from __future__ import annotations

import json
import random

import yaml

from inferway.base.clock import SystemClock
from inferway.cluster.store import Key
from inferway.picker.debug import DecisionRing
from inferway.picker.machine import Callout
from inferway.picker.picker_metrics import PickerSource, ScrapeView
from inferway.picker.replies import Chosen
from inferway.picker.service import PickService, PoolRuntime
from inferway.picker.telemetry import Telemetry
from inferway.scheduling.config import load
from inferway.scheduling.plugins.registry import plugin_types
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.snapshot import Endpoint

CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: decode-filter}
- {type: prefill-filter}
- {type: always-disagg-pd-decider}
- name: stages
  type: disagg-profile-handler
  parameters: {deciders: {prefill: always-disagg-pd-decider}}
schedulingProfiles:
- {name: decode, plugins: [{pluginRef: decode-filter}]}
- {name: prefill, plugins: [{pluginRef: prefill-filter}]}
"""


def test_a_question_to_a_pool_of_roles() -> None:
    scheduler = PoolScheduler(load(yaml.safe_load(CONFIG), plugin_types()).policy)
    scheduler.set_endpoints(
        [
            Endpoint("10.0.0.1:8000", "d", {"llm-d.ai/role": "decode"}),
            Endpoint("10.0.0.2:8000", "p", {"llm-d.ai/role": "prefill"}),
        ],
        0.0,
    )
    telemetry = Telemetry("ns/p", scheduler, DecisionRing(SystemClock()))
    pools = {("ns", "p"): PoolRuntime(scheduler, synced=True)}
    service = PickService(pools, SystemClock(), random.Random(1), telemetry, "t")
    body = json.dumps({"model": "m", "prompt": "hello"}).encode()
    call = Callout(b"POST", b"/pick/ns/p/v1/completions", body, b"r-1", {})
    reply = service.answer(call, "proxy")
    assert isinstance(reply, Chosen)
    assert reply.addresses == "10.0.0.1:8000"
    assert list(reply.headers) == [("x-prefiller-host-port", "10.0.0.2:8000")]
    assert scheduler.in_flight() == {"10.0.0.1:8000": 1, "10.0.0.2:8000": 1}
    rows = dict(PickerSource(telemetry, Key("ns", "p"), ScrapeView(list)).read())
    labels = ("stages", "disagg-profile-handler", "m", "prefill-decode")
    assert rows["llm_d_epp_disagg_decision_total"] == {labels: 1}
    assert rows["llm_d_epp_pd_decision_total"] == {labels: 1}

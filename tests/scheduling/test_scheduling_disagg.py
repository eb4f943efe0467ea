"""Disaggregated serving: conversations with a pool of roles, and the handlers by table."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from plugin_helpers import Dice, context_of, made, pool_of

from inferway.base.errors import UsageError
from inferway.scheduling.accounting import DOUBT_SECONDS, UNHEARD_SECONDS, Settled
from inferway.scheduling.config import load
from inferway.scheduling.decision import Decision, Refusal
from inferway.scheduling.events import Doubted, Finished, ProxyGone, Tick
from inferway.scheduling.plugins.base import Context, Decider, Placed, Screener
from inferway.scheduling.plugins.registry import plugin_types
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.profile import ProfilePolicy
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint

SCRIPTS = sorted((Path(__file__).parent / "testdata" / "disagg").glob("*.script"))
PICTURE = b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}]'
HEADERS = {"prefill": "x-prefiller-host-port", "encode": "x-encoder-hosts-ports"}


class Talk:
    """One script: what is said to a pool, and what is expected of it."""

    def __init__(self) -> None:
        self.pool = PoolScheduler(policy_of("kind: EndpointPickerConfig"))
        self.rng = random.Random(7)
        self.roles: dict[str, str] = {}
        self.picks: dict[str, dict[str, str]] = {}

    def config(self, text: str) -> None:
        self.pool = PoolScheduler(policy_of(text))

    def line(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        getattr(self, f"do_{word}")(rest)

    def do_servers(self, rest: str) -> None:
        self.roles = dict(pair.split("=") for pair in rest.split())
        self._tell()

    def _tell(self) -> None:
        self.pool.set_endpoints(
            [
                Endpoint(f"{name}:8000", name, {"llm-d.ai/role": role} if role else {})
                for name, role in self.roles.items()
            ],
            0.0,
        )

    def do_lose(self, rest: str) -> None:
        stage, _, pick = rest.partition(":")
        del self.roles[self.picks[pick][stage]]
        self._tell()

    def do_done(self, rest: str) -> None:
        served = f"{self.picks[rest]['decode']}:8000"
        self.pool.settle(Finished(rest, code=200, served=served), 0.0)

    def do_expect(self, rest: str) -> None:
        _, who, count = rest.split()
        name = self._names(who, "prefill")
        assert [self.pool.in_flight()[f"{one}:8000"] for one in name] == [int(count)]

    def do_pick(self, rest: str) -> None:
        asked, _, expected = rest.partition(" -> ")
        pick, prompt = asked.split()
        request = Request("", ApiKind.CHAT, prompt_of(prompt))
        decision = self.pool.pick(request, pick, "proxy", 0.0, self.rng)
        if isinstance(decision, Refusal):
            assert decision.reason.value == expected
            return
        found = {"decode": self._name(decision), "stages": decision.stages}
        headers = dict(decision.headers)
        for stage, header in HEADERS.items():
            found[stage] = headers.get(header, "-").removesuffix(":8000")
        self.picks[pick] = found
        first, *others = expected.split()
        for part in [f"decode={first}", *others]:
            stage, _, who = part.partition("=")
            wanted = [who] if stage == "stages" else self._names(who, stage)
            assert found[stage] in wanted, f"{rest}: {stage} is {found[stage]}"

    def _name(self, decision: Decision) -> str:
        return self.pool.columns.name[decision.slots[0]]

    def _names(self, who: str, stage: str) -> list[str]:
        """``a|b``, or the same server or another one than that of an earlier pick."""
        how, colon, pick = who.partition(":")
        if not colon:
            return who.split("|")
        chosen = self.picks[pick][stage]
        others = [name for name, role in self.roles.items() if role == stage and name != chosen]
        return [chosen] if how == "same" else others


def prompt_of(text: str) -> bytes:
    if text == "picture":
        return PICTURE
    parts = (part.split("*") for part in text.split(","))
    return b"".join(letter.encode() * int(count) for letter, count in parts)


def policy_of(text: str) -> ProfilePolicy:
    document = yaml.safe_load(text)
    document.setdefault("apiVersion", "llm-d.ai/v1alpha1")
    policy = load(document, plugin_types(), allow_alpha=True).policy
    assert isinstance(policy, ProfilePolicy)
    return policy


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script(script: Path) -> None:
    talk, config = Talk(), None
    for number, line in enumerate(script.read_text().splitlines(), 1):
        if line == "config":
            config = ""
        elif line == "end":
            assert config is not None
            talk.config(config)
            config = None
        elif config is not None:
            config += line + "\n"
        elif line and not line.startswith("#"):
            try:
                talk.line(line)
            except AssertionError as error:
                raise AssertionError(f"{script.name}:{number}: {line}\n{error}") from error


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 2


@pytest.mark.parametrize(
    ("parameters", "bytes_", "expected"),
    [
        # 400 bytes are 100 tokens, of which 64 are cached: 36 are not.
        ({"nonCachedTokens": 36}, 400, True),
        ({"nonCachedTokens": 37}, 400, False),
        # The prompt alone is too short.
        ({"nonCachedTokens": 101}, 400, False),
        ({"nonCachedTokens": 36, "promptTokens": 101}, 400, False),
        ({"nonCachedTokens": 36, "promptTokens": 100}, 400, True),
        # 0 switches it off.
        ({}, 400, False),
    ],
)
def test_prefix_based_pd_decider(parameters: dict[str, int], bytes_: int, expected: bool) -> None:
    pool = pool_of(2)
    source = made("approx-prefix-cache-producer")
    request = Request("m", ApiKind.COMPLETIONS, b"x" * bytes_)
    source.placed(Placed(context_of(pool, request), "d", {"d": [1]}))
    decider = made("prefix-based-pd-decider", sources=[source], **parameters)
    assert isinstance(decider, Decider)
    assert decider.wants(context_of(pool, request), 1) is expected
    assert decider.wants(context_of(pool, request), None) is False


def test_deciders_that_always_do() -> None:
    text, picture = (context_of(pool_of(1), Request("m", prompt=p)) for p in (b'"a"', PICTURE))
    always, media = made("always-disagg-pd-decider"), made("always-disagg-multimodal-decider")
    assert isinstance(always, Decider)
    assert isinstance(media, Decider)
    assert (always.wants(text, 0), always.wants(picture, None)) == (True, True)
    assert (media.wants(text, 0), media.wants(picture, None)) == (False, True)


PROFILES = """
schedulingProfiles:
- {name: decode, plugins: [{pluginRef: decode-filter}]}
- {name: prefill, plugins: [{pluginRef: prefill-filter}]}
"""
ROLES = """
kind: EndpointPickerConfig
plugins:
- {type: decode-filter}
- {type: prefill-filter}
"""


def two_roles() -> list[Endpoint]:
    return [
        Endpoint("10.0.0.1:8000", "d", {"llm-d.ai/role": "decode", "kubernetes.io/hostname": "h"}),
        Endpoint("10.0.0.2:8000", "p", {"llm-d.ai/role": "prefill", "kubernetes.io/hostname": "h"}),
    ]


def decided(policy: ProfilePolicy, request: Request) -> Decision | Refusal:
    pool = PoolScheduler(policy)
    pool.set_endpoints(two_roles(), 0.0)
    return pool.decide(request, 0.0, random.Random(1))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, [0]), ({"epp-profile": "prefill"}, [1]), ({"epp-profile": "  "}, [0])],
)
def test_header_profile_handler(headers: dict[str, str], expected: list[int]) -> None:
    policy = policy_of(ROLES + "- {type: header-profile-handler}" + PROFILES)
    assert policy.headers == {"epp-profile"}
    decision = decided(policy, Request("", headers=headers))
    assert isinstance(decision, Decision)
    assert decision.slots == expected


def test_header_profile_handler_refuses_an_unknown_profile() -> None:
    policy = policy_of(ROLES + "- {type: header-profile-handler}" + PROFILES)
    refused = decided(policy, Request("", headers={"epp-profile": "encode"}))
    assert isinstance(refused, Refusal)
    assert "'encode'. Profiles of this pool: decode, prefill." in refused.message
    with pytest.raises(UsageError, match="needs its default profile 'decoding'"):
        policy_of(
            ROLES
            + "- {type: header-profile-handler, parameters: {defaultProfile: decoding}}"
            + PROFILES
        )


def test_pd_profile_handler_and_its_helper_still_load() -> None:
    policy = policy_of(
        ROLES
        + """
- {type: always-disagg-pd-decider}
- {type: prefill-header-handler}
- type: pd-profile-handler
  parameters: {deciderPluginName: always-disagg-pd-decider, primaryPort: 8000}
"""
        + PROFILES
    )
    decision = decided(policy, Request(""))
    assert isinstance(decision, Decision)
    assert list(decision.headers) == [("x-prefiller-host-port", "10.0.0.2:8000")]
    assert (decision.slots, decision.prefill, decision.stages) == ([0], 1, "prefill-decode")


def test_older_parameters_of_the_disagg_handler() -> None:
    policy = policy_of(
        ROLES
        + """
- {type: always-disagg-pd-decider}
- type: disagg-profile-handler
  parameters: {prefillDeciderPluginName: always-disagg-pd-decider, decodeProfile: decode}
"""
        + PROFILES
    )
    decision = decided(policy, Request(""))
    assert isinstance(decision, Decision)
    assert decision.stages == "prefill-decode"


def test_prefill_first_tells_the_decode_stage_where_it_is() -> None:
    policy = policy_of(
        ROLES
        + """
- {type: topology-affinity-scorer}
- type: disagg-profile-handler
  parameters: {stageOrder: prefill-first}
schedulingProfiles:
- {name: prefill, plugins: [{pluginRef: prefill-filter}]}
- {name: decode, plugins: [{pluginRef: decode-filter}, {pluginRef: topology-affinity-scorer}]}
"""
    )
    pool = PoolScheduler(policy)
    near, prefill = two_roles()
    far = Endpoint("10.0.0.3:8000", "f", {"llm-d.ai/role": "decode", "kubernetes.io/hostname": "x"})
    pool.set_endpoints([far, near, prefill], 0.0)
    for seed in range(8):
        decision = pool.decide(Request(""), 0.0, random.Random(seed))
        assert isinstance(decision, Decision)
        assert pool.columns.name[decision.slots[0]] == "d"
        assert decision.stages == "prefill-decode"


def test_data_parallel_profile_handler() -> None:
    policy = policy_of(
        """
kind: EndpointPickerConfig
plugins:
- {type: queue-scorer}
- {type: data-parallel-profile-handler, parameters: {primaryPort: 9000}}
schedulingProfiles:
- {name: default, plugins: [{pluginRef: queue-scorer}]}
"""
    )
    assert policy.port == 9000
    pool = PoolScheduler(policy)
    pool.set_endpoints([Endpoint("10.0.0.1:8003", "p")], 0.0)
    decision = pool.pick(Request(""), "1", "proxy", 0.0, random.Random(1))
    assert isinstance(decision, Decision)
    assert list(decision.headers) == [("x-data-parallel-host-port", "10.0.0.1:8003")]
    # The Pod answers at its first port: that is no other server, and nobody is suspected.
    pool.settle(Finished("1", code=200, served="10.0.0.1:9000"), 0.0)
    assert pool.columns.suspect_until[0] == 0.0
    pool.pick(Request(""), "2", "proxy", 0.0, random.Random(1))
    pool.settle(Finished("2", code=200, served="10.0.0.9:9000"), 0.0)
    assert pool.columns.suspect_until[0] > 0.0


@pytest.mark.parametrize(
    ("handler", "profiles", "expected"),
    [
        ("single-profile-handler", ["a", "b"], "takes exactly one profile"),
        ("data-parallel-profile-handler", ["a", "b"], "takes exactly one profile"),
        ("disagg-profile-handler", ["prefill"], "needs a profile 'decode'"),
    ],
)
def test_profiles_that_do_not_fit_the_handler(
    handler: str, profiles: list[str], expected: str
) -> None:
    document = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [{"type": handler}],
        "schedulingProfiles": [{"name": name} for name in profiles],
    }
    with pytest.raises(UsageError, match=expected):
        load(document, plugin_types())


REVISION, ROLE = "disaggregatedset.x-k8s.io/revision", "disaggregatedset.x-k8s.io/role"


def rollout() -> list[dict[str, str]]:
    """A has 2 prefill and 9 decode, B 1 and 1, C one decode alone; one Pod is of another set."""
    shape = [("A", "prefill", 2), ("A", "decode", 9), ("B", "prefill", 1), ("B", "decode", 1)]
    labels = [
        {"set": "mine", REVISION: revision, ROLE: role}
        for revision, role, count in [*shape, ("C", "decode", 1)]
        for _ in range(count)
    ]
    return [*labels, {"set": "other", REVISION: "C", ROLE: "prefill"}]


@pytest.mark.parametrize(
    ("mode", "dice", "revision"),
    [
        # Decode is the largest role: A 9 of 10, B 1 of 10.
        ("max-role", 0.89, "A"),
        ("max-role", 0.91, "B"),
        # A 11 of 13 = 0.846, B 2 of 13.
        ("sum", 0.84, "A"),
        ("sum", 0.85, "B"),
    ],
)
def test_rollout_screener_draws_a_complete_revision(mode: str, dice: float, revision: str) -> None:
    labels = rollout()
    pool = pool_of(len(labels), labels)
    plugin = screener(mode)
    context = Context(Request("m"), pool.snapshot(), 0.0, Dice(dice))
    kept = plugin.screen(context, list(pool.columns.live))
    assert {labels[slot][REVISION] for slot in kept} == {revision}
    assert len(kept) == {"A": 11, "B": 2}[revision]


def screener(mode: str, **gating: object) -> Screener:
    plugin = made(
        "disaggregatedset-rollout-screener",
        scope={"labelSelector": "set in (mine),!gone"},
        headerSelectors=[
            {"name": "r", "headerName": "X-Revision", "labelKey": REVISION, "mode": "strict"},
            {"name": "s", "headerName": "X-Set", "labelKey": "set", "mode": "prefer"},
        ],
        revisionGating={
            "mode": mode,
            "requireRoles": {"values": ["prefill", "decode"]},
            **gating,
        },
    )
    assert isinstance(plugin, Screener)
    return plugin


def test_rollout_screener_follows_a_header_and_marks_the_answer() -> None:
    labels = rollout()
    pool = pool_of(len(labels), labels)
    every = list(pool.columns.live)

    def screened(mode: str, **headers: str) -> set[str]:
        request = Request("m", headers={n.replace("_", "-"): t for n, t in headers.items()})
        kept = screener(mode).screen(context_of(pool, request, dice=0.0), every)
        return {labels[slot][REVISION] for slot in kept}

    assert screened("sum", x_revision="B") == {"B"}
    # C has no server that prefills, D none at all: nobody may get the request.
    assert screened("sum", x_revision="C") == set()
    assert screened("disabled", x_revision="C") == {"C"}
    assert screened("disabled", x_revision="D") == set()
    assert screened("disabled", x_set="other") == {"A", "B", "C"}
    answer = screener("sum").response_headers(Placed(context_of(pool), "d", {"d": [0]}))
    assert list(answer) == [("x-revision", "A"), ("x-set", "mine")]
    with pytest.raises(ValueError, match=r"revisionGating\.requireRoles: is missing"):
        screener("sum", requireRoles=None)


@pytest.mark.parametrize("way", ["answered", "proxy gone", "expired", "doubted", "pushed out"])
def test_the_server_that_prefills_is_let_go_once_whatever_happens(way: str) -> None:
    policy = policy_of(
        ROLES
        + """
- {type: always-disagg-pd-decider}
- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}
"""
        + PROFILES
    )
    pool = PoolScheduler(policy)
    pool.set_endpoints(two_roles(), 0.0)
    request = Request("", prompt=b"x" * 400)
    pool.pick(request, "1", "proxy", 0.0, random.Random(1))
    assert pool.in_flight() == {"10.0.0.1:8000": 1, "10.0.0.2:8000": 1}
    # The prompt is computed where it is prefilled, and nowhere else.
    assert pool.columns.in_flight_tokens == [0, 100]
    ended = {
        "answered": lambda: pool.settle(Finished("1", code=200, served="10.0.0.1:8000"), 1.0),
        "proxy gone": lambda: pool.settle(ProxyGone("proxy"), 1.0),
        "expired": lambda: pool.settle(Tick(), UNHEARD_SECONDS + 1.0),
        "doubted": lambda: doubt(pool),
        "pushed out": lambda: [pool._release(pool.ledger.take_oldest()) for _ in range(2)],
    }[way]()
    assert len(ended) == (2 if way == "pushed out" else 1)
    assert pool.in_flight() == {"10.0.0.1:8000": 0, "10.0.0.2:8000": 0}
    assert pool.columns.in_flight_tokens == [0, 0]
    assert (len(pool.ledger), pool._prefills) == (0, set())
    assert pool.settle(Finished("1", code=200), 2.0) == []


def doubt(pool: PoolScheduler) -> list[Settled]:
    pool.settle(Doubted("1"), 0.0)
    return pool.settle(Tick(), DOUBT_SECONDS + 0.1)

"""Plugins that keep requests where something is, against values computed by hand."""

from __future__ import annotations

import base64

import pytest
from plugin_helpers import Dice, context_of, kept, made, placed, pool_of, scores

from inferway.scheduling.events import Scrape
from inferway.scheduling.plugins.base import Context, Placed, Plugin, PrefixProducer
from inferway.scheduling.plugins.media import find_items
from inferway.scheduling.plugins.session_producers import AGENT_HEADERS
from inferway.scheduling.request import ApiKind, Request


def prompt(text: bytes, **fields: object) -> Request:
    return Request("m", ApiKind.COMPLETIONS, text, **fields)  # type: ignore[arg-type]


# Ten blocks of 64 tokens, which are 256 bytes.
TEN_BLOCKS = b"".join(bytes([65 + n]) * 256 for n in range(10))


def test_approx_prefix_cache_producer_has_blocks_of_64_tokens() -> None:
    pool = pool_of(2)
    plugin = made("approx-prefix-cache-producer")
    assert isinstance(plugin, PrefixProducer)
    placed(plugin, pool, prompt(TEN_BLOCKS[:1024]), 1)
    match = plugin.match(context_of(pool, prompt(TEN_BLOCKS + b"rest")))
    # Four of ten blocks; the last four bytes are no block.
    assert (match.matched, match.total) == ({1: 1024}, 2560)
    assert match.share(1) == 0.4
    assert match.share(0) == 0.0


@pytest.mark.parametrize(
    ("parameters", "total"),
    [
        # Fewer than 64 tokens become 64: 256 bytes, ten blocks of them.
        ({"blockSizeTokens": 16}, 2560),
        # 128 tokens are 512 bytes: five blocks.
        ({"blockSizeTokens": 128}, 2560),
        ({"blockSizeTokens": 100}, 2400),
        # 640 tokens at most: 2560 bytes are 4 blocks of 512.
        ({"blockSizeTokens": 128, "maxPrefixTokensToMatch": 600}, 2048),
        # In blocks, if there is no limit in tokens.
        ({"maxPrefixTokensToMatch": 0, "maxPrefixBlocksToMatch": 3}, 768),
        ({"maxPrefixTokensToMatch": 0, "maxPrefixBlocksToMatch": 0}, 2560),
        # The older form in bytes.
        ({"blockSize": 1000}, 2000),
    ],
)
def test_approx_prefix_cache_producer_limits(parameters: dict[str, object], total: int) -> None:
    plugin = made("approx-prefix-cache-producer", **parameters)
    assert isinstance(plugin, PrefixProducer)
    assert plugin.match(context_of(pool_of(1), prompt(TEN_BLOCKS))).total == total


def test_approx_prefix_cache_producer_forgets_the_oldest_blocks() -> None:
    pool = pool_of(1)
    plugin = made("approx-prefix-cache-producer", lruCapacityPerServer=2)
    assert isinstance(plugin, PrefixProducer)
    placed(plugin, pool, prompt(TEN_BLOCKS), 0)
    # Of ten blocks the first two are left: 2 / 10.
    assert plugin.match(context_of(pool, prompt(TEN_BLOCKS))).share(0) == 0.2
    plugin.drop(0)
    assert plugin.match(context_of(pool, prompt(TEN_BLOCKS))).share(0) == 0.0


def test_prefix_cache_scorer_reads_a_producer() -> None:
    pool = pool_of(2)
    source = made("approx-prefix-cache-producer")
    placed(source, pool, prompt(TEN_BLOCKS[:1280]), 0)
    # Five of ten blocks.
    plugin = made("prefix-cache-scorer", sources=[source])
    assert scores(plugin, pool, prompt(TEN_BLOCKS)) == [0.5, 0.0]
    # 0.4 * min(1, 320 tokens / 640)^2 + 0.6 * 0.5 = 0.4 * 0.25 + 0.3
    weighted = made(
        "prefix-cache-scorer", sources=[source], matchLengthWeight=0.4, matchLengthScaleTokens=640
    )
    assert scores(weighted, pool, prompt(TEN_BLOCKS)) == pytest.approx([0.4, 0.0])
    # 320 tokens are more than the scale: 0.4 * 1 + 0.6 * 0.5
    short = made(
        "prefix-cache-scorer", sources=[source], matchLengthWeight=0.4, matchLengthScaleTokens=100
    )
    assert scores(short, pool, prompt(TEN_BLOCKS)) == pytest.approx([0.7, 0.0])


def test_precise_prefix_cache_producer_reads_the_pools_own_index() -> None:
    pool = pool_of(2)
    request = prompt(b"x" * 1024)
    pool.prefixes.insert(context_of(pool, prompt(b"x" * 512)).blocks, 1)
    source = made("precise-prefix-cache-producer")
    assert isinstance(source, PrefixProducer)
    # 512 of 1024 bytes; 256 tokens in 1024 bytes.
    match = source.match(context_of(pool, request))
    assert (match.matched, match.total, match.tokens_per_byte) == ({1: 512}, 1024, 0.25)
    plugin = made("prefix-cache-scorer", sources=[source])
    assert scores(plugin, pool, request) == [0.0, 0.5]
    assert scores(made("precise-prefix-cache-scorer"), pool, request) == [0.0, 0.5]


def test_no_hit_lru_scorer_spreads_cold_prompts() -> None:
    pool = pool_of(3)
    source = made("approx-prefix-cache-producer")
    plugin = made("no-hit-lru-scorer", sources=[source])
    # Nobody was used: 1 - rank / 2 in order.
    assert scores(plugin, pool, prompt(b"a" * 300)) == [1.0, 0.5, 0.0]
    for slot in (2, 0):
        context = context_of(pool, prompt(b"a" * 300))
        plugin.score(context, [0, 1, 2])  # type: ignore[attr-defined]
        plugin.placed(Placed(context, "default", {"default": [slot]}))
    # 1 was never used, then 2, which was used before 0.
    assert scores(plugin, pool, prompt(b"b" * 300)) == [0.0, 1.0, 0.5]
    # Somebody has the prompt: 0.5 for all.
    placed(source, pool, prompt(b"c" * 300), 1)
    warm = context_of(pool, prompt(b"c" * 300))
    assert plugin.score(warm, [0, 1, 2]) == [0.5, 0.5, 0.5]  # type: ignore[attr-defined]
    # And where it goes does not count.
    plugin.placed(Placed(warm, "default", {"default": [1]}))
    assert scores(plugin, pool, prompt(b"d" * 300)) == [0.0, 1.0, 0.5]
    plugin.drop(0)
    assert scores(plugin, pool, prompt(b"d" * 300)) == [1.0, 0.5, 0.0]


def test_no_hit_lru_scorer_remembers_so_many_and_one_alone_is_best() -> None:
    pool = pool_of(3)
    plugin = made("no-hit-lru-scorer", lruSize=1)
    for slot in (0, 1):
        context = context_of(pool, prompt(b"a" * 300))
        plugin.score(context, [0, 1, 2])  # type: ignore[attr-defined]
        plugin.placed(Placed(context, "default", {"default": [slot], "prefill": []}))
    # Only 1 is remembered.
    assert scores(plugin, pool, prompt(b"b" * 300)) == [1.0, 0.0, 0.5]
    assert plugin.score(context_of(pool), [2]) == [1.0]  # type: ignore[attr-defined]


def test_burst_prefix_cache_producer_keeps_a_burst_together() -> None:
    pool = pool_of(3)
    plugin = made("burst-prefix-cache-producer", maxPerReplica=2)
    assert isinstance(plugin, PrefixProducer)
    request = prompt(b"x" * 600)

    def share(now: float) -> list[float]:
        match = plugin.match(context_of(pool, request, now=now))
        return [match.share(slot) for slot in range(3)]

    assert share(0.0) == [0.0, 0.0, 0.0]
    placed(plugin, pool, request, 1, now=0.0)
    assert share(0.05) == [0.0, 1.0, 0.0]
    placed(plugin, pool, request, 1, now=0.05)
    # The server has its two; the next one goes anywhere, and takes the group along.
    assert share(0.06) == [0.0, 0.0, 0.0]
    placed(plugin, pool, request, 2, now=0.06)
    assert share(0.07) == [0.0, 0.0, 1.0]
    # The window of 100 ms is over.
    assert share(0.11) == [0.0, 0.0, 0.0]


def test_burst_prefix_cache_producer_joins_prompts_that_begin_alike() -> None:
    pool = pool_of(2)
    plugin = made("burst-prefix-cache-producer", minColocateBlocks=2)
    assert isinstance(plugin, PrefixProducer)
    placed(plugin, pool, prompt(b"x" * 512 + b"one" * 200), 1)
    match = plugin.match(context_of(pool, prompt(b"x" * 512 + b"two" * 300)))
    assert match.share(1) == 1.0
    plugin.drop(1)
    assert plugin.match(context_of(pool, prompt(b"x" * 512 + b"two" * 300))).matched == {}
    assert plugin.match(context_of(pool, prompt(b"short"))).total == 0


@pytest.mark.parametrize(
    ("bytes_", "expected"),
    [
        # 1000 tokens in 0-2000: 0.3 + 0.7 * (0.7 / (1 + 0.2) + 0.3 * 1000 / 2000)
        # = 0.3 + 0.7 * (0.583333 + 0.15) = 0.813333. In 0-10000: 0.3 + 0.7 * (0.35 + 0.27) = 0.734.
        # In 500-500: 500 away, 0.3 / 1.5 = 0.2. Without a label 0.5; no range: 0.
        (4000, [0.813333, 0.734, 0.2, 0.5, 0.0]),
        # 500 tokens: 0.3 + 0.7 * (0.583333 + 0.3 * 0.75), 0.3 + 0.7 * (0.35 + 0.285), width 0: 1.
        (2000, [0.865833, 0.7445, 1.0, 0.5, 0.0]),
        # 12 000 tokens: 0.3 / (1 + 10), 0.3 / (1 + 2), 0.3 / (1 + 11.5).
        (48000, [0.027273, 0.1, 0.024, 0.5, 0.0]),
    ],
)
def test_context_length_aware(bytes_: int, expected: list[float]) -> None:
    key = "llm-d.ai/context-length-range"
    ranges = ["0-2000", "0-10000", "500-500"]
    pool = pool_of(5, [*({key: value} for value in ranges), {}, {key: "big"}])
    request = prompt(b"x" * bytes_)
    values = scores(made("context-length-aware"), pool, request)
    assert values == pytest.approx(expected, abs=1e-6)
    assert kept(made("context-length-aware"), pool, request) == [0, 1, 2, 3, 4]
    strict = made("context-length-aware", enableFiltering=True)
    inside = {4000: [0, 1, 3], 2000: [0, 1, 2, 3], 48000: [3]}
    assert kept(strict, pool, request) == inside[bytes_]


def test_header_label_affinity_scorer() -> None:
    pool = pool_of(3, [{"zone": "a"}, {"zone": "b"}, {}])
    plugin = made("header-label-affinity-scorer", headerName="X-Zone", labelKey="zone")
    assert scores(plugin, pool, Request("m", headers={"x-zone": "b"})) == [0.0, 1.0, 0.0]
    assert scores(plugin, pool, Request("m")) == [0.0, 0.0, 0.0]


PLACES = [
    {"kubernetes.io/hostname": "h1", "topology.kubernetes.io/rack": "r1"},
    {"kubernetes.io/hostname": "h2", "topology.kubernetes.io/rack": "r1"},
    {"topology.kubernetes.io/rack": "r2", "topology.kubernetes.io/zone": "z1"},
    {"topology.kubernetes.io/region": "e1"},
    {},
]
PEER = {
    "kubernetes.io/hostname": "h1",
    "topology.kubernetes.io/rack": "r1",
    "topology.kubernetes.io/zone": "z1",
    "topology.kubernetes.io/region": "e1",
}


def test_topology_affinity_scorer() -> None:
    pool = pool_of(6, [*PLACES, PEER])
    plugin = made("topology-affinity-scorer")
    context = context_of(pool)
    assert plugin.score(context, [0, 1, 2, 3, 4]) == [0.0] * 5  # type: ignore[attr-defined]
    context.peer = 5
    values = plugin.score(context, [0, 1, 2, 3, 4])  # type: ignore[attr-defined]
    assert values == [1.0, 0.2, 0.05, 0.02, 0.0]


@pytest.mark.parametrize(
    ("level", "expected"),
    [("host", [0]), ("rack", [0, 1]), ("zone", [0, 1, 2]), ("region", [0, 1, 2, 3])],
)
def test_topology_affinity_filter(level: str, expected: list[int]) -> None:
    pool = pool_of(6, [*PLACES, PEER])
    plugin = made("topology-affinity-filter", minAffinity=level)
    context = context_of(pool)
    every = [0, 1, 2, 3, 4]
    assert plugin.keep(context, every) == every  # type: ignore[attr-defined]
    context.peer = 5
    assert plugin.keep(context, every) == expected  # type: ignore[attr-defined]
    # None is near: all are kept.
    assert plugin.keep(context, [4]) == [4]  # type: ignore[attr-defined]


def session_request(**headers: str) -> Request:
    return Request("m", headers={name.replace("_", "-"): text for name, text in headers.items()})


def test_session_affinity_by_token() -> None:
    pool = pool_of(3)
    plugin = made("session-affinity-filter")
    first = session_request()
    assert kept(plugin, pool, first) == [0, 1, 2]
    answer = Placed(context_of(pool, first), "default", {"default": [2]})
    ((name, token),) = plugin.response_headers(answer)
    assert (name, base64.b64decode(token)) == ("x-session-token", b"pod-2:8000")
    again = session_request(x_session_token=token)
    assert kept(plugin, pool, again) == [2]
    assert scores(made("session-affinity-scorer"), pool, again) == [0.0, 0.0, 1.0]
    # The published form is namespace/name, with the number of the port behind it or not.
    for text in (b"default/pod-1", b"default/pod-1-rank-0"):
        published = session_request(x_session_token=base64.b64encode(text).decode())
        assert kept(plugin, pool, published) == [1]
    for broken in ("%%%", base64.b64encode(b"\xff").decode(), base64.b64encode(b"x:1").decode()):
        assert kept(plugin, pool, session_request(x_session_token=broken)) == [0, 1, 2]


def test_session_affinity_by_id_binds_for_a_while() -> None:
    pool = pool_of(3)
    plugin = made(
        "session-affinity-filter",
        strategy="session_id",
        sessionIdConfig={"evictionTtlSeconds": 10.0},
    )
    request = session_request(x_session_id="s")

    def route(slot: int, now: float, slots: list[int]) -> list[int]:
        context = context_of(pool, request, now=now)
        left: list[int] = plugin.keep(context, slots)  # type: ignore[attr-defined]
        plugin.placed(Placed(context, "default", {"default": [slot]}))
        return left

    every = [0, 1, 2]
    assert route(1, 0.0, every) == every
    assert route(1, 9.0, every) == [1]
    # Used at 9 s, so it is remembered until 19 s.
    assert route(1, 18.9, every) == [1]
    # Its server is no candidate: it moves.
    assert route(2, 19.0, [0, 2]) == [0, 2]
    assert route(2, 20.0, every) == [2]
    assert route(0, 31.0, every) == every
    assert route(0, 32.0, every) == [0]
    plugin.drop(0)
    assert route(1, 33.0, every) == every
    assert plugin.response_headers(Placed(context_of(pool, request), "d", {"d": [1]})) == ()


def test_session_affinity_scorer_keeps_a_session_that_was_outvoted() -> None:
    pool = pool_of(2)
    plugin = made("session-affinity-scorer", strategy="session_id")
    request = session_request(x_session_id="s")
    placed(plugin, pool, request, 0)
    context = context_of(pool, request)
    assert plugin.score(context, [0, 1]) == [1.0, 0.0]  # type: ignore[attr-defined]
    # The picker chose another server, but the session's was there: it stays bound.
    plugin.placed(Placed(context, "default", {"default": [1]}))
    assert scores(plugin, pool, request) == [1.0, 0.0]


def test_session_affinity_of_a_stage_and_by_other_sources() -> None:
    pool = pool_of(2)
    agent = made("agent-identity", additionalSessionHeaders=["X-Mine"])
    ids = made("session-id-producer", cookieName="sid")
    plugin = made(
        "session-affinity-filter",
        named={"agent-identity": agent, "session-id-producer": ids},
        strategy="session_id",
        profileName="prefill",
        sessionIdConfig={
            "sources": [
                {"header": "X-First"},
                {"attribute": "agent-identity"},
                {"attribute": "SessionIDDataKey", "producer": "session-id-producer"},
            ]
        },
    )
    for name, text in [
        ("x-first", "a"),
        ("x-mine", "b"),
        *((header, f"c{n}") for n, header in enumerate(AGENT_HEADERS)),
        ("cookie", "other=1; sid=d"),
    ]:
        request = Request("m", headers={name: text})
        context = context_of(pool, request)
        plugin.placed(Placed(context, "decode", {"decode": [0], "prefill": [1]}))
        assert kept(plugin, pool, request) == [1], name
    assert kept(plugin, pool, Request("m", headers={"cookie": "other=1"})) == [0, 1]
    with pytest.raises(ValueError, match="needs either a header or an attribute"):
        made(
            "session-affinity-filter",
            strategy="session_id",
            sessionIdConfig={"sources": [{"header": "a", "attribute": "agent-identity"}]},
        )
    with pytest.raises(ValueError, match="no plugin 'agent-identity' makes it"):
        made(
            "session-affinity-filter",
            strategy="session_id",
            sessionIdConfig={"sources": [{"attribute": "agent-identity"}]},
        )


@pytest.mark.parametrize(
    ("prompt_", "count"),
    [
        (b'[{"role":"user","content":"no \\"image_url\\": here"}]', 0),
        (b'[{"content":[{"type":"image_url","image_url":{"url":"http://x/1.png"}}]}]', 1),
        (b'[{"image_url":{"detail":"low","url":"a"}},{"image_url":{"url":"b","detail":"x"}}]', 2),
        # The same one twice is one.
        (b'[{"image_url": {"url": "a"}}, {"image_url":{"url":"a"}}]', 1),
        (b'[{"type":"input_image","image_url":"data:image/png;base64,AA\\/\\""}]', 1),
        (b'[{"input_audio":{"format":"wav","data":"AAAA"}},{"video_url":{"url":"v"}}]', 2),
        (b'"image_url', 0),
        (b'{"image_url": {"url": "never ends', 1),
        (b'{"image_url": 3, "audio_url": null}', 0),
    ],
)
def test_media_items_are_found_in_raw_json(prompt_: bytes, count: int) -> None:
    assert len(find_items(prompt_)) == count
    assert find_items(memoryview(prompt_)) == find_items(prompt_)


def chat(*urls: str) -> Request:
    parts = ",".join(f'{{"type":"image_url","image_url":{{"url":"{url}"}}}}' for url in urls)
    return Request("m", ApiKind.CHAT, f'[{{"role":"user","content":[{parts}]}}]'.encode())


def test_mm_embeddings_cache_scorer() -> None:
    pool = pool_of(3)
    source = made("mm-embeddings-cache-producer")
    plugin = made("mm-embeddings-cache-scorer", sources=[source])
    placed(source, pool, chat("a", "b"), 0)
    placed(source, pool, chat("b"), 2)
    # Of b, c and d the first server has one; of a and b both.
    assert scores(plugin, pool, chat("b", "c", "d")) == pytest.approx([1 / 3, 0.0, 1 / 3])
    assert scores(plugin, pool, chat("a", "b", "a")) == [1.0, 0.0, 0.5]
    assert scores(plugin, pool, prompt(b'"text"')) == [0.0, 0.0, 0.0]
    source.drop(0)
    assert scores(plugin, pool, chat("a", "b")) == [0.0, 0.0, 0.5]


def test_mm_embeddings_cache_producer_keeps_two_mebibytes_for_each_item() -> None:
    pool = pool_of(1)
    # 5 MiB are room for two items.
    source = made("mm-embeddings-cache-producer", cacheSizeInMBPerServer=5)
    plugin = made("mm-embeddings-cache-scorer", sources=[source])
    for url in ("a", "b", "c"):
        placed(source, pool, chat(url), 0)
    assert scores(plugin, pool, chat("a", "b", "c")) == pytest.approx([2 / 3])


def affinity_filter(source: Plugin, **parameters: object) -> Plugin:
    return made("prefix-cache-affinity-filter", sources=[source], **parameters)


def test_prefix_cache_affinity_filter() -> None:
    pool = pool_of(3)
    source = made("approx-prefix-cache-producer")
    placed(source, pool, prompt(TEN_BLOCKS[: 8 * 256]), 0)
    placed(source, pool, prompt(TEN_BLOCKS[: 7 * 256]), 1)
    request = prompt(TEN_BLOCKS)
    # 8 / 10 is enough, 7 / 10 is not.
    assert kept(affinity_filter(source), pool, request) == [0]
    assert kept(affinity_filter(source, affinityThreshold=0.7), pool, request) == [0, 1]
    # Nobody has it: all.
    assert kept(affinity_filter(source), pool, prompt(b"z" * 600)) == [0, 1, 2]
    assert kept(affinity_filter(source, affinityThreshold=0), pool, request) == [0, 1, 2]
    exploring = affinity_filter(source, explorationProbability=0.1)
    assert kept(exploring, pool, request, dice=0.09) == [0, 1, 2]
    assert kept(exploring, pool, request, dice=0.11) == [0]


def test_prefix_cache_affinity_filter_lets_go_of_busy_servers() -> None:
    pool = pool_of(2)
    source = made("approx-prefix-cache-producer")
    request = prompt(TEN_BLOCKS)
    placed(source, pool, request, 0)
    # 15 928 tokens in flight are 1000 ms at 15 928 tokens/s.
    pool.columns.backlog_tokens[0] = 15_928.0
    assert kept(affinity_filter(source, maxTTFTPenaltyMs=1000), pool, request) == [0]
    assert kept(affinity_filter(source, maxTTFTPenaltyMs=999), pool, request) == [0, 1]
    assert kept(affinity_filter(source, maxTTFTPenaltyMs=0), pool, request) == [0]
    slow = affinity_filter(source, maxTTFTPenaltyMs=1999, peakPrefillThroughput=7964)
    assert kept(slow, pool, request) == [0, 1]


def test_p2p_source_producer_names_who_has_more() -> None:
    pool = pool_of(4, scrapes=[Scrape(), Scrape(waiting=3), Scrape(), Scrape()])
    source = made("approx-prefix-cache-producer")
    placed(source, pool, prompt(TEN_BLOCKS), 1)
    placed(source, pool, prompt(TEN_BLOCKS[: 9 * 256]), 2)
    placed(source, pool, prompt(TEN_BLOCKS[: 4 * 256]), 3)

    def header(
        slot: int, dice: float, picked: dict[str, list[int]] | None = None, **more: object
    ) -> list[tuple[str, str]]:
        plugin = made("p2p-source-producer", sources=[source], **more)
        request = prompt(TEN_BLOCKS)
        context = Context(request, pool.snapshot(), 0.0, Dice(dice))
        return list(plugin.request_headers(Placed(context, "d", picked or {"d": [slot]})))

    name = "x-kv-cache-source-host-port"
    # 1 has ten blocks and the weight 1 / (1 + 3); 2 has one less, and the weight 1: 0.25 of 1.25.
    assert header(0, 0.19) == [(name, "10.0.0.1:8000")]
    assert header(0, 0.21) == [(name, "10.0.0.2:8000")]
    # The server that prefills computes.
    assert header(1, 0.0, {"d": [1], "prefill": [3]}) == [(name, "10.0.0.1:8000")]
    # Never itself, nor one that has less than 64 tokens more.
    assert header(1, 0.0) == []
    assert header(2, 0.0, minCachedTokenDelta=65) == []
    assert header(2, 0.0, minCachedTokenDelta=64) == [(name, "10.0.0.1:8000")]

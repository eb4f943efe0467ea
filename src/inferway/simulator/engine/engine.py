"""The model of a vLLM V1 engine: one call of ``step`` is one pass of scheduler and model.

Order of a step, as in vLLM's V1 scheduler: running sequences first, in the order in which they were
admitted, each with what it still needs within the token budget; where the cache is full the
sequence admitted last is preempted and starts again later from its tokens (recompute). Only if
nobody was preempted are waiting sequences admitted, first come first served, with what the prefix
cache already holds taken off. A waiting sequence whose adapter has no slot lets others pass.

The state after a call is the state at the end of the step; the caller lets the step's seconds pass
before it tells anybody about the outputs. Knows no clock, no text and no network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from inferway.simulator.engine.adapters import AdapterSlots
from inferway.simulator.engine.blocks import BlockPool, chain_hashes, root_hash
from inferway.simulator.engine.profiles import Profile, Work
from inferway.simulator.engine.values import (
    BlockLog,
    EngineConfig,
    Output,
    RemovedBlocks,
    Request,
    Stats,
    Step,
    StoredBlocks,
    Timing,
)


class Sequence:
    """A request inside the engine. ``computed`` tokens have their keys and values in blocks."""

    __slots__ = (
        "blocks",
        "cached",
        "computed",
        "emitted",
        "hashes",
        "preemptions",
        "prompt_tokens",
        "request",
        "room",
        "scheduled",
        "total",
    )

    def __init__(self, request: Request) -> None:
        self.request = request
        self.prompt_tokens = len(request.prompt)
        # Tokens that exist: prompt and what was generated.
        self.total = self.prompt_tokens
        # Tokens that the blocks have room for.
        self.room = 0
        self.blocks: list[int] = []
        self.hashes: list[int] = []
        self.computed = 0
        self.emitted = 0
        self.cached = 0
        self.preemptions = 0
        self.scheduled = -1.0


class _Tally:
    """What a step adds up while it is planned."""

    __slots__ = (
        "adapter_seconds",
        "budget",
        "cache_tokens",
        "decode_sequences",
        "decode_tokens",
        "hit",
        "preempted",
        "prefill_pairs",
        "prefill_tokens",
        "queried",
    )

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.prefill_tokens = 0
        self.prefill_pairs = 0
        self.decode_sequences = 0
        self.decode_tokens = 0
        self.cache_tokens = 0
        self.preempted = 0
        self.queried = 0
        self.hit = 0
        self.adapter_seconds = 0.0

    def work(self, scheduled: list[tuple[Sequence, int]]) -> Work:
        """What the profile asks about."""
        return Work(
            prefill_tokens=self.prefill_tokens,
            prefill_pairs=self.prefill_pairs,
            decode_sequences=self.decode_sequences,
            cache_tokens=self.cache_tokens,
            adapters=sum(1 for sequence, _ in scheduled if sequence.request.adapter),
        )


class Engine:
    """Sequences, blocks and adapters of one server."""

    def __init__(self, config: EngineConfig, profile: Profile) -> None:
        self.config = config
        self.profile = profile
        self.pool = BlockPool(config.blocks)
        self.adapters = AdapterSlots(
            config.adapters_device_max,
            config.adapters_host_max,
            profile.adapter_host_load_seconds,
            profile.adapter_disk_load_seconds,
        )
        self._running: list[Sequence] = []
        self._waiting: deque[Sequence] = deque()
        self._sequences: dict[int, Sequence] = {}
        self._steps = 0
        # What became of blocks, in order; None while nobody wants to know.
        self.log: list[BlockLog] | None = None

    @property
    def idle(self) -> bool:
        return not self._sequences

    def add(self, request: Request) -> None:
        """Queues a request. Its prompt and output are not empty and fit the cache."""
        assert request.id not in self._sequences
        assert request.prompt
        assert request.output
        assert len(request.prompt) + len(request.output) <= self.config.capacity_tokens
        if not self.config.chunked_prefill:
            assert len(request.prompt) <= self.config.batched_tokens_max
        sequence = Sequence(request)
        self._sequences[request.id] = sequence
        self._waiting.append(sequence)

    def abort(self, request_id: int) -> bool:
        """Ends a request early and gives back what it holds; False where it is not there."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return False
        if sequence in self._running:
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
        self._release(sequence)
        return True

    def step(self, now: float) -> Step:
        """Plans and does one pass that begins at ``now``."""
        tally = _Tally(self.config.batched_tokens_max)
        scheduled: list[tuple[Sequence, int]] = []
        self._schedule_running(tally, scheduled)
        if not tally.preempted and self._waiting:
            self._admit(tally, scheduled, now)
        outputs: list[Output] = []
        timings: dict[int, Timing] = {}
        for sequence, tokens in scheduled:
            self._advance(sequence, tokens, tally, outputs)
        for output in outputs:
            if output.finished:
                timings[output.id] = self._finish(output.id)
        if timings:
            self._running = [s for s in self._running if s.request.id in self._sequences]
        return Step(
            self._seconds(tally, scheduled),
            outputs,
            timings,
            tally.prefill_tokens,
            tally.decode_sequences,
            tally.decode_tokens,
            tally.preempted,
            tally.queried,
            tally.hit,
        )

    def _seconds(self, tally: _Tally, scheduled: list[tuple[Sequence, int]]) -> float:
        self._steps += 1
        seconds = self.profile.step_seconds(tally.work(scheduled))
        return self.profile.jittered(seconds, self._steps) + tally.adapter_seconds

    def cached_tokens(self, request_id: int) -> int:
        """Prompt tokens of an active request that came from the prefix cache."""
        sequence = self._sequences.get(request_id)
        return sequence.cached if sequence else 0

    def stats(self) -> Stats:
        """Numbers for people and routers."""
        return Stats(
            running=len(self._running),
            waiting=len(self._waiting),
            deferred=self._deferred(),
            cache_usage=self.pool.used / self.pool.blocks,
            running_adapters=_names(self._running),
            waiting_adapters=_names(self._waiting),
        )

    def _deferred(self) -> int:
        """Waiting sequences whose adapter has no slot."""
        active = {s.request.adapter for s in self._running if s.request.adapter}
        if len(active) < self.adapters.device_max:
            return 0
        adapters = (s.request.adapter for s in self._waiting)
        return sum(1 for adapter in adapters if adapter and adapter not in active)

    def _schedule_running(self, tally: _Tally, scheduled: list[tuple[Sequence, int]]) -> None:
        index = 0
        while index < len(self._running) and tally.budget > 0:
            sequence = self._running[index]
            tokens = sequence.total - sequence.computed
            if tokens > tally.budget:
                tokens = tally.budget
            if sequence.computed + tokens > sequence.room:
                while not self._reserve(sequence, sequence.computed + tokens):
                    self._preempt_last(tally)
                    if len(self._running) <= index:
                        return
            tally.budget -= tokens
            scheduled.append((sequence, tokens))
            index += 1

    def _preempt_last(self, tally: _Tally) -> None:
        victim = self._running.pop()
        self._release(victim)
        victim.preemptions += 1
        tally.preempted += 1
        self._waiting.appendleft(victim)

    def _admit(self, tally: _Tally, scheduled: list[tuple[Sequence, int]], now: float) -> None:
        active = {s.request.adapter for s in self._running if s.request.adapter}
        passed: list[Sequence] = []
        while self._waiting and tally.budget > 0:
            if len(self._running) >= self.config.sequences_max:
                break
            sequence = self._waiting[0]
            adapter = sequence.request.adapter
            if adapter and adapter not in active and len(active) >= self.adapters.device_max:
                passed.append(self._waiting.popleft())
                continue
            tokens = self._place(sequence, tally)
            if tokens == 0:
                break
            if adapter:
                tally.adapter_seconds += self.adapters.use(adapter, active)
                active.add(adapter)
            self._waiting.popleft()
            self._running.append(sequence)
            if sequence.scheduled < 0:
                sequence.scheduled = now
            tally.budget -= tokens
            scheduled.append((sequence, tokens))
        self._waiting.extendleft(reversed(passed))

    def _place(self, sequence: Sequence, tally: _Tally) -> int:
        """Gives a waiting sequence its first blocks; 0 where there is no room."""
        found: list[int] = []
        size = self.config.block_size_tokens
        if self.config.prefix_caching:
            self._hash(sequence, sequence.total)
            # The last token is always computed, because its logits are needed.
            found = self.pool.match(sequence.hashes[: (sequence.total - 1) // size])
        cached = len(found) * size
        missing = sequence.total - cached
        tokens = min(missing, tally.budget)
        if tokens < missing and not self.config.chunked_prefill:
            return 0
        needed = -(-(cached + tokens) // size) - len(found)
        if needed > self.pool.available - self.pool.count_free(found):
            return 0
        self.pool.share(found)
        sequence.blocks = found
        sequence.room = cached
        sequence.computed = cached
        reserved = self._reserve(sequence, cached + tokens)
        assert reserved
        if sequence.scheduled < 0:
            sequence.cached = cached
            tally.queried += sequence.total
            tally.hit += cached
        return tokens

    def _reserve(self, sequence: Sequence, tokens: int) -> bool:
        """Makes room for the keys and values of the first ``tokens`` tokens."""
        missing = -(-tokens // self.config.block_size_tokens) - len(sequence.blocks)
        if missing <= 0:
            return True
        if missing > self.pool.available:
            return False
        sequence.blocks += self.pool.take(missing)
        sequence.room = len(sequence.blocks) * self.config.block_size_tokens
        return True

    def _advance(
        self, sequence: Sequence, tokens: int, tally: _Tally, outputs: list[Output]
    ) -> None:
        # After a preemption generated tokens are read again in chunks, which is prefill.
        if tokens == 1 and sequence.computed >= sequence.prompt_tokens:
            tally.decode_sequences += 1
            tally.cache_tokens += sequence.computed
        else:
            tally.prefill_tokens += tokens
            tally.prefill_pairs += tokens * sequence.computed + tokens * (tokens + 1) // 2
        before = sequence.computed
        sequence.computed += tokens
        if sequence.computed == sequence.total:
            request = sequence.request
            gained = 1
            if self.profile.decode_tokens_per_step > 1:
                gained += self._burst(sequence)
                sequence.computed += gained - 1
            sequence.emitted += gained
            sequence.total += gained
            tally.decode_tokens += gained
            outputs.append(Output(request.id, gained, sequence.emitted == len(request.output)))
        if self.config.prefix_caching:
            size = self.config.block_size_tokens
            if before // size != sequence.computed // size:
                self._publish(sequence, before // size, sequence.computed // size)

    def _burst(self, sequence: Sequence) -> int:
        """Further tokens in the same step, where the profile yields several."""
        extra = min(
            self.profile.decode_tokens_per_step - 1,
            len(sequence.request.output) - sequence.emitted - 1,
        )
        if extra <= 0:
            return 0
        size = self.config.block_size_tokens
        room = (len(sequence.blocks) + self.pool.available) * size - sequence.computed
        extra = min(extra, max(room, 0))
        reserved = self._reserve(sequence, sequence.computed + extra)
        assert reserved
        return extra

    def _hash(self, sequence: Sequence, tokens: int) -> None:
        """Extends the hash chain to the full blocks among the first ``tokens`` tokens."""
        size = self.config.block_size_tokens
        done = len(sequence.hashes)
        if tokens // size <= done:
            return
        request = sequence.request
        root = sequence.hashes[-1] if done else root_hash(request.adapter, request.salt)
        prompt = request.prompt
        if tokens <= len(prompt):
            sequence.hashes += chain_hashes(root, prompt[:tokens], size, done)
            return
        begin = done * size
        tail = [*prompt[begin:], *request.output[max(begin - len(prompt), 0) :]]
        sequence.hashes += chain_hashes(root, tail[: tokens - begin], size)

    def _publish(self, sequence: Sequence, first: int, last: int) -> None:
        """Makes the blocks from ``first`` to before ``last``, which are full, findable."""
        self._hash(sequence, sequence.computed)
        fresh = [
            index
            for index in range(first, last)
            if self.pool.publish(sequence.blocks[index], sequence.hashes[index])
        ]
        if self.log is not None:
            self._note(sequence, fresh)

    def record(self) -> None:
        """From here on ``take_log`` tells what became of blocks."""
        self.log = []
        self.pool.forgotten = []

    def take_log(self) -> list[BlockLog]:
        """What happened since the last call."""
        self._note_forgotten()
        log, self.log = self.log or [], []
        return log

    def _note(self, sequence: Sequence, fresh: list[int]) -> None:
        """One event for each run of blocks that became findable."""
        self._note_forgotten()
        assert self.log is not None
        size = self.config.block_size_tokens
        request = sequence.request
        while fresh:
            first, run = fresh[0], 1
            while run < len(fresh) and fresh[run] == first + run:
                run += 1
            tokens = [*request.prompt, *request.output[: sequence.emitted]]
            self.log.append(
                StoredBlocks(
                    sequence.hashes[first : first + run],
                    sequence.hashes[first - 1] if first else None,
                    tokens[first * size : (first + run) * size],
                    request.adapter,
                    request.salt,
                )
            )
            fresh = fresh[run:]

    def _note_forgotten(self) -> None:
        if self.pool.forgotten:
            assert self.log is not None
            self.log.append(RemovedBlocks(self.pool.forgotten))
            self.pool.forgotten = []

    def _release(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.room = 0
        sequence.computed = 0

    def _finish(self, request_id: int) -> Timing:
        sequence = self._sequences.pop(request_id)
        self._release(sequence)
        return Timing(
            sequence.request.arrived, sequence.scheduled, sequence.cached, sequence.preemptions
        )


def _names(sequences: Iterable[Sequence]) -> tuple[str, ...]:
    names = dict.fromkeys(s.request.adapter for s in sequences)
    return tuple(name for name in names if name)

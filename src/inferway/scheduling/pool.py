"""One pool's scheduler: the state behind the snapshots, and the events that change it.

``pick`` = decide + reserve. Every method takes the time; nothing is done in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from inferway.scheduling import learn, observer
from inferway.scheduling.accounting import (
    LEAK_SECONDS,
    UNHEARD_SECONDS,
    Ledger,
    Settled,
)
from inferway.scheduling.announced import PICKER, Announced
from inferway.scheduling.decide import decide
from inferway.scheduling.decision import Decision, Explanation, Policy, Refusal
from inferway.scheduling.events import (
    BlockEvent,
    BlocksCleared,
    BlocksRemoved,
    Doubted,
    Event,
    Finished,
    ModelCard,
    ProxyGone,
    PushedOut,
    Scrape,
)
from inferway.scheduling.explaining import explanation
from inferway.scheduling.kvcache import KvCaches
from inferway.scheduling.lora import IN_PLACE, LoraState
from inferway.scheduling.precision import Precision
from inferway.scheduling.prefix import ENDS, Blocks, PrefixIndex
from inferway.scheduling.rates import Rates
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.reservation import Reservation
from inferway.scheduling.snapshot import (
    Columns,
    Endpoint,
    Models,
    Snapshot,
    Usual,
    backlog_tokens,
    bits_of,
    models_of,
    same_host,
)
from inferway.scheduling.tokens import TokenRatios

# A server that failed a request is passed over this long, unless a scrape shows that it answers.
SUSPECT_SECONDS = 2.0
# Ends the name under which the server that prefills is reserved; no pick id has it.
PREFILL = "/prefill"
# KV cache that is shared with what runs; prefixes survive in about this part of it.
KV_SHARE_FOR_PREFIXES = 0.8


class PoolScheduler:
    """Decides for one pool and keeps its books."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.columns = Columns()
        self.models = Models()
        self.prefixes = PrefixIndex()
        self.lora = LoraState()
        self.rates = Rates()
        self.ratios = TokenRatios()
        self.ledger = Ledger()
        self.usual = Usual()
        self.caches = KvCaches()
        self.precision = Precision()
        self._learners = learn.Learners(self.rates, self.ratios, self.lora, self.usual)
        self._slot_of: dict[str, int] = {}
        self._free: list[int] = []
        self._life: list[int] = []
        self._cards: dict[int, tuple[ModelCard, ...]] = {}
        # (model, address) that servers list but no new request may go to.
        self._hidden: frozenset[tuple[str, str]] = frozenset()
        self._snapshot = self._borrow()
        # Tells other pickers what was reserved; None while nobody listens.
        self.announce: Callable[[str, Request, Decision], None] | None = None
        # Picks whose prompt is computed by another server.
        self._prefills: set[str] = set()
        # Whether any proxy has reported an end of a request.
        self._heard = False

    # -- endpoints -------------------------------------------------------------------------

    def set_endpoints(self, endpoints: Sequence[Endpoint], now: float) -> tuple[list[str], ...]:
        """Makes the pool's endpoints these; returns the addresses that were added and removed."""
        wanted = {endpoint.address: endpoint for endpoint in endpoints}
        # An address under another name is another server, with nothing in its cache.
        removed = [
            address
            for address, slot in self._slot_of.items()
            if address not in wanted or wanted[address].name != self.columns.name[slot]
        ]
        for address in removed:
            self._remove(self._slot_of.pop(address))
        added = []
        for address, endpoint in wanted.items():
            slot = self._slot_of.get(address)
            if slot is None:
                slot = self._add(address, now)
                added.append(address)
            self.columns.name[slot] = endpoint.name
            self.columns.labels[slot] = endpoint.labels
        if added or removed:
            self.columns.live = sorted(self._slot_of.values())
            self.columns.live_bits = bits_of(self.columns.live)
            self._rebuild_models()
        return added, removed

    def slot(self, address: str) -> int | None:
        """The slot of an endpoint that is in the pool."""
        return self._slot_of.get(address)

    def life(self, slot: int) -> int:
        """Which of the endpoints that have had this slot is meant by its reservations."""
        return self._life[slot]

    def _add(self, address: str, now: float) -> int:
        if self._free:
            slot = self._free.pop()
            self.columns.clear(slot, now)
        else:
            slot = self.columns.grow()
            self.columns.backlog_at[slot] = now
            self._life.append(0)
        self._life[slot] += 1
        self._slot_of[address] = slot
        self.columns.address[slot] = address
        self._refresh_rates(slot, now)
        return slot

    def _remove(self, slot: int) -> None:
        # A later life makes open reservations of this one settle without effect on the slot.
        self._life[slot] += 1
        self._free.append(slot)
        self._cards.pop(slot, None)
        self.prefixes.drop(slot)
        self.caches.drop(slot)
        self.lora.drop(slot)
        self.rates.drop(slot)
        self.policy.drop(slot)

    # -- signals ---------------------------------------------------------------------------

    def observe(self, address: str, scrape: Scrape, now: float) -> None:
        """A server's metrics correct what the model believes; they do not replace the books."""
        slot = self._slot_of.get(address)
        if slot is None:
            return
        c = self.columns
        c.waiting[slot] = scrape.waiting
        c.running[slot] = scrape.running
        c.kv_use[slot] = scrape.kv_use
        c.attributes[slot] = scrape.attributes
        c.scraped_at[slot] = now
        c.in_flight_then[slot] = c.in_flight[slot]
        c.foreign[slot] = max(0.0, scrape.waiting + scrape.running - c.in_flight[slot])
        c.suspect_until[slot] = 0.0
        self.lora.observe(slot, scrape.max_loras, scrape.running_adapters, scrape.waiting_adapters)
        observer.scraped(c, slot, scrape, self.lora.blocked(slot), now)
        if scrape.kv_tokens > 0:
            ratio = self.ratios.bytes_per_token("")
            self.prefixes.set_capacity(slot, int(scrape.kv_tokens * ratio * KV_SHARE_FOR_PREFIXES))

    def observe_blocks(self, address: str, events: Sequence[BlockEvent], now: float) -> None:
        """What a server says it has stored in its KV cache and evicted from it, in order."""
        slot = self._slot_of.get(address)
        if slot is None:
            return
        evicted = False
        for event in events:
            self.caches.apply(slot, event)
            if isinstance(event, BlocksCleared):
                self.prefixes.shrink(slot, 0)
            evicted = evicted or isinstance(event, BlocksRemoved)
        if evicted:
            # Which prompts of text these blocks were is not told; but no more of them can be left.
            ratio = self.ratios.bytes_per_token("")
            self.prefixes.shrink(slot, int(self.caches.tokens(slot) * ratio))

    def observe_models(self, address: str, cards: Sequence[ModelCard]) -> bool:
        """What a server says it serves; returns whether that changed anything."""
        slot = self._slot_of.get(address)
        if slot is None or self._cards.get(slot) == tuple(cards):
            return False
        self._cards[slot] = tuple(cards)
        self._rebuild_models()
        return True

    def cards(self, address: str) -> tuple[ModelCard, ...] | None:
        """What a server has told that it serves; None if it has not."""
        slot = self._slot_of.get(address)
        return None if slot is None else self._cards.get(slot)

    def hide(self, places: frozenset[tuple[str, str]]) -> None:
        """These (model, address) get no new requests, whatever their servers list."""
        if places != self._hidden:
            self._hidden = places
            self._rebuild_models()

    def suspect(self, address: str, now: float) -> None:
        """A server does not answer; others are preferred for a while."""
        slot = self._slot_of.get(address)
        if slot is not None:
            self.columns.suspect_until[slot] = now + SUSPECT_SECONDS
            self.columns.suspects_until = now + SUSPECT_SECONDS

    def refresh_rates(self, address: str, now: float) -> None:
        """Takes over what was learned about a server by other ways than its answers."""
        slot = self._slot_of.get(address)
        if slot is not None:
            self._refresh_rates(slot, now)

    def _rebuild_models(self) -> None:
        self.models = models_of(self.columns, self._cards, self._hidden)
        self._snapshot = self._borrow()

    # -- decisions -------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """What a decision may read, good until the next event."""
        return self._snapshot

    def _borrow(self) -> Snapshot:
        return Snapshot(
            self.columns,
            self.models,
            self.prefixes,
            self.lora,
            self.rates,
            self.ratios,
            self.usual,
            self.caches,
        )

    def pick(
        self, request: Request, pick: str, proxy: str, now: float, rng: Rng
    ) -> Decision | Refusal:
        """Decides, and reserves on the first endpoint."""
        decision = decide(request, self._snapshot, self.policy, now, rng)
        if isinstance(decision, Decision):
            self.reserve(request, decision, pick, proxy, now)
        return decision

    def decide(self, request: Request, now: float, rng: Rng) -> Decision | Refusal:
        """Decides and changes nothing."""
        return decide(request, self._snapshot, self.policy, now, rng)

    def explain(self, request: Request, decision: Decision, now: float) -> Explanation:
        """Why, for people; to be asked between ``decide`` and ``reserve``."""
        return explanation(request, decision, self._snapshot, self.policy, now)

    def reserve(
        self, request: Request, decision: Decision, pick: str, proxy: str, now: float
    ) -> None:
        """Books the request on the decision's first endpoint under a pick id."""
        slot = decision.slots[0]
        self._book(
            pick,
            slot,
            model=request.model,
            size=len(request.prompt),
            matched=decision.matched_bytes,
            prompt_tokens=decision.prompt_tokens,
            stream=request.stream,
            proxy=proxy,
            now=now,
            output=decision.output_tokens,
        )
        if decision.prefix:
            self.prefixes.ask(pick, decision.prefix)
        self.prefixes.insert(decision.blocks, slot)
        if self.caches.known:
            self.caches.place(request, slot, self.models.parents, now)
        self.policy.placed(request, decision)
        if decision.prefill >= 0:
            self._reserve_prefill(request, decision, pick, proxy, now)
        if self.announce is not None:
            self.announce(pick, request, decision)

    def _reserve_prefill(
        self, request: Request, decision: Decision, pick: str, proxy: str, now: float
    ) -> None:
        """Books the prompt where it is computed; nobody tells its end before the answer's."""
        self._prefills.add(pick)
        self._book(
            pick + PREFILL,
            decision.prefill,
            model=request.model,
            size=len(request.prompt),
            matched=decision.prefill_matched_bytes,
            prompt_tokens=decision.prompt_tokens,
            stream=request.stream,
            proxy=proxy,
            now=now,
        )
        self.prefixes.insert(decision.blocks, decision.prefill)

    def _end_prefill(self, pick: str) -> None:
        if pick in self._prefills:
            self.release_announced(pick + PREFILL)

    def reserve_announced(self, announced: Announced, picker: str, now: float) -> None:
        """Books what another picker has placed; an endpoint that is not known here yet counts not.

        It ends by ``settle``, or by ``release_announced`` where nobody knows how it went.
        """
        slot = self._slot_of.get(announced.address)
        if slot is None or announced.pick in self.ledger:
            return
        self._book(
            announced.pick,
            slot,
            model=announced.model,
            size=announced.prompt_bytes,
            matched=announced.matched_bytes,
            prompt_tokens=announced.prompt_tokens,
            stream=announced.stream,
            proxy=PICKER + picker,
            now=now,
        )
        if announced.hashes:
            self.prefixes.insert(Blocks(announced.hashes, ENDS), slot)

    def release_announced(self, pick: str) -> None:
        """Gives back what another picker had reserved."""
        taken = self.ledger.take(pick)
        if taken is not None:
            self._release(taken)

    def open_now(self) -> list[Announced]:
        """Reservations of this picker, oldest first, for one that begins to hear of them."""
        c = self.columns
        return [
            Announced(
                r.pick,
                c.address[r.slot],
                r.model,
                r.prompt_bytes,
                r.matched_bytes,
                r.prompt_tokens,
                r.stream,
            )
            for r in self.ledger
            if self._life[r.slot] == r.life
            and not r.proxy.startswith(PICKER)
            and not r.pick.endswith(PREFILL)
        ]

    def _book(
        self,
        pick: str,
        slot: int,
        *,
        model: str,
        size: int,
        matched: int,
        prompt_tokens: float,
        stream: bool,
        proxy: str,
        now: float,
        output: float = 0.0,
    ) -> None:
        c = self.columns
        if self.ledger.full:
            oldest = self.ledger.take_oldest()
            told = Settled(oldest, PushedOut(), self._release(oldest))
            self.ledger.pushed_out.append(told)
        tokens = prompt_tokens
        if matched:
            tokens *= (size - matched) / size
        taken = int(tokens)
        backlog = backlog_tokens(c, slot, now)
        adapter = model if model in self.models.parents else ""
        in_flight = c.in_flight[slot]
        position = c.placed_tokens[slot] + tokens
        self.ledger.add(
            Reservation(
                pick,
                slot,
                self._life[slot],
                taken,
                adapter,
                model,
                size,
                matched,
                prompt_tokens,
                backlog,
                in_flight,
                now,
                now + (LEAK_SECONDS if self._heard else UNHEARD_SECONDS),
                proxy,
                stream,
                self.lora.finds(slot, adapter) if adapter else IN_PLACE,
                position,
                output,
            )
        )
        if output:
            c.output_tokens[slot] += output
        c.in_flight[slot] = in_flight + 1
        c.in_flight_tokens[slot] += taken
        observer.placed(c, slot, backlog + tokens, position, now)
        self.usual.placed(tokens * c.prefill_seconds_per_token[slot], now)
        if adapter:
            self.lora.reserve(slot, adapter)

    # -- settling --------------------------------------------------------------------------

    def settle(self, event: Event, now: float) -> list[Settled]:
        """Applies an event; returns the requests that it ended, each of them once ever."""
        if isinstance(event, Finished):
            self._heard = True
            taken = self.ledger.take(event.pick)
            if taken is None:
                return []
            if self._prefills:
                self._end_prefill(event.pick)
            address = self._release(taken)
            if address:
                observer.answered(self.columns, taken, event, now)
            self._learn(taken, event, address, now)
            return [Settled(taken, event, address)]
        if isinstance(event, Doubted):
            self.ledger.doubt(event.pick, now)
            if event.pick in self._prefills:
                self.ledger.doubt(event.pick + PREFILL, now)
            return []
        if isinstance(event, ProxyGone):
            ended = self.ledger.take_of_proxy(event.proxy)
        else:
            ended = self.ledger.take_expired(now)
        settled = [Settled(taken, event, self._release(taken)) for taken in ended]
        if self.ledger.pushed_out:
            settled += self.ledger.pushed_out
            self.ledger.pushed_out = []
        return [one for one in settled if not one.reservation.pick.endswith(PREFILL)]

    def _release(self, taken: Reservation) -> str:
        """Gives back what was reserved; the address is empty if the endpoint is gone."""
        slot = taken.slot
        self.prefixes.ended(taken.pick)
        if self._prefills:
            self._prefills.discard(taken.pick)
        if self._life[slot] != taken.life:
            return ""
        c = self.columns
        c.in_flight[slot] -= 1
        c.in_flight_tokens[slot] -= taken.tokens
        if taken.output_tokens:
            c.output_tokens[slot] -= taken.output_tokens
        if taken.adapter:
            self.lora.release(slot, taken.adapter)
        if c.in_flight[slot] == 0:
            # Nothing of ours is left there, so nothing of ours is left to compute.
            c.backlog_tokens[slot] = 0.0
        return c.address[slot]

    def _learn(self, taken: Reservation, event: Finished, address: str, now: float) -> None:
        if not address:
            return
        served = event.served
        elsewhere = served and served != address
        if event.failed or (elsewhere and not (self.policy.port and same_host(served, address))):
            self.suspect(address, now)
            return
        if event.attempts > 1 or not 200 <= event.code < 300:
            return
        learn.from_answer(self._learners, taken, event)
        if event.cached_tokens is not None and event.prompt_tokens and taken.prompt_bytes:
            share = taken.matched_bytes / taken.prompt_bytes
            self.precision.note(share * event.prompt_tokens, float(event.cached_tokens))
        if event.duration_seconds is not None or event.last_byte_seconds is not None:
            # Endpoints that have not answered yet are known by what the others did.
            for slot in self.columns.live if self.rates.moved() else (taken.slot,):
                self._refresh_rates(slot, now)

    def _refresh_rates(self, slot: int, now: float) -> None:
        c = self.columns
        if c.prefill_seconds_per_token[slot] > 0:
            c.backlog_tokens[slot] = backlog_tokens(c, slot, now)
            c.backlog_at[slot] = now
        c.prefill_seconds_per_token[slot] = self.rates.prefill_seconds_per_token(slot)
        c.step_seconds[slot] = self.rates.step_seconds(slot)

    def in_flight(self) -> Mapping[str, int]:
        """Requests of ours by endpoint."""
        return {
            self.columns.address[slot]: self.columns.in_flight[slot] for slot in self.columns.live
        }

"""The model of each engine between events: which prompt tokens are still to be computed.

Method: what is placed on a server adds to its backlog, and time drains it at the learned rate
(``backlog_tokens``). vLLM computes prompts first come first served, in chunks, so two things are
known for certain and correct the model. When a request was answered, everything placed before it
was computed. When a server says that ``w`` requests wait, those are the ``w`` placed last: at
least their tokens are left, and at most theirs, those of the one before them, which may be under
way, and one step's.
"""

from __future__ import annotations

from inferway.scheduling.events import Finished, Scrape
from inferway.scheduling.reservation import Reservation
from inferway.scheduling.snapshot import RECENT_REQUESTS_MAX, Columns, backlog_tokens

# vLLM's usual budget of a step, in which further prompts may be under way.
STEP_BUDGET_TOKENS = 8192.0
# A server over this share of KV use evicts or preempts to take a further request.
KV_FULL_SHARE = 0.95


def placed(c: Columns, slot: int, backlog: float, position: float, now: float) -> None:
    """A request was placed; ``backlog`` and ``position`` include its uncached tokens."""
    c.backlog_tokens[slot] = backlog
    c.backlog_at[slot] = now
    c.placed_tokens[slot] = position
    c.recent[slot].append(position)


def answered(c: Columns, taken: Reservation, event: Finished, now: float) -> None:
    """An answer says that all that was placed before it is computed; what came later is left."""
    slot = taken.slot
    if not 200 <= event.code < 300:
        return
    left = c.placed_tokens[slot] - taken.position
    if left < backlog_tokens(c, slot, now):
        c.backlog_tokens[slot] = left
        c.backlog_at[slot] = now


def scraped(c: Columns, slot: int, scrape: Scrape, blocked: int, now: float) -> None:
    """A server has told its queue and its cache; the columns hold the books of this moment.

    ``blocked`` of ours wait there for a place for their adapter, and others pass them.
    """
    model = backlog_tokens(c, slot, now)
    waiting = max(int(scrape.waiting) - blocked, 0)
    # Those that the server has not seen yet, or that have ended and were not reported.
    unseen = max(c.in_flight[slot] - waiting - int(scrape.running), 0)
    low = 0.0 if c.foreign[slot] > 0 else _newest(c, slot, waiting)
    high = _newest(c, slot, waiting + unseen + 1) + STEP_BUDGET_TOKENS
    c.backlog_tokens[slot] = backlog = min(max(model, low), high)
    c.backlog_at[slot] = now
    c.queued[slot] = _queued(c, slot, scrape, explained=low <= 2.0 * model + STEP_BUDGET_TOKENS)
    if scrape.kv_tokens > 0:
        used = scrape.kv_use * scrape.kv_tokens
        c.kv_used_tokens[slot] = used
        c.kv_room_tokens[slot] = c.placed_tokens[slot] - backlog + scrape.kv_tokens - used


def _queued(c: Columns, slot: int, scrape: Scrape, *, explained: bool) -> float:
    """Requests that wait though the model has no prompts left, or that it knows nothing of."""
    if scrape.kv_tokens <= 0 and scrape.kv_use > KV_FULL_SHARE:
        return max(scrape.waiting, 1.0)
    if not explained:
        return scrape.waiting
    everybody = scrape.waiting + scrape.running
    return scrape.waiting * c.foreign[slot] / everybody if everybody > 0 else 0.0


def _newest(c: Columns, slot: int, requests: int) -> float:
    """Uncached tokens of the requests placed last."""
    recent = c.recent[slot]
    if requests <= 0 or not recent:
        return 0.0
    if requests < len(recent):
        return c.placed_tokens[slot] - recent[-requests - 1]
    # All that were ever placed, unless the oldest are forgotten.
    return c.placed_tokens[slot] - (0.0 if len(recent) < RECENT_REQUESTS_MAX else recent[0])

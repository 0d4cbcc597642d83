"""The order of a queue, and places in it that somebody gives by hand.

Entries go by (hand, band, level, rank). Without a hand in it (0) the higher priority goes first: a band holds what
has the same priority. Inside a band the users share: the level of an entry is how many tasks of its user run from
this queue or stand before it, so that whoever has the fewest is served next, and the position of every entry is exact
as long as nothing else changes. Among equals the rank decides, which is the order of coming.

What somebody moved towards the front stands in front of all others (-1), together with everything up to its place,
which is frozen in the order that it had; what was moved to the back stands behind all others (1), also behind what
comes later. There only the ranks decide. A move writes the entries between the front and the new place and no others.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from taskloom.domain.errors import NotFound
from taskloom.domain.queue import Queue
from taskloom.server.queues import entry_store

FRONT, RULES, BACK = -1, 0, 1


def place(tx: Connection, queue: Queue, task_id: str, where: Callable[[int, int], int]) -> int:
    """Gives the task a place, from 1 on. `where` tells it from the present one and the last one; all from 0."""
    standing = entry_store.standing(tx, task_id)
    if standing is None or standing.entry.queue_id != queue.id:
        raise NotFound(f"task {task_id[:80]!r} does not wait in queue {queue.name!r}")
    counts = entry_store.counts_by_hand(tx, queue.id, task_id)
    last = sum(counts.values())
    wanted = min(max(where(standing.ahead, last), 0), last)
    if wanted == standing.ahead and (standing.entry.hand or 0 < wanted < last):
        return wanted + 1  # it stands there; at either end it stays there from now on
    if wanted <= counts[FRONT]:
        _between(tx, queue.id, task_id, FRONT, wanted)
    elif wanted >= counts[FRONT] + counts[RULES]:
        _between(tx, queue.id, task_id, BACK, wanted)
    else:
        _behind_frozen(tx, queue.id, task_id, counts[FRONT], wanted)
    return wanted + 1


def _between(tx: Connection, queue_id: str, task_id: str, hand: int, wanted: int) -> None:
    """Among those that stand by hand, at the place `wanted` of all."""
    rank = _gap(tx, queue_id, task_id, hand, wanted)
    if rank is None:
        entry_store.spread(tx, queue_id, hand, task_id)
        rank = _gap(tx, queue_id, task_id, hand, wanted)
    entry_store.place_by_hand(tx, task_id, hand, rank or 0.0)


def _gap(tx: Connection, queue_id: str, task_id: str, hand: int, wanted: int) -> float | None:
    """A rank between the two neighbours; None when there is no number left between them."""
    before = entry_store.at_position(tx, queue_id, wanted, task_id)
    after = entry_store.at_position(tx, queue_id, wanted + 1, task_id)
    low = before.rank if before is not None and before.hand == hand else None
    high = after.rank if after is not None and after.hand == hand else None
    if low is None or high is None:
        return low + 1 if low is not None else high - 1 if high is not None else 0.0
    middle = low + (high - low) / 2
    return middle if low < middle < high else None


def _behind_frozen(tx: Connection, queue_id: str, task_id: str, already: int, wanted: int) -> None:
    """Everything up to the place keeps its order in front, and the task comes behind it."""
    last = entry_store.at_position(tx, queue_id, already, task_id) if already else None
    rank = 0.0 if last is None else last.rank + 1
    entry_store.freeze(tx, queue_id, already + 1, wanted, task_id, rank)
    entry_store.place_by_hand(tx, task_id, FRONT, rank + (wanted - already))

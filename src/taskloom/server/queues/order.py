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

from sqlalchemy import Connection

from taskloom.domain.errors import NotFound
from taskloom.domain.queue import Queue
from taskloom.server.queues import entry_store, position_store
from taskloom.server.queues.entry_store import Entry

FRONT, RULES, BACK = -1, 0, 1


def place(tx: Connection, queue: Queue, task_id: str, position: int) -> int:
    """Position 1 is the front, -1 the back, -2 one before it. The place that it got, from 1 on."""
    entry = _known(tx, queue, task_id)
    counts = entry_store.counts_by_hand(tx, queue.id, task_id)
    last = sum(counts.values())
    return _put(tx, entry, counts, position - 1 if position > 0 else last + position + 1)


def shift(tx: Connection, queue: Queue, task_id: str, steps: int) -> int:
    """So many places nearer to the back; a negative number of them nearer to the front."""
    entry = _known(tx, queue, task_id)
    standing = position_store.standing(tx, task_id)
    now = 0 if standing is None else standing.ahead
    return _put(tx, entry, entry_store.counts_by_hand(tx, queue.id, task_id), now + steps)


def _known(tx: Connection, queue: Queue, task_id: str) -> Entry:
    entry = entry_store.find_entry(tx, task_id)
    if entry is None or entry.queue_id != queue.id:
        raise NotFound(f"task {task_id[:80]!r} does not wait in queue {queue.name!r}")
    return entry


def _put(tx: Connection, entry: Entry, counts: dict[int, int], wanted: int) -> int:
    """`wanted`: the new place, from 0 on, among the others."""
    front, ruled = counts[FRONT], counts[FRONT] + counts[RULES]
    wanted = min(max(wanted, 0), sum(counts.values()))
    if wanted <= front:
        _between(tx, entry, FRONT, wanted)
    elif wanted >= ruled:
        _between(tx, entry, BACK, wanted - ruled)
    else:
        _behind_frozen(tx, entry, front, wanted)
    return wanted + 1


def _between(tx: Connection, entry: Entry, hand: int, index: int) -> None:
    """Among those that stand by this hand, at the place `index` of them."""
    queue_id, task_id = entry.queue_id, entry.task_id
    rank = _gap(tx, queue_id, task_id, hand, index)
    if rank is None:
        entry_store.spread(tx, queue_id, hand, task_id)
        rank = _gap(tx, queue_id, task_id, hand, index)
    entry_store.place_by_hand(tx, task_id, hand, rank or 0.0)


def _gap(tx: Connection, queue_id: str, task_id: str, hand: int, index: int) -> float | None:
    """A rank between the two neighbours; None when there is no number left between them."""
    low = entry_store.rank_by_hand(tx, queue_id, hand, index - 1, task_id)
    high = entry_store.rank_by_hand(tx, queue_id, hand, index, task_id)
    if low is None or high is None:
        return low + 1 if low is not None else high - 1 if high is not None else 0.0
    middle = low + (high - low) / 2
    return middle if low < middle < high else None


def _behind_frozen(tx: Connection, entry: Entry, front: int, wanted: int) -> None:
    """Everything up to the place keeps its order in front, and the task comes behind it."""
    last = entry_store.rank_by_hand(tx, entry.queue_id, FRONT, front - 1, entry.task_id)
    rank = 0.0 if last is None else last + 1
    entry_store.freeze(tx, position_store.ids_without(tx, entry, front, wanted), rank)
    entry_store.place_by_hand(tx, entry.task_id, FRONT, rank + (wanted - front))

"""SQL of positions: the entries from one place of a queue to another, and the place of one entry.

Both are exact, and neither orders the whole queue. One pass over an index counts what waits by hand, band and user.
In a band the entries of one user have rising levels without gaps, so how many entries stand up to a level is
arithmetic, and of every user only the few entries of the wanted levels are read. What `entry_store.order` tells of a
whole queue, by windows, is the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Connection, Integer, bindparam, func, select, tuple_

from taskloom.domain.queue import QueueEntry
from taskloom.server.prepared import Prepared
from taskloom.server.queues.entry_store import Entry, Standing, find_entry
from taskloom.server.queues.lease_store import count_attempts, running_by_user
from taskloom.server.tables import entries, projects, tasks

SOME = 500  # ids in one IN list


@dataclass(frozen=True)
class Part:
    """What has one hand and band. waits: by user how many; below: the level that each user has reached before."""

    queue_id: str
    hand: int
    band: int
    waits: dict[str, int]
    below: dict[str, int]

    @property
    def size(self) -> int:
        return sum(self.waits.values())

    def upto(self, level: int) -> int:
        """How many of its entries have this level or a lower one."""
        return sum(min(max(level - self.below[user], 0), number) for user, number in self.waits.items())

    def level_of(self, count: int) -> int:
        """The lowest level up to which so many stand."""
        low = min(self.below.values())
        high = max(self.below[user] + number for user, number in self.waits.items())
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.upto(middle) >= count else (middle + 1, high)
        return low


def between(tx: Connection, queue_id: str, start: int, stop: int) -> list[str]:
    """Ids of the tasks at the places `start` to `stop`, from 0 on, without the last one."""
    found: list[str] = []
    for part in _parts(tx, queue_id):
        if stop <= 0:
            break
        if start < part.size:
            found += _of_part(tx, part, max(start, 0), min(stop, part.size))
        start, stop = start - part.size, stop - part.size
    return found


def page(tx: Connection, queue_id: str, limit: int, offset: int) -> list[QueueEntry]:
    """Entries in their order, from `offset` on."""
    ids = between(tx, queue_id, offset, offset + limit)
    attempts = count_attempts(tx, ids)
    rows: dict[str, Any] = {}
    for start in range(0, len(ids), SOME):
        rows.update({row.task_id: row for row in tx.execute(_TOLD, {"some": ids[start : start + SOME]})})
    return [
        QueueEntry(
            task=task_id,
            task_name=rows[task_id].name,
            project=rows[task_id].project,
            user=rows[task_id].user,
            position=offset + place,
            enqueued=rows[task_id].enqueued,
            attempts=attempts.get(task_id, 0),
            priority=rows[task_id].priority,
        )
        for place, task_id in enumerate(ids, 1)
    ]


def standing(tx: Connection, task_id: str) -> Standing | None:
    """None when the task waits in no queue."""
    mine = find_entry(tx, task_id)
    if mine is None:
        return None
    by_hand = by_priority = 0
    for part in _parts(tx, mine.queue_id):
        if (part.hand, part.band) == (mine.hand, mine.band):
            ahead, by_share = _inside(tx, part, mine)
            return Standing(mine, by_hand + by_priority + ahead, by_hand, by_priority, by_share)
        if part.hand < mine.hand:
            by_hand += part.size
        else:
            by_priority += part.size
    return None


def _parts(tx: Connection, queue_id: str) -> Iterator[Part]:
    """In their order."""
    below = running_by_user(tx, queue_id)
    counted: dict[tuple[int, int], dict[str, int]] = {}
    for hand, band, user, number in _COUNTS.rows(tx, {"queue": queue_id}):
        counted.setdefault((hand, band), {})[user] = number
    for (hand, band), waits in sorted(counted.items()):
        yield Part(queue_id, hand, band, waits, {user: below.get(user, 0) for user in waits})
        for user, number in waits.items():
            below[user] = below.get(user, 0) + number


def _of_part(tx: Connection, part: Part, start: int, stop: int) -> list[str]:
    given = {"queue": part.queue_id, "hand": part.hand, "band": part.band}
    if part.hand:
        return [row[1] for row in _BY_RANK.rows(tx, {**given, "most": stop - start, "after": start})]
    low, high = part.level_of(start + 1) - 1, part.level_of(stop)
    found: list[tuple[int, float, str]] = []
    for user, number in part.waits.items():
        first = min(max(low - part.below[user], 0), number)
        last = min(max(high - part.below[user], 0), number)
        if first < last:
            level = part.below[user] + first
            some = _OF_USER.rows(tx, {**given, "user": user, "most": last - first, "after": first})
            found += [(level + place, row[0], row[1]) for place, row in enumerate(some)]
    found.sort()
    passed = part.upto(low)
    return [row[2] for row in found[start - passed : stop - passed]]


def _inside(tx: Connection, part: Part, mine: Entry) -> tuple[int, int]:
    """How many entries of its own part stand before it, and how many of them came later."""
    given = {"queue": part.queue_id, "hand": part.hand, "band": part.band, "rank": mine.rank}
    if part.hand:
        return _BEFORE.value(tx, {**given, "id": mine.task_id}), 0
    own = _BEFORE_OF_USER.value(tx, {**given, "id": mine.task_id, "user": mine.user})
    level = part.below[mine.user] + own  # of the entry before it
    ahead, later = own, 0
    for user in part.waits:
        if user == mine.user or part.below[user] > level:
            continue
        lower = min(level - part.below[user], part.waits[user])
        same = _OF_USER.first(tx, {**given, "user": user, "most": 1, "after": lower})
        number = lower + (same is not None and (same[0], same[1]) < (mine.rank, mine.task_id))
        ahead += number
        later += max(number - _CAME_BEFORE.value(tx, {**given, "user": user}), 0)
    return ahead, later


def ids_without(tx: Connection, entry: Entry, start: int, stop: int) -> Sequence[str]:
    """The same as `between` when the entry is left out, whose place the others close without changing theirs to one
    another. `start`: not before the end of what stands in front by hand.
    """
    found = between(tx, entry.queue_id, start, stop + 1)
    rest = [task_id for task_id in found if task_id != entry.task_id]
    if len(rest) <= stop - start:
        return rest
    return rest[1:] if entry.hand < 0 else rest[:-1]


# --- statements, built once -------------------------------------------------------------------------------

_part = (
    (entries.c.queue_id == bindparam("queue"))
    & (entries.c.hand == bindparam("hand"))
    & (entries.c.band == bindparam("band"))
)
_mine = _part & (entries.c.user == bindparam("user"))
_page = (bindparam("most", type_=Integer), bindparam("after", type_=Integer))
_own, _key = tuple_(entries.c.rank, entries.c.task_id), tuple_(bindparam("rank"), bindparam("id"))
_ordered = select(entries.c.rank, entries.c.task_id).order_by(entries.c.rank, entries.c.task_id)
_ordered = _ordered.limit(_page[0]).offset(_page[1])
_COUNTS = Prepared(
    select(entries.c.hand, entries.c.band, entries.c.user, func.count())
    .where(entries.c.queue_id == bindparam("queue"))
    .group_by(entries.c.hand, entries.c.band, entries.c.user)
)
_BY_RANK = Prepared(_ordered.where(_part))
_OF_USER = Prepared(_ordered.where(_mine))
_BEFORE = Prepared(select(func.count()).where(_part, _own < _key))
_BEFORE_OF_USER = Prepared(select(func.count()).where(_mine, _own < _key))
_some: BindParameter[Any] = bindparam("some", expanding=True)
_TOLD = (
    select(
        entries.c.task_id,
        entries.c.user,
        entries.c.enqueued,
        entries.c.priority,
        tasks.c.name,
        projects.c.name.label("project"),
    )
    .join(tasks, tasks.c.id == entries.c.task_id)
    .join(projects, projects.c.id == tasks.c.project_id)
    .where(entries.c.task_id.in_(_some))
)
_CAME_BEFORE = Prepared(select(func.count()).where(_mine, entries.c.rank <= bindparam("rank")))

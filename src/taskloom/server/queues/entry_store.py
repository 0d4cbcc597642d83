"""SQL of what waits in queues. The rows are the queue: nothing of it is kept in memory.

The order of a queue is (hand, band, level, rank), see `order`. `level` stands in no column: how many tasks of the same
user run or stand before, counted by a window over the queue where the whole order is asked for. A claim needs no window: of each band it looks at the
first entry of each lane, which are single steps into the index however much waits behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    Double,
    Subquery,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    text,
    tuple_,
    update,
)

from taskloom.domain.placement import Wanted, read_shape
from taskloom.server.prepared import Prepared
from taskloom.server.tables import entries, leases, queues, tasks

STEP = 0.001  # between the ranks of two entries that came at the same moment


@dataclass(frozen=True)
class Entry:
    task_id: str
    queue_id: str
    hand: int
    band: int
    lane: str
    rank: float
    priority: int
    user: str
    enqueued: float
    not_before: float = 0.0
    hold: str = ""

    @property
    def shape(self) -> str:
        return self.lane.partition("\n")[2]

    @property
    def wanted(self) -> Wanted:
        return read_shape(self.shape)


@dataclass(frozen=True)
class Standing:
    """Where an entry stands. ahead: by hand, by a higher priority, and later ones whose users have less running."""

    entry: Entry
    ahead: int
    by_hand: int = 0
    by_priority: int = 0
    by_share: int = 0


def make_entry(
    queue_id: str,
    task_id: str,
    user: str,
    shape: str,
    priority: int,
    rank: float,
    enqueued: float,
    hand: int = 0,
    not_before: float = 0.0,
) -> Entry:
    band = 0 if hand else -priority
    return Entry(task_id, queue_id, hand, band, f"{user}\n{shape}", rank, priority, user, enqueued, not_before)


# --- coming and going -------------------------------------------------------------------------------------


def next_rank(tx: Connection, queue_id: str, now: float) -> float:
    """Behind everything that ever came: ranks are times, whatever the clock does."""
    highest = _HIGHEST_RANK.value(tx, {"queue": queue_id})
    return now if highest is None else max(now, highest + STEP)


def add_entries(tx: Connection, made: Sequence[Entry]) -> None:
    rows = [{name: getattr(entry, name) for name in _ENTRY} for entry in made]
    _ADD_ENTRY.run_many(tx, rows)


def remove_entry(tx: Connection, task_id: str) -> str | None:
    """The id of the queue that the task was taken out of; None when it waited nowhere."""
    return _REMOVE_ENTRY.value(tx, {"task": task_id})


def remove_entries(tx: Connection, task_ids: Sequence[str]) -> None:
    if task_ids:
        tx.execute(delete(entries).where(entries.c.task_id == bindparam("task")), [{"task": t} for t in task_ids])


def find_entry(tx: Connection, task_id: str) -> Entry | None:
    row = _FIND_ENTRY.first(tx, {"task": task_id})
    return None if row is None else Entry(*row)


def count_waiting(tx: Connection, queue_id: str, user: str) -> int:
    mine = (entries.c.queue_id == queue_id) & (entries.c.user == user)
    return tx.execute(select(func.count()).where(mine)).scalar_one()


def hold_for(tx: Connection, task_id: str, worker_id: str) -> None:
    """From now on the worker keeps free for this task what others give back."""
    tx.execute(update(entries).where(entries.c.task_id == task_id).values(hold=worker_id))


def held_for(tx: Connection, queue_id: str, besides: str) -> dict[str, str]:
    """By worker: the name of the task of the queue that it keeps free for, unless that is the one left out."""
    held = (entries.c.queue_id == queue_id) & (entries.c.hold != "") & (entries.c.task_id != besides)
    rows = tx.execute(
        select(entries.c.hold, tasks.c.name).join(tasks, tasks.c.id == entries.c.task_id).where(held)
    )
    return {row[0]: row[1] for row in rows}


# --- what a claim looks at --------------------------------------------------------------------------------


def any_entry(tx: Connection, keys: Sequence[str]) -> bool:
    """Whether anything waits in one of these queues that is not paused."""
    return any(_ANY_ENTRY.first(tx, {"key": key}) is not None for key in keys)


def next_band(tx: Connection, queue_id: str, after: tuple[int, int] | None) -> tuple[int, int] | None:
    """Hand and band of what comes first, or first after those; None when nothing does."""
    if after is None:
        row = _FIRST_BAND.first(tx, {"queue": queue_id})
    else:
        row = _NEXT_BAND.first(tx, {"queue": queue_id, "hand": after[0], "band": after[1]})
    return None if row is None else (row[0], row[1])


def heads(tx: Connection, queue_id: str, hand: int, band: int, now: float) -> Iterator[Entry]:
    """The first entry of each lane that makes no pause, the next one first. Most callers need one or two of them, so
    the others stay rows.
    """
    given = {"queue": queue_id, "hand": hand, "band": band, "now": now}
    return (Entry(*row) for row in _HEADS.rows(tx, given))


def foremost(tx: Connection, queue_id: str, over: int, now: float, limit: int) -> list[Entry]:
    """What waits with a priority above `over` and makes no pause, as it would go without fair shares."""
    wanted = (
        select(*_COLUMNS)
        .where(entries.c.queue_id == queue_id, entries.c.priority > over, entries.c.not_before <= now)
        .order_by(entries.c.hand, entries.c.band, entries.c.rank, entries.c.task_id)
        .limit(limit)
    )
    return [Entry(*row) for row in tx.execute(wanted)]


# --- positions --------------------------------------------------------------------------------------------


def order(tx: Connection, queue_id: str) -> list[str]:
    """Ids of the waiting tasks, the next one first."""
    placed = _placed(queue_id)
    return list(tx.execute(select(placed.c.task_id).order_by(placed.c.position)).scalars())


def waiting_tasks(tx: Connection, queue_ids: Sequence[str]) -> dict[str, list[tuple[str, str, float]]]:
    """By queue: id, name and time of what waits there, the next one first."""
    found: dict[str, list[tuple[str, str, float]]] = {}
    for queue_id in queue_ids:
        placed = _placed(queue_id)
        rows = tx.execute(
            select(entries.c.task_id, tasks.c.name, entries.c.enqueued)
            .join(placed, placed.c.task_id == entries.c.task_id)
            .join(tasks, tasks.c.id == entries.c.task_id)
            .order_by(placed.c.position)
        )
        found[queue_id] = [(row.task_id, row.name, row.enqueued) for row in rows]
    return found


# --- by hand ----------------------------------------------------------------------------------------------


def place_by_hand(tx: Connection, task_id: str, hand: int, rank: float) -> None:
    tx.execute(update(entries).where(entries.c.task_id == task_id).values(hand=hand, band=0, rank=rank))


def rank_by_hand(tx: Connection, queue_id: str, hand: int, index: int, without: str) -> float | None:
    """The rank of the entry at this place, from 0 on, among those of the hand; None where there is none."""
    if index < 0:
        return None
    theirs = (entries.c.queue_id == queue_id) & (entries.c.hand == hand) & (entries.c.task_id != without)
    ordered = select(entries.c.rank).where(theirs).order_by(entries.c.rank, entries.c.task_id)
    return tx.execute(ordered.limit(1).offset(index)).scalar_one_or_none()


def freeze(tx: Connection, task_ids: Sequence[str], rank: float) -> None:
    """These stand so by hand now: in front of all others, with ranks from `rank` on."""
    _FREEZE.run_many(tx, [{"task": task_id, "fresh": rank + place} for place, task_id in enumerate(task_ids)])


def counts_by_hand(tx: Connection, queue_id: str, without: str) -> dict[int, int]:
    """How many entries stand in front by hand (-1), by the rules (0) and behind by hand (1)."""
    counted = (
        select(entries.c.hand, func.count())
        .where(entries.c.queue_id == queue_id, entries.c.task_id != without)
        .group_by(entries.c.hand)
    )
    return {-1: 0, 0: 0, 1: 0, **{row[0]: row[1] for row in tx.execute(counted)}}


def spread(tx: Connection, queue_id: str, hand: int, without: str) -> None:
    """Whole numbers as ranks of what stands by hand, in the order they have: room between them again."""
    ordered = _by_rank(queue_id, hand, without)
    fresh = select(ordered.c.place * 1.0).where(ordered.c.task_id == entries.c.task_id)
    theirs = (entries.c.queue_id == queue_id) & (entries.c.hand == hand) & (entries.c.task_id != without)
    tx.execute(update(entries).where(theirs).values(rank=fresh.correlate(entries).scalar_subquery()))


def _by_rank(queue_id: str, hand: int, without: str) -> Subquery:
    theirs = (entries.c.queue_id == queue_id) & (entries.c.hand == hand) & (entries.c.task_id != without)
    place = func.row_number().over(order_by=(entries.c.rank, entries.c.task_id)).label("place")
    return select(entries.c.task_id, place).where(theirs).subquery("by_rank")


# --- the order, as SQL ------------------------------------------------------------------------------------


def _levelled(queue_id: str) -> Subquery:
    """Every entry of the queue with its level: how many tasks of its user run, or stand up to here."""
    running = (
        select(leases.c.user, func.count().label("number"))
        .where(leases.c.queue_id == queue_id, leases.c.outcome == "")
        .group_by(leases.c.user)
        .subquery("running")
    )
    own_order = (entries.c.hand, entries.c.band, entries.c.rank, entries.c.task_id)
    upto = func.row_number().over(partition_by=entries.c.user, order_by=own_order)
    level = case((entries.c.hand == 0, upto + func.coalesce(running.c.number, 0)), else_=0)
    return (
        select(entries.c.task_id, entries.c.hand, entries.c.band, entries.c.rank, level.label("level"))
        .outerjoin(running, running.c.user == entries.c.user)
        .where(entries.c.queue_id == queue_id)
        .subquery("levelled")
    )


def _placed(queue_id: str) -> Subquery:
    """Every entry of the queue with its position from 1 on."""
    c = _levelled(queue_id).c
    position = func.row_number().over(order_by=(c.hand, c.band, c.level, c.rank, c.task_id))
    return select(c.task_id, position.label("position")).subquery("placed")


_BAND = "queue_id = :queue AND hand = :hand AND band = :band"
_ENTRY = tuple(Entry.__dataclass_fields__)
_COLUMNS = tuple(entries.c[name] for name in _ENTRY)
_HEADS = Prepared(
    text(
        # Each step of the recursion is one seek: the smallest lane above the last one.
        f"""
    WITH RECURSIVE lanes(lane) AS (
        SELECT min(lane) FROM entries WHERE {_BAND}
        UNION ALL
        SELECT (SELECT min(lane) FROM entries WHERE {_BAND} AND lane > lanes.lane)
        FROM lanes WHERE lanes.lane IS NOT NULL
    ), running(holder, number) AS (
        SELECT "user", count(*) FROM leases WHERE queue_id = :queue AND outcome = '' GROUP BY "user"
    )
    SELECT {", ".join(f'entries."{name}"' for name in _ENTRY)}
    FROM lanes JOIN entries ON entries.task_id = (
        SELECT task_id FROM entries
        WHERE {_BAND} AND lane = lanes.lane AND not_before <= :now ORDER BY rank, task_id LIMIT 1
    ) LEFT JOIN running ON running.holder = entries."user"
    WHERE lanes.lane IS NOT NULL
    ORDER BY CASE WHEN entries.hand = 0 THEN coalesce(running.number, 0) ELSE 0 END, entries.rank, entries.task_id
    """  # noqa: S608 - our own words
    ).columns(*_COLUMNS)
)
_bands = select(entries.c.hand, entries.c.band).where(entries.c.queue_id == bindparam("queue"))
_bands = _bands.order_by(entries.c.hand, entries.c.band).limit(1)
_FIRST_BAND = Prepared(_bands)
_NEXT_BAND = Prepared(
    _bands.where(tuple_(entries.c.hand, entries.c.band) > tuple_(bindparam("hand"), bindparam("band")))
)
_HIGHEST_RANK = Prepared(select(func.max(entries.c.rank)).where(entries.c.queue_id == bindparam("queue")))
_ADD_ENTRY = Prepared(insert(entries), _ENTRY)
_REMOVE_ENTRY = Prepared(
    delete(entries).where(entries.c.task_id == bindparam("task")).returning(entries.c.queue_id)
)
_FREEZE = Prepared(
    update(entries)
    .where(entries.c.task_id == bindparam("task"))
    .values(hand=-1, band=0, rank=bindparam("fresh", type_=Double))
)
_FIND_ENTRY = Prepared(select(*_COLUMNS).where(entries.c.task_id == bindparam("task")))
_ANY_ENTRY = Prepared(
    select(queues.c.id).where(
        (queues.c.id == bindparam("key")) | (queues.c.name == bindparam("key")),
        queues.c.paused.is_(False),
        select(entries.c.task_id).where(entries.c.queue_id == queues.c.id).exists(),
    )
)

"""SQL of series, console, plots and marks in the telemetry database. Rules are the service's.

Every function takes the open connection of a work. `task_state` alone reads the other database, main.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Integer, Table, and_, bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import Insert

from taskloom.domain.metrics import SeriesSummary
from taskloom.server.db import insert
from taskloom.server.prepared import Prepared
from taskloom.server.tables import batches, chunks, console, marks, plots, series, series_numbers, tasks
from taskloom.wire.messages import JournalMarks

STREAMS = ("stdout", "stderr", "report")
SLICE = 500  # numbers in one IN list
LOOK_BACK = 256  # console pieces in which the former one of a stream is searched
_summary_of = msgspec.msgpack.Decoder(SeriesSummary)
_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class SeriesRow:
    """A series as an appending batch finds it; `end` is its short unpacked last chunk, if it has one."""

    id: int
    summary: SeriesSummary
    end: bytes | None


@dataclass(frozen=True)
class ChunkRow:
    series_id: int
    position: int
    count: int
    data: bytes


@dataclass(frozen=True)
class ConsoleRow:
    number: int
    stream: str
    time: float
    data: bytes


@dataclass(frozen=True)
class PlotRow:
    title: str
    series: str
    iteration: int
    time: float
    kind: str
    figure: bytes


_upserts: dict[tuple[str, str], Insert] = {}


def _upsert(tx: Connection, table: Table) -> Insert:
    """INSERT that writes over the row of the same key; built once, because building costs more than running."""
    key = (tx.dialect.name, table.name)
    if key not in _upserts:
        fresh = insert(tx, table)
        keys = [column.name for column in table.primary_key]
        _upserts[key] = fresh.on_conflict_do_update(
            index_elements=keys, set_={c.name: fresh.excluded[c.name] for c in table.c if c.name not in keys}
        )
    return _upserts[key]


# --- marks ------------------------------------------------------------------------------------------------


_marks_of = select(marks).where(marks.c.task_id == bindparam("task"), marks.c.writer == bindparam("by"))


def find_marks(tx: Connection, task_id: str, writer: str) -> JournalMarks:
    found = tx.execute(_marks_of, {"task": task_id, "by": writer}).mappings().one_or_none()
    if found is None:
        return JournalMarks()
    return JournalMarks(
        events=found["events"],
        rows=found["rows"],
        console={stream: found[stream] for stream in STREAMS if found[stream]},
    )


def put_marks(tx: Connection, task_id: str, writer: str, now: JournalMarks) -> None:
    values: dict[str, Any] = {
        "task_id": task_id,
        "writer": writer,
        "events": now.events,
        "rows": now.rows,
        **{stream: now.console.get(stream, 0) for stream in STREAMS},
    }
    tx.execute(_upsert(tx, marks), values)


# --- series -----------------------------------------------------------------------------------------------


def name_series(tx: Connection, task_id: str, writer: str, number: int, title: str, name: str) -> None:
    """Give the writer's number to the series, which is made when it is new. A number given before stays."""
    same = and_(series.c.task_id == task_id, series.c.title == title, series.c.series == name)
    found = tx.execute(select(series.c.id).where(same)).scalar_one_or_none()
    if found is None:
        make_series(tx, task_id, [(title, name)])
        found = tx.execute(select(series.c.id).where(same)).scalar_one()
    statement = insert(tx, series_numbers).values(task_id=task_id, writer=writer, number=number, series_id=found)
    tx.execute(statement.on_conflict_do_nothing())


_numbered = (
    select(series_numbers.c.number, series.c.id, series.c.summary, chunks.c.data)
    .select_from(
        series_numbers.join(series, series.c.id == series_numbers.c.series_id).outerjoin(
            chunks,
            and_(
                chunks.c.series_id == series.c.id,
                chunks.c.position == series.c.count - series.c.count % bindparam("span"),
            ),
        )
    )
    .where(
        series_numbers.c.task_id == bindparam("task"),
        series_numbers.c.writer == bindparam("by"),
        series_numbers.c.number.in_(bindparam("numbers", expanding=True)),
    )
)


def numbered(tx: Connection, task_id: str, writer: str, numbers: Sequence[int], span: int) -> dict[int, SeriesRow]:
    """The series behind a writer's numbers; unknown numbers are missing. `span`: grain of unpacked ends."""
    found: dict[int, SeriesRow] = {}
    for at in range(0, len(numbers), SLICE):
        some = list(numbers[at : at + SLICE])
        for row in tx.execute(_numbered, {"task": task_id, "by": writer, "numbers": some, "span": span}):
            found[row[0]] = SeriesRow(row[1], _summary_of.decode(row[2]), row[3])
    return found


_named = (
    select(series.c.title, series.c.series, series.c.id, series.c.summary, chunks.c.data)
    .select_from(
        series.outerjoin(
            chunks,
            and_(
                chunks.c.series_id == series.c.id,
                chunks.c.position == series.c.count - series.c.count % bindparam("span"),
            ),
        )
    )
    .where(
        series.c.task_id == bindparam("task"),
        series.c.title.in_(bindparam("titles", expanding=True)),
        series.c.series.in_(bindparam("names", expanding=True)),
    )
)


def named(
    tx: Connection, task_id: str, wanted: Sequence[tuple[str, str]], span: int
) -> dict[tuple[str, str], SeriesRow]:
    """The series of these titles and names that are there, like `numbered`."""
    found: dict[tuple[str, str], SeriesRow] = {}
    for at in range(0, len(wanted), SLICE):
        some = set(wanted[at : at + SLICE])
        titles, names = sorted({title for title, _ in some}), sorted({name for _, name in some})
        for row in tx.execute(_named, {"task": task_id, "titles": titles, "names": names, "span": span}):
            if (row[0], row[1]) in some:
                found[row[0], row[1]] = SeriesRow(row[2], _summary_of.decode(row[3]), row[4])
    return found


def make_series(tx: Connection, task_id: str, wanted: Sequence[tuple[str, str]]) -> None:
    """Series without points; those that are there already stay."""
    rows = [
        {"task_id": task_id, "title": title, "series": name, "summary": _nothing(title, name)}
        for title, name in wanted
    ]
    tx.execute(insert(tx, series).on_conflict_do_nothing(), rows)


def _nothing(title: str, name: str) -> bytes:
    return _pack(SeriesSummary(title, name, 0, "NaN", 0, "NaN", 0, "NaN", 0))


_chunks_from = (
    select(chunks.c.position, chunks.c.data)
    .where(chunks.c.series_id == bindparam("id"), chunks.c.position >= bindparam("from"))
    .order_by(chunks.c.position)
)


def chunks_from(tx: Connection, series_id: int, position: int) -> list[tuple[int, bytes]]:
    return [(row[0], row[1]) for row in tx.execute(_chunks_from, {"id": series_id, "from": position})]


def put_chunks(tx: Connection, rows: Sequence[ChunkRow], gone: Sequence[tuple[int, int]]) -> None:
    """Chunks written or written over; `gone` are (series, position) of those that went into longer ones."""
    if gone:
        tx.execute(
            delete(chunks).where(chunks.c.series_id == bindparam("s"), chunks.c.position == bindparam("p")),
            [{"s": series_id, "p": position} for series_id, position in gone],
        )
    if rows:
        tx.execute(
            _upsert(tx, chunks),
            [{"series_id": r.series_id, "position": r.position, "count": r.count, "data": r.data} for r in rows],
        )


_grow = (
    update(series)
    .where(series.c.id == bindparam("at"))
    .values(count=bindparam("points"), summary=bindparam("told"), dirty=True)
)


def put_summaries(tx: Connection, summaries: dict[int, SeriesSummary]) -> None:
    """Mark them as not yet known to main, too."""
    if summaries:
        tx.execute(
            _grow,
            [{"at": at, "points": s.count, "told": _pack(s)} for at, s in summaries.items()],
        )


def summaries(tx: Connection, task_ids: Sequence[str]) -> dict[str, tuple[SeriesSummary, ...]]:
    """In the order of title and series; tasks without any are missing."""
    found: defaultdict[str, list[SeriesSummary]] = defaultdict(list)
    for at in range(0, len(task_ids), SLICE):
        for task_id, summary in tx.execute(
            select(series.c.task_id, series.c.summary)
            .where(series.c.task_id.in_(list(task_ids[at : at + SLICE])), series.c.count > 0)
            .order_by(series.c.title, series.c.series)
        ):
            found[task_id].append(_summary_of.decode(summary))
    return {task_id: tuple(rows) for task_id, rows in found.items()}


_DIRTY = Prepared(
    select(series.c.id, series.c.task_id, series.c.summary)
    .where(series.c.dirty.is_(True))
    .limit(bindparam("most", type_=Integer))
)


def dirty(tx: Connection, limit: int) -> list[tuple[int, str, SeriesSummary, bytes]]:
    """Id, task and summary, also as it is stored."""
    rows = _DIRTY.rows(tx, {"most": limit})
    return [(row[0], row[1], _summary_of.decode(row[2]), row[2]) for row in rows]


def clear_dirty(tx: Connection, seen: Sequence[tuple[int, str, bytes]]) -> None:
    """Series (id, task, stored summary) that are copied elsewhere; one that changed meanwhile stays dirty."""
    if seen:
        tx.execute(
            update(series)
            .where(
                series.c.id == bindparam("at"),
                series.c.task_id == bindparam("of"),
                series.c.summary == bindparam("told"),
            )
            .values(dirty=False),
            [{"at": at, "of": of, "told": told} for at, of, told in seen],
        )


def find_series(tx: Connection, task_id: str, title: str, name: str) -> tuple[int, bytes] | None:
    """Its id and its packed summary, which changes with every point."""
    row = tx.execute(
        select(series.c.id, series.c.summary).where(
            series.c.task_id == task_id, series.c.title == title, series.c.series == name
        )
    ).one_or_none()
    return None if row is None else (row[0], row[1])


# --- console ----------------------------------------------------------------------------------------------


def last_number(tx: Connection, task_id: str) -> int:
    return tx.execute(select(func.max(console.c.number)).where(console.c.task_id == task_id)).scalar_one() or 0


def newest_of(tx: Connection, task_id: str, stream: str, last: int) -> bytes | None:
    """The newest piece of a stream, if it is among the newest of the task."""
    return tx.execute(
        select(console.c.data)
        .where(console.c.task_id == task_id, console.c.number > last - LOOK_BACK, console.c.stream == stream)
        .order_by(console.c.number.desc())
        .limit(1)
    ).scalar_one_or_none()


def add_console(tx: Connection, task_id: str, rows: Sequence[ConsoleRow]) -> None:
    if rows:
        tx.execute(
            console.insert(),
            [
                {"task_id": task_id, "number": r.number, "stream": r.stream, "time": r.time, "data": r.data}
                for r in rows
            ],
        )


def trim_console(tx: Connection, task_id: str, limit: int) -> None:
    """Drop the oldest pieces until at most `limit` bytes are kept."""
    of_task = console.c.task_id == task_id
    size = func.length(console.c.data)
    over = (tx.execute(select(func.sum(size)).where(of_task)).scalar_one() or 0) - limit
    if over <= 0:
        return
    last = 0
    for number, bytes_ in tx.execute(select(console.c.number, size).where(of_task).order_by(console.c.number)):
        last = number
        over -= bytes_
        if over <= 0:
            break
    tx.execute(delete(console).where(of_task, console.c.number <= last))


# --- plots ------------------------------------------------------------------------------------------------


def put_plot(tx: Connection, task_id: str, plot: PlotRow) -> None:
    values: dict[str, Any] = {
        "title": plot.title,
        "series": plot.series,
        "iteration": plot.iteration,
        "time": plot.time,
        "kind": plot.kind,
        "figure": plot.figure,
    }
    tx.execute(_upsert(tx, plots), {"task_id": task_id, **values})


# --- batches without a journal's numbers ------------------------------------------------------------------


def remember_batch(tx: Connection, owner_id: str, digest: str, now: float) -> bool:
    """Whether it is new; from now on it is known."""
    fresh = insert(tx, batches).values(owner_id=owner_id, digest=digest, time=now).on_conflict_do_nothing()
    return tx.execute(fresh.returning(batches.c.digest)).first() is not None


def forget_batches(tx: Connection, before: float) -> None:
    tx.execute(delete(batches).where(batches.c.time < before))


# --- deleting ---------------------------------------------------------------------------------------------


def drop_some(tx: Connection, task_id: str, limit: int) -> bool:
    """Delete at most `limit` rows of what a task holds; whether something may be left."""
    numbers = select(console.c.number).where(console.c.task_id == task_id).order_by(console.c.number).limit(limit)
    if tx.execute(
        delete(console).where(console.c.task_id == task_id, console.c.number.in_(numbers.scalar_subquery()))
    ).rowcount:
        return True
    for (series_id,) in tx.execute(select(series.c.id).where(series.c.task_id == task_id).limit(limit)).all():
        some = select(chunks.c.position).where(chunks.c.series_id == series_id).limit(limit).scalar_subquery()
        if tx.execute(delete(chunks).where(chunks.c.series_id == series_id, chunks.c.position.in_(some))).rowcount:
            return True
        tx.execute(delete(series).where(series.c.id == series_id))
    for table in (plots, series_numbers, marks, series):
        tx.execute(delete(table).where(table.c.task_id == task_id))
    tx.execute(delete(batches).where(batches.c.owner_id == task_id))
    return False


def empty_some(tx: Connection, task_id: str, limit: int) -> bool:
    """Like `drop_some`, but marks, series and their numbers stay: writers of journals go on where they are."""
    numbers = select(console.c.number).where(console.c.task_id == task_id).order_by(console.c.number).limit(limit)
    if tx.execute(
        delete(console).where(console.c.task_id == task_id, console.c.number.in_(numbers.scalar_subquery()))
    ).rowcount:
        return True
    full = select(series.c.id, series.c.title, series.c.series).where(
        series.c.task_id == task_id, series.c.count > 0
    )
    for series_id, title, name in tx.execute(full.limit(limit)).all():
        tx.execute(delete(chunks).where(chunks.c.series_id == series_id))
        empty = update(series).where(series.c.id == series_id)
        tx.execute(empty.values(count=0, summary=_nothing(title, name), dirty=False))
        return True
    tx.execute(delete(plots).where(plots.c.task_id == task_id))
    tx.execute(delete(batches).where(batches.c.owner_id == task_id))
    return False


# --- main -------------------------------------------------------------------------------------------------


def task_state(tx: Connection, task_id: str) -> str | None:
    """A task's state in the database main; None when there is no such task."""
    return tx.execute(select(tasks.c.status).where(tasks.c.id == task_id)).scalar_one_or_none()

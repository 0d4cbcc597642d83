"""SQL that reads across a task's telemetry: all its series at once, its console by time, its plots by iteration.

Every function takes the open connection of a work. What single series and appending need stands in `store`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, func, select

from taskloom.domain.metrics import SeriesSummary
from taskloom.server.metrics.store import SLICE, ConsoleRow, PlotRow
from taskloom.server.tables import chunks, console, plots, series

_summary_of = msgspec.msgpack.Decoder(SeriesSummary)


@dataclass(frozen=True)
class SeriesFound:
    """`stored` is the summary as the database has it; it changes with every point."""

    id: int
    summary: SeriesSummary
    stored: bytes


@dataclass(frozen=True)
class PlotKey:
    """What names a plot, and its kind; without the figure, which may be large."""

    title: str
    series: str
    iteration: int
    time: float
    kind: str


# --- series -----------------------------------------------------------------------------------------------


def series_of(tx: Connection, owner_ids: Sequence[str]) -> dict[str, list[SeriesFound]]:
    """Those with points, in the order of title and series; owners without any are missing."""
    found: defaultdict[str, list[SeriesFound]] = defaultdict(list)
    for at in range(0, len(owner_ids), SLICE):
        rows = tx.execute(
            select(series.c.task_id, series.c.id, series.c.summary)
            .where(series.c.task_id.in_(list(owner_ids[at : at + SLICE])), series.c.count > 0)
            .order_by(series.c.title, series.c.series)
        )
        for owner_id, series_id, stored in rows:
            found[owner_id].append(SeriesFound(series_id, _summary_of.decode(stored), stored))
    return dict(found)


def chunks_of(tx: Connection, series_ids: Sequence[int]) -> dict[int, list[bytes]]:
    """The chunks of each series in their order, in one read for many."""
    found: dict[int, list[bytes]] = {series_id: [] for series_id in series_ids}
    for at in range(0, len(series_ids), SLICE):
        rows = tx.execute(
            select(chunks.c.series_id, chunks.c.data)
            .where(chunks.c.series_id.in_(list(series_ids[at : at + SLICE])))
            .order_by(chunks.c.series_id, chunks.c.position)
        )
        for series_id, data in rows:
            found[series_id].append(data)
    return found


# --- console ----------------------------------------------------------------------------------------------


def console_after(tx: Connection, task_id: str, after: int, limit: int) -> Iterator[ConsoleRow]:
    return _streamed(
        tx.execute(
            select(console.c.number, console.c.stream, console.c.time, console.c.data)
            .where(console.c.task_id == task_id, console.c.number > after)
            .order_by(console.c.number)
            .limit(limit)
            .execution_options(yield_per=16)
        )
    )


def console_before_end(tx: Connection, task_id: str, after: int, limit: int) -> Iterator[ConsoleRow]:
    """The last ones, newest first."""
    return _streamed(
        tx.execute(
            select(console.c.number, console.c.stream, console.c.time, console.c.data)
            .where(console.c.task_id == task_id, console.c.number > after)
            .order_by(console.c.number.desc())
            .limit(limit)
            .execution_options(yield_per=16)
        )
    )


def _streamed(rows: Iterable[Any]) -> Iterator[ConsoleRow]:
    for row in rows:
        yield ConsoleRow(row[0], row[1], row[2], row[3])


def console_count(tx: Connection, task_id: str) -> int:
    return tx.execute(select(func.count()).select_from(console).where(console.c.task_id == task_id)).scalar_one()


def console_end(tx: Connection, task_id: str, limit: int, *, newest: bool) -> list[ConsoleRow]:
    """The last or the first entries, the outermost first."""
    order = console.c.number.desc() if newest else console.c.number
    return _entries(tx, task_id, None, (order,), limit)


def console_beyond(tx: Connection, task_id: str, time: float, limit: int, *, earlier: bool) -> list[ConsoleRow]:
    """Entries before `time`, the latest first, or from `time` on, the earliest first."""
    if earlier:
        order = (console.c.time.desc(), console.c.number.desc())
        return _entries(tx, task_id, console.c.time < time, order, limit)
    return _entries(tx, task_id, console.c.time >= time, (console.c.time, console.c.number), limit)


def console_between(tx: Connection, task_id: str, start: float, stop: float, limit: int) -> list[ConsoleRow]:
    """Entries of `start <= time < stop` in their order."""
    inside = and_(console.c.time >= start, console.c.time < stop)
    return _entries(tx, task_id, inside, (console.c.number,), limit)


def console_around(tx: Connection, task_id: str, number: int, limit: int, *, after: bool) -> list[ConsoleRow]:
    """Entries behind a number in their order, or before it, backwards."""
    if after:
        return _entries(tx, task_id, console.c.number > number, (console.c.number,), limit)
    return _entries(tx, task_id, console.c.number < number, (console.c.number.desc(),), limit)


def _entries(
    tx: Connection,
    task_id: str,
    where: ColumnElement[bool] | None,
    order: tuple[ColumnElement[object], ...],
    limit: int,
) -> list[ConsoleRow]:
    statement = select(console.c.number, console.c.stream, console.c.time, console.c.data)
    statement = statement.where(console.c.task_id == task_id)
    if where is not None:
        statement = statement.where(where)
    return [ConsoleRow(*row) for row in tx.execute(statement.order_by(*order).limit(limit))]


def drop_console(tx: Connection, task_id: str, before: float | None) -> int:
    """Delete what was told before a time, or all; how many entries that were."""
    statement = delete(console).where(console.c.task_id == task_id)
    if before is not None:
        statement = statement.where(console.c.time < before)
    return tx.execute(statement).rowcount


# --- plots ------------------------------------------------------------------------------------------------


def find_plots(tx: Connection, task_id: str, title: str, all_iterations: bool) -> Iterator[PlotRow]:
    where = [plots.c.task_id == task_id]
    if title:
        where.append(plots.c.title == title)
    if not all_iterations:
        newer = plots.alias()
        where.append(
            ~select(newer.c.iteration)
            .where(
                newer.c.task_id == plots.c.task_id,
                newer.c.title == plots.c.title,
                newer.c.series == plots.c.series,
                newer.c.iteration > plots.c.iteration,
            )
            .exists()
        )
    rows = tx.execute(
        select(plots.c.title, plots.c.series, plots.c.iteration, plots.c.time, plots.c.kind, plots.c.figure)
        .where(*where)
        .order_by(plots.c.title, plots.c.series, plots.c.iteration)
        .execution_options(yield_per=8)
    )
    for row in rows:
        yield PlotRow(*row)


def plot_keys(tx: Connection, owner_ids: Sequence[str]) -> dict[str, list[PlotKey]]:
    """In the order of title, series, iteration; owners without any are missing."""
    found: defaultdict[str, list[PlotKey]] = defaultdict(list)
    for at in range(0, len(owner_ids), SLICE):
        rows = tx.execute(
            select(plots.c.task_id, plots.c.title, plots.c.series, plots.c.iteration, plots.c.time, plots.c.kind)
            .where(plots.c.task_id.in_(list(owner_ids[at : at + SLICE])))
            .order_by(plots.c.title, plots.c.series, plots.c.iteration)
        )
        for owner_id, *key in rows:
            found[owner_id].append(PlotKey(*key))
    return dict(found)


def find_plot(tx: Connection, owner_id: str, key: PlotKey) -> PlotRow | None:
    row = tx.execute(
        select(plots.c.title, plots.c.series, plots.c.iteration, plots.c.time, plots.c.kind, plots.c.figure).where(
            plots.c.task_id == owner_id,
            plots.c.title == key.title,
            plots.c.series == key.series,
            plots.c.iteration == key.iteration,
        )
    ).one_or_none()
    return None if row is None else PlotRow(*row)

"""A journal batch into the telemetry database: what of it is new, in the transaction that moves the marks.

One pass a stream: events (series names and plots; `main` keeps the others by a mark of its own), rows, console
bytes. A stream that begins above its mark is a Conflict that tells the marks. Nothing is told to anybody here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Conflict
from taskloom.domain.metrics import MAX_ITERATION, MIN_ITERATION, SeriesSummary
from taskloom.server.compression import compress
from taskloom.server.metrics import console, growing, store
from taskloom.wire.messages import JournalBatch, JournalMarks, ScalarColumns
from taskloom.wire.records import Plotted, Record, SeriesNamed

if TYPE_CHECKING:
    from taskloom.server.metrics.codec import Columns

LONGEST_NAME = 1024  # characters of a title or series
TRIM_EVERY = 512  # console pieces between two looks at how much of it a task has


Also = Callable[[Connection, Sequence[Record]], set[str]]
"""What another room does with new records in the transaction of the marks; tells what of its own grew."""


@dataclass(frozen=True)
class Appended:
    """`summaries` are those of the series that grew, as they stand now; empty when the batch was known.

    others: what `Also` told.
    """

    marks: JournalMarks
    summaries: tuple[SeriesSummary, ...] = ()
    console: bool = False
    plots: bool = False
    others: frozenset[str] = frozenset()


def check(batch: JournalBatch) -> None:
    """What can be refused without looking at the database; raises BadInput."""
    if batch.scalars is not None:
        _row_count(batch.scalars)
    for record in batch.events:
        if isinstance(record, SeriesNamed | Plotted):
            kind = record.kind if isinstance(record, Plotted) else ""
            for what, text in (("title", record.title), ("series", record.series), ("kind", kind)):
                if "\0" in text or len(text) > LONGEST_NAME:
                    raise BadInput(f"{what} {text[:80]!r}: expected at most {LONGEST_NAME} characters, no NUL")
        if isinstance(record, SeriesNamed) and not 0 <= record.number < 2**32:
            raise BadInput(
                f"number {record.number} of series {record.title!r}: expected an unsigned 32-bit number"
            )
        if isinstance(record, Plotted):
            _iteration(record, batch.iteration_offset)


def apply(
    tx: Connection, task_id: str, batch: JournalBatch, console_limit: int, also: Also | None = None
) -> Appended:
    """Everything of a checked batch that lies above the writer's marks, and the marks."""
    before = store.find_marks(tx, task_id, batch.writer)
    events, plots = _apply_events(tx, task_id, batch, before)
    rows, summaries = _apply_rows(tx, task_id, batch, before)
    streams = _apply_console(tx, task_id, batch, before, console_limit)
    fresh = batch.events[max(0, before.events - batch.events_start) :]
    others = also(tx, fresh) if also is not None and fresh else ()
    now = JournalMarks(events=events, rows=rows, console=streams)
    if now != before:
        store.put_marks(tx, task_id, batch.writer, now)
    return Appended(now, summaries, streams != before.console, plots, frozenset(others))


# --- events -----------------------------------------------------------------------------------------------


def _apply_events(tx: Connection, task_id: str, batch: JournalBatch, before: JournalMarks) -> tuple[int, bool]:
    """The new events mark, and whether a plot was stored."""
    if not batch.events:
        return before.events, False
    if batch.events_start > before.events:
        raise _gap("events", batch.events_start, before.events, before)
    plots = False
    for record in batch.events[before.events - batch.events_start :]:
        if isinstance(record, SeriesNamed):
            store.name_series(tx, task_id, batch.writer, record.number, record.title, record.series)
        elif isinstance(record, Plotted):
            plots = True
            store.put_plot(tx, task_id, _plot_row(record, batch.iteration_offset))
    return max(before.events, batch.events_start + len(batch.events)), plots


def _plot_row(record: Plotted, offset: int) -> store.PlotRow:
    figure = compress(record.figure.encode())
    return store.PlotRow(record.title, record.series, _iteration(record, offset), record.time, record.kind, figure)


def _iteration(record: Plotted, offset: int) -> int:
    iteration = record.iteration + offset
    if not MIN_ITERATION <= iteration <= MAX_ITERATION:
        raise BadInput(
            f"iteration {record.iteration} of plot {record.title!r} with offset {offset}: beyond 64 bits"
        )
    return iteration


# --- rows -------------------------------------------------------------------------------------------------


def _apply_rows(
    tx: Connection, task_id: str, batch: JournalBatch, before: JournalMarks
) -> tuple[int, tuple[SeriesSummary, ...]]:
    """The new rows mark, and the summaries of the series that grew."""
    if batch.scalars is None:
        return before.rows, ()
    start, count = batch.scalars.start, _row_count(batch.scalars)
    if start > before.rows:
        raise _gap("rows", start, before.rows, before)
    if start + count <= before.rows:
        return before.rows, ()
    from taskloom.server.metrics import rows

    groups = dict(rows.by_series(*rows.read_rows(batch.scalars, before.rows - start, batch.iteration_offset)))
    known = store.numbered(tx, task_id, batch.writer, list(groups), rows.SPANS[-1])
    if unknown := groups.keys() - known.keys():
        raise BadInput(
            f"series number {min(unknown)} of writer {batch.writer} was never named", number=min(unknown)
        )
    grown = _merged([(known[number], points) for number, points in groups.items()])
    summaries = growing.write(tx, {row.id: growing.append(tx, row, points) for row, points in grown})
    return start + count, summaries


def _row_count(scalars: ScalarColumns) -> int:
    count, odd = divmod(len(scalars.series), 4)
    sizes = {len(scalars.iteration), len(scalars.value), len(scalars.time)}
    if odd or sizes != {8 * count}:
        raise BadInput(
            f"scalar columns of {len(scalars.series)} bytes of series numbers and {sorted(sizes)} bytes: "
            "expected 4 bytes a row for the numbers, 8 for iteration, value and time"
        )
    return count


def _merged(groups: list[tuple[store.SeriesRow, Columns]]) -> Iterator[tuple[store.SeriesRow, Columns]]:
    """Two numbers of a writer may mean one series: their points then go in together."""
    from taskloom.server.metrics.codec import join

    by_id: dict[int, list[tuple[store.SeriesRow, Columns]]] = {}
    for row, points in groups:
        by_id.setdefault(row.id, []).append((row, points))
    for found in by_id.values():
        yield found[0][0], join([points for _, points in found])


# --- console ----------------------------------------------------------------------------------------------


def _apply_console(
    tx: Connection, task_id: str, batch: JournalBatch, before: JournalMarks, limit: int
) -> dict[str, int]:
    streams = dict(before.console)
    rows: list[store.ConsoleRow] = []
    last = first = -1
    for part in batch.console:
        mark = streams.get(part.stream, 0)
        if part.start > mark:
            raise _gap(part.stream, part.start, mark, before)
        data = part.data[mark - part.start :]
        if not data:
            continue
        streams[part.stream] = mark + len(data)
        if last < 0:
            last = first = store.last_number(tx, task_id)
        if console.goes_on(data):
            data = _cut_off(tx, task_id, part.stream, rows, first) + data
        for piece in console.pieces(data):
            last += 1
            rows.append(store.ConsoleRow(last, part.stream, part.time, console.pack(piece)))
    store.add_console(tx, task_id, rows)
    if last // TRIM_EVERY != first // TRIM_EVERY:
        store.trim_console(tx, task_id, limit)
    return streams


def _cut_off(tx: Connection, task_id: str, stream: str, rows: list[store.ConsoleRow], last: int) -> bytes:
    """The beginning of a character that the stream's former piece ends with."""
    former = next((row.data for row in reversed(rows) if row.stream == stream), None)
    if former is None:
        former = store.newest_of(tx, task_id, stream, last)
    return b"" if former is None else console.broken_end(console.unpack(former))


def _gap(stream: str, start: int, mark: int, marks: JournalMarks) -> Conflict:
    return Conflict(
        f"{stream} begin at {start}, but only {mark} are here; send from there on",
        marks=msgspec.to_builtins(marks),
        stream=stream,
    )

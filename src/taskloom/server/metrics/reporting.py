"""Events that come without a journal's numbers: told once more they change nothing, or take the older one's place.

A point is named by (title, series, iteration), a plot too; the last that came counts. Console lines have no name
and are always appended, so a batch that carries a digest and was applied within the last hour is skipped. All of a
batch is one transaction. Nothing is told to anybody here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection

from taskloom.domain.metrics import SeriesSummary
from taskloom.server.compression import compress
from taskloom.server.metrics import console, growing, store
from taskloom.server.metrics.appending import TRIM_EVERY
from taskloom.wire.records import Plotted

if TYPE_CHECKING:
    from taskloom.server.metrics.codec import Columns

REMEMBERED = 3600.0  # seconds that a batch is known by its digest


@dataclass(frozen=True, slots=True)
class Told:
    """Points of one series in the order in which they came; three lists of one length, iterations of 64 bits."""

    iteration: list[int] = field(default_factory=list[int])
    value: list[float] = field(default_factory=list[float])
    time: list[float] = field(default_factory=list[float])


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of the console; `text` ends where its line ends."""

    stream: Literal["stdout", "stderr", "report"]
    time: float
    text: str


@dataclass(frozen=True)
class Reported:
    """What one owner (a task or a model) is told at once. `digest`: of the batch as it was sent, or empty."""

    points: Mapping[tuple[str, str], Told] = field(default_factory=dict[tuple[str, str], Told])
    lines: Sequence[Line] = ()
    plots: Sequence[Plotted] = ()
    digest: str = ""


@dataclass(frozen=True)
class Applied:
    """What grew; nothing did when the batch was known."""

    summaries: tuple[SeriesSummary, ...] = ()
    console: bool = False
    plots: bool = False


def apply(tx: Connection, owner_id: str, what: Reported, now: float, console_limit: int) -> Applied:
    if what.digest and not store.remember_batch(tx, owner_id, what.digest, now):
        return Applied()
    summaries = _apply_points(tx, owner_id, what.points) if what.points else ()
    if what.lines:
        _apply_lines(tx, owner_id, what.lines, console_limit)
    for plot in what.plots:
        figure = compress(plot.figure.encode())
        row = store.PlotRow(plot.title, plot.series, plot.iteration, plot.time, plot.kind, figure)
        store.put_plot(tx, owner_id, row)
    return Applied(summaries, bool(what.lines), bool(what.plots))


def _apply_points(
    tx: Connection, owner_id: str, points: Mapping[tuple[str, str], Told]
) -> tuple[SeriesSummary, ...]:
    from taskloom.server.metrics import rows

    known = store.named(tx, owner_id, list(points), rows.SPANS[-1])
    new = [name for name in points if name not in known]
    if new:
        store.make_series(tx, owner_id, new)
        known |= store.named(tx, owner_id, new, rows.SPANS[-1])
    grown = {
        known[name].id: growing.told(tx, known[name], rows.newest_of_each(_columns(told)))
        for name, told in points.items()
    }
    return growing.write(tx, grown)


def _columns(told: Told) -> Columns:
    import numpy as np

    from taskloom.server.metrics.codec import Columns

    return Columns(np.array(told.iteration, np.int64), np.array(told.value), np.array(told.time))


def _apply_lines(tx: Connection, owner_id: str, lines: Sequence[Line], limit: int) -> None:
    first = last = store.last_number(tx, owner_id)
    rows: list[store.ConsoleRow] = []
    for line in lines:
        for piece in console.pieces(line.text.encode()):
            last += 1
            rows.append(store.ConsoleRow(last, line.stream, line.time, console.pack(piece)))
    store.add_console(tx, owner_id, rows)
    if last // TRIM_EVERY != first // TRIM_EVERY:
        store.trim_console(tx, owner_id, limit)

"""What pages and charts ask of the telemetry database: a series, a piece of the console, the plots.

Works of a read transaction. Answers are bounded in bytes here, because only here their size is seen.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from taskloom.domain.errors import TooLarge
from taskloom.domain.metrics import MAX_ITERATION, MIN_ITERATION, WireNumber, to_wire
from taskloom.server.compression import decompress
from taskloom.server.metrics import console, query, store
from taskloom.server.settings import MIB
from taskloom.wire.messages import ConsoleEntry, ConsoleQuery, Plot, PlotsQuery, Points, PointsQuery

if TYPE_CHECKING:
    from taskloom.server.metrics.codec import Columns, Doubles

CONSOLE_ANSWER = 4 * MIB  # text of one answer; at least one entry is told
CONSOLE_ENTRIES = 10_000
PLOTS_ANSWER = 64 * MIB
DECODED = 64 * MIB  # points of recently read series that are kept decoded
BYTES_A_POINT = 24


class Decoded:
    """Points that were read lately, decoded: zooming asks for the same series again and again.

    An entry is only good for the very summary it was made under, which changes with every point.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[tuple[int, bytes], Columns] = OrderedDict()
        self._bytes = 0

    def get(self, series_id: int, summary: bytes) -> Columns | None:
        with self._lock:
            found = self._kept.get((series_id, summary))
            if found is not None:
                self._kept.move_to_end((series_id, summary))
            return found

    def put(self, series_id: int, summary: bytes, points: Columns) -> None:
        size = len(points) * BYTES_A_POINT
        with self._lock:
            if size > DECODED or (series_id, summary) in self._kept:
                return
            self._kept[series_id, summary] = points
            self._bytes += size
            while self._bytes > DECODED:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= len(gone) * BYTES_A_POINT

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0


def points(decoded: Decoded, tx: Connection, task_id: str, asked: PointsQuery) -> Points | None:
    found = store.find_series(tx, task_id, asked.title, asked.series)
    if found is None:
        return None
    from taskloom.server.metrics import thinning

    points = _columns(decoded, tx, *found)
    points = thinning.in_order(points, asked.x)
    axis = points.iteration if asked.x == "iteration" else points.time
    points = points.part(*_bounds(points, asked))
    count = len(points)
    if 0 < asked.points < count:
        axis = points.iteration if asked.x == "iteration" else points.time
        points = points.take(thinning.choose(axis, points.value, asked.points))
    return Points(
        title=asked.title,
        series=asked.series,
        count=count,
        iteration=points.iteration.tolist(),
        value=_wire_numbers(points),
        time=_times(points.time),
    )


def _columns(decoded: Decoded, tx: Connection, series_id: int, summary: bytes) -> Columns:
    from taskloom.server.metrics import codec

    kept = decoded.get(series_id, summary)
    if kept is None:
        kept = codec.decode([data for _, data in store.chunks_from(tx, series_id, 0)])
        decoded.put(series_id, summary, kept)
    return kept


def _bounds(points: Columns, asked: PointsQuery) -> tuple[int, int]:
    """Where the range `first`..`last`, both included, begins and ends in points that are in order."""
    first, last = asked.first, asked.last
    if asked.x == "time":
        start = 0 if first is None else int(points.time.searchsorted(first, "left"))
        stop = len(points) if last is None else int(points.time.searchsorted(last, "right"))
        return start, max(start, stop)
    low = MIN_ITERATION if first is None else _iteration(first, math.ceil)
    high = MAX_ITERATION if last is None else _iteration(last, math.floor)
    start = int(points.iteration.searchsorted(low, "left"))
    return start, max(start, int(points.iteration.searchsorted(high, "right")))


def _iteration(bound: float, rounded: Callable[[float], int]) -> int:
    if not math.isfinite(bound):
        return MAX_ITERATION if bound > 0 else MIN_ITERATION
    return min(max(rounded(bound), MIN_ITERATION), MAX_ITERATION)


def _wire_numbers(points: Columns) -> list[WireNumber]:
    import numpy as np

    values: list[WireNumber] = points.value.tolist()
    for position in np.flatnonzero(~np.isfinite(points.value)).tolist():
        values[position] = to_wire(float(points.value[position]))
    return values


def _times(times: Doubles) -> list[float]:
    """A time that is no number cannot be told in JSON; it is told as 0, like one that is unknown."""
    import numpy as np

    if not np.isfinite(times).all():
        times = np.nan_to_num(times, nan=0.0, posinf=0.0, neginf=0.0)
    return times.tolist()


def console_page(tx: Connection, task_id: str, asked: ConsoleQuery) -> tuple[list[ConsoleEntry], bool]:
    """The entries asked for, and whether more follow them."""
    if asked.tail:
        rows = query.console_before_end(tx, task_id, asked.after, min(asked.tail, CONSOLE_ENTRIES))
    else:
        rows = query.console_after(tx, task_id, asked.after, min(asked.limit, CONSOLE_ENTRIES))
    page: list[ConsoleEntry] = []
    size = 0
    for row in rows:
        data = console.unpack(row.data)
        size += len(data)
        if page and size > CONSOLE_ANSWER:
            break
        page.append(_entry(row, data))
    if asked.tail:
        return page[::-1], False
    return page, bool(page) and store.last_number(tx, task_id) > page[-1].number


def console_at(
    tx: Connection, task_id: str, milliseconds: int | None, limit: int, *, earlier: bool
) -> list[ConsoleEntry]:
    """See the service. The bounds are whole milliseconds: who pages knows no finer time."""
    limit = min(limit, CONSOLE_ENTRIES)
    if milliseconds is None:
        rows = query.console_end(tx, task_id, limit, newest=earlier)
    else:
        bound = milliseconds if earlier else milliseconds + 1
        rows = query.console_beyond(tx, task_id, bound / 1000, limit, earlier=earlier)
    if len(rows) == limit:
        told, last = {row.number for row in rows}, to_milliseconds(rows[-1].time)
        same = query.console_between(tx, task_id, last / 1000, (last + 1) / 1000, CONSOLE_ENTRIES)
        rows += [row for row in (reversed(same) if earlier else same) if row.number not in told]
    return [_entry(row, console.unpack(row.data)) for row in rows]


def console_around(tx: Connection, task_id: str, number: int, limit: int, *, after: bool) -> list[ConsoleEntry]:
    rows = query.console_around(tx, task_id, number, min(limit, CONSOLE_ENTRIES), after=after)
    return [_entry(row, console.unpack(row.data)) for row in rows]


def to_milliseconds(time: float) -> int:
    """The whole millisecond that a time is in; microseconds first, because a double is not exact."""
    return round(time * 1e6) // 1000


def _entry(row: store.ConsoleRow, data: bytes) -> ConsoleEntry:
    return ConsoleEntry(number=row.number, stream=row.stream, time=row.time, text=console.text(data))


def figures(tx: Connection, wanted: Sequence[tuple[str, query.PlotKey]]) -> list[tuple[str, Plot]]:
    """Until the answer would be too large; at least one."""
    found: list[tuple[str, Plot]] = []
    size = 0
    for owner_id, key in wanted:
        row = query.find_plot(tx, owner_id, key)
        if row is None:
            continue
        plot = _plot(row)
        size += len(plot.figure)
        if found and size > PLOTS_ANSWER:
            break
        found.append((owner_id, plot))
    return found


def plots(tx: Connection, task_id: str, asked: PlotsQuery) -> list[Plot]:
    found: list[Plot] = []
    size = 0
    for row in query.find_plots(tx, task_id, asked.title, asked.all_iterations):
        plot = _plot(row)
        size += len(plot.figure)
        if found and size > PLOTS_ANSWER:
            raise TooLarge(f"the plots have more than {PLOTS_ANSWER} bytes; ask for one title, or the newest only")
        found.append(plot)
    return found


def _plot(row: store.PlotRow) -> Plot:
    return Plot(
        title=row.title,
        series=row.series,
        iteration=row.iteration,
        time=row.time,
        kind=row.kind,
        figure=decompress(row.figure).decode(),
    )

"""All the series of some owners at once: thinned for charts, or point by point in the order of their iterations.

Works of a read transaction. Arrays only; how they are told is the asker's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection

from taskloom.domain.metrics import SINGLE_VALUE
from taskloom.server.metrics import query
from taskloom.server.metrics.reading import Decoded

if TYPE_CHECKING:
    from taskloom.server.metrics.codec import Columns, Int64s

Axis = Literal["iteration", "time"]
Wanted = Mapping[str, Sequence[str]]
"""Titles with the series that are wanted of each; all of them when it names none."""


@dataclass(frozen=True, eq=False)
class Curve:
    title: str
    series: str
    points: Columns


@dataclass(frozen=True, eq=False)
class PointsPage:
    """Points in the order of their iterations; `curve` is the number of each one's curve in `names`.

    `next` is where the following page begins: an iteration, and how many of its points were told.
    """

    names: list[tuple[str, str]]
    curve: Int64s
    points: Columns
    total: int
    next: tuple[int, int] | None


def curves(
    decoded: Decoded, tx: Connection, owner_ids: Sequence[str], wanted: Wanted | None = None
) -> dict[str, list[Curve]]:
    """Whole, in the order of arrival, by owner, title and series; owners without any are missing."""
    found = {owner_id: _wanted(rows, wanted) for owner_id, rows in query.series_of(tx, owner_ids).items()}
    points = _points(decoded, tx, [row for rows in found.values() for row in rows])
    return {
        owner_id: [Curve(row.summary.title, row.summary.series, points[row.id]) for row in rows]
        for owner_id, rows in found.items()
        if rows
    }


def charted(curve: Curve, axis: Axis, points: int) -> Curve:
    """In the order of the axis, at most so many points (0: all), without single values."""
    from taskloom.server.metrics import thinning

    kept = curve.points
    single = kept.iteration == SINGLE_VALUE
    if single.any():
        kept = kept.take((~single).nonzero()[0])
    kept = thinning.in_order(kept, axis)
    if 0 < points < len(kept):
        kept = kept.take(thinning.choose(kept.iteration if axis == "iteration" else kept.time, kept.value, points))
    return Curve(curve.title, curve.series, kept)


def page(
    found: Sequence[Curve], after: tuple[int, int] | None, limit: int, *, newest_first: bool = False
) -> PointsPage:
    """Of each curve only the points that may be on the page are looked at."""
    import numpy as np

    from taskloom.server.metrics import codec, thinning

    told = 0 if after is None else after[1]
    parts: list[Columns] = []
    for curve in found:
        points = thinning.in_order(curve.points, "iteration")
        start, stop = 0, len(points)
        if newest_first:
            if after is not None:
                stop = int(points.iteration.searchsorted(after[0], "right"))
            start = max(0, stop - limit - told)
        else:
            if after is not None:
                start = int(points.iteration.searchsorted(after[0], "left"))
            stop = min(stop, start + limit + told)
        parts.append(points.part(start, stop))
    names = [(curve.title, curve.series) for curve in found]
    total = sum(len(curve.points) for curve in found)
    if not parts:
        return PointsPage(names, np.empty(0, np.int64), codec.empty(), 0, None)
    whole = codec.join(parts)
    number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(whole.iteration, kind="stable")
    order = (order[::-1] if newest_first else order)[told : told + limit]
    points, number = whole.take(order), number[order]
    if not len(points):
        return PointsPage(names, number, points, total, None)
    last = int(points.iteration[-1])
    here = int((points.iteration == last).sum())
    before = told if after is not None and after[0] == last else 0
    return PointsPage(names, number, points, total, (last, before + here))


def single_values(
    decoded: Decoded, tx: Connection, owner_ids: Sequence[str], wanted: Wanted | None = None
) -> dict[str, list[Curve]]:
    """Of each series that has a single value that one point, the last that came."""
    found: dict[str, list[query.SeriesFound]] = {}
    for owner_id, rows in query.series_of(tx, owner_ids).items():
        with_one = [row for row in _wanted(rows, wanted) if row.summary.least in (None, SINGLE_VALUE)]
        if with_one:
            found[owner_id] = with_one
    points = _points(decoded, tx, [row for rows in found.values() for row in rows])
    told: dict[str, list[Curve]] = {}
    for owner_id, rows in found.items():
        for row in rows:
            places = (points[row.id].iteration == SINGLE_VALUE).nonzero()[0]
            if len(places):
                last = points[row.id].take(places[-1:])
                told.setdefault(owner_id, []).append(Curve(row.summary.title, row.summary.series, last))
    return told


def _wanted(rows: Sequence[query.SeriesFound], wanted: Wanted | None) -> list[query.SeriesFound]:
    if wanted is None:
        return list(rows)
    kept: list[query.SeriesFound] = []
    for row in rows:
        names = wanted.get(row.summary.title)
        if names is not None and (not names or row.summary.series in names):
            kept.append(row)
    return kept


def _points(decoded: Decoded, tx: Connection, rows: Sequence[query.SeriesFound]) -> dict[int, Columns]:
    """From what is kept decoded, and in one read what is not."""
    from taskloom.server.metrics import codec

    found = {row.id: decoded.get(row.id, row.stored) for row in rows}
    missing = [row for row in rows if found[row.id] is None]
    read = query.chunks_of(tx, [row.id for row in missing]) if missing else {}
    for row in missing:
        points = found[row.id] = codec.decode(read[row.id])
        decoded.put(row.id, row.stored, points)
    return {series_id: points for series_id, points in found.items() if points is not None}

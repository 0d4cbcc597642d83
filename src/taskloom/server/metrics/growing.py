"""A series grows: by points behind all it has, or by points that take the place of older ones.

Where chunks begin follows from counts alone (see `rows`). What arrives with a journal is appended as it is. What
is `told` by an iteration replaces points of the same iteration; as long as the iterations lie above all that the
series has, which is the usual case, that is an append that reads nothing but the short end of the series.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from taskloom.domain.metrics import SeriesSummary
from taskloom.server.metrics import store

if TYPE_CHECKING:
    from taskloom.server.metrics.codec import Columns


@dataclass(frozen=True)
class Growth:
    """What to write: chunks, the positions of chunks that go, and the summary as it then is."""

    summary: SeriesSummary
    written: list[store.ChunkRow]
    gone: list[tuple[int, int]]


def append(tx: Connection, row: store.SeriesRow, points: Columns) -> Growth:
    """The points behind those of the series, whatever their iterations."""
    from taskloom.server.metrics import codec, rows

    summary = _complete(tx, row)
    at = rows.reopened(summary.count, len(points))
    if at == rows.end_of(summary.count):
        old = [] if row.end is None else [(at, row.end)]
    else:
        old = store.chunks_from(tx, row.id, at)
    longer = codec.join([codec.decode([data for _, data in old]), points]) if old else points
    written = _cut(row.id, at, longer)
    return Growth(rows.extend(summary, points), written, _replaced(row.id, old, written))


def told(tx: Connection, row: store.SeriesRow, points: Columns) -> Growth:
    """The points, of which each iteration has one, in the place of those with the same iterations."""
    from taskloom.server.metrics import codec, rows

    summary = _complete(tx, row)
    if not summary.count or summary.greatest is None or int(points.iteration.min()) > summary.greatest:
        return append(tx, row, points)
    chunks = store.chunks_from(tx, row.id, 0)
    same = rows.among(codec.decode_iterations([data for _, data in chunks]), points.iteration)
    if not same.any():
        return append(tx, row, points)
    older = codec.decode([data for _, data in chunks])
    whole = codec.join([older.take((~same).nonzero()[0]), points])
    first = int(same.argmax())
    at = first - first % rows.SPANS[0]  # a chunk begins there, and those before it stay as they are
    written = _cut(row.id, at, whole.part(at, len(whole)))
    now = msgspec.structs.replace(rows.anew(summary, whole), rewrites=summary.rewrites + 1)
    return Growth(now, written, _replaced(row.id, [chunk for chunk in chunks if chunk[0] >= at], written))


def write(tx: Connection, grown: dict[int, Growth]) -> tuple[SeriesSummary, ...]:
    """Growths by the id of their series into the database; the summaries as they are now."""
    store.put_chunks(
        tx,
        [chunk for growth in grown.values() for chunk in growth.written],
        [position for growth in grown.values() for position in growth.gone],
    )
    summaries = {series_id: growth.summary for series_id, growth in grown.items()}
    store.put_summaries(tx, summaries)
    return tuple(summaries.values())


def _complete(tx: Connection, row: store.SeriesRow) -> SeriesSummary:
    """The summary of a series; what one of an early version lacks is read from the points, once."""
    summary = row.summary
    if not summary.count or summary.greatest is not None:
        return summary
    from taskloom.server.metrics import codec, rows

    return rows.anew(summary, codec.decode([data for _, data in store.chunks_from(tx, row.id, 0)]))


def _cut(series_id: int, at: int, points: Columns) -> list[store.ChunkRow]:
    from taskloom.server.metrics import codec, rows

    written: list[store.ChunkRow] = []
    for position, size in rows.cut(at, len(points)):
        part = points.part(position - at, position - at + size)
        data = codec.encode(part, raw=size < rows.SPANS[-1])
        written.append(store.ChunkRow(series_id, position, size, data))
    return written


def _replaced(
    series_id: int, old: list[tuple[int, bytes]], written: list[store.ChunkRow]
) -> list[tuple[int, int]]:
    new = {chunk.position for chunk in written}
    return [(series_id, position) for position, _ in old if position not in new]

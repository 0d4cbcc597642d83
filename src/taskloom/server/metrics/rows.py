"""Scalar rows of a batch: checked, sorted into series, summed up, and where they go among the chunks.

A series is stored in chunks that begin at multiples of 64, 1024 and 8192 points. New points go to the short
unpacked end; when the end crosses such a multiple, what lies behind it is packed together into one chunk. So a
live run that sends one point at a time writes little with each batch, every point is packed three times at
most, and a large batch is cut into full chunks at once. Where a chunk begins follows from counts alone.

Arrays only: no SQL, no clock. Imported when the first rows arrive, because of numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from taskloom.domain.errors import BadInput
from taskloom.domain.metrics import (
    MAX_ITERATION,
    MIN_ITERATION,
    SINGLE_VALUE,
    SeriesSummary,
    WireNumber,
    from_wire,
    to_wire,
)
from taskloom.server.metrics.codec import Columns, Int64s
from taskloom.wire.messages import ScalarColumns

SPANS = (8192, 1024, 64)


def read_rows(scalars: ScalarColumns, skip: int, offset: int) -> tuple[NDArray[np.uint32], Columns]:
    """Series numbers and points from row `skip` of the columns on; the columns have one length already."""
    numbers = np.frombuffer(scalars.series, "<u4")[skip:]
    iteration = np.frombuffer(scalars.iteration, "<i8")[skip:]
    value = np.frombuffer(scalars.value, "<f8")[skip:]
    time = np.frombuffer(scalars.time, "<f8")[skip:]
    if offset:
        iteration = shifted(iteration, offset)
    return numbers, Columns(iteration, value, time)


def shifted(iteration: Int64s, offset: int) -> Int64s:
    """Iterations moved by `offset`; single values have no iteration and stay."""
    moved = iteration[iteration != SINGLE_VALUE]
    if len(moved):
        shift_iteration(int(moved.min()), offset)
        shift_iteration(int(moved.max()), offset)
    return np.where(iteration == SINGLE_VALUE, iteration, iteration + np.int64(offset))


def shift_iteration(iteration: int, offset: int) -> int:
    """One iteration moved; raises BadInput beyond 64 bits."""
    if iteration == SINGLE_VALUE:
        return iteration
    after = iteration + offset
    if not (MIN_ITERATION <= after <= MAX_ITERATION and MIN_ITERATION <= offset <= MAX_ITERATION):
        raise BadInput(f"iteration {iteration} with the offset {offset} is beyond 64 bits")
    return after


def by_series(numbers: NDArray[np.uint32], points: Columns) -> Iterator[tuple[int, Columns]]:
    """The points of each series number, in the order of arrival."""
    if not len(numbers):
        return
    if bool((numbers == numbers[0]).all()):
        yield int(numbers[0]), points
        return
    # A stable sort of 16-bit numbers is a radix sort: linear.
    keys = numbers.astype(np.uint16) if int(numbers.max()) < 2**16 else numbers
    order = np.argsort(keys, kind="stable")
    keys, points = keys[order], points.take(order)
    borders = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    for start, stop in zip([0, *borders.tolist()], [*borders.tolist(), len(keys)], strict=True):
        yield int(keys[start]), points.part(start, stop)


def newest_of_each(points: Columns) -> Columns:
    """Of points with one iteration the last that came; in the order of arrival."""
    iteration = points.iteration
    if bool((iteration[1:] > iteration[:-1]).all()):
        return points
    _, back = np.unique(iteration[::-1], return_index=True)
    return points.take(np.sort(len(iteration) - 1 - back))


def among(iteration: Int64s, new: Int64s) -> NDArray[np.bool_]:
    """Which of the iterations are among the new ones."""
    low, high = new.min(), new.max()
    inside = (iteration >= low) & (iteration <= high)
    if inside.any():
        inside[inside] = np.isin(iteration[inside], new)
    return inside


def extend(old: SeriesSummary, points: Columns) -> SeriesSummary:
    """The summary with more points. The earliest of equal extremes stays; NaN is none as long as it can be.

    One of an early version, which lacks something, is made `anew` before.
    """
    low, low_at, high, high_at = _extremes(points)
    count = len(points)
    mean, finite = _mean(old, points)
    least, greatest = int(points.iteration.min()), int(points.iteration.max())
    if old.count:
        least = min(least, least if old.least is None else old.least)
        greatest = max(greatest, greatest if old.greatest is None else old.greatest)
        if not _beats(low, old.min, higher=False):
            low, low_at = old.min, old.min_iteration
        if not _beats(high, old.max, higher=True):
            high, high_at = old.max, old.max_iteration
    return msgspec.structs.replace(
        old,
        count=old.count + count,
        last=to_wire(float(points.value[-1])),
        last_iteration=int(points.iteration[-1]),
        min=low,
        min_iteration=low_at,
        max=high,
        max_iteration=high_at,
        first_time=old.first_time if old.count else float(points.time[0]),
        last_time=float(points.time[-1]),
        first=old.first if old.count else to_wire(float(points.value[0])),
        mean=mean,
        finite=finite,
        least=least,
        greatest=greatest,
    )


def anew(old: SeriesSummary, points: Columns) -> SeriesSummary:
    """The summary of these points alone; of the old one the names stay, and how often it was rewritten."""
    nothing = msgspec.structs.replace(old, count=0)
    return extend(nothing, points) if len(points) else nothing


def _mean(old: SeriesSummary, points: Columns) -> tuple[WireNumber, int]:
    """The mean of the finite values so far, and their number."""
    finite = np.isfinite(points.value)
    added = int(finite.sum())
    known = (old.finite or 0) if old.count else 0
    if not added:
        return (old.mean if known else "NaN"), known
    values = points.value if added == len(points) else points.value[finite]
    with np.errstate(over="ignore"):
        new = float(values.sum()) / added
    if not math.isfinite(new):  # the sum of great values is beyond a double
        new = float((values / added).sum())
    if not known:
        return to_wire(new), added
    before, share = from_wire(old.mean), added / (known + added)
    mean = before + (new - before) * share
    return to_wire(mean if math.isfinite(mean) else before * (1 - share) + new * share), known + added


def _extremes(points: Columns) -> tuple[WireNumber, int, WireNumber, int]:
    value, iteration = points.value, points.iteration
    low = int(value.argmin())  # of the first NaN, when there is one
    if np.isnan(value[low]):
        known = ~np.isnan(value)
        if not known.any():
            return "NaN", int(iteration[0]), "NaN", int(iteration[0])
        value, iteration = value[known], iteration[known]
        low = int(value.argmin())
    high = int(value.argmax())
    return to_wire(float(value[low])), int(iteration[low]), to_wire(float(value[high])), int(iteration[high])


def _beats(new: WireNumber, old: WireNumber, *, higher: bool) -> bool:
    if new == "NaN":
        return False
    if old == "NaN":
        return True
    return from_wire(new) > from_wire(old) if higher else from_wire(new) < from_wire(old)


def reopened(count: int, added: int) -> int:
    """Position from which a series of `count` points is written anew when `added` more come."""
    for span in SPANS:
        if count // span != (count + added) // span:
            return count - count % span
    return end_of(count)


def end_of(count: int) -> int:
    """Where the short unpacked end of a series begins."""
    return count - count % SPANS[-1]


def cut(start: int, count: int) -> Iterator[tuple[int, int]]:
    """Positions and lengths of the chunks for `count` points from `start` on, as `reopened` gave it."""
    at, left = start, count
    while left:
        size = next((_whole(left, span) for span in SPANS if left >= span), left)
        yield at, size
        at, left = at + size, left - size


def _whole(left: int, span: int) -> int:
    """The longest span stands alone, shorter ones of a kind share a chunk until they fill the longest."""
    return span if span == SPANS[0] else left - left % span

"""Fewer points, same picture: which points of a series a chart needs.

MinMaxLTTB chooses among the finite values; it would drop NaN or be led astray by infinities, so they are set
aside first. What is always kept: the first and the last point, the lowest and the highest finite value, and
the borders of each run of non-finite values (where a chart breaks its line), the latter up to a quarter of
the points asked for, spread evenly when there are more. Pure functions on arrays; no storage, no wire.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from taskloom.server.metrics.codec import Columns, Doubles, Int64s

Positions = NDArray[np.intp]
FEWEST = 8  # below this MinMaxLTTB has no room for its buckets


def in_order(points: Columns, x: str) -> Columns:
    """Sorted by x; points of the same x stay in the order of arrival."""
    axis = points.iteration if x == "iteration" else points.time
    if len(axis) < 2 or bool((axis[1:] >= axis[:-1]).all()):
        return points
    return points.take(np.argsort(axis, kind="stable"))


def choose(axis: Int64s | Doubles, value: Doubles, wanted: int) -> Positions:
    """Ascending positions, at most `wanted` of them; `axis` ascends."""
    count = len(value)
    if wanted >= count:
        return np.arange(count)
    finite = np.isfinite(value)
    kept: list[Positions] = [np.array([0, count - 1])]
    if finite.all():
        positions = None
        borders = 0
    else:
        positions = np.flatnonzero(finite)
        broken = _spread(_borders(finite), wanted // 4)
        kept.append(broken)
        borders = len(broken)
        axis, value = axis[positions], value[positions]
    if len(value):
        kept.append(_back(positions, np.array([value.argmin(), value.argmax()])))
    left = wanted - borders - 4
    if left > 0 and len(value):
        kept.append(_back(positions, _shape(axis, value, left)))
    return _limit(kept, wanted)


def _shape(axis: Int64s | Doubles, value: Doubles, wanted: int) -> Positions:
    if wanted >= len(value):
        return np.arange(len(value))
    if wanted < FEWEST:
        return _spread(np.arange(len(value)), wanted)
    from tsdownsample import MinMaxLTTBDownsampler

    thin = cast(Any, MinMaxLTTBDownsampler())
    chosen = thin.downsample(np.ascontiguousarray(axis), np.ascontiguousarray(value), n_out=wanted)
    return cast(Positions, chosen.astype(np.intp))


def _borders(finite: NDArray[np.bool_]) -> Positions:
    """First and last position of every run of non-finite values."""
    broken = np.flatnonzero(~finite)
    steps = np.flatnonzero(np.diff(broken) > 1)
    return np.unique(np.concatenate([broken[:1], broken[steps], broken[steps + 1], broken[-1:]]))


def _spread(positions: Positions, wanted: int) -> Positions:
    if len(positions) <= wanted:
        return positions
    return positions[np.linspace(0, len(positions) - 1, wanted).round().astype(np.intp)]


def _back(positions: Positions | None, chosen: Positions) -> Positions:
    return chosen if positions is None else positions[chosen]


def _limit(kept: list[Positions], wanted: int) -> Positions:
    """All of it when it fits; else as much as fits in the order of importance."""
    chosen: dict[int, None] = {}
    if sum(len(part) for part in kept) > wanted:
        for part in kept:
            chosen.update(dict.fromkeys(part.tolist()))
        return np.sort(np.array(list(chosen)[:wanted], dtype=np.intp))
    return np.unique(np.concatenate(kept))

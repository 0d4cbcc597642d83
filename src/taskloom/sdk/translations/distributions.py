"""Histograms over time: of each series a bounded number is kept, and drawn as a surface over iterations.

TensorBoard's histograms have buckets of unequal width that differ from step to step; here all of a series are put
into the same equal buckets, each count shared out by overlap. A surface is drawn again when a tenth more histograms
have come, and at the end, so that ten thousand of them cost some eighty drawings.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

BUCKETS = 50
MOST_KEPT = 64  # histograms of a series; every second one is dropped when there are more

Bucket = tuple[float, float, float]  # left, right, count


@dataclass
class Distribution:
    """The histograms of one title and series."""

    _steps: list[int] = field(default_factory=list[int])
    _cumulated: list[tuple[list[float], list[float]]] = field(
        default_factory=list[tuple[list[float], list[float]]]
    )
    _count: int = 0
    _drawn: int = 0
    _stride: int = 1
    _pending: bool = False  # the newest is kept only until the next one, since the stride leaves it out

    def add(self, step: int, buckets: Sequence[Bucket]) -> None:
        """Buckets in order, none of negative width; those that are not finite or empty are left out."""
        held = [b for b in buckets if b[2] > 0 and math.isfinite(b[0]) and math.isfinite(b[1])]
        if not held:
            return
        if self._pending:
            del self._steps[-1], self._cumulated[-1]
        self._pending = self._count % self._stride != 0
        self._count += 1
        self._steps.append(step)
        self._cumulated.append(_cumulate(held))
        if len(self._steps) > MOST_KEPT:
            self._stride *= 2
            del self._steps[1::2], self._cumulated[1::2]

    @property
    def due(self) -> bool:
        return self._count > self._drawn and self._count >= self._drawn * 1.1

    @property
    def behind(self) -> bool:
        return self._count > self._drawn

    def figure(self, title: str, series: str) -> dict[str, Any]:
        """A surface (x: values, y: iterations, z: counts), or bars as long as there is one histogram."""
        self._drawn = self._count
        low = min(edges[0] for edges, _ in self._cumulated)
        high = max(edges[-1] for edges, _ in self._cumulated)
        if high <= low:
            low, high = low - 0.5, high + 0.5
        width = (high - low) / BUCKETS
        edges = [low + width * n for n in range(BUCKETS)] + [high]
        middles = [low + width * (n + 0.5) for n in range(BUCKETS)]
        rows = [_counts(one, edges) for one in self._cumulated]
        heading = {"text": f"{title} / {series}"}
        if len(rows) == 1:
            bars = {"type": "bar", "name": f"iteration {self._steps[0]}", "x": middles, "y": rows[0]}
            layout = {"title": heading, "bargap": 0, "xaxis": _axis("value"), "yaxis": _axis("count")}
            return {"data": [bars], "layout": layout}
        surface = {"type": "surface", "x": middles, "y": list(self._steps), "z": rows, "showscale": False}
        scene = {"xaxis": _axis("value"), "yaxis": _axis("iteration"), "zaxis": _axis("count")}
        return {"data": [surface], "layout": {"title": heading, "scene": scene}}


def from_limits(limits: Sequence[float], counts: Sequence[float], lowest: float, highest: float) -> list[Bucket]:
    """Buckets of a histogram that tells their right sides only; the outer ones end at its extremes."""
    found: list[Bucket] = []
    left = lowest
    for limit, count in zip(limits, counts, strict=False):
        right = min(max(limit, lowest), highest)
        found.append((left, right, count))
        left = right
    return found


def _cumulate(buckets: Sequence[Bucket]) -> tuple[list[float], list[float]]:
    """Places in order, and how many values lie at or left of each."""
    places: list[float] = []
    sums: list[float] = []
    total = 0.0
    for left, right, count in buckets:
        places.append(left)
        sums.append(total)
        total += count
        places.append(right)
        sums.append(total)
    return places, sums


def _counts(cumulated: tuple[list[float], list[float]], edges: Sequence[float]) -> list[float]:
    sums = [0.0, *(_sum_until(cumulated, edge) for edge in edges[1:])]
    return [round(right - left, 6) for left, right in pairwise(sums)]


def _sum_until(cumulated: tuple[list[float], list[float]], place: float) -> float:
    places, sums = cumulated
    after = bisect.bisect_right(places, place)
    if after == 0:
        return 0.0
    if after == len(places):
        return sums[-1]
    left, right = places[after - 1], places[after]
    share = (place - left) / (right - left) if right > left else 1.0
    return sums[after - 1] + (sums[after] - sums[after - 1]) * share


def _axis(text: str) -> dict[str, Any]:
    return {"title": {"text": text}}

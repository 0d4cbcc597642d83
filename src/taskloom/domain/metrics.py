"""Scalars and their summaries. A scalar is (title, series, iteration, value) at a time.

A single value (`report_single_value`) is a scalar at the iteration `SINGLE_VALUE`. Titles that begin with
`:` (machine metrics) do not move a task's last iteration. Values are IEEE doubles, NaN and infinities
included; iterations are signed 64-bit.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

SINGLE_VALUE = -(2**31)
SINGLE_VALUE_TITLE = "Summary"
MACHINE_TITLE = ":monitor:machine"
GPU_TITLE = ":monitor:gpu"
MIN_ITERATION, MAX_ITERATION = -(2**63), 2**63 - 1

NonFinite = Literal["NaN", "Infinity", "-Infinity"]
WireNumber = float | NonFinite


def to_wire(value: float) -> WireNumber:
    """JSON has no NaN: non-finite numbers cross the network as these three words."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def from_wire(value: WireNumber) -> float:
    return float(value)


class SeriesSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one series without reading it. NaN never becomes minimum or maximum.

    mean      of the finite values; NaN while there is none
    finite    how many values the mean is of; None in rows of early versions, until the series grows
    least, greatest  iteration; None likewise
    rewrites  how often points took the place of older ones of the same iteration
    """

    title: str
    series: str
    count: int
    last: WireNumber
    last_iteration: int
    min: WireNumber
    min_iteration: int
    max: WireNumber
    max_iteration: int
    first_time: float = 0.0
    last_time: float = 0.0
    first: WireNumber = "NaN"
    mean: WireNumber = "NaN"
    finite: int | None = None
    least: int | None = None
    greatest: int | None = None
    rewrites: int = 0

"""Thinning keeps what the eye looks for: ends, extremes, and where a line breaks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.server.metrics import thinning
from taskloom.server.metrics.codec import Columns

VALUES = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=300)


@settings(deadline=None)
@given(VALUES, st.integers(1, 80))
def test_positions_ascend_and_are_at_most_as_many_as_wanted(values: list[float], wanted: int) -> None:
    value = np.array(values)
    chosen = thinning.choose(np.arange(len(value)), value, wanted).tolist()
    assert chosen == sorted(set(chosen))
    assert 1 <= len(chosen) <= wanted
    assert all(0 <= position < len(value) for position in chosen)


@settings(deadline=None)
@given(VALUES, st.integers(16, 80))
def test_ends_and_extremes_are_kept(values: list[float], wanted: int) -> None:
    value = np.array(values)
    chosen = thinning.choose(np.arange(len(value)), value, wanted)
    assert {0, len(value) - 1} <= set(chosen.tolist())
    finite = value[np.isfinite(value)]
    if len(finite):
        assert finite.min() in value[chosen]
        assert finite.max() in value[chosen]


def test_a_spike_in_a_million_points_is_kept() -> None:
    value = np.zeros(1_000_000)
    value[123_457] = 9.0
    assert 123_457 in thinning.choose(np.arange(len(value)), value, 1000)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_where_a_line_breaks_is_kept(broken: float) -> None:
    value = np.sin(np.arange(100_000) / 500)
    value[40_000:40_100] = broken
    value[70_000] = broken
    chosen = set(thinning.choose(np.arange(len(value)), value, 1000).tolist())
    assert {40_000, 40_099, 70_000} <= chosen
    assert len(chosen) > 900


def test_points_of_one_iteration_keep_their_order_of_arrival() -> None:
    points = Columns(np.array([2, 1, 2, 1]), np.array([1.0, 2.0, 3.0, 4.0]), np.array([4.0, 3.0, 2.0, 1.0]))
    assert thinning.in_order(points, "iteration").value.tolist() == [2.0, 4.0, 1.0, 3.0]
    assert thinning.in_order(points, "time").value.tolist() == [4.0, 3.0, 2.0, 1.0]

"""Histograms over time: counts are kept, memory is bounded, drawings are rare."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from taskloom.sdk.translations.distributions import BUCKETS, MOST_KEPT, Distribution, from_limits


def trace(of: Distribution) -> dict[str, Any]:
    return of.figure("title", "series")["data"][0]


def test_one_histogram_is_drawn_as_bars() -> None:
    one = Distribution()
    one.add(3, [(0.0, 1.0, 10.0), (1.0, 5.0, 40.0)])
    drawn = trace(one)
    assert drawn["type"] == "bar"
    assert drawn["y"] == [1.0] * BUCKETS  # buckets of 0.1, each ten of a value a unit wide
    assert (drawn["x"][0], drawn["x"][-1]) == (0.05, 4.95)


def test_several_share_their_buckets_and_keep_their_counts() -> None:
    one = Distribution()
    one.add(0, [(0.0, 1.0, 7.0)])
    one.add(5, [(-1.0, 0.0, 1.0), (0.0, 0.0, 3.0), (0.0, 4.0, 2.0)])
    drawn = trace(one)
    assert (drawn["type"], drawn["y"]) == ("surface", [0, 5])
    assert [round(sum(row), 4) for row in drawn["z"]] == [7.0, 6.0]
    assert (drawn["x"][0], drawn["x"][-1]) == (-0.95, 3.95)


def test_values_that_are_all_equal_have_a_place() -> None:
    one = Distribution()
    one.add(0, [(2.0, 2.0, 9.0)])
    drawn = trace(one)
    assert sum(drawn["y"]) == 9.0
    assert drawn["x"][drawn["y"].index(9.0)] == 1.99


def test_what_is_no_number_or_empty_is_left_out() -> None:
    one = Distribution()
    one.add(0, [(math.nan, 1.0, 1.0), (0.0, math.inf, 1.0), (0.0, 1.0, 0.0)])
    one.add(1, [])
    assert not one.due
    assert not one.behind


def test_ten_thousand_are_kept_thinned_and_drawn_rarely() -> None:
    one = Distribution()
    drawings = 0
    for step in range(10_000):
        one.add(step, [(0.0, 1.0, 1.0)])
        if one.due:
            drawings += 1
            one.figure("title", "series")
    assert drawings < 90
    steps = trace(one)["y"]
    assert not one.behind
    assert len(steps) <= MOST_KEPT + 1
    assert (steps[0], steps[-1]) == (0, 9_999)
    gaps = {right - left for left, right in pairwise(steps[:-1])}
    assert gaps == {256}  # evenly, but for the newest one


def test_right_sides_are_cut_to_the_extremes() -> None:
    assert from_limits([-1.0, 0.5, 1e308], [0.0, 2.0, 3.0], -0.5, 2.0) == [
        (-0.5, -0.5, 0.0),
        (-0.5, 0.5, 2.0),
        (0.5, 2.0, 3.0),
    ]

"""Every bit of a point comes back from a chunk, whatever it is."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.server.metrics import codec
from taskloom.server.metrics.codec import Columns

INT64 = st.integers(-(2**63), 2**63 - 1)
DOUBLE = st.floats(allow_nan=True, allow_infinity=True)


def columns(points: list[tuple[int, float, float]]) -> Columns:
    return Columns(
        np.array([p[0] for p in points], np.int64),
        np.array([p[1] for p in points], np.float64),
        np.array([p[2] for p in points], np.float64),
    )


def bits(points: Columns) -> tuple[bytes, bytes, bytes]:
    return points.iteration.tobytes(), points.value.tobytes(), points.time.tobytes()


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(INT64, DOUBLE, DOUBLE), max_size=20), max_size=5), st.lists(st.booleans()))
def test_chunks_give_back_every_bit(parts: list[list[tuple[int, float, float]]], raw: list[bool]) -> None:
    whole = columns([point for part in parts for point in part])
    chunks = [codec.encode(columns(part), raw=bool(raw[n : n + 1] and raw[n])) for n, part in enumerate(parts)]
    assert bits(codec.decode(chunks)) == bits(whole)


def test_equal_steps_at_the_ends_of_int64_come_back() -> None:
    points = columns([(2**63 - 1, 1.0, 0.0), (-(2**63), -0.0, 0.0), (-(2**63) + 1, math.nan, 0.0)])
    assert bits(codec.decode([codec.encode(points)])) == bits(points)


def test_a_usual_series_takes_less_than_ten_bytes_a_point() -> None:
    random = np.random.default_rng(0)
    count = 8192
    points = Columns(
        np.arange(count, dtype=np.int64),
        random.normal(size=count),
        1.7e9 + np.cumsum(random.exponential(0.001, count)),
    )
    assert len(codec.encode(points)) / count < 10

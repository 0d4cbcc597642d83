"""Numbers, times and JSON as the commands print them."""

import math
import time

import pytest

from taskloom.cli.output import ago, complete, duration, local_time, number
from taskloom.domain.quantities import size
from taskloom.domain.task import Task


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.42, "0.4 s"),
        (42, "42 s"),
        (125, "2 min 5 s"),
        (1500, "25 min"),
        (7500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_530_000, "1.5 MB"), (3e15, "3000.0 TB")]
)
def test_sizes(count: int, words: str) -> None:
    assert size(int(count)) == words


def test_times_are_local_and_relative() -> None:
    now = time.time()
    assert ago(now - 90, now) == "1 min 30 s ago"
    assert ago(now + 7300, now) == "in 2 h 1 min"
    assert ago(0) == ""
    assert local_time(0) == ""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now - 60))
    assert local_time(now - 60).startswith(stamp)


def test_numbers_are_short_and_words_stay() -> None:
    assert number(0.123456789) == "0.123457"
    assert number("NaN") == "NaN"
    assert number(None) == ""


def test_json_has_every_field_and_no_nan() -> None:
    told = complete(Task(id="a" * 32, name="abc", project="def", progress=math.nan))
    assert told["status"] == "draft"
    assert told["tags"] == []
    assert told["progress"] == "NaN"
    assert told["execution"]["working_dir"] == "."

"""Series, console, plots and debug samples, as they are read."""

from __future__ import annotations

from typing import Literal

from taskloom.domain.artifact import Sample
from taskloom.domain.metrics import SeriesSummary, WireNumber
from taskloom.wire.messages.base import Answer, Request


class SeriesList(Answer, frozen=True, kw_only=True):
    series: list[SeriesSummary]


class PointsQuery(Request, frozen=True, kw_only=True):
    """Query string. `points`: at most so many, thinned to keep the shape (MinMaxLTTB); 0: all of them.

    `first`, `last` bound the x axis, which is `iteration` or `time`.
    """

    title: str
    series: str
    points: int = 1000
    x: Literal["iteration", "time"] = "iteration"
    first: float | None = None
    last: float | None = None


class Points(Answer, frozen=True, kw_only=True):
    """Columns of equal length in the order of x; `count` is how many the range holds before thinning."""

    title: str
    series: str
    count: int
    iteration: list[int]
    value: list[WireNumber]
    time: list[float]


class ConsoleQuery(Request, frozen=True, kw_only=True):
    """Query string. Entries after `after` (0: from the start) up to `limit`, or the last `tail` of them.

    `wait`: seconds (at most 30) to wait for more when there is nothing after `after` and the task runs.
    """

    after: int = 0
    limit: int = 1000
    tail: int = 0
    wait: float = 0.0


class ConsoleEntry(Answer, frozen=True, kw_only=True):
    """A piece of the console as it arrived: not always whole lines. `number` grows within the task."""

    number: int
    stream: str
    time: float
    text: str


class ConsolePage(Answer, frozen=True, kw_only=True):
    entries: list[ConsoleEntry]
    ended: bool  # the task is over and nothing follows


class Plot(Answer, frozen=True, kw_only=True):
    title: str
    series: str
    iteration: int
    time: float
    kind: str
    figure: str = ""


class PlotsQuery(Request, frozen=True, kw_only=True):
    """Query string. Only the newest iteration of each title and series, unless `all_iterations`."""

    title: str = ""
    all_iterations: bool = False


class PlotList(Answer, frozen=True, kw_only=True):
    plots: list[Plot]


class SamplesQuery(Request, frozen=True, kw_only=True):
    """Query string. Only the newest iteration of each title and series, unless `all_iterations`."""

    title: str = ""
    all_iterations: bool = False
    limit: int = 1000
    offset: int = 0


class SampleList(Answer, frozen=True, kw_only=True):
    """In the order of title, series, newest iteration first."""

    samples: list[Sample]
    total: int

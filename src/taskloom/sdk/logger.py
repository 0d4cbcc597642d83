"""The logger: what a training loop says about itself, at a cost that it does not notice.

`report_scalar` is a dictionary look-up and 32 bytes stored into the journal. A value that cannot be recorded
never raises into the script: it is named once on standard error and counted. What the journal does with it,
and who ships it, is not known here.
"""

from __future__ import annotations

import logging
import math
import operator
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, SupportsFloat, SupportsIndex, cast

from taskloom.domain.errors import BadInput, TaskloomError
from taskloom.domain.metrics import MAX_ITERATION, MIN_ITERATION, SINGLE_VALUE, SINGLE_VALUE_TITLE
from taskloom.journal.writer import Writer
from taskloom.sdk import figures
from taskloom.wire.records import Plotted

if TYPE_CHECKING:
    from taskloom.sdk.notices import Notices

LONGEST_NAME = 1024  # characters of a title or series

_now = time.time


class Home(Protocol):
    """The live task that a logger reports for: who ships its journal, and whether what it prints is recorded."""

    closed: bool
    stdout_recorded: bool

    def poke(self) -> None: ...

    def wait_shipped(self, timeout: float) -> bool: ...


class Logger:
    """Reports of one task. From `Logger.current_logger()`, `task.get_logger()`; safe between threads.

    title, series: text, the names of a graph and of a curve in it. iteration: a whole number of 64 bits.
    value: anything that `float()` takes (also numpy and torch scalars); NaN and infinities are kept.
    """

    def __init__(self, writer: Writer, notices: Notices, home: Home | None = None) -> None:
        self._home = home
        self._writer = writer
        self._notices = notices
        self._numbers = writer.numbers
        self._scalar = writer.scalar
        self.iteration_offset = 0
        self._newest = -(2**70)

    @classmethod
    def current_logger(cls) -> Logger:
        """The logger of this process's task; BadInput when there is none."""
        from taskloom.sdk.task import Task

        task = Task.current_task()
        if task is None:
            raise BadInput("no task runs in this process: call Task.init first")
        return task.get_logger()

    # --- scalars ------------------------------------------------------------------------------------------

    def report_scalar(self, title: str, series: str, value: SupportsFloat, iteration: SupportsIndex) -> None:
        """One point of the curve `series` in the graph `title`."""
        try:
            number = self._numbers[title, series]
            if type(value) is not float:
                value = _number(value)
            place = (iteration if type(iteration) is int else _whole(iteration)) + self.iteration_offset
            self._scalar(number, place, value, _now())
            if place > self._newest:  # noqa: PLR1730 - a call of max costs as much as all the rest
                self._newest = place
        except Exception:  # a new series, or a value that has to be explained
            self._report_slowly(title, series, value, iteration)

    def report_scalars(self, title: str, values: Mapping[str, SupportsFloat], iteration: SupportsIndex) -> None:
        """Points of many curves of one graph at one iteration, at once: `{series: value}`."""
        try:
            numbers = self._numbers
            pairs = [(numbers[title, series], float(value)) for series, value in values.items()]
            if str in map(type, values.values()):
                raise TypeError
            place = _whole(iteration) + self.iteration_offset
            self._writer.scalars(pairs, place, _now())
            self._newest = max(self._newest, place)
        except Exception:
            given: Any = values
            if not isinstance(given, Mapping):
                said = f"expected a dictionary of values, got {type(given).__name__}"
                self._notices.once(
                    ("scalars", str(title)[:80]), f"scalars {str(title)[:80]!r} are not recorded: {said}"
                )
                return
            for series, value in cast("Mapping[Any, Any]", given).items():
                self._report_slowly(title, series, value, iteration)

    def report_single_value(self, name: str, value: SupportsFloat) -> None:
        """A number of the whole run, without an iteration; reported again, the new one counts."""
        self._report_slowly(SINGLE_VALUE_TITLE, name, value, SINGLE_VALUE, offset=False)

    def report_machine(self, title: str, series: str, value: float, iteration: int) -> None:
        """A machine metric: neither moved by the offset nor counted as an iteration of the script."""
        self._report_slowly(title, series, value, iteration, offset=False)

    def _report_slowly(self, title: str, series: str, value: Any, iteration: Any, *, offset: bool = True) -> None:
        topic = (str(title)[:80], str(series)[:80])
        try:
            names = _text(title, "title"), _text(series, "series")
            number = self._numbers.get(names)
            if number is None:
                number = self._writer.name_series(*names)
            place = _whole(iteration) + (self.iteration_offset if offset else 0)
            if not MIN_ITERATION <= place <= MAX_ITERATION:
                raise BadInput(f"iteration {place}: expected a whole number of 64 bits")
            self._writer.scalar(number, place, _number(value), _now())
            if offset and place > self._newest and place != SINGLE_VALUE and not title.startswith(":"):
                self._newest = place
        except (TaskloomError, struct.error) as error:
            self._notices.once(topic, f"scalar {topic[0]!r} / {topic[1]!r} is not recorded: {error}")
        except Exception as error:  # values of any type come here, with any conversion of their own
            kind = type(error).__name__
            self._notices.once(topic, f"scalar {topic[0]!r} / {topic[1]!r} is not recorded: {kind}: {error}")

    def newest_iteration(self) -> int | None:
        """The highest iteration reported here, with the offset; None when nothing was."""
        return self._newest if self._newest >= MIN_ITERATION else None

    # --- text ---------------------------------------------------------------------------------------------

    def report_text(self, msg: str, level: int = logging.INFO, print_console: bool = True) -> None:
        """A message in the task's console; `print_console` also prints it, and then it is recorded as printed."""
        with self._notices.boundary("report_text"):
            text = str(msg)
            if print_console:
                print(text, flush=True)
                if self._prints_recorded():
                    return
            line = text if text.endswith("\n") else f"{text}\n"
            prefix = "" if level == logging.INFO else f"{logging.getLevelName(level)}: "
            with self._writer.stream_path("report").open("ab") as file:
                file.write(f"{prefix}{line}".encode(errors="replace"))

    def _prints_recorded(self) -> bool:
        return self._home is not None and not self._home.closed and self._home.stdout_recorded

    # --- plots --------------------------------------------------------------------------------------------

    def report_plotly(self, title: str, series: str, figure: Any, iteration: SupportsIndex | None = None) -> None:
        """A plotly figure, or its dictionary or JSON text."""
        self._plot(title, series, iteration, "plotly", lambda: figures.to_json(figure))

    def report_confusion_matrix(
        self,
        title: str,
        series: str,
        matrix: Any,
        iteration: SupportsIndex | None = None,
        xaxis: str | None = None,
        yaxis: str | None = None,
        xlabels: Sequence[str] | None = None,
        ylabels: Sequence[str] | None = None,
        yaxis_reversed: bool = False,
        comment: str | None = None,
        extra_layout: Mapping[str, Any] | None = None,
    ) -> None:
        """A heat map of rows of numbers (a list of lists or a 2-dimensional array)."""

        def figure() -> str:
            made = figures.confusion_matrix(title, matrix, xaxis, yaxis, xlabels, ylabels, yaxis_reversed)
            return _finished(made, comment, extra_layout)

        self._plot(title, series, iteration, "confusion_matrix", figure)

    report_matrix = report_confusion_matrix

    def report_table(
        self,
        title: str,
        series: str,
        iteration: SupportsIndex | None = None,
        table_plot: Any = None,
        csv: str | Path | None = None,
        url: str | None = None,
        extra_layout: Mapping[str, Any] | None = None,
    ) -> None:
        """A table: `table_plot` a DataFrame, rows (the first is the header) or columns by name; or a CSV file.

        `url` is not supported: nothing is fetched for a report.
        """

        def figure() -> str:
            if url is not None:
                raise BadInput("a table from a url is not fetched; download it and give its path as csv")
            content = csv if csv is not None else table_plot
            if content is None:
                raise BadInput("nothing to show: give table_plot or csv")
            return _finished(figures.table(title, content), None, extra_layout)

        self._plot(title, series, iteration, "table", figure)

    def report_histogram(
        self,
        title: str,
        series: str,
        values: Any,
        iteration: SupportsIndex | None = None,
        labels: Sequence[str] | None = None,
        xlabels: Sequence[str] | None = None,
        xaxis: str | None = None,
        yaxis: str | None = None,
        mode: str | None = None,
        extra_layout: Mapping[str, Any] | None = None,
    ) -> None:
        """Bars of given heights; a list of lists gives groups, beside or on one another (`mode`)."""

        def figure() -> str:
            made = figures.histogram(title, series, values, labels, xlabels, xaxis, yaxis, mode or "group")
            return _finished(made, None, extra_layout)

        self._plot(title, series, iteration, "histogram", figure)

    report_vector = report_histogram

    def report_line_plot(
        self,
        title: str,
        series: Sequence[Mapping[str, Any]],
        xaxis: str,
        yaxis: str,
        iteration: SupportsIndex | None = None,
        mode: str = "lines",
        extra_layout: Mapping[str, Any] | None = None,
    ) -> None:
        """Curves `[{"name": ..., "data": [(x, y), ...]}, ...]` in one plot."""

        def figure() -> str:
            curves = [(str(curve.get("name", "")), curve["data"]) for curve in series]
            return _finished(figures.lines(title, curves, xaxis, yaxis, mode), None, extra_layout)

        self._plot(title, title, iteration, "line", figure)

    def report_scatter2d(
        self,
        title: str,
        series: str,
        scatter: Any,
        iteration: SupportsIndex | None = None,
        xaxis: str | None = None,
        yaxis: str | None = None,
        labels: Sequence[str] | None = None,
        mode: str = "lines",
        extra_layout: Mapping[str, Any] | None = None,
    ) -> None:
        """Points (x, y) of one series; `mode` is lines, markers or lines+markers."""

        def figure() -> str:
            made = figures.lines(title, [(series, scatter)], xaxis, yaxis, mode)
            if labels is not None:
                made["data"][0]["text"] = [str(label) for label in labels]
            return _finished(made, None, extra_layout)

        self._plot(title, series, iteration, "scatter2d", figure)

    def _plot(self, title: str, series: str, iteration: SupportsIndex | None, kind: str, figure: Any) -> None:
        topic = f"{kind} {str(title)[:80]!r} / {str(series)[:80]!r}"
        try:
            place = _whole(0 if iteration is None else iteration) + self.iteration_offset
            if not MIN_ITERATION <= place <= MAX_ITERATION:
                raise BadInput(f"iteration {place}: expected a whole number of 64 bits")
            record = Plotted(
                title=_text(title, "title"),
                series=_text(series, "series"),
                iteration=place,
                time=_now(),
                kind=kind,
                figure=figure(),
            )
            self._writer.record(record)
        except TaskloomError as error:
            self._notices.once(topic, f"{topic} is not recorded: {error}")
        except Exception as error:  # figures of any type come here
            self._notices.once(topic, f"{topic} is not recorded: {type(error).__name__}: {error}")
        else:
            if iteration is not None and place > self._newest:
                self._newest = place

    # --- the rest -----------------------------------------------------------------------------------------

    def flush(self, wait: bool = False) -> bool:
        """Have everything sent now. Recorded it is already; `wait` waits for the server (10 s at most)."""
        if self._home is None or self._home.closed:
            return True
        self._home.poke()
        return self._home.wait_shipped(10.0) if wait else True

    def set_default_upload_destination(self, uri: str) -> None:
        """Accepted for scripts that call it; results are kept by the server, artifacts where the task says."""


def _number(value: Any) -> float:
    """The float of a number; text is not one, even when it looks so."""
    if isinstance(value, str | bytes | bytearray) or value is None:
        raise BadInput(f"expected a number, got {type(value).__name__} {str(value)[:80]!r}")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(value, int):
            return math.inf if value > 0 else -math.inf  # beyond what a double holds
        raise BadInput(f"expected a number, got {type(value).__name__} ({error})") from None


def _whole(value: Any) -> int:
    """The int of a whole number; 3.0 is one, 3.5 and text are not."""
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        number = float(value) if not isinstance(value, str | bytes) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not number.is_integer():
        raise BadInput(f"expected a whole number as iteration, got {type(value).__name__} {str(value)[:80]!r}")
    return int(number)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadInput(f"expected text as {what}, got {type(value).__name__}")
    if len(value) > LONGEST_NAME:
        raise BadInput(f"{what} has {len(value)} characters; at most {LONGEST_NAME} are possible")
    return value.replace("\0", "�").encode("utf-8", "replace").decode()


def _finished(figure: dict[str, Any], comment: str | None, extra_layout: Mapping[str, Any] | None) -> str:
    if comment:
        figure["layout"]["annotations"] = [{"text": comment, "showarrow": False, "xref": "paper", "yref": "paper"}]
    if extra_layout:
        figure["layout"] |= cast("dict[str, Any]", figures.plain(extra_layout))
    return figures.to_json(figure)

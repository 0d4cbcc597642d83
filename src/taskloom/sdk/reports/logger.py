"""The logger: what a training loop says about itself, at a cost that it does not notice.

`report_scalar` is a dictionary look-up and 32 bytes stored into the journal. A value that cannot be recorded
never raises into the script: it is named once on standard error and counted. What the journal does with it,
and who ships it, is not known here.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping
from typing import Any, SupportsFloat, SupportsIndex, cast

from taskloom.domain.errors import BadInput, TaskloomError
from taskloom.domain.metrics import SINGLE_VALUE, SINGLE_VALUE_TITLE
from taskloom.journal.writer import Writer
from taskloom.sdk.notices import Notices
from taskloom.sdk.reports.plots import Plots, SeriesInfo
from taskloom.sdk.reports.reporting import Home, number, text, whole
from taskloom.sdk.reports.reporting import now as _now

SHIP_SECONDS = 1.0


class Logger(Plots):
    """Reports of one task. From `Logger.current_logger()`, `task.get_logger()`; safe between threads.

    title, series: text, the names of a graph and of a curve in it. iteration: a whole number of 64 bits.
    value: anything that `float()` takes (also numpy and torch scalars); NaN and infinities are kept.
    """

    SeriesInfo = SeriesInfo

    def __init__(self, writer: Writer, notices: Notices, home: Home | None = None) -> None:
        super().__init__(writer, notices, home)
        self._numbers = writer.numbers
        self._scalar = writer.scalar

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
            curve = self._numbers[title, series]
            if type(value) is not float:
                value = number(value)
            place = (iteration if type(iteration) is int else whole(iteration)) + self.iteration_offset
            self._scalar(curve, place, value, _now())
            if place > self._newest:  # noqa: PLR1730 - a call of max costs as much as all the rest
                self._newest = place
        except Exception:  # a new series, or a value that has to be explained
            self._report_slowly(title, series, value, iteration)

    def report_scalars(self, title: str, values: Mapping[str, SupportsFloat], iteration: SupportsIndex) -> None:
        """Points of many curves of one graph at one iteration, at once: `{series: value}`."""
        try:
            numbers = self._numbers
            pairs = [
                (numbers[title, series], value if type(value) is float else number(value))
                for series, value in values.items()
            ]
            place = whole(iteration) + self.iteration_offset
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
            names = text(title, "title"), text(series, "series")
            curve = self._numbers.get(names)
            if curve is None:
                curve = self._writer.name_series(*names)
            place = self._place(whole(iteration), self.iteration_offset if offset else 0)
            self._writer.scalar(curve, place, number(value), _now())
            if offset and place > self._newest and place != SINGLE_VALUE and not title.startswith(":"):
                self._newest = place
        except (TaskloomError, struct.error) as error:
            self._notices.once(topic, f"scalar {topic[0]!r} / {topic[1]!r} is not recorded: {error}")
        except Exception as error:  # values of any type come here, with any conversion of their own
            kind = type(error).__name__
            self._notices.once(topic, f"scalar {topic[0]!r} / {topic[1]!r} is not recorded: {kind}: {error}")

    # --- text ---------------------------------------------------------------------------------------------

    def report_text(self, msg: str, level: int = logging.INFO, print_console: bool = True) -> None:
        """A message in the task's console, with its level unless it is INFO; `print_console` also prints it.

        level: a number of Python's `logging`, such as `logging.WARNING`, or its name.
        """
        with self._notices.boundary("report_text"):
            line = f"{_prefix(level)}{msg}"
            if print_console:
                print(line, flush=True)
                if self._prints_recorded():
                    return
            self.record_line(line)

    def record_line(self, line: str) -> None:
        """Into the task's console, without printing it."""
        whole_line = line if line.endswith("\n") else f"{line}\n"
        with self._writer.stream_path("report").open("ab") as file:
            file.write(whole_line.encode(errors="replace"))

    def _prints_recorded(self) -> bool:
        return self._home is not None and not self._home.closed and self._home.stdout_recorded

    # --- settings -----------------------------------------------------------------------------------------

    @classmethod
    def tensorboard_auto_group_scalars(cls, group_scalars: bool = False) -> None:
        """True: TensorBoard's curves without a title (`loss`, not `loss/train`) share the graph `Scalars`."""
        cls.choices.group_scalars = bool(group_scalars)

    @classmethod
    def tensorboard_single_series_per_graph(cls, single_series: bool = False) -> None:
        """True: every curve of TensorBoard is a graph of its own."""
        cls.choices.single_series = bool(single_series)

    @classmethod
    def matplotlib_force_report_non_interactive(cls, force: bool) -> None:
        """True: figures of Matplotlib are recorded as images, not as interactive plots."""
        cls.choices.only_images = bool(force)

    @classmethod
    def set_reporting_nan_value(cls, value: float, warn_period: int = 1000) -> None:
        """Accepted for scripts that call it: NaN is recorded as it is, nothing takes its place."""
        Notices().say(f"set_reporting_nan_value({value}): NaN is recorded as NaN")

    @classmethod
    def set_reporting_inf_value(cls, value: float, warn_period: int = 1000) -> None:
        """Accepted for scripts that call it: infinite values are recorded as they are."""
        Notices().say(f"set_reporting_inf_value({value}): infinite values are recorded as they are")

    # --- sending ------------------------------------------------------------------------------------------

    def flush(self, wait: bool = False) -> bool:
        """Have everything sent now. Recorded it is already; `wait` waits for the server (10 s at most)."""
        if self._home is None or self._home.closed:
            return True
        self._home.poke()
        return self._home.wait_shipped(10.0) if wait else True

    def get_flush_period(self) -> float:
        """Seconds between two looks of the companion that ships what is recorded."""
        return SHIP_SECONDS

    def set_flush_period(self, period: float) -> None:
        """Accepted for scripts that call it: what a call returned from is on the disk, and shipped every second."""


def _prefix(level: Any) -> str:
    """`WARNING: ` before a message of that level; nothing before a plain one."""
    name = level.strip().upper() if isinstance(level, str) else logging.getLevelName(cast("int", level))
    return "" if name == "INFO" else f"{name}: "

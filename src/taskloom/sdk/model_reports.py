"""Reports about a model itself: the curves and plots of an evaluation, kept with the weights and not with a task.

A model has no journal: each report is a call to the server, which returns when it is stored there. What cannot be
reported is told once, and the script goes on, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, SupportsFloat, cast

from taskloom.domain.errors import BadInput
from taskloom.domain.metrics import to_wire
from taskloom.sdk.notices import Notices
from taskloom.sdk.reports.logger import Logger
from taskloom.wire.messages import ModelPoint, ModelReport
from taskloom.wire.operations import REPORT_MODEL
from taskloom.wire.records import Plotted, Record

if TYPE_CHECKING:
    from taskloom.journal.writer import Writer
    from taskloom.wire.send import Client


class ModelReports:
    """The reports of a model; every method is as that of `Logger`."""

    _reports: Logger | None = None
    _id: str

    def _reporting_client(self) -> Client:
        """A client of the server that knows the model."""
        raise NotImplementedError

    def _logger(self) -> Logger:
        if self._reports is None:
            writer = _Calls(self._id, self._reporting_client)
            self._reports = Logger(cast("Writer", writer), Notices())
        return self._reports

    def report_scalar(self, title: str, series: str, value: SupportsFloat, iteration: int) -> None:
        self._logger().report_scalar(title, series, value, iteration)

    def report_single_value(self, name: str, value: SupportsFloat) -> None:
        self._logger().report_single_value(name, value)

    def report_histogram(self, *args: Any, **named: Any) -> None:
        self._logger().report_histogram(*args, **named)

    def report_vector(self, *args: Any, **named: Any) -> None:
        self._logger().report_vector(*args, **named)

    def report_table(self, *args: Any, **named: Any) -> None:
        self._logger().report_table(*args, **named)

    def report_line_plot(self, *args: Any, **named: Any) -> None:
        self._logger().report_line_plot(*args, **named)

    def report_scatter2d(self, *args: Any, **named: Any) -> None:
        self._logger().report_scatter2d(*args, **named)

    def report_scatter3d(self, *args: Any, **named: Any) -> None:
        self._logger().report_scatter3d(*args, **named)

    def report_confusion_matrix(self, *args: Any, **named: Any) -> None:
        self._logger().report_confusion_matrix(*args, **named)

    def report_matrix(self, *args: Any, **named: Any) -> None:
        self._logger().report_matrix(*args, **named)

    def report_surface(self, *args: Any, **named: Any) -> None:
        self._logger().report_surface(*args, **named)

    def report_plotly(self, *args: Any, **named: Any) -> None:
        self._logger().report_plotly(*args, **named)


class _Calls:
    """What a logger needs of a writer, each report sent at once."""

    closed = False

    def __init__(self, model: str, connect: Callable[[], Client]) -> None:
        self._model, self._connect = model, connect
        self.numbers: dict[tuple[str, str], int] = {}

    def name_series(self, title: str, series: str) -> int:
        return self.numbers.setdefault((title, series), len(self.numbers))

    def scalar(self, number: int, iteration: int, value: float, now: float) -> None:
        title, series = list(self.numbers)[number]
        point = ModelPoint(title=title, series=series, iteration=iteration, value=to_wire(value), time=now)
        self._send(ModelReport(points=[point]))

    def record(self, record: Record) -> None:
        if not isinstance(record, Plotted):
            raise BadInput(f"a model takes no {type(record).__name__}")
        self._send(ModelReport(plots=[record]))

    def _send(self, report: ModelReport) -> None:
        self._connect().call(REPORT_MODEL, report, model=self._model)

"""Plots: every kind is recorded as the JSON text of a plotly figure, made here from what the script gives.

How the figures are built is the business of `figures`; a figure that one record cannot hold is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, cast

from taskloom.domain.errors import BadInput
from taskloom.sdk import figures
from taskloom.sdk.reporting import Reports, now, text
from taskloom.wire.records import Plotted


class SeriesInfo(NamedTuple):
    """One curve of `report_line_plot`: its points (x, y), and labels of them."""

    name: str
    data: Any
    labels: Sequence[str] | None = None


class Plots(Reports):
    """The reports that are drawn."""

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

    def _plot(
        self, title: str, series: str, iteration: SupportsIndex | None, kind: str, figure: Callable[[], str]
    ) -> None:
        with self._telling(kind, title, series):
            place = self._place(iteration)
            record = Plotted(
                title=text(title, "title"),
                series=text(series, "series"),
                iteration=place,
                time=now(),
                kind=kind,
                figure=figure(),
            )
            self._writer.record(record)
            self._count(iteration, place)


def _finished(figure: dict[str, Any], comment: str | None, extra_layout: Mapping[str, Any] | None) -> str:
    if comment:
        figure["layout"]["annotations"] = [{"text": comment, "showarrow": False, "xref": "paper", "yref": "paper"}]
    if extra_layout:
        figure["layout"] |= cast("dict[str, Any]", figures.plain(extra_layout))
    return figures.to_json(figure)

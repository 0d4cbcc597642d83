"""Plots: every kind is recorded as the JSON text of a plotly figure, made here from what the script gives.

How the figures are built is the business of `figures`; a figure that one record cannot hold is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

from taskloom.domain.errors import BadInput
from taskloom.journal import layout
from taskloom.sdk.reports import figures
from taskloom.sdk.reports.figures import Figure
from taskloom.sdk.reports.reporting import now, text
from taskloom.sdk.reports.samples import Samples
from taskloom.sdk.reports.tabular import table_content
from taskloom.wire.records import Plotted

MAX_FIGURE = layout.MAX_RECORD - 8192  # bytes of JSON; a record holds the names, too


class SeriesInfo(NamedTuple):
    """One curve of `report_line_plot`: its points (x, y), and labels of them."""

    name: str
    data: Any
    labels: Sequence[str] | None = None


class Plots(Samples):
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

        def figure() -> Figure:
            made = figures.confusion_matrix(title, matrix, xaxis, yaxis, xlabels, ylabels, yaxis_reversed)
            return figures.with_layout(made, comment, extra_layout)

        self._plot(title, series, iteration, "confusion_matrix", figure)

    def report_matrix(
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
        extra_layout: Mapping[str, Any] | None = None,
    ) -> None:
        """The same heat map under its other name."""
        self.report_confusion_matrix(
            title, series, matrix, iteration, xaxis, yaxis, xlabels, ylabels, yaxis_reversed, None, extra_layout
        )

    def report_surface(
        self,
        title: str,
        series: str,
        matrix: Any,
        iteration: SupportsIndex | None = None,
        xaxis: str | None = None,
        yaxis: str | None = None,
        zaxis: str | None = None,
        xlabels: Sequence[str] | None = None,
        ylabels: Sequence[str] | None = None,
        camera: Sequence[float] | None = None,
        comment: str | None = None,
        extra_layout: Mapping[str, Any] | None = None,
    ) -> None:
        """Heights over a grid: rows of numbers. camera: where the eye stands, (x, y, z) in plotly's units."""

        def figure() -> Figure:
            made = figures.surface(title, matrix, (xaxis, yaxis, zaxis), xlabels, ylabels, camera)
            return figures.with_layout(made, comment, extra_layout)

        self._plot(title, series, iteration, "surface", figure)

    def report_table(
        self,
        title: str,
        series: str,
        iteration: SupportsIndex | None = None,
        table_plot: Any = None,
        csv: str | Path | None = None,
        url: str | None = None,
        extra_layout: Mapping[str, Any] | None = None,
        extra_data: Mapping[str, Any] | None = None,
    ) -> None:
        """A table: `table_plot` a DataFrame, rows (the first is the header) or columns by name; or a CSV file.

        `url` is not supported: nothing is fetched for a report. extra_data: options of plotly's table. Of a longer
        table the first 10,000 rows are shown.
        """

        def figure() -> Figure:
            if url is not None:
                raise BadInput("a table from a url is not fetched; download it and give its path as csv")
            content = csv if csv is not None else table_plot
            if content is None:
                raise BadInput("nothing to show: give table_plot or csv")
            header, rows, count = table_content(content)
            if count > len(rows):
                self._tell_shortened("table", title, series, f"the first {len(rows)} of {count} rows")
            made = figures.with_data(figures.table(title, header, rows), extra_data, "extra_data")
            return figures.with_layout(made, None, extra_layout)

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
        data_args: Mapping[str, Any] | None = None,
        extra_layout: Mapping[str, Any] | None = None,
    ) -> None:
        """Bars of given heights (nothing is counted here); a list of lists gives groups.

        labels: a name for each group. xlabels: a name for each bar. mode: groups stand beside one another ("group",
        the default), on one another ("stack", "relative") or in front ("overlay"). data_args: options of plotly's
        bars, such as `{"orientation": "h"}`.
        """

        def figure() -> Figure:
            made = figures.bars(title, series, values, labels, xlabels, xaxis, yaxis, mode or "group")
            return figures.with_layout(figures.with_data(made, data_args, "data_args"), None, extra_layout)

        self._plot(title, series, iteration, "histogram", figure)

    def report_vector(
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
        """The numbers of a vector, or of several, as bars."""
        self.report_histogram(
            title, series, values, iteration, labels, xlabels, xaxis, yaxis, mode, None, extra_layout
        )

    def report_line_plot(
        self,
        title: str,
        series: Sequence[Mapping[str, Any] | SeriesInfo],
        xaxis: str,
        yaxis: str,
        mode: str = "lines",
        iteration: SupportsIndex | None = None,
        reverse_xaxis: bool = False,
        comment: str | None = None,
        extra_layout: Mapping[str, Any] | None = None,
    ) -> None:
        """Curves `[{"name": ..., "data": [(x, y), ...], "labels": [...]}, ...]` in one plot, labels by wish."""

        def figure() -> Figure:
            curves = [_curve(one) for one in series]
            made = self._lines(title, title, curves, xaxis, yaxis, mode)
            if reverse_xaxis:
                made["layout"]["xaxis"]["autorange"] = "reversed"
            return figures.with_layout(made, comment, extra_layout)

        self._plot(title, title, iteration, "line", figure)

    def report_scatter2d(
        self,
        title: str,
        series: str,
        scatter: Any,
        iteration: SupportsIndex | None = None,
        xaxis: str | None = None,
        yaxis: str | None = None,
        labels: Any = None,
        mode: str = "lines",
        comment: str | None = None,
        extra_layout: Mapping[str, Any] | None = None,
    ) -> None:
        """Points (x, y): a list or array of them, several series as a list of lists or a dictionary by name.

        labels: text of each point, in as many lists as there are series. mode: lines, markers or lines+markers.
        """

        def figure() -> Figure:
            made = self._lines(title, series, figures.curves_of(series, scatter, labels), xaxis, yaxis, mode)
            return figures.with_layout(made, comment, extra_layout)

        self._plot(title, series, iteration, "scatter2d", figure)

    def report_scatter3d(
        self,
        title: str,
        series: str,
        scatter: Any,
        iteration: SupportsIndex | None = None,
        xaxis: str | None = None,
        yaxis: str | None = None,
        zaxis: str | None = None,
        labels: Any = None,
        mode: str = "markers",
        fill: bool = False,
        comment: str | None = None,
        extra_layout: Mapping[str, Any] | None = None,
    ) -> None:
        """Points (x, y, z), as of `report_scatter2d`; `fill` closes each series to an area."""

        def figure() -> Figure:
            curves = figures.curves_of(series, scatter, labels)
            made = figures.clouds(title, curves, (xaxis, yaxis, zaxis), mode, fill)
            return figures.with_layout(made, comment, extra_layout)

        self._plot(title, series, iteration, "scatter3d", figure)

    def report_matplotlib_figure(
        self,
        title: str,
        series: str,
        figure: Any,
        iteration: SupportsIndex | None = None,
        report_image: bool = False,
        report_interactive: bool = True,
    ) -> None:
        """A figure of Matplotlib, its axes, or `pyplot` for the current one.

        As an interactive plot where plotly can show the same, else as a picture among the plots; always as a picture
        with `report_interactive=False` or `Logger.matplotlib_force_report_non_interactive(True)`. report_image: as a
        debug sample instead.
        """
        with self._telling("figure", title, series):
            from taskloom.sdk.reports import drawn_figures

            drawn = drawn_figures.figure_of(figure)
            if drawn is None:
                raise BadInput(f"expected a figure of Matplotlib, got {type(figure).__name__}")
            if report_image:
                picture = drawn_figures.png_of_figure(drawn)
                self._keep(title, series, iteration, iter([picture]), ".png", None)
                return
            interactive = report_interactive and not self.choices.only_images
            self.report_drawn(
                title, series, iteration, *drawn_figures.plot_of_figure(drawn, str(title), interactive)
            )

    def report_drawn(
        self, title: str, series: str, iteration: SupportsIndex | None, figure: Figure, kind: str
    ) -> None:
        """A figure in plotly's words that a binding has made; `kind` says of what."""
        self._plot(title, series, iteration, kind, lambda: figure)

    # --- how ----------------------------------------------------------------------------------------------

    def _lines(
        self,
        title: str,
        series: str,
        curves: Sequence[tuple[str, Any, Any]],
        xaxis: str | None,
        yaxis: str | None,
        mode: str,
    ) -> Figure:
        made, left_out = figures.lines(title, curves, xaxis, yaxis, mode)
        if left_out:
            self._tell_shortened("plot", title, series, f"its highest and lowest points, {left_out} are left out")
        return made

    def _tell_shortened(self, kind: str, title: str, series: str, said: str) -> None:
        what = f"{kind} {str(title)[:80]!r} / {str(series)[:80]!r}"
        self._notices.once((what, "shortened"), f"{what} shows {said}")

    def _plot(
        self,
        title: str,
        series: str,
        iteration: SupportsIndex | None,
        kind: str,
        figure: Callable[[], Figure | str],
    ) -> None:
        with self._telling(kind, title, series):
            place = self._place(iteration)
            try:
                made = figure()
                drawn = made if isinstance(made, str) else figures.to_json(made)
            except RecursionError:
                raise BadInput("the figure holds itself, or is nested too deeply") from None
            size = len(drawn.encode("utf-8", "surrogatepass")) if len(drawn) > MAX_FIGURE // 4 else len(drawn)
            if size > MAX_FIGURE:
                raise BadInput(
                    f"the figure takes {size} bytes; at most {MAX_FIGURE} are possible: "
                    "thin its data, or report it as an image"
                )
            record = Plotted(
                title=text(title, "title"),
                series=text(series, "series"),
                iteration=place,
                time=now(),
                kind=kind,
                figure=drawn,
            )
            self._writer.record(record)
            self._count(iteration, place)


def _curve(one: Mapping[str, Any] | SeriesInfo) -> tuple[str, Any, Any]:
    if isinstance(one, Mapping):
        if "data" not in one:
            raise BadInput("a curve: expected a dictionary with name and data")
        return str(one.get("name", "")), one["data"], one.get("labels")
    return str(one.name), one.data, one.labels

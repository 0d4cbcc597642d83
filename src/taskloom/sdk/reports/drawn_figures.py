"""Figures of Matplotlib as plotly's figures where those say the same, else as PNG files.

A figure is taken apart into panels, one for each axes, with their scales, ranges, ticks, legends and titles; what
stands in a panel is the business of `drawn_artists`. Small and honest: what it does not know is `Unfaithful`, and
the figure is an image. Plotly's own converter drops what it does not know.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from taskloom.sdk.reports.drawn_artists import MAX_POINTS, Panel, Unfaithful, is_a, numbers, plain_text

IMAGE_DPI = 100.0
PLAIN_FORMATS = frozenset({"ScalarFormatter", "LogFormatterSciNotation", "LogFormatterMathtext", "LogFormatter"})
DATE_FORMATS = frozenset({"AutoDateFormatter", "ConciseDateFormatter", "DateFormatter"})
MOST_PANELS = 100


def figure_of(given: Any) -> Any:
    """The figure of a figure, of axes, or of `pyplot` itself; None for anything else."""
    if is_a(given, "FigureBase"):
        return given
    if hasattr(given, "gcf"):
        return given.gcf()
    found = getattr(given, "figure", None)
    return found if is_a(found, "FigureBase") else None


def shows_only_images(figure: Any) -> bool:
    """Whether every axes holds an image and nothing else: `imshow`."""
    panels = [axes for axes in figure.axes if not _is_colorbar(axes)]
    return bool(panels) and all(
        axes.images and not (axes.lines or axes.collections or axes.patches or axes.texts or axes.tables)
        for axes in panels
    )


def title_of(figure: Any) -> str:
    """Its own title, else that of its first axes that has one, else the name that the script gave the figure."""
    own = getattr(figure, "_suptitle", None)
    titles = [own.get_text() if own is not None else "", *(axes.get_title() for axes in figure.axes)]
    manager = getattr(figure.canvas, "manager", None)
    window = str(manager.get_window_title() or "") if manager is not None else ""
    unnamed = window in {"", "image", f"Figure {getattr(figure, 'number', '')}"}
    titles += [str(figure.get_label()), "" if unnamed else window]
    return next((" ".join(title.split()) for title in titles if title.strip()), "")


def png_of_figure(figure: Any) -> bytes:
    """The figure as it would be saved; not by `savefig`, which may be hooked."""
    out = io.BytesIO()
    figure.canvas.print_figure(
        out, format="png", dpi=IMAGE_DPI, facecolor=figure.get_facecolor(), bbox_inches="tight"
    )
    return out.getvalue()


def plot_of_figure(figure: Any, title: str, interactive: bool) -> tuple[dict[str, Any], str]:
    """A plotly figure, and `matplotlib` when it shows the figure itself or `image` when it shows a picture of it."""
    if interactive:
        try:
            return to_plotly(figure), "matplotlib"
        except (Unfaithful, AttributeError, IndexError, KeyError, TypeError, ValueError):
            pass  # unknown, or an artist with a surprise: the picture shows it, and the kind says that it is one
    return image_plot(title, png_of_figure(figure)), "image"


def image_plot(title: str, png: bytes) -> dict[str, Any]:
    """A plot that shows a picture."""
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    image = {
        "source": f"data:image/png;base64,{base64.b64encode(png).decode()}",
        "xref": "x", "yref": "y", "x": 0, "y": 0, "sizex": width, "sizey": height, "layer": "below",
    }  # fmt: skip
    hidden = {"visible": False, "constrain": "domain"}
    layout = {
        "title": {"text": plain_text(title)},
        "images": [image],
        "xaxis": {**hidden, "range": [0, width]},
        "yaxis": {**hidden, "range": [height, 0], "scaleanchor": "x"},
    }
    return {"data": [], "layout": layout}


def to_plotly(figure: Any) -> dict[str, Any]:
    """The same figure in plotly's words; Unfaithful when they cannot say it."""
    _check_figure(figure)
    if getattr(figure, "_layout_engine", None) is not None or getattr(figure, "_constrained", False):
        figure.draw_without_rendering()  # or the axes would not be in their places yet
    axes = [one for one in figure.axes if one.get_visible() and not _is_known_colorbar(figure, one)]
    if not axes or len(axes) > MOST_PANELS:
        raise Unfaithful(f"{len(axes)} axes")
    layout: dict[str, Any] = {"barmode": "overlay", "showlegend": False, "shapes": [], "annotations": []}
    own = getattr(figure, "_suptitle", None)
    alone = len(axes) == 1 and own is None
    layout["title"] = {
        "text": plain_text(axes[0].get_title() if alone else own.get_text() if own is not None else "")
    }
    data: list[dict[str, Any]] = []
    made: list[tuple[Any, Panel]] = []
    for number, one in enumerate(axes, start=1):
        panel = _panel(one, "" if number == 1 else str(number), made, layout, alone)
        panel.draw()
        _name_what_the_legend_shows(panel, layout)
        made.append((one, panel))
        data += panel.traces
        layout["shapes"] += panel.shapes
        layout["annotations"] += panel.notes
    if sum(len(trace["x"]) for trace in data) > MAX_POINTS:
        raise Unfaithful(f"more than {MAX_POINTS} points")
    return {"data": data, "layout": layout}


def _check_figure(figure: Any) -> None:
    if getattr(figure, "subfigs", None):
        raise Unfaithful("figures in a figure")
    known = {id(getattr(figure, "_suptitle", None))}
    extra = (*figure.texts, *figure.legends, *figure.lines, *figure.patches, *figure.images, *figure.artists)
    for one in extra:
        if id(one) not in known and one.get_visible():
            raise Unfaithful(f"{type(one).__name__} outside of the axes")


def _panel(axes: Any, number: str, made: list[tuple[Any, Panel]], layout: dict[str, Any], alone: bool) -> Panel:
    if axes.name != "rectilinear":
        raise Unfaithful(f"{axes.name} axes")
    if axes.child_axes:
        raise Unfaithful("axes in axes")
    box = axes.get_position()
    below = next((other for other in made if other[0].get_position().bounds == box.bounds), None)
    panel = Panel(axes, f"x{number}", f"y{number}", _values(axes.xaxis), _values(axes.yaxis))
    across = {"domain": _domain(box.x0, box.x1), "anchor": panel.y, **_axis(axes.xaxis, axes.get_xlim())}
    along = {"domain": _domain(box.y0, box.y1), "anchor": panel.x, **_axis(axes.yaxis, axes.get_ylim())}
    if below is not None:
        _lay_over(panel, below, along, across)
    if not axes.axison:
        across |= {"visible": False}
        along |= {"visible": False}
    if axes.get_aspect() in {"equal", 1.0}:
        along |= {"scaleanchor": panel.x, "constrain": "domain"}
    if panel.x == f"x{number}":
        layout[f"xaxis{number}"] = across
    if panel.y == f"y{number}":
        layout[f"yaxis{number}"] = along
    if axes.get_title() and not alone:
        layout["annotations"].append(
            {
                "text": plain_text(axes.get_title()), "showarrow": False, "xref": f"{panel.x} domain",
                "yref": f"{panel.y} domain", "x": 0.5, "y": 1.0, "xanchor": "center", "yanchor": "bottom",
            }
        )  # fmt: skip
    return panel


def _lay_over(panel: Panel, below: tuple[Any, Panel], along: dict[str, Any], across: dict[str, Any]) -> None:
    """Axes on the same place share one of their scales: `twinx`, `twiny`."""
    other, first = below
    if panel.axes.get_shared_x_axes().joined(panel.axes, other):
        panel.x = first.x
        along |= {"overlaying": first.y, "side": "right", "anchor": first.x, "showgrid": False}
    elif panel.axes.get_shared_y_axes().joined(panel.axes, other):
        panel.y = first.y
        across |= {"overlaying": first.x, "side": "top", "anchor": first.y, "showgrid": False}
    else:
        raise Unfaithful("axes that lie over one another")


def _axis(axis: Any, limits: tuple[float, float]) -> dict[str, Any]:
    """Scale, range, ticks, grid and label."""
    scale = axis.get_scale()
    label = axis.get_label_text()
    if "$" in label:
        raise Unfaithful("formulas")
    made: dict[str, Any] = {
        "title": {"text": plain_text(label)},
        "showgrid": any(line.get_visible() for line in axis.get_gridlines()),
        "zeroline": False,
        "showline": True,
    }
    form = type(axis.get_major_formatter()).__name__
    if _is_date(axis):
        return {**made, "type": "date", "range": _dates(limits)}
    if scale == "log":
        made |= {"type": "log", "range": [math.log10(limit) for limit in limits], "exponentformat": "power"}
        if form not in PLAIN_FORMATS and form != "NullFormatter":
            raise Unfaithful(f"ticks by {form} on a logarithmic scale")
        return made
    if scale != "linear":
        raise Unfaithful(f"a {scale} scale")
    made |= {"type": "linear", "range": numbers(limits)}
    locations = axis.get_major_locator()
    if form in PLAIN_FORMATS and type(locations).__name__ not in {"FixedLocator", "NullLocator"}:
        return made
    low, high = sorted(limits)
    places = [float(place) for place in axis.get_majorticklocs()]
    texts = [str(text) for text in axis.get_major_formatter().format_ticks(places)]
    if any("$" in text for text in texts):
        raise Unfaithful("formulas")
    inside = [(place, plain_text(text)) for place, text in zip(places, texts, strict=True) if low <= place <= high]
    return {**made, "tickvals": [place for place, _ in inside], "ticktext": [text for _, text in inside]}


def _values(axis: Any) -> Any:
    return _dates if _is_date(axis) else numbers


def _is_date(axis: Any) -> bool:
    converter = axis.get_converter() if hasattr(axis, "get_converter") else axis.converter
    if converter is None:
        return False
    if "PeriodConverter" in type(converter).__name__:
        raise Unfaithful("periods of pandas")
    dates = any(name in type(converter).__name__ for name in ("DateConverter", "DatetimeConverter"))
    return dates and type(axis.get_major_formatter()).__name__ in {*DATE_FORMATS, "PandasAutoDateFormatter"}


def _dates(days: Iterable[Any]) -> list[Any]:
    dates = import_module("matplotlib.dates")
    found: list[Any] = []
    for day in numbers(days):
        found.append(None if day is None else dates.num2date(day).replace(tzinfo=None).isoformat())
    return found


def _domain(low: float, high: float) -> list[float]:
    return [round(min(max(float(edge), 0.0), 1.0), 4) for edge in (low, high)]


def _name_what_the_legend_shows(panel: Panel, layout: dict[str, Any]) -> None:
    legend = panel.axes.get_legend()
    entries = [] if legend is None or not legend.get_visible() else [t.get_text() for t in legend.get_texts()]
    wanted = {plain_text(entry) for entry in entries}
    if any("$" in entry for entry in entries):
        raise Unfaithful("formulas")
    for one in (*panel.traces, *panel.shapes):
        shown = one.get("name", "") in wanted
        if one in panel.shapes:
            one.pop("showlegend", None)
            if shown:
                one["showlegend"] = True
            continue
        one["showlegend"] = shown
    named = {one["name"] for one in (*panel.traces, *panel.shapes) if one.get("showlegend")}
    if wanted - named:
        raise Unfaithful("a legend of its own entries")
    layout["showlegend"] = layout["showlegend"] or bool(wanted)


def _is_colorbar(axes: Any) -> bool:
    return axes.get_label() == "<colorbar>"


def _is_known_colorbar(figure: Any, axes: Any) -> bool:
    """A bar of a scatter, which plotly draws itself; of anything else it is a reason for an image."""
    if not _is_colorbar(axes):
        return False
    for other in figure.axes:
        for points in other.collections:
            if is_a(points, "PathCollection") and points.colorbar is not None and points.colorbar.ax is axes:
                return True
    raise Unfaithful("a bar of colours")

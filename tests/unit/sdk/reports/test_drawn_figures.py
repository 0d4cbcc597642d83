"""Matplotlib's figures in plotly's words: what is said, and what is honestly left to an image."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt

from taskloom.sdk.reports.drawn_artists import Unfaithful
from taskloom.sdk.reports.drawn_figures import (
    figure_of,
    image_plot,
    plot_of_figure,
    png_of_figure,
    shows_only_images,
    title_of,
    to_plotly,
)
from taskloom.sdk.reports.figures import to_json

Draw = Callable[[Any], object]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def said(draw: Draw) -> dict[str, Any]:
    """The figure of one axes in plotly's words, which plotly itself has found right."""
    _, axes = plt.subplots()
    draw(axes)
    made = to_plotly(axes.figure)
    go.Figure(made)
    to_json(made)
    return made


def trace(draw: Draw, *parts: str) -> tuple[Any, ...]:
    (only,) = said(draw)["data"]
    return tuple(only[part] for part in parts)


def test_lines_have_their_points_style_and_markers() -> None:
    found = trace(
        lambda a: a.plot([1, 2, 3], [1, 4, 9], "r--s", linewidth=2, alpha=0.5, markerfacecolor="blue"),
        "type", "mode", "x", "y", "line", "marker",
    )  # fmt: skip
    line = {"color": "rgba(255,0,0,0.5)", "width": 2.0, "dash": "dash", "shape": "linear"}
    marker = {"symbol": "square", "size": 6.0, "color": "rgba(0,0,255,0.5)"}
    outline = {"line": {"color": "rgba(255,0,0,0.5)", "width": 1.0}}
    assert found == ("scatter", "lines+markers", [1, 2, 3], [1, 4, 9], line, marker | outline)


def test_gaps_stay_gaps() -> None:
    assert trace(lambda a: a.plot([1, 2, 3], [1, np.nan, 9]), "y") == ([1, None, 9],)
    assert trace(lambda a: a.plot([1, 2], np.ma.masked_greater([1, 9], 5)), "y") == ([1, None],)
    assert trace(lambda a: a.plot([1, 2], [1, np.inf]), "y") == ([1, None],)


def test_steps_are_steps() -> None:
    assert trace(lambda a: a.step([1, 2], [3, 4], where="post"), "line")[0]["shape"] == "hv"


def test_a_scatter_has_sizes_colours_and_its_marker() -> None:
    x, y, marker = trace(
        lambda a: a.scatter([1, 2], [3, 4], s=[16, 25], c=["red", "blue"], marker="^"), "x", "y", "marker"
    )
    assert (x, y) == ([1, 2], [3, 4])
    assert marker == {"symbol": "triangle-up", "size": [4.0, 5.0], "color": ["rgba(255,0,0,1)", "rgba(0,0,255,1)"]}


def test_colours_by_value_have_their_scale_when_there_is_a_bar() -> None:
    def draw(axes: Any) -> None:
        axes.figure.colorbar(axes.scatter([1, 2, 3], [1, 4, 9], c=[10, 20, 30], cmap="gray"), label="heat")

    (marker,) = trace(draw, "marker")
    assert (marker["color"], marker["cmin"], marker["cmax"]) == ([10, 20, 30], 10, 30)
    assert marker["colorscale"][0] == [0.0, "rgba(0,0,0,1)"]
    assert marker["colorscale"][-1] == [1.0, "rgba(255,255,255,1)"]
    assert marker["colorbar"] == {"title": {"text": "heat"}}


def test_bars_stand_where_they_stood() -> None:
    upright = trace(
        lambda a: a.bar(["a", "b"], [1, 2], bottom=[1, 0], width=0.5), "type", "x", "y", "base", "width"
    )
    assert upright == ("bar", [0, 1], [1, 2], [1, 0], [0.5, 0.5])
    lying = trace(lambda a: a.barh([1, 2], [3, 4]), "orientation", "x", "y")
    assert lying == ("h", [3, 4], [1, 2])
    places, counts, widths = trace(lambda a: a.hist([1, 1, 2, 4], bins=3), "x", "y", "width")
    assert (places, counts, widths) == ([1.5, 2.5, 3.5], [2, 1, 1], [1, 1, 1])


def test_bars_over_dates_are_as_wide_as_they_were() -> None:
    x, width = trace(lambda a: a.bar([datetime.date(2026, 1, 1)], [1], width=0.5), "x", "width")
    assert (x, width) == (["2026-01-01T00:00:00"], [43_200_000])


def test_areas_error_bars_and_stems() -> None:
    fill, colour = trace(lambda a: a.fill_between([1, 2], [1, 2], alpha=0.25, color="red"), "fill", "fillcolor")
    assert (fill, colour) == ("toself", "rgba(255,0,0,0.25)")

    def errors(axes: Any) -> None:
        axes.errorbar([1, 2], [3, 4], yerr=0.5, label="measured")
        axes.legend()

    made = said(errors)
    assert [(t["name"], t["showlegend"]) for t in made["data"]] == [("", False), ("measured", True)]
    assert made["data"][0]["y"] == [2.5, 3.5, None, 3.5, 4.5, None]
    stems = said(lambda a: a.stem([1, 2]))["data"]
    assert [t["mode"] for t in stems] == ["lines", "markers", "lines"]


def test_lines_from_edge_to_edge_are_shapes() -> None:
    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1])
        axes.axhline(0.5, color="red", linestyle=":", label="half")
        axes.axvline(0.25)
        axes.legend()

    made = said(draw)
    across, upright = made["layout"]["shapes"]
    assert (across["xref"], across["y0"], across["y1"], across["line"]["dash"]) == ("x domain", 0.5, 0.5, "dot")
    assert (across["name"], across["showlegend"]) == ("half", True)
    assert (upright["yref"], upright["x0"], upright["x1"]) == ("y domain", 0.25, 0.25)


@pytest.mark.parametrize(
    ("draw", "axis", "expected"),
    [
        (lambda a: a.set(xlim=(5, -5)), "xaxis", {"type": "linear", "range": [5, -5]}),
        (lambda a: a.set(yscale="log", ylim=(0.1, 100)), "yaxis", {"type": "log", "range": [-1, 2]}),
        (lambda a: a.set_xticks([0, 1], ["no", "yes"]), "xaxis", {"tickvals": [0, 1], "ticktext": ["no", "yes"]}),
        (lambda a: a.set(xlabel="a < b & c"), "xaxis", {"title": {"text": "a &lt; b &amp; c"}}),
        (lambda a: a.grid(axis="y"), "yaxis", {"showgrid": True}),
        (lambda a: a.axis("off"), "yaxis", {"visible": False}),
        (lambda a: a.set_aspect("equal"), "yaxis", {"scaleanchor": "x"}),
    ],
)  # fmt: skip
def test_axes_keep_scale_range_ticks_and_label(draw: Draw, axis: str, expected: dict[str, Any]) -> None:
    found = said(draw)["layout"][axis]
    assert {name: found.get(name) for name in expected} == expected


def test_dates_are_dates() -> None:
    days = np.array(["2026-01-01", "2026-01-03"], dtype="datetime64[D]")
    made = said(lambda a: (a.plot(days, [1, 2]), a.set_xlim(days[0], days[1])))
    assert made["data"][0]["x"] == ["2026-01-01T00:00:00", "2026-01-03T00:00:00"]
    assert made["layout"]["xaxis"]["range"] == ["2026-01-01T00:00:00", "2026-01-03T00:00:00"]


def test_twins_share_one_scale_and_panels_have_their_places() -> None:
    twins = said(lambda a: (a.plot([1, 2]), a.twinx().plot([30, 10])))
    assert [(t["xaxis"], t["yaxis"]) for t in twins["data"]] == [("x", "y"), ("x", "y2")]
    assert {k: twins["layout"]["yaxis2"][k] for k in ("overlaying", "side", "anchor")} == {
        "overlaying": "y", "side": "right", "anchor": "x",
    }  # fmt: skip
    figure, panels = plt.subplots(2, 1)
    figure.suptitle("both")
    panels[0].set_title("above")
    panels[1].plot([1])
    made = to_plotly(figure)
    assert made["layout"]["title"] == {"text": "both"}
    assert [note["text"] for note in made["layout"]["annotations"]] == ["above"]
    assert made["layout"]["yaxis"]["domain"][0] > made["layout"]["yaxis2"]["domain"][1]


def test_panels_that_are_laid_out_late_have_the_places_that_they_will_have() -> None:
    figure, _ = plt.subplots(1, 2, layout="constrained")
    domains = [to_plotly(figure)["layout"][axis]["domain"] for axis in ("xaxis", "xaxis2")]
    figure.canvas.draw()
    drawn = [axes.get_position() for axes in figure.axes]
    assert domains == [[round(box.x0, 4), round(box.x1, 4)] for box in drawn]


def test_text_stands_where_it_stood() -> None:
    def draw(axes: Any) -> None:
        axes.plot([0, 1])
        axes.text(0.5, 0.25, "here", ha="right", va="top", rotation=90, color="red", fontsize=8)
        axes.text(0.1, 0.9, "corner", transform=axes.transAxes)

    here, corner = said(draw)["layout"]["annotations"]
    assert (here["x"], here["y"], here["xref"], here["xanchor"], here["yanchor"]) == (
        0.5,
        0.25,
        "x",
        "right",
        "top",
    )
    assert (here["textangle"], here["font"]) == (-90, {"color": "rgba(255,0,0,1)", "size": 8})
    assert (corner["x"], corner["xref"]) == (0.1, "x domain")


@pytest.mark.parametrize(
    ("draw", "reason"),
    [
        (lambda a: a.pie([1, 2]), "Wedge"),
        (lambda a: a.hist([1, 2], histtype="step"), "Polygon"),
        (lambda a: a.axvspan(0, 1), "Rectangle"),
        (lambda a: a.contour(np.eye(3)), "ContourSet"),
        (lambda a: a.pcolormesh(np.eye(3)), "QuadMesh"),
        (lambda a: a.quiver([1], [1], [1], [1]), "Quiver"),
        (lambda a: a.imshow(np.eye(3)), "images"),
        (lambda a: a.figure.colorbar(a.imshow(np.eye(3))), "a bar of colours"),
        (lambda a: a.table([["1"]]), "tables"),
        (lambda a: a.annotate("arrow", (0, 0), (1, 1), arrowprops={}), "arrows"),
        (lambda a: a.bar_label(a.bar([1], [2])), "text that is placed by something else than values"),
        (lambda a: a.bar([1], [2], hatch="/"), "hatched bars"),
        (lambda a: a.set_xlabel("$x^2$"), "formulas"),
        (lambda a: a.set_xscale("symlog"), "a symlog scale"),
        (lambda a: a.inset_axes([0, 0, 1, 1]), "axes in axes"),
        (lambda a: a.figure.add_subplot(projection="polar"), "polar axes"),
        (lambda a: a.figure.text(0, 0, "outside"), "Text outside of the axes"),
        (lambda a: a.figure.legend(a.plot([1]), ["x"]), "Legend outside of the axes"),
        (lambda a: a.legend(a.plot([1]), ["its own"]), "a legend of its own"),
        (lambda a: a.plot([1], marker="$m$"), "the marker"),
        (lambda a: a.plot([1, 2], linestyle=(0, (3, 1))), "a line style of one's own"),
        (lambda a: a.plot([1, 2], "o-", markevery=2), "markers at some points only"),
        (lambda a: a.plot([0, 1], [0, 1], transform=a.transAxes), "not placed by values"),
        (lambda a: a.plot(np.zeros(100_001)), "more than 100000 points"),
        (lambda a: pd.Series([1, 2], pd.date_range("2026-01-01", periods=2)).plot(ax=a), "periods of pandas"),
    ],
)  # fmt: skip
def test_what_plotly_would_show_otherwise_is_an_image(draw: Draw, reason: str) -> None:
    figure, axes = plt.subplots()
    draw(axes)
    with pytest.raises(Unfaithful, match=reason):
        to_plotly(figure)
    made, kind = plot_of_figure(figure, "t", interactive=True)
    assert kind == "image"
    assert made["layout"]["images"][0]["source"].startswith("data:image/png;base64,")
    go.Figure(made)


def test_an_artist_with_a_surprise_is_shown_by_a_picture() -> None:
    figure, axes = plt.subplots()
    (line,) = axes.plot([0, 1])
    line.__class__ = type("Line2D", (mpl.lines.Line2D,), {"get_drawstyle": lambda _: []})  # no key of a dictionary
    assert plot_of_figure(figure, "t", interactive=True)[1] == "image"


def test_an_image_plot_has_the_size_of_its_picture() -> None:
    figure = plt.figure(figsize=(3, 2))
    figure.add_subplot()
    png = png_of_figure(figure)
    made = image_plot("a < b", png)
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    assert made["layout"]["title"] == {"text": "a &lt; b"}
    assert (made["layout"]["xaxis"]["range"], made["layout"]["yaxis"]["range"]) == ([0, width], [height, 0])


def test_figures_of_images_alone_are_known() -> None:
    figure, (left, right) = plt.subplots(1, 2)
    left.imshow(np.eye(2))
    assert not shows_only_images(figure)
    figure.colorbar(right.imshow(np.eye(2)))
    assert shows_only_images(figure)
    right.plot([0, 1])
    assert not shows_only_images(figure)
    assert not shows_only_images(plt.figure())


def test_titles_are_the_first_that_there_is() -> None:
    figure = plt.figure()
    axes = figure.add_subplot()
    assert title_of(figure) == ""
    figure.canvas.manager.set_window_title("the window")
    assert title_of(figure) == "the window"
    axes.set_title("the axes\nin two lines")
    assert title_of(figure) == "the axes in two lines"
    figure.suptitle("the figure")
    assert title_of(figure) == "the figure"
    assert title_of(plt.figure("by name")) == "by name"
    assert title_of(mpl.figure.Figure()) == ""


def test_figures_are_found_in_what_people_give() -> None:
    figure, axes = plt.subplots()
    assert [figure_of(given) for given in (figure, axes, plt, object(), None)] == [
        figure,
        figure,
        figure,
        None,
        None,
    ]

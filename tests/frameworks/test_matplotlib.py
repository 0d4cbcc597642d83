"""Matplotlib's figures: as its users show and save them, compared in full with what the server tells."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from tests.frameworks.conftest import Bench
from tests.frameworks.test_reports import expected, plots_of, recorded

from taskloom.domain.task import Task
from taskloom.sdk.reports.drawn_figures import png_of_figure
from taskloom.wire import messages as m
from taskloom.wire import operations as ops

HERE = Path(__file__).parent


def drawn(draw: Callable[[Any], object]) -> bytes:
    """The picture of the same figure, made here."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots()
    try:
        draw(axes)
        return png_of_figure(figure)
    finally:
        plt.close(figure)


def picture_of(bench: Bench, task: Task, title: str) -> bytes:
    plots = bench.client.call(ops.LIST_PLOTS, query=m.PlotsQuery(title=title), task=task.id).plots
    (image,) = json.loads(plots[0].figure)["layout"]["images"]
    return base64.b64decode(image["source"].removeprefix("data:image/png;base64,"))


def test_shown_figures_are_plots_and_images_of_arrays_are_samples(bench: Bench) -> None:
    task = recorded(bench, "03-reports/matplotlib_figures.py", "matplotlib figures", "--points", "3")
    plots = plots_of(bench, task)
    pie = plots.pop("pie/plot image")
    assert plots == expected("matplotlib.json")
    assert pie[:2] == ["image", 0]

    def draw_pie(axes: Any) -> None:
        axes.pie([2, 3], labels=["two", "three"])
        axes.set_title("pie")

    def draw_picture(axes: Any) -> None:
        points = np.linspace(0.1, 2, 3)
        axes.imshow(np.outer(points, points))
        axes.set_title("picture")

    assert picture_of(bench, task, "pie") == drawn(draw_pie)
    samples = {(s.title, s.series, s.iteration, s.media_type): s.digest for s in bench.samples(task)}
    assert {key: bench.blob(digest) for key, digest in samples.items()} == {
        ("picture", "plot image", 0, "image/png"): drawn(draw_picture),
        ("by hand", "as a picture", 0, "image/png"): drawn(draw_pie),
    }
    assert bench.bindings(task)["matplotlib"]["version"] == mpl.__version__
    assert "fault" not in bench.bindings(task)["matplotlib"]
    edited = bench.clone(task, {"Args/points": 2})
    assert plots_of(bench, edited)["growth/plot"][2]["data"][0]["x"] == [0.1, 2.0]


def test_each_state_is_shown_once_and_showing_does_what_it_did(bench: Bench) -> None:
    task = bench.record(HERE / "scripts" / "shown_figures.py", project="tests/shown figures")
    found = bench.client.call(ops.LIST_PLOTS, query=m.PlotsQuery(all_iterations=True), task=task.id).plots
    assert sorted((one.title, one.series, one.iteration, one.kind) for one in found) == [
        ("before the first iteration", "plot", 0, "matplotlib"),
        ("before the first iteration/1", "plot", 0, "matplotlib"),
        ("forced", "plot image", 1, "image"),
        ("same name", "plot", 0, "matplotlib"),
        ("same name", "plot", 1, "matplotlib"),
        ("same name/1", "plot", 0, "matplotlib"),
        ("same name/1", "plot", 1, "matplotlib"),
        ("untitled 00", "plot", 1, "matplotlib"),
        ("untitled 01", "plot", 1, "matplotlib"),
    ]
    assert bench.samples(task) == []
    assert bench.bindings(task)["matplotlib"]["fault"] == "RuntimeError: broken artist"
    assert bench.stderr.count("what matplotlib did was not recorded: RuntimeError: broken artist") == 1
    assert "complained as ever" in bench.stdout
    assert bench.stdout.splitlines()[-1] == "the script goes on"


def test_figures_of_a_notebooks_cells_are_recorded_without_being_asked_for(bench: Bench) -> None:
    task = bench.record(HERE / "scripts" / "figures_in_a_notebook.py", project="tests/figures in a notebook")
    assert [(one.title, one.series, one.iteration) for one in bench.plots(task)] == [
        ("at the end of a cell", "plot", 0),
        ("shown", "plot", 0),
    ]
    assert bench.stdout == "display_data display_data\n"  # each figure was displayed, and once

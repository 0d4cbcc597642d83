"""The logger: what is recorded, what is refused with a word, and that nothing ever raises into the script."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from taskloom import Logger
from taskloom.domain.errors import BadInput
from taskloom.domain.metrics import SINGLE_VALUE
from taskloom.journal.reader import Reader
from taskloom.journal.writer import Writer
from taskloom.sdk.notices import Notices
from taskloom.wire.records import Plotted, SeriesNamed


class Bench:
    """A logger over a journal, and what came of it."""

    def __init__(self, root: Path) -> None:
        self.notices = Notices()
        self.writer = Writer.create(root, "a" * 32, role="main")
        self.logger = Logger(self.writer, self.notices)

    def points(self) -> list[tuple[str, str, int, float]]:
        reader = Reader(self.writer.folder)
        names = {r.number: (r.title, r.series) for r in reader.records(0) if isinstance(r, SeriesNamed)}
        return [(*names[number], iteration, value) for number, iteration, value, _ in reader.rows()]

    def figures(self) -> list[tuple[str, str, int, str, Any]]:
        plots = [r for r in Reader(self.writer.folder).records(0) if isinstance(r, Plotted)]
        return [(p.title, p.series, p.iteration, p.kind, msgspec.json.decode(p.figure)) for p in plots]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.writer.close()


def test_scalars_are_recorded(bench: Bench) -> None:
    bench.logger.report_scalar("loss", "train", 0.5, 1)
    bench.logger.report_scalar(title="loss", series="test", value=2, iteration=-3)
    bench.logger.report_scalar("loss", "train", True, 2)
    assert bench.points() == [("loss", "train", 1, 0.5), ("loss", "test", -3, 2.0), ("loss", "train", 2, 1.0)]


def test_many_scalars_in_one_call(bench: Bench) -> None:
    bench.logger.report_scalars("loss", {"a": 1, "b": 2.5, "c": np.float32(0.25)}, iteration=7)
    bench.logger.report_scalars("loss", {"b": 3.5, "a": 1.5}, 8)
    expected = [("a", 7, 1.0), ("b", 7, 2.5), ("c", 7, 0.25), ("b", 8, 3.5), ("a", 8, 1.5)]
    assert [point[1:] for point in bench.points()] == expected


class Tensor:
    """What torch's scalars offer."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value

    def __index__(self) -> int:
        return int(self.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.array(4.0), 4.0),
        (Decimal("0.25"), 0.25),
        (Tensor(2.5), 2.5),
        (10**400, math.inf),
        (-(10**400), -math.inf),
        (math.inf, math.inf),
    ],
)
def test_numbers_of_any_kind_are_values(bench: Bench, value: Any, expected: float) -> None:
    for _ in range(2):  # a new series, and one that is known
        bench.logger.report_scalar("loss", "train", value, np.int64(5))
    assert bench.points() == [("loss", "train", 5, expected)] * 2


def test_nan_is_kept(bench: Bench) -> None:
    bench.logger.report_scalar("loss", "train", math.nan, 1)
    assert math.isnan(bench.points()[0][3])


@pytest.mark.parametrize(
    ("title", "series", "value", "iteration", "said"),
    [
        ("loss", "train", "0.5", 1, "expected a number, got str '0.5'"),
        ("loss", "train", None, 1, "expected a number, got NoneType"),
        ("loss", "train", [1], 1, "expected a number, got list"),
        ("loss", "train", 1 + 2j, 1, "expected a number, got complex"),
        ("loss", "train", np.zeros(3), 1, "expected a number, got ndarray"),
        ("loss", "train", 1.0, "1", "expected a whole number as iteration, got str '1'"),
        ("loss", "train", 1.0, 1.5, "expected a whole number as iteration, got float"),
        ("loss", "train", 1.0, None, "expected a whole number as iteration"),
        ("loss", "train", 1.0, 2**63, "a whole number of 64 bits"),
        ("loss", "train", 1.0, -(2**63) - 1, "a whole number of 64 bits"),
        (5, "train", 1.0, 1, "expected text as title, got int"),
        ("loss", ["x"], 1.0, 1, "expected text as series, got list"),
        ("x" * 2000, "train", 1.0, 1, "at most 1024"),
    ],
)
def test_what_is_no_scalar_is_said_once_and_counted(
    bench: Bench,
    capsys: pytest.CaptureFixture[str],
    title: Any,
    series: Any,
    value: Any,
    iteration: Any,
    said: str,
) -> None:
    for _ in range(3):
        bench.logger.report_scalar(title, series, value, iteration)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert said in told[0]
    assert repr(str(series)[:80]) in told[0]
    assert list(bench.notices.counts.values()) == [3]
    assert bench.points() == []
    bench.logger.report_scalar("loss", "train", 1.0, 1)
    assert bench.points() == [("loss", "train", 1, 1.0)]


def test_a_whole_float_is_an_iteration(bench: Bench) -> None:
    bench.logger.report_scalar("loss", "train", 1.0, 3.0)  # type: ignore[arg-type]
    bench.logger.report_scalars("loss", {"train": 1.0}, 4.0)  # type: ignore[arg-type]
    assert [point[2] for point in bench.points()] == [3, 4]


def test_one_bad_value_does_not_take_the_others_with_it(bench: Bench) -> None:
    bench.logger.report_scalars("loss", {"a": 1.0, "b": "bad", "c": 3.0}, 1)  # type: ignore[dict-item]
    bench.logger.report_scalars("loss", {"a": 1.0, "c": None}, 2)  # type: ignore[dict-item]
    bench.logger.report_scalars("loss", 5, 3)  # type: ignore[arg-type]
    assert [point[1:3] for point in bench.points()] == [("a", 1), ("c", 1), ("a", 2)]


def test_the_offset_is_added_once(bench: Bench) -> None:
    bench.logger.iteration_offset = 100
    bench.logger.report_scalar("loss", "train", 1.0, 0)
    bench.logger.report_scalar("loss", "train", np.float32(1.0), 1)
    bench.logger.report_scalars("loss", {"train": 1.0, "new": 1.0}, 2)
    bench.logger.report_scalar("loss", "train", 1.0, 2**63 - 50)
    assert [point[2] for point in bench.points()] == [100, 101, 102, 102]
    assert bench.logger.newest_iteration() == 102


def test_a_value_whose_conversion_reports_a_scalar_itself(bench: Bench) -> None:
    class Chatty:
        def __float__(self) -> float:
            bench.logger.report_scalar("inner", "x", 1.0, 1)
            return 2.0

    for iteration in range(3):
        bench.logger.report_scalar("outer", "x", Chatty(), iteration)
    assert [p for p in bench.points() if p[0] == "outer"] == [("outer", "x", n, 2.0) for n in range(3)]


def test_names_of_any_text(bench: Bench) -> None:
    bench.logger.report_scalar("a\0b", "\ud800 and ✓", 1.0, 1)
    assert bench.points() == [("a�b", "? and ✓", 1, 1.0)]


def test_single_values(bench: Bench) -> None:
    bench.logger.iteration_offset = 5
    bench.logger.report_single_value("accuracy", 0.9)
    assert bench.points() == [("Summary", "accuracy", SINGLE_VALUE, 0.9)]
    assert bench.logger.newest_iteration() is None


def test_machine_metrics_do_not_move_the_last_iteration(bench: Bench) -> None:
    bench.logger.report_machine(":monitor:machine", "cpu", 50.0, 1000)
    bench.logger.report_scalar("loss", "train", 1.0, 2)
    assert bench.logger.newest_iteration() == 2


def test_text_goes_to_the_console(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.logger.report_text("hello")
    bench.logger.report_text("loud", level="error")  # type: ignore[arg-type]
    bench.logger.report_text("quiet", level=30, print_console=False)
    bench.logger.report_text("of a level of its own\n", level=33, print_console=False)
    assert capsys.readouterr().out == "hello\nERROR: loud\n"
    recorded = b"hello\nERROR: loud\nWARNING: quiet\nLevel 33: of a level of its own\n"
    assert Reader(bench.writer.folder).console("report", 0, 200) == recorded


# --- plots ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", [[[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), ((1, 2), (3, 4))])
def test_a_confusion_matrix(bench: Bench, matrix: Any) -> None:
    bench.logger.report_confusion_matrix(
        title="confusion", series="test", matrix=matrix, iteration=3, xaxis="guess", yaxis="truth",
        xlabels=["a", "b"], ylabels=np.array(["a", "b"]), yaxis_reversed=True, comment="a word",
        extra_layout={"height": 300},
    )  # fmt: skip
    ((title, series, iteration, kind, figure),) = bench.figures()
    assert (title, series, iteration, kind) == ("confusion", "test", 3, "confusion_matrix")
    (trace,) = figure["data"]
    assert (trace["type"], trace["z"], trace["x"], trace["y"]) == (
        "heatmap",
        [[1, 2], [3, 4]],
        ["a", "b"],
        ["a", "b"],
    )
    assert figure["layout"]["xaxis"]["title"]["text"] == "guess"
    assert figure["layout"]["yaxis"]["autorange"] == "reversed"
    assert figure["layout"]["height"] == 300


class Frame:
    """What a pandas DataFrame offers, without pandas."""

    columns = ("x", "y")

    class index:
        name = "row"

    def itertuples(self, index: bool, name: None) -> Iterator[tuple[Any, ...]]:
        assert index
        yield (0, np.float64(1.5), "a")
        yield (1, float("nan"), "b")


def test_tables_of_every_form(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["x", "y"], ["1", "a"], ["2", "b"]])
    logger = bench.logger
    logger.report_table("table", "rows", 1, table_plot=[["x", "y"], [1, "a"], [2]])
    logger.report_table("table", "columns", 1, table_plot={"x": [1, 2], "y": ["a", "b"]})
    logger.report_table("table", "file", 1, csv=str(path))
    logger.report_table("table", "frame", table_plot=Frame())
    found = {
        series: (figure["data"][0]["header"]["values"], figure["data"][0]["cells"]["values"])
        for _, series, _, _, figure in bench.figures()
    }
    assert found == {
        "rows": (["x", "y"], [[1, 2], ["a", ""]]),
        "columns": (["x", "y"], [[1, 2], ["a", "b"]]),
        "file": (["x", "y"], [["1", "2"], ["a", "b"]]),
        "frame": (["row", "x", "y"], [[0, 1], [1.5, None], ["a", "b"]]),
    }


class PlotlyFigure:
    def to_plotly_json(self) -> dict[str, Any]:
        return {"data": [{"type": "scatter", "y": np.array([1.0, math.inf])}], "layout": {}}


def test_plotly_figures(bench: Bench) -> None:
    whole = {"data": [{"type": "bar", "y": [1, 2]}], "layout": {"title": "t"}}
    bench.logger.report_plotly("plot", "dictionary", iteration=1, figure=whole)
    bench.logger.report_plotly("plot", "text", iteration=1, figure=msgspec.json.encode(whole).decode())
    bench.logger.report_plotly("plot", "object", iteration=1, figure=PlotlyFigure())
    found = {series: figure for _, series, _, _, figure in bench.figures()}
    assert found["dictionary"] == found["text"] == whole
    assert found["object"]["data"][0]["y"] == [1.0, None]


def test_bars_lines_and_points(bench: Bench) -> None:
    bench.logger.report_histogram("bars", "one", [3, 1], 1, xlabels=["a", "b"], xaxis="x", yaxis="y")
    bench.logger.report_vector("bars", "two", np.array([[1, 2], [3, 4]]), 1, labels=["u", "v"], mode="stack")
    bench.logger.report_line_plot("lines", [{"name": "a", "data": [(0, 1), (1, 2)]}], "x", "y", iteration=1)
    bench.logger.report_scatter2d("points", "s", np.array([[0, 1], [2, 3]]), 1, mode="markers", labels=["p", "q"])
    figures = {(title, series): figure for title, series, _, _, figure in bench.figures()}
    assert figures["bars", "one"]["data"][0]["x"] == ["a", "b"]
    assert [t["name"] for t in figures["bars", "two"]["data"]] == ["u", "v"]
    assert figures["bars", "two"]["layout"]["barmode"] == "stack"
    assert figures["lines", "lines"]["data"][0]["y"] == [1, 2]
    assert figures["points", "s"]["data"][0]["text"] == ["p", "q"]


def test_arrays_that_plotly_has_packed_are_numbers_again(bench: Bench) -> None:
    packed = {"dtype": "f8", "bdata": "AAAAAAAA8D8AAAAAAADwfwAAAAAAAAhA", "shape": "3"}  # 1, infinity, 3
    rows = {"dtype": "i2", "bdata": "AQACAAMABAAFAAYA", "shape": "3, 2"}
    bench.logger.report_plotly(
        "plot", "packed", iteration=1, figure={"data": [{"y": packed, "z": rows}], "layout": {}}
    )
    ((_, _, _, _, figure),) = bench.figures()
    assert figure["data"] == [{"y": [1.0, None, 3.0], "z": [[1, 2], [3, 4], [5, 6]]}]


def test_dates_of_every_kind_are_text(bench: Bench) -> None:
    days = np.array(["2026-01-01T12:00"], dtype="datetime64[ns]")
    bench.logger.report_plotly(
        "plot", "dates", iteration=1, figure={"x": days, "y": date(2026, 1, 1), "layout": {}}
    )
    ((_, _, _, _, figure),) = bench.figures()
    assert figure == {"x": ["2026-01-01T12:00:00.000000000"], "y": "2026-01-01", "layout": {}}


def test_of_too_many_points_the_extremes_stay(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    heights = np.zeros(300_000)
    heights[[123_456, 222_222]] = [7.0, -7.0]
    points = np.stack([np.arange(300_000), heights], axis=1)
    bench.logger.report_scatter2d("long", "curve", points, 1, labels=[str(n) for n in range(300_000)])
    ((_, _, _, _, figure),) = bench.figures()
    (trace,) = figure["data"]
    assert len(trace["x"]) <= 100_001
    assert [trace["x"][0], trace["x"][-1], min(trace["y"]), max(trace["y"])] == [0, 299_999, -7, 7]
    assert trace["text"][trace["y"].index(7)] == "123456"
    assert "its highest and lowest points" in capsys.readouterr().err


def test_options_of_plotly_are_merged_into_what_is_there(bench: Bench) -> None:
    bench.logger.report_histogram(
        "t",
        "s",
        [1, 2],
        1,
        xaxis="x",
        data_args={"marker": {"color": "red"}},
        extra_layout={"xaxis": {"type": "date"}},
    )
    ((_, _, _, _, figure),) = bench.figures()
    assert figure["data"][0]["marker"] == {"color": "red"}
    assert figure["layout"]["xaxis"] == {"title": {"text": "x"}, "type": "date"}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda log: log.report_plotly("t", "s", "not json", 1), "must be JSON"),
        (lambda log: log.report_plotly("t", "s", 5, 1), "got int"),
        (lambda log: log.report_plotly("t", "s", {}, "one"), "whole number as iteration"),
        (lambda log: log.report_table("t", "s", 1), "give table_plot or csv"),
        (lambda log: log.report_table("t", "s", 1, url="http://x"), "not fetched"),
        (lambda log: log.report_table("t", "s", 1, csv="/nowhere.csv"), "cannot be read"),
        (lambda log: log.report_table("t", "s", 1, table_plot=7), "expected a DataFrame"),
        (lambda log: log.report_confusion_matrix("t", "s", [[1], [1, 2]], 1), "rows of equal length"),
        (lambda log: log.report_confusion_matrix("t", "s", [], 1), "rows of numbers"),
        (lambda log: log.report_scatter2d("t", "s", [(1, 2, 3)], 1), "pairs"),
        (lambda log: log.report_line_plot("t", [{"name": "x"}], "x", "y"), "with name and data"),
        (lambda log: log.report_plotly("t", "s", {"data": "x" * (9 << 20)}, 1), "at most"),
    ],
)
def test_what_is_no_plot_is_said_and_does_not_raise(
    bench: Bench, capsys: pytest.CaptureFixture[str], call: Any, said: str
) -> None:
    call(bench.logger)
    assert said in capsys.readouterr().err
    assert bench.figures() == []


def test_without_a_task_there_is_no_current_logger() -> None:
    with pytest.raises(BadInput, match=r"Task\.init"):
        Logger.current_logger()

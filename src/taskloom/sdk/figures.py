"""Plotly figures built by hand: plain dictionaries, so that no script has to load plotly or numpy for them.

Everything that has `tolist` (numpy, torch, pandas columns) is taken as a list. Nothing here reports anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import msgspec

from taskloom.domain.errors import BadInput

MAX_TABLE_ROWS = 10_000
MAX_CELLS = 1_000_000


def to_json(figure: Any) -> str:
    """The text of a figure: a dictionary, a plotly figure object, or JSON text already."""
    if isinstance(figure, str):
        try:
            parsed: Any = msgspec.json.decode(figure)
        except msgspec.DecodeError as error:
            raise BadInput(f"a figure given as text must be JSON: {error}") from None
        if not isinstance(parsed, dict):
            raise BadInput("a figure given as text must be a JSON object with data and layout")
        return figure
    if hasattr(figure, "to_plotly_json"):
        figure = figure.to_plotly_json()
    if not isinstance(figure, Mapping):
        raise BadInput(
            f"expected a plotly figure or a dictionary with data and layout, got {type(figure).__name__}"
        )
    return msgspec.json.encode(plain(figure)).decode()


def plain(value: Any) -> Any:
    """Lists, dictionaries, numbers and text only; NaN and infinities become null, as plotly draws gaps."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):  # also numpy's float64, which is one and cannot be written as one
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {str(name): plain(inner) for name, inner in items}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [plain(inner) for inner in cast("Sequence[Any]", value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if hasattr(value, "to_plotly_json"):
        return plain(value.to_plotly_json())
    return str(value)


def confusion_matrix(
    title: str,
    matrix: Any,
    xaxis: str | None,
    yaxis: str | None,
    xlabels: Sequence[str] | None,
    ylabels: Sequence[str] | None,
    reversed_y: bool,
) -> dict[str, Any]:
    rows = rectangle(matrix, "a confusion matrix")
    trace: dict[str, Any] = {"type": "heatmap", "z": rows, "colorscale": "Blues", "hoverongaps": False}
    if xlabels is not None:
        trace["x"] = [str(label) for label in plain(xlabels)]
    if ylabels is not None:
        trace["y"] = [str(label) for label in plain(ylabels)]
    if len(rows) * len(rows[0]) <= 400:
        trace["text"] = rows
        trace["texttemplate"] = "%{text}"
    layout = _layout(title, xaxis, yaxis)
    if reversed_y:
        layout["yaxis"]["autorange"] = "reversed"
    return {"data": [trace], "layout": layout}


def table(title: str, content: Any) -> dict[str, Any]:
    """A table of a DataFrame, of rows (the first one is the header), of columns, or of a CSV file."""
    header, rows = _table_content(content)
    rows = rows[:MAX_TABLE_ROWS]
    width = max([len(header), *(len(row) for row in rows)], default=0)
    if width * len(rows) > MAX_CELLS:
        raise BadInput(f"a table of {len(rows)} rows and {width} columns; at most {MAX_CELLS} cells are possible")
    filled = [[*row, *[""] * (width - len(row))] for row in rows]
    columns = [list(column) for column in zip(*filled, strict=True)] or [[] for _ in header]
    trace = {
        "type": "table",
        "header": {"values": [*header, *[""] * (width - len(header))]},
        "cells": {"values": columns},
    }
    return {"data": [trace], "layout": {"title": {"text": title}}}


def histogram(
    title: str,
    series: str,
    values: Any,
    labels: Sequence[str] | None,
    xlabels: Sequence[str] | None,
    xaxis: str | None,
    yaxis: str | None,
    mode: str,
) -> dict[str, Any]:
    """Bars: one group for a list, several for a list of lists."""
    groups = _groups(values)
    names = list(labels) if labels else [series if n == 0 else f"{series} {n}" for n in range(len(groups))]
    traces: list[dict[str, Any]] = []
    for number, group in enumerate(groups):
        trace: dict[str, Any] = {"type": "bar", "y": group, "name": names[number] if number < len(names) else ""}
        if xlabels is not None:
            trace["x"] = [str(label) for label in xlabels]
        traces.append(trace)
    return {"data": traces, "layout": {**_layout(title, xaxis, yaxis), "barmode": mode}}


def lines(
    title: str, curves: Sequence[tuple[str, Any]], xaxis: str | None, yaxis: str | None, mode: str
) -> dict[str, Any]:
    """Curves of (x, y) pairs, as lines, markers or both."""
    traces: list[dict[str, Any]] = []
    for name, points in curves:
        pairs = rectangle(points, "points")
        if any(len(pair) != 2 for pair in pairs):
            raise BadInput("expected points as pairs (x, y)")
        xs, ys = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        traces.append({"type": "scatter", "mode": mode, "name": name, "x": xs, "y": ys})
    return {"data": traces, "layout": _layout(title, xaxis, yaxis)}


def rectangle(values: Any, what: str) -> list[list[Any]]:
    """A list of equally long, non-empty rows."""
    rows = plain(values)
    if not isinstance(rows, list) or not rows:
        raise BadInput(f"{what}: expected rows of numbers, got {type(values).__name__}")
    found = cast("list[Any]", rows)
    if any(not isinstance(row, list) or len(cast("list[Any]", row)) != len(found[0]) for row in found):
        raise BadInput(f"{what}: expected rows of equal length")
    return cast("list[list[Any]]", found)


def _groups(values: Any) -> list[list[Any]]:
    found = plain(values)
    if not isinstance(found, list):
        raise BadInput(f"expected a list of numbers, got {type(values).__name__}")
    flat = cast("list[Any]", found)
    return [flat] if not flat or not isinstance(flat[0], list) else flat


def _table_content(content: Any) -> tuple[list[str], list[list[Any]]]:
    if isinstance(content, str | Path):
        return _csv(Path(content))
    if hasattr(content, "columns") and hasattr(content, "itertuples"):
        return _frame(content)
    if isinstance(content, Mapping):
        named = cast("Mapping[Any, Any]", content)
        columns = [_column(column) for column in named.values()]
        return [str(name) for name in named], [list(row) for row in zip(*columns, strict=True)]
    rows = plain(content)
    if not isinstance(rows, list) or any(not isinstance(row, list) for row in cast("list[Any]", rows)):
        raise BadInput(
            f"a table: expected a DataFrame, rows or the path of a CSV file, got {type(content).__name__}"
        )
    whole = cast("list[list[Any]]", rows)
    return ([str(cell) for cell in whole[0]], whole[1:]) if whole else ([], [])


def _frame(frame: Any) -> tuple[list[str], list[list[Any]]]:
    """A pandas DataFrame with its index as the first column, without importing pandas."""
    name = "" if frame.index.name is None else str(frame.index.name)
    header = [name, *(str(column) for column in frame.columns)]
    return header, [plain(list(row)) for row in islice(frame.itertuples(index=True, name=None), MAX_TABLE_ROWS)]


def _column(values: Any) -> list[Any]:
    found = plain(values)
    return cast("list[Any]", found) if isinstance(found, list) else [found]


def _csv(path: Path) -> tuple[list[str], list[list[Any]]]:
    import csv

    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            rows: list[list[Any]] = [list(row) for row in islice(csv.reader(file), MAX_TABLE_ROWS + 1)]
    except (OSError, csv.Error) as error:
        raise BadInput(f"the table {path} cannot be read: {error}") from None
    return (rows[0], rows[1:]) if rows else ([], [])


def _layout(title: str, xaxis: str | None, yaxis: str | None) -> dict[str, Any]:
    return {
        "title": {"text": title},
        "xaxis": {"title": {"text": xaxis or ""}},
        "yaxis": {"title": {"text": yaxis or ""}},
    }

"""Plotly figures built by hand: plain dictionaries, so that no script has to load plotly or numpy for them.

Everything that has `tolist` (numpy, torch, pandas columns) is taken as a list. Tables are read by `tabular`.
Nothing here reports anything.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from taskloom.domain.errors import BadInput

MAX_POINTS = 100_000  # of one plot; of more the extremes of each stretch are shown
LABELLED_CELLS = 400  # of a matrix whose values are written into it
BAR_MODES = ("group", "stack", "relative", "overlay")
_CODES = {
    "f8": "d",
    "f4": "f",
    "i1": "b",
    "u1": "B",
    "i2": "h",
    "u2": "H",
    "i4": "i",
    "u4": "I",
    "i8": "q",
    "u8": "Q",
}

Figure = dict[str, Any]


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
        found = cast("Mapping[Any, Any]", value)
        if "bdata" in found and "dtype" in found:
            return plain(_unpacked(found))
        return {str(name): plain(inner) for name, inner in found.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [plain(inner) for inner in cast("Sequence[Any]", value)]
    if hasattr(value, "tolist"):
        dates = getattr(getattr(value, "dtype", None), "kind", "") == "M"  # of nanoseconds tolist makes numbers
        return plain(value.astype(str).tolist() if dates else value.tolist())
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if hasattr(value, "to_plotly_json"):
        return plain(value.to_plotly_json())
    return str(value)


def _unpacked(packed: Mapping[Any, Any]) -> list[Any]:
    """The numbers of an array as newer releases of plotly pack them: base64 of the bytes, with type and shape."""
    import base64
    from array import array

    found = array(_CODES[str(packed["dtype"])], base64.b64decode(packed["bdata"]))
    if sys.byteorder == "big":
        found.byteswap()
    rows: list[Any] = found.tolist()
    for size in reversed([int(part) for part in str(packed.get("shape", "")).split(",") if part.strip()][1:]):
        rows = [rows[at : at + size] for at in range(0, len(rows), size)]
    return rows


def with_layout(
    figure: Figure, comment: str | None = None, extra_layout: Mapping[str, Any] | None = None
) -> Figure:
    """The figure with a word below its title, and what the caller says of plotly's layout merged into it."""
    if comment:
        figure["layout"]["title"]["subtitle"] = {"text": str(comment)}
    if extra_layout is not None:
        figure["layout"] = merged(figure["layout"], _options(extra_layout, "extra_layout"))
    return figure


def with_data(figure: Figure, extra: Mapping[str, Any] | None, what: str) -> Figure:
    """The figure with what the caller says of every trace merged into each."""
    if extra is not None:
        options = _options(extra, what)
        figure["data"] = [merged(trace, options) for trace in figure["data"]]
    return figure


def confusion_matrix(
    title: str,
    matrix: Any,
    xaxis: str | None,
    yaxis: str | None,
    xlabels: Sequence[str] | None,
    ylabels: Sequence[str] | None,
    reversed_y: bool,
) -> Figure:
    rows = rectangle(matrix, "a matrix")
    trace: dict[str, Any] = {"type": "heatmap", "z": rows, "colorscale": "Blues", "hoverongaps": False}
    if xlabels is not None:
        trace["x"] = _labels(xlabels, len(rows[0]), "xlabels")
    if ylabels is not None:
        trace["y"] = _labels(ylabels, len(rows), "ylabels")
    if len(rows) * len(rows[0]) <= LABELLED_CELLS:
        trace["text"] = rows
        trace["texttemplate"] = "%{text}"
    layout = _layout(title, xaxis, yaxis)
    if reversed_y:
        layout["yaxis"]["autorange"] = "reversed"
    return {"data": [trace], "layout": layout}


def surface(
    title: str,
    matrix: Any,
    axes: tuple[str | None, str | None, str | None],
    xlabels: Sequence[str] | None,
    ylabels: Sequence[str] | None,
    camera: Sequence[float] | None,
) -> Figure:
    """Heights over a grid. camera: where the eye is, (x, y, z) in plotly's units."""
    rows = rectangle(matrix, "a surface")
    scene = _scene(axes)
    for axis, labels, length in (("xaxis", xlabels, len(rows[0])), ("yaxis", ylabels, len(rows))):
        if labels is not None:
            scene[axis] |= {
                "tickvals": list(range(length)),
                "ticktext": _labels(labels, length, f"{axis[0]}labels"),
            }
    if camera is not None:
        eye = plain(camera)
        if not isinstance(eye, list) or len(cast("list[Any]", eye)) != 3:
            raise BadInput(f"camera: expected (x, y, z), got {str(camera)[:80]}")
        scene["camera"] = {"eye": dict(zip("xyz", cast("list[Any]", eye), strict=True))}
    trace = {"type": "surface", "z": rows, "colorscale": "Viridis"}
    return {"data": [trace], "layout": {"title": {"text": title}, "scene": scene}}


def table(title: str, header: list[str], rows: list[list[Any]]) -> Figure:
    """A table; rows that are too short are filled up."""
    width = max([len(header), *(len(row) for row in rows)], default=0)
    filled = [[*row, *[""] * (width - len(row))] for row in rows]
    columns = [list(column) for column in zip(*filled, strict=True)] or [[] for _ in header]
    trace = {
        "type": "table",
        "header": {"values": [*header, *[""] * (width - len(header))]},
        "cells": {"values": columns},
    }
    return {"data": [trace], "layout": {"title": {"text": title}}}


def bars(
    title: str,
    series: str,
    values: Any,
    labels: Sequence[str] | None,
    xlabels: Sequence[str] | None,
    xaxis: str | None,
    yaxis: str | None,
    mode: str,
) -> Figure:
    """Bars: one group for a list, several for a list of lists."""
    if mode not in BAR_MODES:
        raise BadInput(f"mode {str(mode)[:80]!r}: expected one of {', '.join(BAR_MODES)}")
    groups = _groups(values)
    repeated = labels * len(groups) if isinstance(labels, list) and len(labels) == 1 else labels
    names = _numbered(series, len(groups)) if not repeated else _labels(repeated, len(groups), "labels")
    traces: list[dict[str, Any]] = []
    for name, group in zip(names, groups, strict=True):
        trace: dict[str, Any] = {"type": "bar", "y": group, "name": name}
        if xlabels is not None:
            trace["x"] = _labels(xlabels, len(group), "xlabels")
        traces.append(trace)
    return {"data": traces, "layout": {**_layout(title, xaxis, yaxis), "barmode": mode}}


def lines(
    title: str, curves: Sequence[tuple[str, Any, Any]], xaxis: str | None, yaxis: str | None, mode: str
) -> tuple[Figure, int]:
    """Curves of a name, points (x, y) and labels of the points; and how many points are left out."""
    traces: list[dict[str, Any]] = []
    most = max(MAX_POINTS // max(len(curves), 1), 2)
    left_out = 0
    for name, points, labels in curves:
        pairs = _points(points, 2)
        texts = None if labels is None else _labels(labels, len(pairs), "labels")
        kept = _extremes(pairs, most)
        left_out += len(pairs) - len(kept)
        trace: dict[str, Any] = {"type": "scatter", "mode": mode, "name": name}
        trace |= {axis: [pairs[at][n] for at in kept] for n, axis in enumerate("xy")}
        if texts is not None:
            trace["text"] = [texts[at] for at in kept]
        traces.append(trace)
    return {"data": traces, "layout": _layout(title, xaxis, yaxis)}, left_out


def clouds(
    title: str,
    curves: Sequence[tuple[str, Any, Any]],
    axes: tuple[str | None, str | None, str | None],
    mode: str,
    fill: bool,
) -> Figure:
    """Points (x, y, z) of one or more series in space; `fill` closes them to an area."""
    traces: list[dict[str, Any]] = []
    for name, points, labels in curves:
        triples = _points(points, 3)
        trace: dict[str, Any] = {
            "type": "scatter3d",
            "mode": mode,
            "name": name,
            "marker": {"size": 5, "opacity": 0.8},
        }
        trace |= {axis: [point[n] for point in triples] for n, axis in enumerate("xyz")}
        if labels is not None:
            trace["text"] = _labels(labels, len(triples), "labels")
        if fill:
            trace["surfaceaxis"] = 1
        traces.append(trace)
    if sum(len(trace["x"]) for trace in traces) > MAX_POINTS:
        raise BadInput(f"more than {MAX_POINTS} points in one plot; thin them")
    return {"data": traces, "layout": {"title": {"text": title}, "scene": _scene(axes)}}


def curves_of(series: str, given: Any, labels: Any) -> list[tuple[str, Any, Any]]:
    """One series of points, several as a dictionary by name, or several as a list of lists of points."""
    if isinstance(given, Mapping):
        named = [(str(name), points) for name, points in cast("Mapping[Any, Any]", given).items()]
    else:
        found = plain(given)
        if not _is_nested(found, 3):
            return [(series, found, labels)]
        several = cast("list[Any]", found)
        named = list(zip(_numbered(series, len(several)), several, strict=True))
    if labels is None:
        return [(name, points, None) for name, points in named]
    texts = cast("list[Any]", plain(labels))
    if not isinstance(plain(labels), list) or len(texts) != len(named):
        raise BadInput(f"labels: expected a list of labels for each of {len(named)} series")
    return [(name, points, own) for (name, points), own in zip(named, texts, strict=True)]


def rectangle(values: Any, what: str) -> list[list[Any]]:
    """A list of equally long, non-empty rows."""
    rows = plain(values)
    if not isinstance(rows, list) or not rows:
        raise BadInput(f"{what}: expected rows of numbers, got {type(values).__name__}")
    found = cast("list[Any]", rows)
    if any(not isinstance(row, list) or len(cast("list[Any]", row)) != len(found[0]) for row in found):
        raise BadInput(f"{what}: expected rows of equal length")
    if not found[0]:
        raise BadInput(f"{what}: expected rows of numbers, got empty ones")
    return cast("list[list[Any]]", found)


def merged(into: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both; where both have a dictionary it is merged, else the second one's value counts."""
    found = dict(into)
    for name, value in more.items():
        there = found.get(name)
        both = isinstance(there, Mapping) and isinstance(value, Mapping)
        found[name] = merged(cast("Mapping[str, Any]", there), cast("Mapping[str, Any]", value)) if both else value
    return found


def _points(values: Any, size: int) -> list[list[Any]]:
    points = rectangle(values, "points")
    if len(points[0]) != size:
        shape = "(x, y)" if size == 2 else "(x, y, z)"
        raise BadInput(
            f"expected points as {'pairs' if size == 2 else 'triples'} {shape}, got {len(points[0])} numbers"
        )
    return points


def _extremes(pairs: list[list[Any]], most: int) -> list[int]:
    """The places of all points, or of the lowest and highest of each stretch when there are too many."""
    if len(pairs) <= most:
        return list(range(len(pairs)))
    step = math.ceil(len(pairs) / (most // 2))
    kept: set[int] = {0, len(pairs) - 1}
    for start in range(0, len(pairs), step):
        stretch = range(start, min(start + step, len(pairs)))
        known = [at for at in stretch if isinstance(pairs[at][1], int | float)]
        kept |= (
            {min(known, key=lambda at: pairs[at][1]), max(known, key=lambda at: pairs[at][1])}
            if known
            else {start}
        )
    return sorted(kept)


def _is_nested(values: Any, depth: int) -> bool:
    for _ in range(depth):
        if not isinstance(values, list) or not values:
            return False
        values = cast("list[Any]", values)[0]
    return True


def _labels(given: Any, count: int, what: str) -> list[str]:
    found = plain(given)
    if not isinstance(found, list):
        raise BadInput(f"{what}: expected a list of text, got {type(given).__name__}")
    texts = [str(one) for one in cast("list[Any]", found)]
    if len(texts) != count:
        raise BadInput(f"{what}: expected {count}, got {len(texts)}")
    return texts


def _options(given: Any, what: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise BadInput(f"{what}: expected a dictionary of plotly's options, got {type(given).__name__}")
    return cast("dict[str, Any]", plain(given))


def _numbered(name: str, count: int) -> list[str]:
    return [name if n == 0 else f"{name} {n}" for n in range(count)]


def _groups(values: Any) -> list[list[Any]]:
    found = plain(values)
    if not isinstance(found, list):
        raise BadInput(f"expected a list of numbers, got {type(values).__name__}")
    flat = cast("list[Any]", found)
    return [flat] if not flat or not isinstance(flat[0], list) else flat


def _layout(title: str, xaxis: str | None, yaxis: str | None) -> dict[str, Any]:
    return {
        "title": {"text": title},
        "xaxis": {"title": {"text": xaxis or ""}},
        "yaxis": {"title": {"text": yaxis or ""}},
    }


def _scene(axes: tuple[str | None, str | None, str | None]) -> dict[str, Any]:
    return {f"{axis}axis": {"title": {"text": name or ""}} for axis, name in zip("xyz", axes, strict=True)}

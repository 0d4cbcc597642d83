"""Figures of points in space: embeddings and meshes.

numpy is asked for only by callers whose framework has loaded it already. Nothing here reports anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

MOST_POINTS = 2_000  # of an embedding; more are thinned evenly
MOST_VERTICES = 50_000


def embedding(tag: str, matrix: Any, labels: Sequence[Any] | None) -> dict[str, Any]:
    """The rows of a matrix in the three directions in which they differ most, a colour for each label."""
    numpy: Any = import_module("numpy")
    if hasattr(matrix, "detach"):
        matrix = matrix.detach().cpu()
    rows: Any = numpy.asarray(matrix, dtype=float)
    rows = rows.reshape(len(rows), -1)
    step = -(-len(rows) // MOST_POINTS) or 1
    rows = rows[::step]
    places = _principal(numpy, rows)
    trace: dict[str, Any] = {
        "type": "scatter3d",
        "mode": "markers",
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "z": places[:, 2].tolist(),
        "marker": {"size": 3},
    }
    if labels is not None:
        texts = [_label(one) for one in list(labels)[::step]]
        colours = {text: number for number, text in enumerate(sorted(set(texts)))}
        trace["text"] = texts
        trace["marker"]["color"] = [colours[text] for text in texts]
    return {"data": [trace], "layout": {"title": {"text": tag}}}


def _principal(numpy: Any, rows: Any) -> Any:
    """Rows in their first three principal directions, by the smaller of the two matrices of products."""
    centred = rows - rows.mean(axis=0)
    centred = numpy.nan_to_num(centred)
    many, wide = centred.shape
    if wide <= many:
        _, vectors = numpy.linalg.eigh(centred.T @ centred)
        places = centred @ vectors[:, ::-1][:, :3]
    else:
        values, vectors = numpy.linalg.eigh(centred @ centred.T)
        places = (vectors * numpy.sqrt(values.clip(min=0)))[:, ::-1][:, :3]
    # a direction has no sign of its own: of two runs, and two libraries, the same picture should come
    signs = numpy.sign(places[numpy.abs(places).argmax(axis=0), numpy.arange(places.shape[1])])
    places = places * numpy.where(signs == 0, 1, signs)
    return numpy.pad(places, ((0, 0), (0, 3 - places.shape[1])))


def _label(value: Any) -> str:
    return " / ".join(str(part) for part in value) if isinstance(value, list | tuple) else str(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def mesh(
    tag: str,
    vertices: Sequence[Sequence[float]],
    faces: Sequence[Sequence[float]] | None,
    colours: Sequence[Sequence[float]] | None,
) -> dict[str, Any]:
    """Vertices (x, y, z), with triangles of their numbers a body, else a cloud; colours red, green, blue of 255."""
    axes: list[list[float]] = [[row[axis] for row in vertices[:MOST_VERTICES]] for axis in range(3)]
    trace: dict[str, Any] = {"x": axes[0], "y": axes[1], "z": axes[2]}
    painted = [f"rgb({','.join(str(int(part)) for part in row[:3])})" for row in colours or ()][:MOST_VERTICES]
    if faces:
        corners = [[int(row[corner]) for row in faces] for corner in range(3)]
        trace |= {"type": "mesh3d", "i": corners[0], "j": corners[1], "k": corners[2]}
        if painted:
            trace["vertexcolor"] = painted
    else:
        trace |= {"type": "scatter3d", "mode": "markers", "marker": {"size": 2}}
        if painted:
            trace["marker"]["color"] = painted
    return {"data": [trace], "layout": {"title": {"text": tag}}}


def precision_recall(tag: str, rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Of TensorBoard's rows (true and false positives and negatives, precision, recall; a column a threshold)."""
    precision, recall = rows[-2], rows[-1]
    count = len(recall)
    thresholds = [number / max(count - 1, 1) for number in range(count)]
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": tag,
        "x": list(recall),
        "y": list(precision),
        "text": [f"threshold {threshold:.3f}" for threshold in thresholds],
    }
    axes = {"xaxis": {"title": {"text": "recall"}}, "yaxis": {"title": {"text": "precision"}}}
    return {"data": [trace], "layout": {"title": {"text": tag}, **axes}}

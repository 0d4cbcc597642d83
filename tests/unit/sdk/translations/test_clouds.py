"""Points in space: embeddings, meshes, curves of precision and recall."""

from __future__ import annotations

import numpy as np
import pytest

from taskloom.sdk.translations.clouds import MOST_POINTS, embedding, mesh, precision_recall


@pytest.mark.parametrize(("rows", "width"), [(30, 5), (5, 30), (1, 4), (4, 1), (2, 2)])
def test_three_directions_show_as_much_as_three_can(rows: int, width: int) -> None:
    matrix = np.random.default_rng(0).normal(size=(rows, width))
    (trace,) = embedding("tag", matrix, None)["data"]
    places = np.array([trace[axis] for axis in "xyz"])
    kept = np.sort((places**2).sum(axis=1))[::-1]
    singular = np.linalg.svd(matrix - matrix.mean(axis=0), compute_uv=False) ** 2
    assert np.allclose(kept, np.pad(singular, (0, 3))[:3], atol=1e-9)


def test_many_points_are_thinned_with_their_labels() -> None:
    (trace,) = embedding("tag", np.arange(5.0 * MOST_POINTS).reshape(-1, 1), range(5 * MOST_POINTS))["data"]
    assert len(trace["x"]) == MOST_POINTS
    assert trace["text"][:3] == ["0", "5", "10"]


def test_labels_of_several_columns_and_values_that_are_no_numbers() -> None:
    (trace,) = embedding("tag", [[1.0, float("nan")], [2.0, 3.0]], [["cat", 1], ["dog", 2]])["data"]
    assert trace["text"] == ["cat / 1", "dog / 2"]
    assert np.isfinite([trace[axis] for axis in "xyz"]).all()


def test_a_mesh_without_faces_is_a_cloud() -> None:
    (trace,) = mesh("tag", [[0, 1, 2], [3, 4, 5]], None, [[255, 0, 0], [0, 255, 0]])["data"]
    assert (trace["type"], trace["y"]) == ("scatter3d", [1, 4])
    assert trace["marker"]["color"] == ["rgb(255,0,0)", "rgb(0,255,0)"]


def test_precision_over_recall_tells_thresholds() -> None:
    (trace,) = precision_recall("tag", [[], [], [], [], [0.5, 1.0], [1.0, 0.0]])["data"]
    assert (trace["x"], trace["y"]) == ([1.0, 0.0], [0.5, 1.0])
    assert trace["text"] == ["threshold 0.000", "threshold 1.000"]

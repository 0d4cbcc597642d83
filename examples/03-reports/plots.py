"""Every kind of plot: bars, heat maps, points in two and three dimensions, surfaces, curves, plotly's own figures.

python examples/03-reports/plots.py --points 5
"""

import argparse

import numpy as np
import plotly.graph_objects as go

from taskloom import Task


def main() -> None:
    task = Task.init(project_name="examples/reports", task_name="plots")
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=5)
    count = parser.parse_args().points
    logger = task.get_logger()
    steps = np.arange(count)

    # heights that the script has counted itself; a row for each group
    logger.report_histogram(
        "histogram", "votes", iteration=0, values=[[3, 1, 4], [1, 5, 9]], labels=["yes", "no"],
        xlabels=["north", "east", "south"], xaxis="region", yaxis="votes", mode="stack",
    )  # fmt: skip
    logger.report_histogram("histogram", "lying", iteration=0, values=[2, 7], data_args={"orientation": "h"})
    logger.report_vector("vector", "squares", iteration=0, values=steps**2)

    confusion = np.array([[8, 2], [1, 9]])
    names = ["cat", "dog"]
    logger.report_confusion_matrix(
        "confusion", "test", iteration=0, matrix=confusion, xaxis="guess", yaxis="truth", xlabels=names,
        ylabels=names, yaxis_reversed=True, comment="of 20 pictures",
    )  # fmt: skip
    logger.report_matrix("matrix", "weights", iteration=0, matrix=np.outer(steps, steps))

    turns = np.linspace(0, 2 * np.pi, count)
    circle = np.round(np.stack([np.cos(turns), np.sin(turns)], axis=1), 3)
    logger.report_scatter2d(
        "scatter2d", "circle", iteration=0, scatter=circle, xaxis="x", yaxis="y", mode="lines+markers",
        labels=[f"point {n}" for n in range(count)],
    )  # fmt: skip
    logger.report_scatter2d(
        "scatter2d", "two", iteration=0, scatter={"up": [(0, 0), (1, 1)], "down": [(0, 1), (1, 0)]}
    )
    spiral = np.round(np.stack([np.cos(steps), np.sin(steps), steps], axis=1), 3)
    logger.report_scatter3d(
        "scatter3d", "spiral", iteration=0, scatter=spiral, xaxis="x", yaxis="y", zaxis="z", mode="markers"
    )
    logger.report_scatter3d("scatter3d", "area", iteration=0, scatter=spiral.tolist(), mode="lines", fill=True)

    curves = [
        {"name": "line", "data": [(x, 2 * x) for x in range(3)]},
        {"name": "parabola", "data": [(x, x * x) for x in range(3)], "labels": ["low", "middle", "high"]},
    ]
    logger.report_line_plot("lines", series=curves, xaxis="x", yaxis="y", iteration=0, reverse_xaxis=True)
    logger.report_surface(
        "surface", "hill", iteration=0, matrix=[[0, 1, 0], [1, 2, 1], [0, 1, 0]], xaxis="east", yaxis="north",
        zaxis="height", xlabels=["a", "b", "c"], ylabels=["d", "e", "f"], camera=(1.5, 1.5, 0.8),
    )  # fmt: skip

    figure = go.Figure(go.Scatter(x=[1, 2, 3], y=np.array([4.0, 5.0, 6.0]), name="measured"))
    figure.update_layout(title="made with plotly", template=None)
    logger.report_plotly("plotly", "figure", iteration=0, figure=figure)
    print(f"drawn with {count} points")


if __name__ == "__main__":
    main()

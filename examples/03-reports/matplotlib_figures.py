"""Matplotlib as it is always used: `plt.show()` records curves as interactive plots and `imshow` as debug samples.

    python examples/03-reports/matplotlib_figures.py --points 20

Nothing opens on a machine without a display. Figures saved to files named *.png are recorded, too.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from taskloom import Task

mpl.use("Agg")


def main() -> None:
    task = Task.init(
        project_name="examples/reports",
        task_name="matplotlib figures",
        auto_connect_frameworks={"matplotlib": "*.png"},  # True: only what is shown
    )
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=20)
    points = np.linspace(0.1, 2, parser.parse_args().points)

    figure, axes = plt.subplots()
    axes.plot(points, points**2, "o--", color="tab:blue", label="squares")
    axes.plot(points, np.exp(points), label="exponential")
    axes.axhline(1, linestyle=":", color="gray")
    axes.set(title="growth", xlabel="x", ylabel="y", yscale="log")
    axes.legend()
    plt.show()

    figure, (left, right) = plt.subplots(1, 2)
    figure.suptitle("bars and dates")
    left.bar(["a", "b", "c"], [3, 1, 2], color=["red", "green", "blue"])
    right.plot(np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]"), [1, 2])
    plt.show()

    plt.figure()
    plt.imshow(np.outer(points, points))
    plt.title("picture")
    plt.show()

    figure, axes = plt.subplots()
    axes.pie([2, 3], labels=["two", "three"])
    axes.set_title("pie")
    with tempfile.TemporaryDirectory() as folder:
        figure.savefig(Path(folder) / "pie.png")
        figure.savefig(Path(folder) / "pie.svg")  # no *.png, and the same figure: not recorded again

    logger = task.get_logger()
    logger.report_matplotlib_figure("by hand", "as a picture", figure, iteration=0, report_image=True)
    print(f"{len(points)} points")


if __name__ == "__main__":
    main()

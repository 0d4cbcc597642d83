"""What ClearML's users do in their scripts, kind by kind: every report, several tasks, several processes, plots."""

from __future__ import annotations

import pytest
from tests.clearml.conftest import ClearML

from taskloom.domain.metrics import SINGLE_VALUE
from taskloom.domain.status import Status
from taskloom.domain.task import Task
from taskloom.wire.messages import ConsoleQuery, PlotsQuery, PointsQuery, SamplesQuery
from taskloom.wire.operations import GET_CONSOLE, GET_POINTS, GET_TASK, LIST_PLOTS, LIST_SAMPLES


@pytest.fixture(autouse=True)
def _as_it_comes(clearml: ClearML) -> None:
    """With the client's defaults, as most people have it: events are sent by a forked process."""
    clearml.configure()


def own_series(task: Task) -> dict[tuple[str, str], tuple[int, float | str]]:
    return {(s.title, s.series): (s.count, s.last) for s in task.metrics if not s.title.startswith(":")}


def test_every_kind_of_report_arrives(clearml: ClearML) -> None:
    ran = clearml.run(
        """
        import numpy as np, pandas as pd
        from clearml import Logger, Task
        task = Task.init(project_name="kinds", task_name="reports", auto_connect_frameworks=False)
        logger = task.get_logger()
        for step in range(50):
            logger.report_scalar("loss", "train", value=1.0 / (step + 1), iteration=step)
            logger.report_scalar("loss", "validation", value=2.0 / (step + 1), iteration=step)
        logger.report_single_value("accuracy", 0.75)
        logger.report_single_value("accuracy", 0.8)
        logger.report_histogram("histogram", "bars", values=[1, 5, 2], iteration=0, xaxis="x", yaxis="y")
        logger.report_vector("vector", "v", values=[3, 1, 2], iteration=0)
        logger.report_matrix("matrix", "m", matrix=np.arange(6).reshape(2, 3), iteration=0)
        logger.report_confusion_matrix("confusion", "c", matrix=np.eye(3), iteration=1, xaxis="p", yaxis="t")
        logger.report_surface("surface", "s", matrix=np.arange(9).reshape(3, 3), iteration=0)
        logger.report_scatter2d("scatter", "2d", scatter=[[0, 1], [1, 2]], iteration=0, mode="markers")
        logger.report_scatter3d("scatter", "3d", scatter=[[0, 1, 2], [1, 2, 3]], iteration=0)
        logger.report_line_plot("line", series=[{"name": "l", "data": [[0, 1], [1, 3]]}], iteration=0, xaxis="x", yaxis="y")
        logger.report_table("table", "t", iteration=0, table_plot=pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
        logger.report_plotly("plotly", "p", iteration=0, figure={"data": [{"type": "bar", "y": [1, 2]}], "layout": {}})
        logger.report_image("image", "i", iteration=3, image=np.full((8, 8, 3), 200, dtype=np.uint8))
        open("page.html", "w").write("<h1>hello</h1>")
        logger.report_media("media", "html", iteration=0, local_path="page.html")
        logger.report_media("media", "elsewhere", iteration=0, url="https://example.org/a.png")
        logger.report_text("written by the logger")
        Logger.current_logger().report_text("and by the current one", print_console=False)
        print("printed to standard output")
        import sys; print("printed to standard error", file=sys.stderr)
        task.flush(wait_for_uploads=True)
        print("id=" + task.id)
        task.close()
        """
    ).ok()
    call = clearml.house.client.call
    task = call(GET_TASK, task=ran.said("id"))
    assert task.status is Status.COMPLETED
    assert task.last_iteration == 49
    assert own_series(task) == {
        ("loss", "train"): (50, 1 / 50),
        ("loss", "validation"): (50, 2 / 50),
        ("Summary", "accuracy"): (1, 0.8),
    }
    points = call(GET_POINTS, query=PointsQuery(title="loss", series="train", points=0), task=task.id)
    assert points.iteration == list(range(50))
    assert points.value == [1.0 / (step + 1) for step in range(50)]
    single = call(GET_POINTS, query=PointsQuery(title="Summary", series="accuracy", points=0), task=task.id)
    assert (single.iteration, single.value) == ([SINGLE_VALUE], [0.8])
    plots = call(LIST_PLOTS, query=PlotsQuery(), task=task.id).plots
    titles = {(plot.title, plot.series) for plot in plots}
    assert titles >= {
        ("histogram", "bars"),
        ("vector", "v"),
        ("matrix", "m"),
        ("confusion", "c"),
        ("surface", "s"),
        ("scatter", "2d"),
        ("scatter", "3d"),
        ("table", "t"),
        ("plotly", "p"),
    }
    assert any(plot.title == "line" for plot in plots)
    samples = call(LIST_SAMPLES, query=SamplesQuery(), task=task.id).samples
    assert {(s.title, s.series, s.iteration) for s in samples} == {
        ("image", "i", 3),
        ("media", "html", 0),
        ("media", "elsewhere", 0),
    }
    held = {s.series: bool(s.digest) for s in samples}
    assert held == {"i": True, "html": True, "elsewhere": False}
    text = "".join(entry.text for entry in call(GET_CONSOLE, query=ConsoleQuery(tail=1000), task=task.id).entries)
    for line in (
        "written by the logger",
        "and by the current one",
        "printed to standard output",
        "printed to standard error",
    ):
        assert text.count(line) == 1, text


def test_matplotlib_and_command_lines_are_captured(clearml: ClearML) -> None:
    ran = clearml.run(
        """
        import argparse
        from clearml import Task
        task = Task.init(project_name="kinds", task_name="captured")
        parser = argparse.ArgumentParser()
        parser.add_argument("--rate", type=float, default=0.1)
        parser.add_argument("--layers", type=int, nargs="+", default=[1, 2])
        parser.add_argument("--fast", action="store_true")
        print(parser.parse_args(["--rate", "0.5", "--fast"]))
        import matplotlib.pyplot as plt
        plt.plot([1, 2, 3]); plt.title("a figure"); plt.show()
        print("id=" + task.id)
        """
    ).ok()
    task = clearml.house.client.call(GET_TASK, task=ran.said("id"))
    assert task.status is Status.COMPLETED
    arguments = {name: parameter.value for name, parameter in task.parameters["Args"].items()}
    assert arguments == {"rate": "0.5", "layers": "[1, 2]", "fast": "True"}
    plots = clearml.house.client.call(LIST_PLOTS, query=PlotsQuery(), task=task.id).plots
    assert any("a figure" in plot.title for plot in plots), [plot.title for plot in plots]
    assert "matplotlib" in task.execution.packages
    assert task.execution.entry_point.endswith("script.py")


def test_one_process_may_run_several_tasks_after_another(clearml: ClearML) -> None:
    ran = clearml.run(
        """
        from clearml import Task
        for number in range(3):
            task = Task.init(project_name="kinds", task_name="one of %d" % number, auto_connect_frameworks=False,
                             reuse_last_task_id=False)
            task.get_logger().report_scalar("number", "is", number, 0)
            print("id%d=%s" % (number, task.id))
            task.close()
        """
    ).ok()
    for number in range(3):
        task = clearml.house.client.call(GET_TASK, task=ran.said(f"id{number}"))
        assert (task.status, task.name) == (Status.COMPLETED, f"one of {number}")
        assert own_series(task) == {("number", "is"): (1, number)}


def test_children_of_a_process_report_into_its_task(clearml: ClearML) -> None:
    ran = clearml.run(
        """
        import multiprocessing
        from clearml import Task

        def work(number):
            task = Task.current_task()
            for step in range(10):
                task.get_logger().report_scalar("child", str(number), number * step, step)
            task.get_logger().flush(wait=True)
            return number

        if __name__ == "__main__":
            task = Task.init(project_name="kinds", task_name="children", auto_connect_frameworks=False)
            processes = [multiprocessing.Process(target=work, args=(n,)) for n in range(3)]
            [p.start() for p in processes]; [p.join() for p in processes]
            task.get_logger().report_scalar("parent", "own", 1, 0)
            print("id=" + task.id)
            task.close()
        """
    ).ok()
    task = clearml.house.client.call(GET_TASK, task=ran.said("id"))
    assert own_series(task) == {
        ("child", "0"): (10, 0),
        ("child", "1"): (10, 9),
        ("child", "2"): (10, 18),
        ("parent", "own"): (1, 1),
    }


def test_what_was_reported_is_read_back_by_the_client(clearml: ClearML) -> None:
    ran = clearml.run(
        """
        import json
        from clearml import Task
        task = Task.init(project_name="kinds", task_name="read back", auto_connect_frameworks=False)
        for step in range(1, 6):
            task.get_logger().report_scalar("loss", "train", value=step * 1.5, iteration=step)
        task.get_logger().report_single_value("score", 4.0)
        task.get_logger().report_table("table", "t", iteration=2, table_plot=[["a", "b"], [1, 2]])
        print("a line to be found")
        task.flush(wait_for_uploads=True)
        task.close()
        seen = Task.get_task(task_id=task.id)
        print("scalars=" + json.dumps(seen.get_reported_scalars()["loss"]["train"]))
        print("last=" + json.dumps(seen.get_last_scalar_metrics()["loss"]["train"]))
        print("single=" + json.dumps(seen.get_reported_single_values()))
        print("plots=%d" % len(seen.get_reported_plots()))
        print("found=%s" % any("a line to be found" in text for text in seen.get_reported_console_output(10)))
        print("iteration=%d" % seen.get_last_iteration())
        """
    ).ok()
    import json

    scalars = json.loads(ran.said("scalars"))
    assert scalars["x"] == [1, 2, 3, 4, 5]
    assert scalars["y"] == [1.5, 3.0, 4.5, 6.0, 7.5]
    last = json.loads(ran.said("last"))
    assert (last["last"], last["min"], last["max"]) == (7.5, 1.5, 7.5)
    assert json.loads(ran.said("single")) == {"score": 4.0}
    assert ran.said("plots") == "1"
    assert ran.said("found") == "True"
    assert ran.said("iteration") == "5"

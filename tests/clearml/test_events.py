"""What the unmodified client reports of every kind, as our own API has it; and what its reading calls give back."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

from tests.clearml.conftest import ClearML
from tests.conftest import House
from tests.unit.server.telemetry import Journal, names

from taskloom.domain.metrics import SINGLE_VALUE
from taskloom.wire.messages import ConsoleQuery, PlotsQuery, PointsQuery, SamplesQuery
from taskloom.wire.operations import GET_CONSOLE, GET_POINTS, GET_TASK, LIST_PLOTS, LIST_SAMPLES, SHIP_JOURNAL
from taskloom.wire.records import Ended, Opened, Plotted

REPORTS = """
    import sys
    import numpy as np
    from clearml import Logger, Task

    task = Task.init("events", "all kinds", auto_connect_frameworks=False, auto_resource_monitoring=False)
    print("task=" + task.id)
    logger = task.get_logger()
    for n in range(1500):
        logger.report_scalar("loss", "train", n / 4, n)
        if n % 10 == 0:
            logger.report_scalar("loss", "test", n / 2, n)
    logger.report_scalar("loss", "test", -1.0, 1490)
    logger.report_scalar("odd", "nan", float("nan"), 0)
    logger.report_single_value("accuracy", 0.5)
    logger.report_single_value("accuracy", 0.75)
    logger.report_vector("bars", "v", [1, 2, 3.5], iteration=2)
    logger.report_histogram("hist", "h", [4, 5, 6], iteration=1)
    logger.report_table("table", "t", iteration=0, table_plot=[["a", "b"], [1, 2]])
    logger.report_confusion_matrix("cm", "c", np.eye(3), iteration=5)
    logger.report_confusion_matrix("cm", "c", np.eye(2), iteration=6)
    logger.report_scatter2d("sc", "s", np.array([[0, 1], [2, 3]]), iteration=1)
    for n in range(3):
        logger.report_image("shown", "picture", n, image=np.full((8, 8, 3), n * 40, np.uint8))
    logger.report_media("heard", "sound", iteration=0, local_path=__file__)
    logger.report_text("written by hand")
    print("printed é")
    print("to stderr", file=sys.stderr)
    task.flush(wait_for_uploads=True)
    task.close()
"""

READS = """
    import json, sys
    from clearml import Task

    task = Task.get_task(task_id=sys.argv[1])
    told = {
        "scalars": task.get_reported_scalars(),
        "thinned": {v: len(c["x"]) for v, c in task.get_reported_scalars(max_samples=100)["loss"].items()},
        "iso": task.get_reported_scalars(x_axis="iso_time")["loss"],
        "all": task.get_all_reported_scalars(),
        "single": task.get_reported_single_values(),
        "one": task.get_reported_single_value("accuracy"),
        "plots": task.get_reported_plots(),
        "console": task.get_reported_console_output(number_of_reports=100),
        "last": task.get_last_scalar_metrics(),
        "samples": [(s["iter"], s["url"]) for s in task.get_debug_samples("shown", "picture", n_last_iterations=2)],
    }
    if told["samples"]:
        from clearml import StorageManager
        told["bytes"] = len(open(StorageManager.get_local_copy(told["samples"][0][1]), "rb").read())
    open(sys.argv[2], "w").write(json.dumps(told))
"""


def test_every_kind_of_report_arrives_and_reads_back(
    shared_house: House, clearml_of: Callable[[House], ClearML]
) -> None:
    house, clearml = shared_house, clearml_of(shared_house)
    task = clearml.run(REPORTS).ok().said("task")

    def points(title: str, series: str) -> list[tuple[int, object]]:
        found = house.client.call(GET_POINTS, query=PointsQuery(title=title, series=series, points=0), task=task)
        return list(zip(found.iteration, found.value, strict=True))

    assert points("loss", "train") == [(n, n / 4) for n in range(1500)]
    assert points("loss", "test") == [(n, n / 2) for n in range(0, 1490, 10)] + [(1490, -1.0)]
    assert points("Summary", "accuracy") == [(SINGLE_VALUE, 0.75)]
    found = house.client.call(GET_TASK, task=task)
    assert found.last_iteration == 1499
    plots = house.client.call(LIST_PLOTS, query=PlotsQuery(all_iterations=True), task=task).plots
    assert {(p.title, p.iteration) for p in plots} >= {("bars", 2), ("hist", 1), ("cm", 5), ("cm", 6), ("sc", 1)}
    assert all(json.loads(p.figure)["data"] for p in plots)
    samples = house.client.call(LIST_SAMPLES, query=SamplesQuery(all_iterations=True), task=task)
    assert samples.total == 4
    assert all(sample.digest and sample.size for sample in samples.samples)
    page = house.client.call(GET_CONSOLE, query=ConsoleQuery(limit=1000), task=task)
    text = {s: "".join(e.text for e in page.entries if e.stream == s) for s in ("stdout", "stderr")}
    assert "printed é\n" in text["stdout"]
    assert "written by hand\n" in text["stdout"]
    assert "to stderr\n" in text["stderr"]

    clearml.run(READS, task, "told.json", name="reads.py").ok()
    told = json.loads((clearml.folder / "told.json").read_text())
    assert told["scalars"]["loss"]["train"] == {
        "name": "train",
        "x": list(range(1500)),
        "y": [n / 4 for n in range(1500)],
    }
    assert "Summary" not in told["scalars"]
    assert told["thinned"]["train"] <= 100
    assert told["iso"]["test"]["x"][0].endswith("Z")
    assert told["all"]["loss"]["test"]["y"][-1] == -1.0
    assert len(told["all"]["loss"]["train"]["x"]) == 1500
    assert (told["single"], told["one"]) == ({"accuracy": 0.75}, 0.75)
    assert {p["metric"] for p in told["plots"]} >= {"hist", "cm", "sc", "table"}
    assert [p["iter"] for p in told["plots"] if p["metric"] == "cm"] == [6]
    assert "printed é" in "\n".join(told["console"])
    last = told["last"]["loss"]["train"]
    assert (last["last"], last["min"], last["max"]) == (1499 / 4, 0.0, 1499 / 4)
    assert [iteration for iteration, _ in told["samples"]] == [2, 1]
    assert told["bytes"] > 100


def test_what_our_own_sdk_recorded_is_read_by_the_client(
    shared_house: House, clearml_of: Callable[[House], ClearML]
) -> None:
    house, clearml, task = shared_house, clearml_of(shared_house), uuid.uuid4().hex
    shown = Plotted(title="roc", series="a", iteration=3, time=1e9, kind="line", figure='{"data": []}')
    journal = Journal(
        "w" * 32,
        [
            Opened(mode="new", name="recorded", project="events", time=1.0),
            *names(("loss", "train"), ("Summary", "accuracy")),
            shown,
        ],
        [*((0, n, n / 4, 1e9 + n) for n in range(40)), (1, SINGLE_VALUE, 0.75, 1e9)],
        {"stdout": b"out 1\nout 2\n", "stderr": b"err\n"},
    )
    house.client.call(SHIP_JOURNAL, journal.whole(), task=task)
    journal.events.append(Ended(status="completed", time=2.0))
    house.client.call(SHIP_JOURNAL, journal.whole(), task=task)
    clearml.run(READS, task, "told.json", name="reads.py").ok()
    told = json.loads((clearml.folder / "told.json").read_text())
    assert told["scalars"]["loss"]["train"]["y"] == told["all"]["loss"]["train"]["y"] == [n / 4 for n in range(40)]
    assert told["single"] == {"accuracy": 0.75}
    assert [p["plot_str"] for p in told["plots"]] == ['{"data": []}']
    assert sorted("\n".join(told["console"]).splitlines()) == ["err", "out 1", "out 2"]
    assert told["last"]["loss"]["train"]["last"] == 39 / 4
    assert told["samples"] == []


def test_models_have_reports_of_their_own(shared_house: House, clearml_of: Callable[[House], ClearML]) -> None:
    clearml = clearml_of(shared_house)
    ran = clearml.run(
        """
        from clearml import InputModel, OutputModel, Task

        task = Task.init("events", "of a model", auto_connect_frameworks=False, auto_resource_monitoring=False)
        model = OutputModel(task=task, name="weights", framework="custom")
        model.update_weights(register_uri="file:///tmp/weights.bin")
        for n in range(20):
            model.report_scalar("size", "mb", n / 2, n)
        model.report_single_value("best", 3.5)
        model.report_text("said of a model") if hasattr(model, "report_text") else None
        print("model=" + model.id)
        task.close()
        """,
        name="model.py",
    ).ok()
    model = ran.said("model")
    found = shared_house.client.call(
        GET_POINTS, query=PointsQuery(title="size", series="mb", points=0), task=model
    )
    assert (found.iteration, found.value) == (list(range(20)), [n / 2 for n in range(20)])

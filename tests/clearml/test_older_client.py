"""A client of two years before: the same life of a task, over the calls that it knows."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.clearml.conftest import ClearML

from taskloom.domain.status import Status
from taskloom.wire.messages import PlotsQuery, SamplesQuery, TaskQuery
from taskloom.wire.operations import GET_TASK, LIST_PLOTS, LIST_SAMPLES, LIST_UNSERVED, QUERY_TASKS

ENV_OLDER = "TASKLOOM_TEST_CLEARML_OLDER"


@pytest.fixture
def older(clearml: ClearML) -> ClearML:
    found = os.environ.get(ENV_OLDER)
    if not found:
        pytest.skip(f"{ENV_OLDER} is not set: run `make test-clearml`")
    return replace(clearml, python=Path(found))


def test_an_older_client_records_reads_and_queues(older: ClearML) -> None:
    ran = older.run(
        """
        import clearml, numpy
        from clearml import OutputModel, Task
        print("version=" + clearml.__version__)
        task = Task.init(project_name="older", task_name="script", auto_connect_frameworks=False)
        task.connect({"rate": 0.5})
        for step in range(20):
            task.get_logger().report_scalar("loss", "train", step * 1.5, step)
        task.get_logger().report_table("table", "t", 0, table_plot=[["a"], [1]])
        task.get_logger().report_image("image", "i", iteration=3, image=numpy.zeros((4, 4, 3), dtype=numpy.uint8))
        task.upload_artifact("data", {"x": 1}, wait_on_upload=True)
        open("weights.bin", "wb").write(b"weights")
        OutputModel(task=task, name="model").update_weights("weights.bin", async_enable=False)
        task.flush(wait_for_uploads=True)
        print("id=" + task.id)
        task.close()
        seen = Task.get_task(task_id=task.id)
        assert seen.status == "completed" and seen.get_parameters() == {"General/rate": "0.5"}
        assert seen.artifacts["data"].get() == {"x": 1}
        assert seen.get_last_scalar_metrics()["loss"]["train"]["max"] == 28.5
        assert open(seen.models["output"][-1].get_local_copy(), "rb").read() == b"weights"
        clone = Task.clone(seen, name="cloned")
        clone.set_parameters({"General/rate": 0.25})
        Task.enqueue(clone, queue_name="default")
        print("clone=" + clone.id)
        assert len(Task.get_tasks(project_name="older")) == 2
        """
    ).ok()
    assert ran.said("version") == "1.16.5"
    call = older.house.client.call
    task = call(GET_TASK, task=ran.said("id"))
    assert task.status is Status.COMPLETED
    assert [(s.title, s.series, s.count) for s in task.metrics if not s.title.startswith(":")] == [
        ("loss", "train", 20)
    ]
    assert [artifact.name for artifact in task.artifacts] == ["data"]
    assert len(task.models) == 1
    assert [plot.title for plot in call(LIST_PLOTS, query=PlotsQuery(), task=task.id).plots] == ["table"]
    assert [s.title for s in call(LIST_SAMPLES, query=SamplesQuery(), task=task.id).samples] == ["image"]
    clone = call(QUERY_TASKS, TaskQuery(ids=[ran.said("clone")])).tasks[0]
    assert (clone.status, clone.parameters["General"]["rate"].value) == (Status.PENDING, "0.25")
    assert call(LIST_UNSERVED).calls == [], "it missed nothing"

"""Pipelines of ClearML's SDK: from functions, from decorators, and from tasks that a queue runs."""

from __future__ import annotations

from tests.clearml.conftest import ClearML, our_worker

from taskloom.domain.status import Status
from taskloom.domain.task import Task, TaskType
from taskloom.wire.messages import TaskQuery
from taskloom.wire.operations import GET_TASK, QUERY_TASKS


def steps_of(clearml: ClearML, controller: str) -> dict[str, Task]:
    query = TaskQuery(parent=[controller], hidden=True)
    return {task.name: task for task in clearml.house.client.call(QUERY_TASKS, query).tasks}


def test_a_pipeline_from_functions_hands_its_results_on(clearml: ClearML) -> None:
    ran = clearml.run(
        """
        from clearml import Task
        from clearml.automation.controller import PipelineController

        def load(count):
            return list(range(int(count)))

        def total(numbers):
            from clearml import Task
            Task.current_task().get_logger().report_single_value("total", sum(numbers))
            return sum(numbers)

        pipe = PipelineController(name="sums", project="pipes", version="1.0.0", add_pipeline_tags=True)
        pipe.add_parameter("count", 5)
        pipe.add_function_step(name="load", function=load, function_kwargs={"count": "${pipeline.count}"},
                               function_return=["numbers"], cache_executed_step=False)
        pipe.add_function_step(name="total", function=total, function_kwargs={"numbers": "${load.numbers}"},
                               function_return=["answer"], parents=["load"])
        pipe.start_locally(run_pipeline_steps_locally=True)
        print("controller=" + pipe.id)
        total = pipe.get_processed_nodes()["total"].executed
        print("answer=%s" % Task.get_task(task_id=total).get_parameters()["return/answer"])
        """
    ).ok()
    assert ran.said("answer") == "10"
    controller = clearml.house.client.call(GET_TASK, task=ran.said("controller"))
    assert controller.type is TaskType.CONTROLLER
    assert controller.status is Status.COMPLETED
    assert controller.project == "pipes/.pipelines/sums"
    steps = steps_of(clearml, controller.id)
    assert {name: step.status for name, step in steps.items()} == {
        "load": Status.COMPLETED,
        "total": Status.COMPLETED,
    }
    total = clearml.house.client.call(GET_TASK, task=steps["total"].id)
    assert [(s.title, s.series, s.last) for s in total.metrics if not s.title.startswith(":")] == [
        ("Summary", "total", 10)
    ]


def test_a_pipeline_from_decorators_runs_as_ordinary_python(clearml: ClearML) -> None:
    ran = clearml.run(
        """
        from clearml.automation.controller import PipelineDecorator

        @PipelineDecorator.component(return_values=["doubled"], cache=False)
        def double(number):
            return number * 2

        @PipelineDecorator.component(return_values=["text"])
        def tell(number):
            return "it is %d" % number

        @PipelineDecorator.pipeline(name="doubling", project="pipes", version="0.1")
        def whole(start=3):
            return tell(double(double(start)))

        if __name__ == "__main__":
            PipelineDecorator.run_locally()
            print("answer=%s" % whole(start=4))
        """
    ).ok()
    assert ran.said("answer") == "it is 16"
    found = clearml.house.client.call(
        QUERY_TASKS, TaskQuery(project="pipes", subprojects=True, hidden=True, type=[TaskType.CONTROLLER])
    ).tasks
    assert [(task.status, task.project) for task in found] == [(Status.COMPLETED, "pipes/.pipelines/doubling")]
    assert len(steps_of(clearml, found[0].id)) >= 2


def test_a_pipeline_from_tasks_has_its_steps_run_by_our_worker(clearml: ClearML) -> None:
    template = clearml.run(
        """
        from clearml import Task
        task = Task.init(project_name="pipes", task_name="step", auto_connect_frameworks=False)
        settings = task.connect({"number": 1})
        print("got %r" % settings["number"])
        task.upload_artifact("square", artifact_object={"square": int(settings["number"]) ** 2}, wait_on_upload=True)
        print("id=" + task.id)
        task.close()
        """,
        name="step.py",
    ).ok()
    with our_worker(clearml):
        ran = clearml.run(
            """
            import sys
            from clearml import Task
            from clearml.automation.controller import PipelineController
            pipe = PipelineController(name="chain", project="pipes", version="1.0")
            pipe.set_default_execution_queue("default")
            pipe.add_step(name="first", base_task_id=sys.argv[1], parameter_override={"General/number": 3})
            pipe.add_step(name="second", parents=["first"], base_task_id=sys.argv[1],
                          parameter_override={"General/number": 7})
            pipe.start_locally()
            print("controller=" + pipe.id)
            """,
            template.said("id"),
            name="controller.py",
        ).ok()
    steps = steps_of(clearml, ran.said("controller"))
    assert {name: step.status for name, step in steps.items()} == {
        "first": Status.COMPLETED,
        "second": Status.COMPLETED,
    }
    assert steps["first"].parameters["General"]["number"].value == "3"
    for step in steps.values():
        whole = clearml.house.client.call(GET_TASK, task=step.id)
        assert [artifact.name for artifact in whole.artifacts] == ["square"]
        assert whole.worker == "ours"

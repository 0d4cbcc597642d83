"""What ClearML's SDK automates: optimisers, schedulers, triggers, `clearml-task`; jobs run by our worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.clearml.conftest import ClearML, finish, our_worker

from taskloom.domain.status import ENDED, Status
from taskloom.wire.messages import ConsoleQuery, TaskQuery
from taskloom.wire.operations import GET_CONSOLE, GET_TASK, QUERY_TASKS

TEMPLATE = """
from clearml import Task
task = Task.init(project_name="search", task_name="template", auto_connect_frameworks=False)
settings = task.connect({"x": 0.0, "y": 0.0})
x, y = float(settings["x"]), float(settings["y"])
for step in range(3):
    task.get_logger().report_scalar("objective", "loss", (x - 1) ** 2 + (y + 2) ** 2 + 1.0 / (step + 1), step)
print("id=" + task.id)
task.close()
"""


def test_a_grid_search_finds_the_best_of_its_tasks(clearml: ClearML) -> None:
    template = clearml.run(TEMPLATE, name="template.py").ok().said("id")
    with our_worker(clearml):
        ran = clearml.run(
            """
            import sys
            from clearml import Task
            from clearml.automation import DiscreteParameterRange, GridSearch, HyperParameterOptimizer
            task = Task.init(project_name="search", task_name="optimiser", task_type=Task.TaskTypes.optimizer,
                             auto_connect_frameworks=False)
            search = HyperParameterOptimizer(
                base_task_id=sys.argv[1],
                hyper_parameters=[DiscreteParameterRange("General/x", values=[0, 1]),
                                  DiscreteParameterRange("General/y", values=[-2, 3])],
                objective_metric_title="objective", objective_metric_series="loss", objective_metric_sign="min",
                optimizer_class=GridSearch, max_number_of_concurrent_tasks=2, execution_queue="default",
                max_iteration_per_job=100, total_max_jobs=4, pool_period_min=0.03, time_limit_per_job=10.0,
            )
            search.set_report_period(0.05)
            search.start()
            search.wait()
            best = search.get_top_experiments(top_k=1)[0]
            print("best=%s %s" % (best.get_parameters()["General/x"], best.get_parameters()["General/y"]))
            print("optimiser=" + task.id)
            search.stop()
            """,
            template,
            name="optimiser.py",
        ).ok()
    assert ran.said("best") == "1 -2"
    children = clearml.house.client.call(QUERY_TASKS, TaskQuery(parent=[ran.said("optimiser")], hidden=True)).tasks
    assert len(children) == 4
    assert {child.status for child in children} == {Status.COMPLETED}
    tried = {(c.parameters["General"]["x"].value, c.parameters["General"]["y"].value) for c in children}
    assert tried == {("0", "-2"), ("0", "3"), ("1", "-2"), ("1", "3")}


def test_clearml_task_makes_and_enqueues_what_our_worker_runs(
    clearml: ClearML, eventually: Callable[[Callable[[], object]], None]
) -> None:
    script = clearml.folder / "plain.py"
    script.write_text(
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--rounds', type=int, default=1)\n"
        "print('rounds are', parser.parse_args().rounds)\n"
    )
    words = ("--project", "plain", "--name", "from the command", "--script", str(script), "--args", "rounds=5")
    made = clearml.command("clearml-task", *words, "--queue", "default", "--packages", "clearml").ok()
    found = clearml.house.client.call(QUERY_TASKS, TaskQuery(project="plain")).tasks
    assert [(task.name, task.status) for task in found] == [("from the command", Status.PENDING)], made.out
    assert found[0].parameters["Args"]["rounds"].value == "5"
    with our_worker(clearml):
        _wait_for_end(clearml, found[0].id)
    ended = clearml.house.client.call(GET_TASK, task=found[0].id)
    assert ended.status is Status.COMPLETED, _told(clearml, ended.id)
    assert "rounds are 5" in _told(clearml, ended.id)


def test_a_trigger_sees_a_completed_task_and_enqueues_another(
    clearml: ClearML, eventually: Callable[[Callable[[], object]], None]
) -> None:
    template = clearml.run(TEMPLATE, name="template.py").ok().said("id")
    trigger = clearml.start(
        """
        import sys
        from clearml.automation import TriggerScheduler
        scheduler = TriggerScheduler(pooling_frequency_minutes=0.03, sync_frequency_minutes=1,
                                     force_create_task_name="watcher", force_create_task_project="watch")
        scheduler.add_task_trigger(name="on done", schedule_task_id=sys.argv[1], schedule_queue="default",
                                   trigger_project="watched", trigger_on_status=["completed"],
                                   task_parameters={"General/x": "${task.id}"})
        print("watching", flush=True)
        scheduler.start()
        """,
        template,
        name="trigger.py",
    )
    try:
        query = TaskQuery(project="watch", hidden=True, status=[Status.RUNNING])
        eventually(lambda: clearml.house.client.call(QUERY_TASKS, query).tasks)
        assert trigger.stdout is not None
        for line in trigger.stdout:
            if line.startswith("watching"):
                break
        watched = clearml.run(
            """
            import time
            from clearml import Task
            task = Task.init(project_name="watched", task_name="seen", auto_connect_frameworks=False)
            print("id=" + task.id)
            time.sleep(3)
            task.close()
            """
        ).ok()
        waiting = TaskQuery(parent=[template], hidden=True, status=[Status.PENDING])
        eventually(lambda: clearml.house.client.call(QUERY_TASKS, waiting).tasks)
        found = clearml.house.client.call(QUERY_TASKS, waiting).tasks
        assert found[0].parameters["General"]["x"].value == watched.said("id")
    finally:
        trigger.kill()  # its loop does not heed SIGTERM
        finish(trigger)


def test_a_schedule_enqueues_at_once_when_told(
    clearml: ClearML, eventually: Callable[[Callable[[], object]], None]
) -> None:
    template = clearml.run(TEMPLATE, name="template.py").ok().said("id")
    schedule = clearml.start(
        """
        import sys
        from clearml.automation import TaskScheduler
        scheduler = TaskScheduler(sync_frequency_minutes=1,
                                  force_create_task_name="clock", force_create_task_project="clocks")
        scheduler.add_task(schedule_task_id=sys.argv[1], queue="default", name="hourly", hour=1, minute=0,
                           execute_immediately=True, task_parameters={"General/x": "9"})
        scheduler.start()
        """,
        template,
        name="schedule.py",
    )
    try:
        waiting = TaskQuery(parent=[template], hidden=True, status=[Status.PENDING])
        eventually(lambda: clearml.house.client.call(QUERY_TASKS, waiting).tasks)
        found = clearml.house.client.call(QUERY_TASKS, waiting).tasks
        assert found[0].parameters["General"]["x"].value == "9"
    finally:
        schedule.kill()
        finish(schedule)


def _wait_for_end(clearml: ClearML, task_id: str) -> None:
    import time

    deadline = time.monotonic() + 180
    while clearml.house.client.call(GET_TASK, task=task_id).status not in ENDED:
        assert time.monotonic() < deadline, _told(clearml, task_id)
        time.sleep(0.2)


def _told(clearml: ClearML, task_id: str) -> str:
    page = clearml.house.client.call(GET_CONSOLE, query=ConsoleQuery(tail=100), task=task_id)
    log = Path(clearml.folder / "worker.log")
    return "".join(entry.text for entry in page.entries) + (log.read_text() if log.exists() else "")

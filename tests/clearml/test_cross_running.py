"""Tasks that ClearML's SDK made, run by a worker of ours: real scripts, a real repository, real environments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.clearml.checkout import RECORDED, make_checkout, recorded
from tests.clearml.conftest import ClearML, our_worker
from tests.conftest import House

from taskloom.domain.parameters import Parameter
from taskloom.domain.status import ENDED, Status
from taskloom.domain.task import Task, TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as op

PATIENCE = 200.0  # seconds after which something hangs

SCRIPT = (
    """
    import argparse
    import os
    import sys
    import time

    from clearml import Task

    from beside import WORD

    task = Task.init("cross", "made by clearml", reuse_last_task_id=False, output_uri=True)
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=2)
    args = parser.parse_args()
    config = task.connect({"rate": 0.1, "how": "well"}, name="general")
    print("id=" + task.id)
    print("saw", WORD, args.depth, config["rate"], Task.running_locally())
    for i in range(3):
        task.get_logger().report_scalar("loss", "train", args.depth * 10 + i, i)
    task.upload_artifact("numbers", {"rate": config["rate"]}, wait_on_upload=True)
    if config["how"] == "marks itself":
        task.mark_failed(status_reason="it said so itself", force=True)
    elif config["how"] == "badly":
        sys.exit(7)
    elif config["how"] == "for ever":
        time.sleep(600)
"""
    + RECORDED
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp("code"), SCRIPT)


class Rig:
    """One house, a task that ClearML's SDK made, and a worker of ours beside it."""

    def __init__(self, clearml: ClearML, task: str) -> None:
        self.clearml, self.house, self.made = clearml, clearml.house, task

    def get(self, task: str) -> Task:
        return self.house.client.call(op.GET_TASK, task=task)

    def queue(self, name: str, **sections: dict[str, str]) -> str:
        """A clone with these parameters, in the queue."""
        parameters = {
            section: {key: Parameter(value=value) for key, value in values.items()}
            for section, values in sections.items()
        }
        wanted = m.TaskClone(name=name, edit=TaskEdit(parameters=parameters))
        clone = self.house.client.call(op.CLONE_TASK, wanted, task=self.made).id
        self.house.client.call(op.ENQUEUE_TASK, m.Enqueue(), task=clone)
        return clone

    def until(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < deadline, f"it did not become true\n{self.log()}"
            time.sleep(0.2)

    def ended(self, task: str) -> Task:
        self.until(lambda: self.get(task).status in ENDED)
        return self.get(task)

    def console(self, task: str) -> str:
        page = self.house.client.call(op.GET_CONSOLE, m.ConsoleQuery(limit=1000), task=task)
        return "".join(entry.text for entry in page.entries)

    def log(self) -> str:
        return (self.clearml.folder / "worker.log").read_text()


@pytest.fixture(scope="module")
def rig(
    shared_house: House, clearml_python: Path, tmp_path_factory: pytest.TempPathFactory, repository: Path
) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("clearml")
    # A machine's own configuration, which names another server: the worker's word wins over it.
    (folder / "clearml.conf").write_text(
        'api { api_server: "http://127.0.0.1:9", credentials { access_key: "other", secret_key: "other" } }\n'
    )
    clearml = ClearML(shared_house, clearml_python, folder)
    task = recorded(clearml, repository / "train.py")
    with our_worker(clearml):
        yield Rig(clearml, task)


def test_the_task_says_what_to_run(rig: Rig, repository: Path) -> None:
    execution = rig.get(rig.made).execution
    assert execution.repository == str(repository.parent / "origin.git")
    assert (execution.entry_point, execution.working_dir) == ("train.py", ".")
    assert "changed" in execution.diff
    assert "clearml" in execution.packages


def test_our_worker_builds_its_environment_and_gives_it_edited_parameters(rig: Rig) -> None:
    task = rig.ended(rig.queue("edited", Args={"depth": "5"}, general={"rate": "0.75"}))
    console = rig.console(task.id)
    assert task.status is Status.COMPLETED, f"{task.status_reason}\n{console}"
    assert "saw changed 5 0.75 False" in console
    assert console.count("saw changed") == 1  # told once, by the worker
    assert task.worker == "ours"
    (loss,) = [summary for summary in task.metrics if (summary.title, summary.series) == ("loss", "train")]
    assert (loss.last, loss.count) == (52.0, 3)
    assert {artifact.name for artifact in task.artifacts} >= {"numbers"}
    assert task.parameters["Args"]["depth"].value == "5"


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [("badly", Status.FAILED, "exit code 7"), ("marks itself", Status.FAILED, "it said so itself")],
)
def test_how_it_ended_is_told_by_its_exit_code_or_by_itself(
    rig: Rig, how: str, status: Status, reason: str
) -> None:
    task = rig.ended(rig.queue(how, general={"how": how}))
    assert (task.status, task.status_reason) == (status, reason), rig.console(task.id)


def test_an_abort_ends_it(rig: Rig) -> None:
    task = rig.queue("endless", general={"how": "for ever"})
    rig.until(lambda: "saw changed" in rig.console(task))
    rig.house.client.call(op.ABORT_TASK, m.MoveRequest(reason="enough"), task=task)
    ended = rig.ended(task)
    assert (ended.status, ended.status_reason) == (Status.ABORTED, "enough")


def test_a_script_alone_travels_as_text(rig: Rig) -> None:
    made = rig.clearml.run(
        """
        from clearml import Task
        task = Task.init("cross", "alone")
        task.execute_remotely("default", exit_process=False, clone=True)
        print("ran in", __file__)
        """,
        name="alone.py",
    ).ok()
    assert made
    query = m.TaskQuery(name="alone", where=[])
    found = rig.house.client.call(op.QUERY_TASKS, query).tasks
    assert len(found) == 2
    for task in found:
        assert rig.ended(task.id).status is Status.COMPLETED, rig.console(task.id)

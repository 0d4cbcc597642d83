"""What an attempt leaves to the next one, and how long it may take."""

from __future__ import annotations

import io
import signal
import zipfile
from typing import Any

from taskloom.domain.execution import Execution
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op

STEPS = """
import os, pathlib, sys, time
folder = pathlib.Path(os.environ["TASKLOOM_CHECKPOINTS"])
found = folder / "sub" / "step.txt"
step = int(found.read_text()) if found.exists() else 0
found.parent.mkdir(exist_ok=True)
found.write_text(str(step + 1))
print("step", step, flush=True)
"""


def test_a_task_that_is_given_back_finds_its_checkpoints_on_another_machine(field: Any) -> None:
    first = field.worker("w1")
    task = field.script(STEPS + "if step == 0: time.sleep(600)\n")
    field.until_says(task, "step 0")
    assert first.stop(signal.SIGINT) == 130
    assert field.get(task).status is Status.PENDING
    field.worker("w2")
    ended = field.ended(task)
    assert (ended.status, ended.attempt, ended.worker) == (Status.COMPLETED, 2, "w2")
    assert field.console(task, "stdout") == "step 0\nstep 1\n"
    assert "the checkpoints of an earlier attempt are in" in field.console(task, "report")


def test_checkpoints_of_a_failure_are_an_artifact_and_there_when_it_is_queued_again(field: Any) -> None:
    field.worker("w1")
    task = field.script(STEPS + "sys.exit(4)\n")
    (stored,) = field.ended(task).artifacts
    assert (stored.name, stored.kind, stored.media_type) == ("checkpoints", "folder", "application/zip")
    response = field.client.http.get(
        f"{field.house.url}/api/blobs/{stored.digest}", headers={"Authorization": f"Bearer {field.house.key}"}
    )
    assert zipfile.ZipFile(io.BytesIO(response.content)).read("sub/step.txt") == b"1"
    field.client.call(op.RESET_TASK, m.MoveRequest(), task=task)
    field.client.call(op.ENQUEUE_TASK, m.Enqueue(), task=task)
    field.until(lambda: "step" in field.console(task, "stdout") and field.get(task).status is Status.FAILED)


def test_a_time_limit_ends_a_task_with_its_reason(field: Any) -> None:
    field.worker("w1")
    task = field.enqueue(Execution(command=("sh", "-c", "echo begun; sleep 600"), time_limit=1.0))
    ended = field.ended(task)
    assert (ended.status, ended.status_reason) == (Status.FAILED, "time limit of 1 s reached")
    assert field.console(task, "stdout") == "begun\n"
    assert field.processes(task) == []


def test_a_failure_of_the_setup_lines_is_told_apart_with_its_last_line(field: Any) -> None:
    field.worker("w1", "--slots", "2")
    setup = field.enqueue(Execution(command=("echo", "never"), setup="echo no such wheel >&2; exit 3"))
    run = field.enqueue(Execution(command=("sh", "-c", "exit 3"), setup="echo fine"))
    assert field.ended(setup).status_reason == "the setup lines failed: exit code 3; no such wheel"
    assert field.ended(run).status_reason == "exit code 3"
    assert "never" not in field.console(setup, "stdout")


def test_services_are_many_light_tasks_at_once_without_gpus(field: Any, tmp_path: Any) -> None:
    field.worker("w1", "--services", "12", environ={"CUDA_VISIBLE_DEVICES": "0,1"})
    wait = (
        "import os, pathlib, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "(folder / f'here-{os.getpid()}').touch()\n"
        "while len(list(folder.glob('here-*'))) < 12: time.sleep(0.1)\n"
    )
    tasks = [field.enqueue(Execution(diff=wait, entry_point="s.py")) for _ in range(12)]
    assert [field.ended(task).status for task in tasks] == [Status.COMPLETED] * 12
    (worker,) = field.client.call(op.LIST_WORKERS).workers
    assert (worker.slots, worker.machine.gpus) == (12, ())


def test_a_more_urgent_task_takes_the_place_of_a_preemptible_one_which_goes_on_afterwards(field: Any) -> None:
    field.worker("w1")
    gives_way = Execution(
        diff=STEPS + "if step == 0: time.sleep(600)\n", entry_point="script.py", preemptible=True
    )
    first = field.enqueue(gives_way, name="gives way")
    field.until_says(first, "step 0")
    urgent = field.enqueue(Execution(command=("echo", "urgent"), priority=10), name="urgent")
    assert field.ended(urgent).status is Status.COMPLETED
    ended = field.ended(first)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 2)
    assert field.console(first, "stdout") == "step 0\nstep 1\n"
    assert "stopping: " in field.console(first, "report")

"""What is promised when something dies: killed workers, frozen workers, a server that is away."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from taskloom.domain.execution import Execution
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.worker_protocol import WORKER_LOST

pytestmark = pytest.mark.faults

LEASE = 3.0
WAITS = (
    "import os, time\n"
    "print('begun', flush=True)\n"
    "while not os.path.exists({go!r}): time.sleep(0.05)\n"
    "print('went on to the end', flush=True)\n"
)


def test_a_killed_workers_task_waits_again_once_and_another_worker_completes_it(
    field: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    first = field.worker("w1", lease=LEASE)
    task = field.script(WAITS.format(go=str(go)))
    field.until_says(task, "begun")
    tree = field.processes(task)
    assert tree
    first.kill9()
    _, alive = psutil.wait_procs(tree, timeout=30)
    assert alive == []  # when nobody came to adopt it, before anybody could start it a second time
    field.until(lambda: field.get(task).status is Status.PENDING)
    assert field.get(task).status_reason == WORKER_LOST
    assert [e.task for e in field.client.call(op.GET_QUEUE, queue="default").entries] == [task]
    go.touch()
    field.worker("w2", lease=LEASE)
    ended = field.ended(task)
    assert (ended.status, ended.worker, ended.attempt) == (Status.COMPLETED, "w2", 2)
    assert field.console(task, "stdout") == "begun\nbegun\nwent on to the end\n"


ESCAPES = (
    "import os, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0: time.sleep(600)\n"
    "    os._exit(0)\n"
    "os.wait()\n"
    "print('begun', flush=True)\n"
    "while not os.path.exists({go!r}): time.sleep(0.05)\n"
)


def test_what_is_left_when_the_supervisor_was_killed_too_ends_with_the_next_start(
    field: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    first = field.worker("w1", lease=600.0)
    task = field.script(ESCAPES.format(go=str(go)))
    field.until_says(task, "begun")
    tree = field.processes(task)
    family = psutil.Process(first.process.pid).children()
    for process in [psutil.Process(first.process.pid), *family]:  # nobody is left to hear of anybody's death
        process.suspend()
    for process in [*family, psutil.Process(first.process.pid)]:
        process.kill()
    first.process.wait(60)
    assert [process for process in tree if process.is_running()]
    go.touch()
    field.worker("w1", lease=600.0)
    _, alive = psutil.wait_procs(tree, timeout=30)
    assert alive == []
    assert field.ended(task).status is Status.COMPLETED


def test_a_task_whose_supervisor_was_killed_fails_and_leaves_nothing(field: Any, tmp_path: Path) -> None:
    worker = field.worker("w1", lease=600.0)
    task = field.script(ESCAPES.format(go=str(tmp_path / "never")))
    field.until_says(task, "begun")
    for process in psutil.Process(worker.process.pid).children():
        if any(word.endswith("supervisor.py") for word in process.cmdline()):
            process.kill()
    ended = field.ended(task)
    assert (ended.status, ended.status_reason) == (Status.FAILED, "the supervisor of the program was killed")
    assert field.processes(task) == []


def test_a_task_that_kills_its_workers_fails_after_its_attempts(field: Any) -> None:
    field.client.call(op.CREATE_QUEUE, m.QueueCreate(name="poison", max_attempts=2))
    create = m.TaskCreate(
        name="poison", project="worker tests", execution=Execution(command=("sh", "-c", "echo begun; sleep 600"))
    )
    task = field.client.call(op.CREATE_TASK, create).id
    field.client.call(op.ENQUEUE_TASK, m.Enqueue(queue="poison"), task=task)
    for attempt in (1, 2):
        worker = field.worker(f"w{attempt}", "--queue", "poison", lease=LEASE)
        field.until(lambda attempt=attempt: field.console(task, "stdout").count("begun") == attempt)
        worker.kill9()
    ended = field.ended(task)
    assert (ended.status, ended.status_reason, ended.attempt) == (Status.FAILED, WORKER_LOST, 2)


def test_a_frozen_worker_that_wakes_is_fenced(field: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    frozen = field.worker("w1", lease=LEASE)
    task = field.script(WAITS.format(go=str(go)) + "import sys; print(sys.argv)\n")
    field.until_says(task, "begun")
    old = field.processes(task)
    frozen.signal(signal.SIGSTOP)
    field.until(lambda: field.get(task).status is Status.PENDING)
    field.worker("w2", lease=LEASE)
    field.until(lambda: field.console(task, "stdout").count("begun") == 2)
    frozen.signal(signal.SIGCONT)
    _, alive = psutil.wait_procs(old, timeout=30)
    assert alive == []  # the void attempt is killed as soon as its worker learns of it
    assert field.get(task).status is Status.RUNNING
    go.touch()
    ended = field.ended(task)
    assert (ended.status, ended.worker, ended.attempt) == (Status.COMPLETED, "w2", 2)
    assert field.console(task, "stdout").count("went on to the end") == 1


def test_a_server_away_longer_than_the_lease_costs_no_run_and_gets_the_end_later(
    field: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    field.worker("w1", lease=LEASE)
    task = field.script(WAITS.format(go=str(go)))
    field.until_says(task, "begun")
    field.house.stop()
    field.house.clock.advance(20 * LEASE)
    go.touch()  # the script ends while nobody listens
    tree = field.processes(task)
    _, alive = psutil.wait_procs(tree, timeout=30)
    assert alive == []
    field.house.start()
    ended = field.ended(task)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1)
    assert field.console(task, "stdout") == "begun\nwent on to the end\n"


def test_a_worker_waits_for_a_server_that_is_not_there_yet(field: Any, tmp_path: Path) -> None:
    field.house.stop()
    data = tmp_path / "early"
    data.mkdir()
    environ = {**field.house.environment(), "TASKLOOM_DATA": str(data)}
    words = [sys.executable, "-m", "taskloom.cli.worker", "--name", "early", "--packages", "reuse"]
    with (data / "log").open("wb") as log:
        worker = subprocess.Popen(words, env=environ, stderr=log, stdout=subprocess.PIPE, text=True)
    try:
        field.until(lambda: "not registered yet" in (data / "log").read_text())
        field.house.start()
        assert worker.stdout is not None
        assert worker.stdout.readline().startswith("Worker early serves default")
    finally:
        worker.terminate()
        assert worker.wait(60) == 0

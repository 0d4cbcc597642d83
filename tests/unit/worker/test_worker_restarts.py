"""A restart of a worker kills no running task: it is adopted, whoever ended the worker and however."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op

pytestmark = pytest.mark.faults

COUNTS = """
import os, time
from taskloom import Task
task = Task.init()
logger = task.get_logger()
print("begun", os.getpid(), flush=True)
n = 0
while not os.path.exists({go!r}):
    logger.report_scalar("count", "n", n, n)
    n += 1
    time.sleep(0.02)
print("went on", os.getpid(), n, flush=True)
"""
WAITS = """
import os, time
print("begun", flush=True)
while not os.path.exists({go!r}): time.sleep(0.05)
print("went on", flush=True)
"""


def begun(field: Any, text: str) -> str:
    task = field.script(text)
    field.until_says(task, "begun")
    return task


def test_a_killed_worker_that_comes_back_goes_on_with_the_very_process(field: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = field.worker("w1", lease=20.0)
    task = begun(field, COUNTS.format(go=str(go)))
    before = {process.pid for process in field.processes(task)}
    worker.kill9()
    field.worker("w1", lease=20.0)
    field.until_says(task, "goes on with the task")
    assert before <= {process.pid for process in field.processes(task)}
    field.until(lambda: any(s.count for s in field.get(task).metrics))
    go.touch()
    ended = field.ended(task)
    assert (ended.status, ended.attempt, ended.worker) == (Status.COMPLETED, 1, "w1")
    first, last = (line.split() for line in field.console(task, "stdout").splitlines())
    assert first[1] == last[2]
    points = field.client.call(op.GET_POINTS, query=m.PointsQuery(title="count", series="n", points=0), task=task)
    assert points.value == list(range(int(last[3])))
    assert list((field.folder / "w1" / "worker" / "w1" / "attempts").iterdir()) == []


def test_a_worker_that_is_told_to_stop_leaves_its_tasks_to_its_next_process(field: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = field.worker("w1")
    task = begun(field, WAITS.format(go=str(go)))
    before = {process.pid for process in field.processes(task)}
    assert worker.stop() == 0
    assert {process.pid for process in field.processes(task)} == before
    assert field.get(task).status is Status.RUNNING
    go.touch()  # it ends while nobody is there
    psutil.wait_procs(field.supervisors(), timeout=30)
    assert field.get(task).status is Status.RUNNING
    field.worker("w1")
    ended = field.ended(task)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1)
    assert field.console(task, "stdout") == "begun\nwent on\n"


def test_without_leave_a_worker_that_is_told_to_stop_gives_its_tasks_back(field: Any, tmp_path: Path) -> None:
    worker = field.worker("w1", "--leave", "0")
    task = begun(field, WAITS.format(go=str(tmp_path / "never")))
    assert worker.stop() == 0
    assert (field.get(task).status, field.get(task).status_reason) == (Status.PENDING, "the worker was stopped")
    assert field.processes(task) == []
    assert field.client.call(op.LIST_WORKERS).workers == []


def test_what_was_aborted_while_the_worker_was_away_is_stopped_when_it_comes_back(
    field: Any, tmp_path: Path
) -> None:
    worker = field.worker("w1")
    task = begun(field, WAITS.format(go=str(tmp_path / "never")))
    worker.kill9()
    field.client.call(op.ABORT_TASK, m.MoveRequest(reason="enough"), task=task)
    assert field.processes(task)
    field.worker("w1")
    ended = field.ended(task)
    assert (ended.status, ended.status_reason) == (Status.ABORTED, "enough")
    assert field.processes(task) == []


def test_a_second_restart_goes_on_too_and_a_failure_is_told_as_one(field: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    task = ""
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        worker = field.worker("w1")
        task = task or begun(field, WAITS.format(go=str(go)) + "import sys; sys.exit(9)\n")
        field.until(lambda log=worker.log: log.read_text().count("adopted") >= len(field.workers) - 1)
        worker.signal(number)
        worker.process.wait(60)
    field.worker("w1")
    go.touch()
    ended = field.ended(task)
    assert (ended.status, ended.status_reason, ended.attempt) == (Status.FAILED, "exit code 9", 1)


def test_the_scripts_own_word_about_its_end_is_heard_after_a_restart(field: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = field.worker("w1")
    task = begun(field, COUNTS.format(go=str(go)) + "task.mark_failed(status_reason='it saw NaN')\ntask.close()\n")
    worker.kill9()
    go.touch()
    psutil.wait_procs(field.supervisors(), timeout=30)
    field.worker("w1")
    ended = field.ended(task)
    assert (ended.status, ended.status_reason) == (Status.FAILED, "it saw NaN")


def test_a_clock_that_jumps_does_not_end_what_is_kept(field: Any, tmp_path: Path) -> None:
    """Leases are the server's clock, what a program may live is counted by one that nobody sets."""
    go = tmp_path / "go"
    worker = field.worker("w1")
    task = begun(field, WAITS.format(go=str(go)))
    seen = field.client.call(op.LIST_WORKERS).workers[0].last_seen
    field.house.clock.advance(-7200.0)
    field.until(lambda: field.client.call(op.LIST_WORKERS).workers[0].last_seen < seen)  # renewed since
    worker.kill9()
    assert field.processes(task)
    field.worker("w1")
    field.until_says(task, "goes on with the task")
    go.touch()
    ended = field.ended(task)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1)

"""Whole evaluations by command against a real server: what lands there, and what commands tell of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import HouseProcess
from tests.evals.evaluations import Folder

from taskloom.domain.status import Status
from taskloom.domain.task import TaskType
from taskloom.wire import messages as m
from taskloom.wire import operations as op

pytestmark = pytest.mark.evals


@pytest.fixture
def folder(tmp_path: Path, house_process: HouseProcess) -> Folder:
    return Folder(tmp_path / "mine", house_process)


def test_a_job_is_a_recorded_task_with_every_run_and_step(folder: Folder, house_process: HouseProcess) -> None:
    told = folder.told("env.py", "--agent", "agent.py:solve", "--group", "2", "--project", "sums/first")

    client, job = house_process.client, told["job"]["id"]
    assert (told["runs"], told["graded"], told["reward"], told["status"]) == (12, 12, 1.0, "completed")
    record = client.call(op.GET_JOB, job=job)
    assert (record.runs, record.counts, record.reward, record.job.expected) == (12, {"completed": 12}, 1.0, 12)
    task = client.call(op.GET_TASK, task=job)
    assert (task.type, task.status, task.project) == (TaskType.TESTING, Status.COMPLETED, "sums/first")
    assert task.parameters["Evaluation"]["group"].value == "2"
    assert task.progress == 100.0
    assert (task.execution.entry_point, "What is" in task.execution.diff) == ("env.py", True)
    assert [(one.title, one.series, one.last) for one in task.metrics] == [("reward", "mean", 1.0)]
    runs = client.call(op.LIST_RUNS, query=m.RunQuery(), job=job).runs
    assert [run.position for run in runs] == list(range(12))
    assert len({run.group for run in runs}) == 6
    for run in runs:
        page = client.call(op.GET_STEPS, query=m.StepsQuery(), run=run.id)
        assert [step.source for step in page.steps] == ["task", "user", "task"]
    assert folder.children() == []


def test_what_failed_is_told_by_boundary_and_by_the_exit_code(folder: Folder, house_process: HouseProcess) -> None:
    more = 'from taskloom.evals import Task\ntasks.append(Task(env="sums", id="nobody"))\n'
    folder.write("env.py", (folder.path / "env.py").read_text() + more)

    told = folder.told("env.py", "--agent", "agent.py:fail", code=1)

    assert told["runs"] == 7
    assert told["failures"] == {"agent": 1, "environment": 1}
    record = house_process.client.call(op.GET_JOB, job=told["job"]["id"])
    assert record.failures == {"agent": 1, "environment": 1}
    assert record.reward == pytest.approx(3 / 7)
    assert house_process.client.call(op.GET_TASK, task=record.job.id).status is Status.COMPLETED


def test_commands_tell_of_jobs_runs_and_traces(folder: Folder) -> None:
    first = folder.told("env.py", "--agent", "agent.py:solve", "--name", "right ones")["job"]["id"]
    second = folder.told("env.py", "--agent", "agent.py:fail", "--name", "wrong ones")["job"]["id"]

    assert {job["job"]["id"] for job in folder.told("list")["jobs"]} == {first, second}
    assert "right ones" in folder.eval("list", "--agent", "solve")
    shown = folder.told("show", first[:12])
    assert [run["position"] for run in shown["runs"]] == list(range(6))
    assert "add-" in folder.eval("show", first, "--by-slug")
    run = shown["runs"][2]
    trace = folder.eval("trace", run["id"])
    assert "What is 2 + 2?" in trace
    assert "answer" in trace
    steps = [json.loads(line) for line in folder.eval("trace", f"{first}:{run['slug']}", "--json").splitlines()]
    assert [step["source"] for step in steps] == ["task", "user", "task"]
    report = folder.told("report", first)
    assert report["figures"]["reward"]["mean"] == 1.0
    both = folder.told("report", second, first)
    assert both["comparison"]["paired"] == 6
    assert both["comparison"]["difference"]["mean"] == pytest.approx(0.5)
    assert "minus" in folder.eval("report", second, first)
    board = folder.told("leaderboard", "env")
    assert [entry["agent"] for entry in board["entries"]] == ["solve", "fail"]
    assert "solve" in folder.eval("leaderboard", "env")
    assert folder.told("tasksets")["tasksets"] == []


def test_offline_results_wait_in_the_journal_and_are_shipped_later(
    tmp_path: Path, house_process: HouseProcess
) -> None:
    alone = Folder(tmp_path / "alone", None)
    told = alone.told("env.py", "--agent", "agent.py:solve")
    assert told["reward"] == 1.0

    alone.house = house_process
    (journal,) = (tmp_path / "own" / "journal").iterdir()
    assert journal.name == told["job"]["id"]
    environment = {**house_process.environment(), "TASKLOOM_DATA": str(tmp_path / "own")}
    subprocess.run(
        [sys.executable, "-m", "taskloom.cli.main", "journal", "ship"], env=environment, check=False, timeout=60
    )
    record = house_process.client.call(op.GET_JOB, job=told["job"]["id"])
    assert record.counts == {"completed": 6}

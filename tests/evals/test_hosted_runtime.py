"""Whole runs that a real worker does: recorded there, followed and read back here."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.evals.sources import write_source
from tests.unit.worker.conftest import Field

from taskloom.domain.status import Status
from taskloom.evals.job import Job
from taskloom.evals.run import Run
from taskloom.evals.runtimes.hosted import HostedRuntime
from taskloom.evals.task import Task
from taskloom.evals.taskset import Taskset
from taskloom.wire import messages as m
from taskloom.wire import operations as op

pytestmark = pytest.mark.evals

AGENT = '''
import os
from helper import word
from taskloom.evals import Step

async def solve(run):
    """Says yes, with the key that it was given."""
    run.record(Step(source="agent", content=word, model=os.environ.get("MODEL_KEY", "")))
    run.trace.content = "yes"

async def stay(run):
    import asyncio
    from pathlib import Path
    Path(run.prompt_text).touch()
    await asyncio.sleep(3600)
'''


def load_agent(folder: Path, name: str) -> Any:
    """As a person's script has it: a function of a file."""
    folder.mkdir(exist_ok=True)
    (folder / "helper.py").write_text("word = 'thinking'\n")
    (folder / "agents.py").write_text(AGENT)
    for module in ("agents", "helper"):
        sys.modules.pop(module, None)
    sys.path.insert(0, str(folder))
    try:
        return getattr(importlib.import_module("agents"), name)
    finally:
        sys.path.remove(str(folder))


def row(folder: Path, what: str = "6 * 7") -> Task:
    return Task(env="world", id="tell", args={"what": what}).from_source(str(write_source(folder / "src")))


def tasks_of(field: Field, job: str) -> list[Any]:
    return field.client.call(op.QUERY_TASKS, m.TaskQuery(parent=[job], hidden=True)).tasks


async def test_a_worker_runs_agent_and_environment_and_the_run_is_read_back_whole(
    field: Field, tmp_path: Path
) -> None:
    await asyncio.to_thread(field.worker, "w1", "--slots", "2")
    field.client.call(op.PUT_SECRET, m.SecretPut(value="a key of the model"), name="MODEL_KEY")
    agent = load_agent(tmp_path / "agent", "solve")
    taskset = Taskset("world", [row(tmp_path, "6 * 7"), row(tmp_path, "os.path.basename(os.getcwd())")])
    job = await taskset.run(agent, runtime=HostedRuntime(secrets=["MODEL_KEY"]))
    assert [(run.status, run.error, run.reward, run.prompt) for run in job.runs] == [
        ("completed", "", 1.0, "42"),
        ("completed", "", 1.0, "source"),
    ]
    run = job.runs[0]
    assert [step.source for step in run.trace.steps] == ["task", "user", "agent", "task"]
    assert run.trace.steps[2].content == "thinking"
    assert "a key of the model" not in str(run.trace.steps)  # masked on its way
    assert run.trace.content == "yes" and run.runtime is not None and run.ended > run.started > 0
    stored = field.client.call(op.LIST_RUNS, query=m.RunQuery(), job=job.id).runs
    tasks = {task.id: task for task in tasks_of(field, job.id)}
    assert {value.task for value in stored} == tasks.keys() and len(tasks) == 2
    assert {task.status for task in tasks.values()} == {Status.COMPLETED}


async def test_what_fails_there_is_data_here_and_a_failure_on_the_way_is_told(
    field: Field, tmp_path: Path
) -> None:
    await asyncio.to_thread(field.worker)
    agent = load_agent(tmp_path / "agent", "solve")
    broken = row(tmp_path, "1 / 0")
    job = await Taskset("world", [broken]).run(agent, runtime=HostedRuntime())
    assert [(run.status, run.boundary, run.error) for run in job.runs] == [
        ("error", "environment", "division by zero")
    ]

    async def local(run: Run) -> None:
        raise AssertionError("it never runs")

    job = await Taskset("world", [broken]).run(local, runtime=HostedRuntime())
    assert job.runs[0].boundary == "agent" and "has no name that another process finds" in job.runs[0].error
    job = await Taskset("world", [broken]).run(agent, runtime=HostedRuntime("no-such-queue"))
    assert job.runs[0].boundary == "infrastructure" and "no-such-queue" in job.runs[0].error
    job = await Taskset("world", [broken]).run(agent, runtime=HostedRuntime(setup="exit 3"))
    assert job.runs[0].boundary == "infrastructure" and "never came to its end" in job.runs[0].error


async def test_a_job_that_is_cancelled_stops_what_runs_elsewhere(field: Field, tmp_path: Path) -> None:
    await asyncio.to_thread(field.worker)
    agent = load_agent(tmp_path / "agent", "stay")
    job = await Job.start("cancelled")
    here = tmp_path / "staying"
    taskset = Taskset("world", [row(tmp_path, f"Path({str(here)!r})")])
    running = asyncio.create_task(taskset.run(agent, runtime=HostedRuntime(), job=job))
    await asyncio.to_thread(field.until, here.exists)
    running.cancel()
    await asyncio.wait([running])
    assert [task.status for task in tasks_of(field, job.id)] == [Status.ABORTED]
    assert [run.status for run in job.runs] == ["cancelled"]
    await job.close("aborted")
    stored = field.client.call(op.LIST_RUNS, query=m.RunQuery(), job=job.id).runs
    assert [value.status for value in stored] == ["cancelled"]


async def test_a_run_whose_worker_is_lost_is_done_again_under_the_same_id(field: Field, tmp_path: Path) -> None:
    first = await asyncio.to_thread(field.worker, "w1", lease=2.0)
    agent = load_agent(tmp_path / "agent", "solve")
    gate = tmp_path / "gate"
    waiting = row(tmp_path, f"([time.sleep(0.05) for _ in iter(Path({str(gate)!r}).exists, True)], 'open')[1]")
    running = asyncio.create_task(Taskset("world", [waiting]).run(agent, runtime=HostedRuntime()))

    def begun() -> bool:
        return any(
            field.processes(task.id) for task in field.client.call(op.QUERY_TASKS, m.TaskQuery(hidden=True)).tasks
        )

    await asyncio.to_thread(field.until, begun)
    first.kill9()
    gate.touch()
    await asyncio.to_thread(field.worker, "w2")
    job = await running
    assert [(run.status, run.reward, run.prompt, run.attempt) for run in job.runs] == [
        ("completed", 1.0, "open", 2)
    ]
    stored = field.client.call(op.LIST_RUNS, query=m.RunQuery(), job=job.id).runs
    assert [(value.id, value.steps) for value in stored] == [(job.runs[0].trace_id, 4)]

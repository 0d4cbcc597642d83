"""Jobs: their own journals, offline and with a server, under a worker, gone on with."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from tests.conftest import House
from tests.unit.evals.running.stage import Journal, repeat, rows

from taskloom.domain.errors import BadInput, Conflict, NotFound
from taskloom.domain.evaluation import Usage
from taskloom.domain.status import Status
from taskloom.domain.task import TaskType
from taskloom.evals import Job, Run, Runtime, Taskset
from taskloom.evals.naming import task_name
from taskloom.wire import messages as m
from taskloom.wire import operations as op


async def test_offline_a_job_stays_in_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TASKLOOM_OFFLINE", "1")

    job = await Taskset("two", rows(2)).run(repeat, runtime)

    assert job.reward == 1.0
    archive = tmp_path / "own" / "offline" / f"{job.id}.zip"
    assert any(name.endswith("events") for name in zipfile.ZipFile(archive).namelist())
    assert str(archive) in capsys.readouterr().err


async def test_a_job_is_recorded_on_the_server_and_gone_on_with(
    house: House, monkeypatch: pytest.MonkeyPatch, runtime: Runtime
) -> None:
    for name, value in house.environment().items():
        if name.startswith("TASKLOOM_"):
            monkeypatch.setenv(name, value)
    tasks = rows(3)
    tasks[1].args["outcome"] = "no grade"

    async def count(run: Run) -> None:
        seen.append(run.slug)
        run.model = "m"
        await repeat(run)

    seen: list[str] = []
    first = await Taskset("three", tasks).run(count, runtime, project="a/b")

    record = house.client.call(op.GET_JOB, job=first.id)
    assert (record.counts, record.failures) == ({"completed": 2, "error": 1}, {"grader": 1})
    task = house.client.call(op.GET_TASK, task=first.id)
    assert (task.type, task.status, task.project) == (TaskType.TESTING, Status.COMPLETED, "a/b")
    assert task.parameters["Evaluation"]["agent"].value == "count"

    async with await Job.resume(first.id) as job:
        assert [run.slug for run in job.runs] == ["ask-0", "ask-2"]
        await Taskset("three", tasks).run(count, runtime, job=job)

    assert seen == ["ask-0", "ask-1", "ask-2", "ask-1"]
    again = house.client.call(op.LIST_RUNS, query=m.RunQuery(), job=first.id).runs
    assert [(run.slug, run.attempt) for run in again] == [("ask-0", 1), ("ask-1", 2), ("ask-2", 1)]
    assert job.report().runs == 3
    assert len((await Taskset("three", tasks).run(count, runtime, resume=first.id)).runs) == 3
    assert len(seen) == 5  # what the grader failed is tried again, and nothing else
    with pytest.raises(ValueError, match="expected one of them"):
        await Taskset("three", tasks).run(count, runtime, resume=first.id, job=job)
    with pytest.raises(Conflict, match="the taskset is not the one that it was"):
        await Taskset("three", rows(4)).run(count, runtime, resume=first.id)
    with pytest.raises(Conflict, match=r"the group is not the one that it was \(1, now 2\)"):
        await Taskset("three", tasks).run(count, runtime, 2, resume=first.id)
    assert house.client.call(op.GET_TASK, task=first.id).status is Status.COMPLETED  # a refusal changes nothing
    with pytest.raises(NotFound):
        await Job.resume("f" * 32)


async def test_a_job_is_gone_on_with_from_a_server_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="no server is configured"):
        await Job.resume("f" * 32)


async def test_a_job_that_an_exception_leaves_is_told_as_failed(journal: Journal) -> None:
    with pytest.raises(RuntimeError):
        async with await Job.start("training") as job:
            raise RuntimeError("the loop broke")

    assert job.closed
    assert (job.reward, job.errors, job.results) == (0.0, [], {})


async def test_wrong_names_and_groups_are_refused(journal: Journal) -> None:
    with pytest.raises(ValueError, match="needs a name"):
        await Job.start("")
    with pytest.raises(ValueError, match="group 0"):
        await Job.start("x", group=0)
    with pytest.raises(TypeError, match="whole number"):
        await Job.start("x", group="2")  # pyright: ignore[reportArgumentType]


async def test_a_project_that_can_be_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKLOOM_OFFLINE", "1")
    with pytest.raises(ValueError, match="project name 'a//b'"):
        await Job.start("sums", project="a//b")


def test_names_become_names_of_tasks() -> None:
    assert task_name("ab") == "ab evaluation"
    assert task_name("a\nb c") == "a b c"
    assert len(task_name("x" * 1000)) == 256


async def test_a_report_tells_failures_of_the_infrastructure_apart(journal: Journal, runtime: Runtime) -> None:
    async def spend(run: Run) -> None:
        run.trace.usage = Usage(prompt_tokens=7)
        await repeat(run)

    tasks = rows(4)
    tasks[3].args["outcome"] = "no prompt"
    job = await Taskset("four", tasks).run(spend, runtime)

    figures = job.report()

    assert (figures.runs, figures.counted, figures.failures) == (4, 3, {"environment": 1})
    assert figures.reward is not None
    assert figures.reward.mean == 1.0
    assert figures.reward_all == 0.75
    assert figures.usage.prompt_tokens == 21

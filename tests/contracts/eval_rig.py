"""Evaluations as a job's journal tells them: runs that begin, take steps and end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import msgspec
from tests.conftest import House
from tests.journals import Run, fresh_id

from taskloom.domain.evaluation import EvalJob, EvalRow, EvalRun, Grade, Step
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.records import JobStored, RunStored, StepsTaken


class Evaluation(Run):
    """A recorded task with runs. What it says is sent by `ship`, like everything of a journal."""

    def __init__(self, house: House, task: str = "", writer: str = "w1") -> None:
        super().__init__(house.client, task, writer)

    def job(self, **fields: Any) -> Self:
        """The task is this job."""
        self.say(JobStored(job=EvalJob(id=self.task, **{"name": "a job", "agent": "one", **fields})))
        return self

    def told(self, run: EvalRun) -> EvalRun:
        self.say(RunStored(run=run))
        return run

    def begin(self, run: str = "", job: str = "", **fields: Any) -> EvalRun:
        fields = {"slug": "a-slug", "started": 10.0, **fields}
        return self.told(EvalRun(id=run or fresh_id(), job=job or self.task, **fields))

    def took(self, run: EvalRun, *contents: str, start: int = 0) -> None:
        steps = tuple(Step(source="agent", content=content) for content in contents)
        self.say(StepsTaken(run=run.id, job=run.job, start=start, steps=steps))

    def whole(self, reward: float | None = 1.0, *, seconds: float = 2.0, **fields: Any) -> EvalRun:
        """A run with two steps that is graded, or failed for the boundary that is given."""
        run = self.begin(**fields)
        self.took(run, "thinking", "done")
        return self.told(finished(run, reward, seconds=seconds))

    # --- what the server has -----------------------------------------------------------------------------

    def record(self) -> m.JobRecord:
        return self.client.call(op.GET_JOB, job=self.task)

    def runs(self, **query: Any) -> list[EvalRun]:
        return self.client.call(op.LIST_RUNS, query=m.RunQuery(**query), job=self.task).runs

    def trace(self, run: EvalRun) -> list[str]:
        page = self.client.call(op.GET_STEPS, query=m.StepsQuery(), run=run.id)
        assert page.total == len(page.steps)
        return [step.content for step in page.steps]


def finished(run: EvalRun, reward: float | None = 1.0, *, seconds: float = 2.0, **fields: Any) -> EvalRun:
    failed = reward is None
    ended: dict[str, Any] = {
        "status": "error" if failed else "completed",
        "grade": None if failed else Grade(reward=reward or 0.0),
        "ended": run.started + seconds,
        "steps": 2,
        **fields,
    }
    return msgspec.structs.replace(run, **ended)


def row(slug: str, env: str = "an-env", **fields: Any) -> EvalRow:
    return EvalRow(slug=slug, env=env, **{"id": "a-template", **fields})


class Shelf:
    """A taskset on a house's server."""

    def __init__(self, house: House, name: str = "") -> None:
        self.client, self.name = house.client, name or f"questions {fresh_id()}"

    def upload(self, *rows: EvalRow, remove: Sequence[str] = (), **more: Any) -> m.TasksetChanged:
        body = m.TasksetUpload(rows=list(rows), remove=list(remove), **more)
        return self.client.call(op.UPLOAD_TASKSET, body, taskset=self.name)

    def page(self, **query: Any) -> m.RowPage:
        return self.client.call(op.LIST_ROWS, query=m.RowsQuery(**query), taskset=self.name)

    def slugs(self, **query: Any) -> list[str]:
        return [row.slug for row in self.page(**query).rows]

    def info(self) -> m.TasksetInfo:
        return self.client.call(op.GET_TASKSET, taskset=self.name)

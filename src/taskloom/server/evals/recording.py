"""What journals tell of evaluations, applied to both databases: jobs and runs to main, steps to telemetry.

Every record comes here once and in its writer's order; whoever lets it in (see tasks.journal) has checked it. Runs of
one batch are written together, of each the last word only. What is told of a job that was deleted or reset, waits to
begin or is published passes by: a journal must not stand still for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec
from sqlalchemy import Connection

from taskloom.domain.evaluation import EvalRun
from taskloom.server.evals import step_store, store
from taskloom.server.evals.step_store import StepRow
from taskloom.wire.records import JobStored, Record, RunStored, StepsTaken

EvalRecord = JobStored | RunStored | StepsTaken


def jobs_elsewhere(task_id: str, records: Iterable[Record]) -> list[str]:
    """The jobs that records of this task's journal name and that are other tasks."""
    found: dict[str, None] = {}
    for record in records:
        job = record.run.job if isinstance(record, RunStored) else getattr(record, "job", None)
        if isinstance(job, str) and job != task_id:
            found[job] = None
    return list(found)


def apply(tx: Connection, task_id: str, records: Sequence[JobStored | RunStored], now: float) -> set[str]:
    """Write jobs and runs; which jobs changed."""
    closed = store.closed_jobs(tx, jobs_elsewhere(task_id, records))
    told: set[str] = set()
    newest: dict[str, EvalRun] = {}
    for record in records:
        if isinstance(record, JobStored):
            store.put_job(tx, record.job, now)
            told.add(record.job.id)
        elif record.run.job not in closed:
            run = record.run if record.run.task == task_id else msgspec.structs.replace(record.run, task=task_id)
            earlier = newest.get(run.id)
            if earlier is None or run.attempt >= earlier.attempt:
                newest[run.id] = run
            told.add(run.job)
    store.put_runs(tx, list(newest.values()))
    return told


def apply_steps(tx: Connection, records: Sequence[Record], closed: Collection[str]) -> set[str]:
    """Write the steps of traces; a run that begins, perhaps again, has none. Which jobs have new ones."""
    begun: dict[str, None] = {}
    rows: dict[str, dict[int, StepRow]] = {}
    for record in records:
        if isinstance(record, StepsTaken) and record.job not in closed:
            own = rows.setdefault(record.run, {})
            for number, step in enumerate(record.steps, record.start):
                own[number] = step_store.pack_step(record.run, number, record.job, step)
        elif isinstance(record, RunStored) and _begins(record.run) and record.run.job not in closed:
            begun[record.run.id] = None
            rows.pop(record.run.id, None)
    fresh = [row for own in rows.values() for row in own.values()]
    step_store.drop_runs(tx, list(begun))
    step_store.put_steps(tx, fresh)
    return {row.job for row in fresh}


def _begins(run: EvalRun) -> bool:
    return run.status == store.RUNNING and not run.steps

"""Jobs, runs and traces as they are told: pages with their totals, counts by state. Only reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import Connection

from taskloom.domain.evaluation import EvalRun, Step
from taskloom.server.evals import step_store, store
from taskloom.server.settings import MIB
from taskloom.wire.messages import JobList, JobQuery, JobRecord, RunList, RunQuery, StepPage, StepsQuery

CANCELLED = "cancelled"
ANSWER = 32 * MIB  # bytes of runs, steps or rows in one answer; it has one at least


def job(tx: Connection, job_id: str) -> JobRecord | None:
    found = store.find_job(tx, job_id)
    return None if found is None else _counted(tx, [found])[0]


def jobs(tx: Connection, query: JobQuery) -> JobList:
    page, total = store.job_page(tx, query)
    return JobList(jobs=_counted(tx, page), total=total)


def runs(tx: Connection, job_id: str, query: RunQuery) -> RunList:
    """A page; fewer where they are large."""
    found, total = store.run_page(tx, job_id, query)
    wanted: list[str] = []
    size = 0
    for run, length in found:
        size += length
        if wanted and size > ANSWER:
            break
        wanted.append(run)
    return RunList(runs=store.runs_of(tx, wanted), total=total)


def steps(tx: Connection, run: EvalRun, query: StepsQuery) -> StepPage:
    taken: list[Step] = []
    size, first = 0, query.start
    for number, length, step in step_store.steps_from(tx, run.id, query.start, query.limit):
        size += length
        if taken and size > ANSWER:
            break
        if not taken:
            first = number
        elif number != first + len(taken):
            break  # what is missing in between is on its way
        taken.append(step)
    return StepPage(start=first, total=step_store.count(tx, run.id), steps=taken)


def _counted(tx: Connection, found: Sequence[JobRecord]) -> list[JobRecord]:
    counted = store.count_runs(tx, [one.job.id for one in found])
    return [_with_counts(one, counted.get(one.job.id, ())) for one in found]


def _with_counts(record: JobRecord, counted: Iterable[store.Counted]) -> JobRecord:
    """`reward` is over all runs that ended, those without one as 0; `graded` over those that have one.

    As `domain.statistics` counts them: a run that was cancelled ended, and its reward says nothing.
    """
    counts: dict[str, int] = {}
    failures: dict[str, int] = {}
    graded, rewards, ended = 0, 0.0, 0
    for one in counted:
        counts[one.status] = counts.get(one.status, 0) + one.runs
        if one.boundary:
            failures[one.boundary] = failures.get(one.boundary, 0) + one.runs
        if one.status == store.RUNNING:
            continue
        ended += one.runs
        if one.status != CANCELLED:
            graded, rewards = graded + one.graded, rewards + one.rewards
    return msgspec.structs.replace(
        record,
        runs=sum(counts.values()),
        counts=counts,
        failures=failures,
        reward=rewards / ended if ended else 0.0,
        graded=rewards / graded if graded else None,
    )

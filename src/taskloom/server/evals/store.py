"""SQL of jobs and their runs. Knows shapes, not rules; every function works in its caller's transaction.

What lists count, filter and sort by stands in columns that an index covers, so that a page of a job of a million runs
reads a page of rows. Reports are made from columns alone: the documents, which may be long, stay unread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.sqlite import Insert

from taskloom.domain.evaluation import EvalJob, EvalRun, Grade, Usage
from taskloom.domain.status import Status
from taskloom.server.db import insert, like
from taskloom.server.prepared import Prepared
from taskloom.server.tables import deletions, eval_jobs, eval_runs, projects, tasks
from taskloom.wire.messages import JobQuery, JobRecord, RunQuery

PAGE = 500  # ids in one IN list
RUNNING = "running"
_NOT_STARTED = frozenset({Status.DRAFT.value, Status.PENDING.value, Status.PUBLISHED.value})
_pack = msgspec.msgpack.Encoder().encode
_job_of = msgspec.msgpack.Decoder(EvalJob)
_run_of = msgspec.msgpack.Decoder(EvalRun)
_columns_of = msgspec.msgpack.Decoder(dict[str, Any])


@dataclass(frozen=True)
class Counted:
    """Runs of a job in one state: how many, how many of them have a reward, and the sum of these."""

    status: str
    boundary: str
    runs: int
    graded: int
    rewards: float


@dataclass(frozen=True)
class Made:
    """A job as a leaderboard finds it."""

    id: str
    agent: str
    model: str


# --- recording --------------------------------------------------------------------------------------------


def put_job(tx: Connection, job: EvalJob, now: float) -> None:
    """A job that is continued keeps the time when it was made."""
    fresh = insert(tx, eval_jobs)
    kept = {"task_id", "created"}
    statement = fresh.on_conflict_do_update(
        index_elements=[eval_jobs.c.task_id],
        set_={c.name: fresh.excluded[c.name] for c in eval_jobs.c if c.name not in kept},
    )
    values = {
        "task_id": job.id,
        "name": job.name,
        "taskset": job.taskset,
        "taskset_version": job.taskset_version,
        "agent": job.agent,
        "model": job.model,
        "trained_by": job.trained_by,
        "created": job.created or now,
        "document": _pack(job),
    }
    tx.execute(statement, values)


def put_runs(tx: Connection, runs: Sequence[EvalRun]) -> None:
    """As they stand now. A run that is there from a later attempt, or as another job's, stays."""
    if not runs:
        return
    rows = [_row(run) for run in runs]
    if tx.dialect.name == "sqlite":
        _PUT.run_many(tx, rows)
    else:
        tx.execute(_upsert(insert(tx, eval_runs)), rows)


def _upsert(fresh: Insert) -> Insert:
    return fresh.on_conflict_do_update(
        index_elements=[eval_runs.c.id],
        set_={c.name: fresh.excluded[c.name] for c in eval_runs.c if c.name not in {"id", "job_id"}},
        where=and_(fresh.excluded.attempt >= eval_runs.c.attempt, fresh.excluded.job_id == eval_runs.c.job_id),
    )


_PUT = Prepared(_upsert(Insert(eval_runs)), [column.name for column in eval_runs.c])


def _row(run: EvalRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "job_id": run.job,
        "task_id": run.task,
        "position": run.position,
        "slug": run.slug,
        "env": run.env,
        "status": run.status,
        "boundary": run.boundary,
        "stop_reason": run.stop_reason,
        "graded": run.grade is not None,
        "reward": run.reward,
        "agent": run.agent,
        "model": run.model,
        "attempt": run.attempt,
        "started": run.started,
        "ended": run.ended,
        "seconds": max(run.ended - run.started, 0.0) if run.ended and run.started else 0.0,
        "cost": run.usage.cost_usd,
        "prompt_tokens": run.usage.prompt_tokens,
        "completion_tokens": run.usage.completion_tokens,
        "cached_tokens": run.usage.cached_tokens,
        "columns": _pack(run.columns) if run.columns else None,
        "document": _pack(run),
    }


def closed_jobs(tx: Connection, job_ids: Sequence[str]) -> set[str]:
    """Those of the jobs whose task takes no runs: it was deleted or reset, waits to begin, or is published."""
    closed: set[str] = set()
    for start in range(0, len(job_ids), PAGE):
        some = list(job_ids[start : start + PAGE])
        gone = select(deletions.c.task_id).where(deletions.c.task_id.in_(some))
        closed |= set(tx.execute(gone).scalars())
        idle = select(tasks.c.id).where(tasks.c.id.in_(some), tasks.c.status.in_(_NOT_STARTED))
        closed |= set(tx.execute(idle).scalars())
    return closed


def projects_of(tx: Connection, task_ids: Sequence[str]) -> dict[str, str]:
    """The path of each task's project."""
    named = select(tasks.c.id, projects.c.name).join(projects, projects.c.id == tasks.c.project_id)
    return {row[0]: row[1] for row in tx.execute(named.where(tasks.c.id.in_(list(task_ids))))}


_RUNNING_OF_JOB = Prepared(
    select(eval_runs.c.document).where(
        eval_runs.c.job_id == bindparam("task"), eval_runs.c.status == bindparam("state")
    )
)
_RUNNING_IN_TASK = Prepared(
    select(eval_runs.c.document).where(
        eval_runs.c.task_id == bindparam("task"), eval_runs.c.status == bindparam("state")
    )
)


def running(tx: Connection, task_id: str) -> list[EvalRun]:
    """The runs that a task runs, as their job or as the task that they run in."""
    given = {"task": task_id, "state": RUNNING}
    found = [*_RUNNING_OF_JOB.rows(tx, given), *_RUNNING_IN_TASK.rows(tx, given)]
    runs = [_run_of.decode(row[0]) for row in found]
    return list({run.id: run for run in runs}.values())


# --- deleting ---------------------------------------------------------------------------------------------


def drop_job(tx: Connection, task_id: str) -> None:
    """The job and its runs; what another task recorded of it, too."""
    tx.execute(delete(eval_runs).where(eval_runs.c.job_id == task_id))
    tx.execute(delete(eval_jobs).where(eval_jobs.c.task_id == task_id))


def drop_strays(tx: Connection, task_id: str) -> None:
    """Runs that a task recorded for a job which never came."""
    unknown = eval_runs.c.job_id.not_in(select(tasks.c.id))
    tx.execute(delete(eval_runs).where(eval_runs.c.task_id == task_id, unknown))


# --- jobs -------------------------------------------------------------------------------------------------

_JOBS = eval_jobs.join(tasks, tasks.c.id == eval_jobs.c.task_id).join(
    projects, projects.c.id == tasks.c.project_id
)
_TOLD = (
    eval_jobs.c.document,
    projects.c.name.label("project"),
    tasks.c.name.label("task_name"),
    tasks.c.status,
    tasks.c.user,
    tasks.c.started,
    tasks.c.completed,
    tasks.c.last_update,
)


def find_job(tx: Connection, job_id: str) -> JobRecord | None:
    row = tx.execute(select(*_TOLD).select_from(_JOBS).where(eval_jobs.c.task_id == job_id)).one_or_none()
    return None if row is None else _record(dict(row._mapping))  # pyright: ignore[reportPrivateUsage]


def job_page(tx: Connection, query: JobQuery) -> tuple[list[JobRecord], int]:
    """Newest first, without their counts. Jobs of archived tasks are left out."""
    tests: list[ColumnElement[bool]] = [tasks.c.hidden.is_(False)]
    for column, value in (
        (eval_jobs.c.taskset, query.taskset),
        (eval_jobs.c.agent, query.agent),
        (eval_jobs.c.model, query.model),
    ):
        if value:
            tests.append(column == value)
    if query.project:
        start = f"{query.project}/"
        tests.append(or_(projects.c.name == query.project, func.substr(projects.c.name, 1, len(start)) == start))
    if query.search:
        tests.append(func.lower(eval_jobs.c.name).like(like(query.search.lower()), escape="!"))
    source = select(func.count()).select_from(_JOBS).where(*tests)
    total = tx.execute(source).scalar_one()
    newest = (eval_jobs.c.created.desc(), eval_jobs.c.task_id.desc())
    page = select(*_TOLD).select_from(_JOBS).where(*tests).order_by(*newest)
    rows = tx.execute(page.limit(query.limit).offset(query.offset)).mappings()
    return [_record(dict(row)) for row in rows], total


def _record(values: dict[str, Any]) -> JobRecord:
    return JobRecord(job=_job_of.decode(values.pop("document")), **values)


def count_runs(tx: Connection, job_ids: Sequence[str]) -> dict[str, list[Counted]]:
    """The runs of each job by status and boundary, read off the index."""
    found: dict[str, list[Counted]] = {}
    c = eval_runs.c
    counted = select(c.job_id, c.status, c.boundary, func.count(), func.count(c.reward), func.sum(c.reward))
    for start in range(0, len(job_ids), PAGE):
        some = c.job_id.in_(list(job_ids[start : start + PAGE]))
        for job, status, boundary, runs, graded, rewards in tx.execute(
            counted.where(some).group_by(c.job_id, c.status, c.boundary)
        ):
            found.setdefault(job, []).append(Counted(status, boundary, runs, graded, rewards or 0.0))
    return found


def jobs_on(tx: Connection, taskset: str, version: int) -> list[Made]:
    """The jobs on a taskset, newest first; version 0: on any."""
    c = eval_jobs.c
    wanted = select(c.task_id, c.agent, c.model).join(tasks, tasks.c.id == c.task_id).where(c.taskset == taskset)
    wanted = wanted.where(tasks.c.hidden.is_(False), c.taskset_version == version if version else true())
    return [Made(*row) for row in tx.execute(wanted.order_by(c.created.desc(), c.task_id.desc()))]


# --- runs -------------------------------------------------------------------------------------------------

_ORDERS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "position": (eval_runs.c.position, eval_runs.c.id),
    "reward": (eval_runs.c.reward.is_(None), eval_runs.c.reward, eval_runs.c.position, eval_runs.c.id),
    "-reward": (eval_runs.c.reward.is_(None), eval_runs.c.reward.desc(), eval_runs.c.position, eval_runs.c.id),
    "-seconds": (eval_runs.c.seconds.desc(), eval_runs.c.position, eval_runs.c.id),
    "-cost": (eval_runs.c.cost.desc(), eval_runs.c.position, eval_runs.c.id),
    "-started": (eval_runs.c.started.desc(), eval_runs.c.position, eval_runs.c.id),
}


def find_run(tx: Connection, run_id: str) -> EvalRun | None:
    document = tx.execute(select(eval_runs.c.document).where(eval_runs.c.id == run_id)).scalar_one_or_none()
    return None if document is None else _run_of.decode(document)


def run_page(tx: Connection, job_id: str, query: RunQuery) -> tuple[list[tuple[str, int]], int]:
    """Ids of a page of a job's runs with the bytes of their documents, and how many there are of them."""
    tests: list[ColumnElement[bool]] = [eval_runs.c.job_id == job_id]
    for column, value in (
        (eval_runs.c.status, query.status),
        (eval_runs.c.boundary, query.boundary),
        (eval_runs.c.slug, query.slug),
    ):
        if value:
            tests.append(column == value)
    if query.search:
        tests.append(func.lower(eval_runs.c.slug).like(like(query.search.lower()), escape="!"))
    total = tx.execute(select(func.count()).select_from(eval_runs).where(*tests)).scalar_one()
    # The ids first, off an index; then the size of each document, which does not read it.
    ids = select(eval_runs.c.id).where(*tests).order_by(*_ORDERS[query.order])
    wanted = list(tx.execute(ids.limit(query.limit).offset(query.offset)).scalars())
    sizes: dict[str, int] = {}
    for some in _parts(wanted):
        measured = select(eval_runs.c.id, func.length(eval_runs.c.document)).where(eval_runs.c.id.in_(some))
        sizes |= {row[0]: row[1] for row in tx.execute(measured)}
    return [(run, sizes[run]) for run in wanted], total


def runs_of(tx: Connection, run_ids: Sequence[str]) -> list[EvalRun]:
    """In the order of the ids."""
    found: dict[str, EvalRun] = {}
    for some in _parts(run_ids):
        for run, document in tx.execute(
            select(eval_runs.c.id, eval_runs.c.document).where(eval_runs.c.id.in_(some))
        ):
            found[run] = _run_of.decode(document)
    return [found[run] for run in run_ids]


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), PAGE):
        yield list(ids[start : start + PAGE])


# --- figures ----------------------------------------------------------------------------------------------

_FIGURES = Prepared(
    select(
        eval_runs.c.slug,
        eval_runs.c.status,
        eval_runs.c.boundary,
        eval_runs.c.stop_reason,
        eval_runs.c.graded,
        eval_runs.c.reward,
        eval_runs.c.agent,
        eval_runs.c.model,
        eval_runs.c.position,
        eval_runs.c.started,
        eval_runs.c.ended,
        eval_runs.c.prompt_tokens,
        eval_runs.c.completion_tokens,
        eval_runs.c.cached_tokens,
        eval_runs.c.cost,
        eval_runs.c.columns,
    )
    .where(eval_runs.c.job_id == bindparam("job"))
    .order_by(eval_runs.c.position, eval_runs.c.id)
)


def count_of(tx: Connection, job_ids: Sequence[str]) -> int:
    """How many runs these jobs have."""
    total = 0
    for some in _parts(job_ids):
        counted = select(func.count()).select_from(eval_runs).where(eval_runs.c.job_id.in_(some))
        total += tx.execute(counted).scalar_one()
    return total


def outlines(tx: Connection, job_ids: Sequence[str], *, columns: bool) -> list[EvalRun]:
    """What figures are made of, without the documents: no answer, no arguments, of a grade the reward only."""
    values = _Shared()
    return [
        values.outline(job, row, columns=columns) for job in job_ids for row in _FIGURES.rows(tx, {"job": job})
    ]


class _Shared:
    """Values that many runs have, made once: of a million runs all would not fit."""

    def __init__(self) -> None:
        self._nothing: dict[str, Any] = {}
        self._usages: dict[tuple[Any, ...], Usage] = {}
        self._grades: dict[float | None, Grade] = {None: Grade(is_error=True)}
        self._columns: dict[bytes | None, dict[str, Any]] = {None: self._nothing}

    def outline(self, job: str, row: Sequence[Any], *, columns: bool) -> EvalRun:
        slug, status, boundary, stop_reason, graded, reward, agent, model, position, started, ended, *used = row
        return EvalRun(
            id="",
            job=job,
            position=position,
            slug=slug,
            args=self._nothing,
            columns=self._columns_of(used[4]) if columns else self._nothing,
            status=status,
            boundary=boundary,
            stop_reason=stop_reason,
            grade=self._grade(reward) if graded else None,
            usage=self._usage((used[0], used[1], used[2], used[3])),
            agent=agent,
            model=model,
            started=started,
            ended=ended,
            extra=self._nothing,
        )

    def _usage(self, used: tuple[Any, ...]) -> Usage:
        found = self._usages.get(used)
        if found is None:
            found = self._usages[used] = Usage(*used)
        return found

    def _grade(self, reward: float | None) -> Grade:
        if reward is not None and reward not in self._grades:
            self._grades[reward] = Grade(reward=reward)
        return self._grades[reward]

    def _columns_of(self, packed: bytes | None) -> dict[str, Any]:
        if packed is not None and packed not in self._columns:
            self._columns[packed] = _columns_of.decode(packed)
        return self._columns[packed]

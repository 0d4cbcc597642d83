"""Evaluations: what journals record of them, what is told of it, and tasksets with their versions.

A job is a recorded task; it begins, ends and is deleted as a task, and `tasks` calls here in the same transactions
(`apply_records`, `drop_results`) and for the other database (`append_steps`, `delete_steps`). Tasksets are kept by
`tasksets`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, NotFound
from taskloom.domain.evaluation import EvalJob, EvalRun
from taskloom.server.db import Database
from taskloom.server.evals import checks, reading, recording, step_store, store
from taskloom.server.evals.tasksets import TasksetDesk
from taskloom.server.events import Announcements, EventBus
from taskloom.server.settings import Clock, Settings
from taskloom.wire.messages import (
    CompareQuery,
    JobComparison,
    JobList,
    JobQuery,
    JobRecord,
    JobReport,
    Leaderboard,
    LeaderboardQuery,
    ReportQuery,
    RunList,
    RunQuery,
    StepPage,
    StepsQuery,
)
from taskloom.wire.records import JobStored, Record, RunStored

KIND = "evals"  # of live events; their task is the job
MAX_STEPS = 10_000  # in one answer
DELETE_STEPS = 500  # in one transaction, so that other writers get their turn
MAX_ENTRIES = 1000  # of a leaderboard, of the slugs of a comparison


class EvalService:
    def __init__(
        self, main: Database, telemetry: Database, bus: EventBus, clock: Clock, settings: Settings
    ) -> None:
        self._main, self._telemetry = main, telemetry
        self._clock, self._settings = clock, settings
        self._live = Announcements(bus, clock)
        self.tasksets = TasksetDesk(main, clock, settings)

    async def start(self) -> None:
        await self.tasksets.start()

    async def stop(self) -> None:
        await self.tasksets.stop()

    # --- recording, for tasks ----------------------------------------------------------------------------

    def apply_records(
        self, tx: Connection, task_id: str, records: Sequence[JobStored | RunStored], now: float
    ) -> set[str]:
        """Checked records of this task's journal into main; which jobs changed."""
        return recording.apply(tx, task_id, records, now)

    def append_steps(self, closed: Collection[str]) -> Callable[[Connection, Sequence[Record]], set[str]]:
        """What is done with new records in the transaction of telemetry; `closed`: jobs that take nothing."""
        return lambda tx, records: recording.apply_steps(tx, records, closed)

    async def closed_jobs(self, jobs: Sequence[str]) -> set[str]:
        """Those of the jobs that take nothing, because their task was deleted or reset or is published."""
        return await self._main.read(lambda tx: store.closed_jobs(tx, jobs)) if jobs else set()

    async def tell(self, jobs: Collection[str], known: dict[str, str]) -> None:
        """Live events for jobs that changed. `known`: the projects of those whose project the caller knows."""
        unknown = [job for job in jobs if job not in known]
        if unknown:
            known = {**known, **await self._main.read(lambda tx: store.projects_of(tx, unknown))}
        for job in jobs:
            self._live.tell(KIND, job, known.get(job, ""))

    def drop_results(self, tx: Connection, task_id: str) -> None:
        """The job and its runs, in the transaction that resets or deletes its task; steps go later."""
        store.drop_job(tx, task_id)

    def drop_strays(self, tx: Connection, task_id: str) -> None:
        """What a task that is deleted recorded for jobs that never came."""
        store.drop_strays(tx, task_id)

    async def delete_steps(self, job_id: str) -> None:
        """All traces of a job, in short transactions; may be repeated after a crash."""
        while await self._telemetry.write(lambda tx: step_store.drop_some(tx, job_id, DELETE_STEPS)):
            pass

    # --- jobs and runs -----------------------------------------------------------------------------------

    async def list_jobs(self, query: JobQuery) -> JobList:
        checks.check_page(query.limit, query.offset, self._settings.max_page)
        return await self._main.read(lambda tx: reading.jobs(tx, query))

    async def get_job(self, job_id: str) -> JobRecord:
        found = await self._main.read(lambda tx: reading.job(tx, job_id))
        if found is None:
            raise _no_job(job_id)
        return found

    async def list_runs(self, job_id: str, query: RunQuery) -> RunList:
        checks.check_page(query.limit, query.offset, self._settings.max_page)

        def work(tx: Connection) -> RunList:
            _job(tx, job_id)
            return reading.runs(tx, job_id, query)

        return await self._main.read(work)

    async def get_run(self, run_id: str) -> EvalRun:
        found = await self._main.read(lambda tx: store.find_run(tx, run_id))
        if found is None:
            raise NotFound(f"no run {run_id[:80]!r}")
        return found

    async def get_steps(self, run_id: str, query: StepsQuery) -> StepPage:
        checks.check_page(query.limit, query.start, MAX_STEPS)
        run = await self.get_run(run_id)
        return await self._telemetry.read(lambda tx: reading.steps(tx, run, query))

    # --- figures -----------------------------------------------------------------------------------------

    async def report_job(self, job_id: str, query: ReportQuery) -> JobReport:
        from taskloom.server.evals import figures

        _check_figures(query.threshold, query.level)
        return await self._main.read(lambda tx: figures.report(tx, _job(tx, job_id), query))

    async def compare_jobs(self, query: CompareQuery) -> JobComparison:
        from taskloom.server.evals import figures

        _check_figures(query.threshold, query.level)
        checks.check_page(query.limit, 0, MAX_ENTRIES)
        if query.first == query.second:
            raise BadInput("first and second are the same job; expected two")

        def work(tx: Connection) -> JobComparison:
            return figures.comparison(tx, _job(tx, query.first), _job(tx, query.second), query)

        return await self._main.read(work)

    async def leaderboard(self, query: LeaderboardQuery) -> Leaderboard:
        """`taskset`: a name, also of one that only jobs name, or an id."""
        from taskloom.server.evals import figures

        _check_figures(query.threshold, query.level)
        checks.check_page(query.limit, query.version, MAX_ENTRIES)
        name = await self.tasksets.name_of(query.taskset)
        return await self._main.read(lambda tx: figures.leaderboard(tx, name, query))


def _job(tx: Connection, job_id: str) -> EvalJob:
    found = store.find_job(tx, job_id)
    if found is None:
        raise _no_job(job_id)
    return found.job


def _no_job(job_id: str) -> NotFound:
    return NotFound(f"no job {job_id[:80]!r}", job=job_id[:80])


def _check_figures(threshold: float, level: float) -> None:
    checks.check_finite(threshold, "threshold")
    checks.check_share(level, "level")

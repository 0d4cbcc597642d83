"""What HUD's client reports, as records of a journal: the one road on which jobs, runs and steps come in.

A job's reports are written one after the other, whoever sends them, by a writer that this process makes up: its
numbers are its own, and after a fault of a write another one goes on.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from taskloom.domain.errors import Conflict, NotFound
from taskloom.domain.evaluation import EvalJob
from taskloom.domain.project import MAX_NAME, MIN_NAME
from taskloom.domain.status import ENDED
from taskloom.domain.task import TaskType
from taskloom.server.evals.service import EvalService
from taskloom.server.settings import Clock
from taskloom.server.tasks.service import TaskService
from taskloom.wire.messages import JobRecord, JournalBatch
from taskloom.wire.records import JobStored, Opened, OpenMode, Record

PROJECT = "HUD"  # where jobs stand that HUD's client reports
TAG = "hud"  # a system tag of their tasks


class Reporter:
    def __init__(self, tasks: TaskService, evals: EvalService, clock: Clock) -> None:
        self._tasks, self._evals, self._clock = tasks, evals, clock
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._writer = uuid.uuid4().hex

    @asynccontextmanager
    async def turn(self, job: str) -> AsyncGenerator[None]:
        """Alone with a job: read it, decide, write."""
        lock = self._turns.get(job)
        if lock is None:
            self._turns[job] = lock = asyncio.Lock()
        async with lock:
            yield

    async def write(self, user: str, job: str, records: Sequence[Record]) -> None:
        """Within a turn."""
        try:
            marks = await self._tasks.journals.marks(job, self._writer)
            start = marks.events
        except NotFound:
            start = 0
        batch = JournalBatch(writer=self._writer, events_start=start, events=list(records))
        try:
            await self._tasks.journals.ship(user, job, batch)
        except BaseException:
            self._writer = uuid.uuid4().hex  # one database may have it and the other not
            raise

    async def known(self, job: str) -> JobRecord | None:
        try:
            return await self._evals.get_job(job)
        except NotFound:
            return None

    async def open(self, user: str, job: EvalJob) -> None:
        """Within a turn: make the job, or begin it again when it ended; a running one stays as it is."""
        found = await self.known(job.id)
        if found is None:
            await self._check_free(job.id)
            await self.write(user, job.id, [self._opened(job, "new"), JobStored(job=job)])
        elif found.status in {status.value for status in ENDED}:
            await self.write(user, job.id, [self._opened(found.job, "resume"), JobStored(job=found.job)])

    async def _check_free(self, task: str) -> None:
        try:
            await self._tasks.peek_task(task)
        except NotFound:
            return
        raise Conflict(f"the id {task} is that of a task which is no evaluation")

    def _opened(self, job: EvalJob, mode: OpenMode) -> Opened:
        name = job.name if len(job.name) >= MIN_NAME else f"job {job.name}".strip()
        return Opened(
            mode=mode,
            name=name[:MAX_NAME],
            project=PROJECT,
            type=TaskType.TESTING,
            time=self._clock(),
            system_tags=(TAG,),
        )

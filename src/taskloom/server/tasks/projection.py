"""Last, minimum and maximum of series on their way from telemetry into what filters and sorting read.

Every append leaves its series marked in telemetry; here they are copied, at most once a second for all tasks
together, so that runs that report all the time cost main one small transaction. The values are absolute and the
marks are cleared afterwards: a crash between the two copies again and changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from taskloom.domain.errors import TaskloomError
from taskloom.domain.metrics import SeriesSummary
from taskloom.server.db import Database
from taskloom.server.metrics.service import MetricsService
from taskloom.server.settings import Clock
from taskloom.server.tasks import store

log = logging.getLogger("taskloom.server.tasks")

EVERY = 1.0  # seconds between two copies while runs report
SERIES = 500  # series in one transaction


class Projection:
    def __init__(self, main: Database, metrics: MetricsService, clock: Clock) -> None:
        self._main, self._metrics, self._clock = main, metrics, clock
        self._one = asyncio.Lock()
        self._work: asyncio.Task[None] | None = None
        self._wanted = False
        self._last = 0.0

    def wake(self) -> None:
        """Something was appended. Returns at once."""
        self._wanted = True
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(self._run())

    async def flush(self) -> None:
        """Copy what is marked now; when it returns, filters see what was appended before."""
        async with self._one:
            self._wanted = False
            self._last = asyncio.get_running_loop().time()
            while await self._some():
                pass

    async def stop(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        await self._try()

    async def _run(self) -> None:
        while self._wanted:
            await asyncio.sleep(max(0.0, self._last + EVERY - asyncio.get_running_loop().time()))
            await self._try()

    async def _try(self) -> None:
        try:
            await self.flush()
        except (TaskloomError, SQLAlchemyError) as error:  # still marked: the next append or start tries again
            log.warning("summaries were not copied: %s", error)

    async def _some(self) -> bool:
        """One transaction's worth; whether there may be more."""
        found = await self._metrics.dirty_summaries(SERIES)
        if not found:
            return False
        by_task: defaultdict[str, list[SeriesSummary]] = defaultdict(list)
        for one in found:
            by_task[one.task].append(one.summary)
        now = self._clock()

        def work(tx: Connection) -> None:
            for task_id, summaries in by_task.items():
                if store.status_of(tx, task_id) is not None and not store.is_deleting(tx, task_id):
                    store.write_metrics(tx, task_id, summaries, now)

        await self._main.write(work)
        await self._metrics.clear_dirty(found)
        return len(found) == SERIES

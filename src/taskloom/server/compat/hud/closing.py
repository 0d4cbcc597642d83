"""When a job that HUD's client reports is over: nothing says so, hence a rule of our own.

It is completed when all its traces ended and nothing was heard of it for IDLE; a further report opens it again. It is
aborted when nothing was heard for SILENT, though traces never ended or none came. What is known stands in the database,
so a server that was restarted goes on counting.
"""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from taskloom.domain.errors import TaskloomError
from taskloom.domain.status import Status
from taskloom.domain.task import Task
from taskloom.server.compat.hud.call import Rooms
from taskloom.server.compat.hud.reporting import TAG, Reporter
from taskloom.wire.messages import Finish, TaskQuery

IDLE = 300.0  # seconds without a word, all traces ended, until a job is completed
SILENT = 24 * 3600.0  # seconds without a word until a job with open traces is aborted
LOOKED_AT = 500  # jobs at one look, those first that were silent longest

log = logging.getLogger("taskloom.server")


class Closer:
    def __init__(self, rooms: Rooms, reporter: Reporter) -> None:
        self._rooms, self._reporter = rooms, reporter
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._loop = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                await self.sweep()
            except (TaskloomError, SQLAlchemyError, OSError) as error:  # the next look tries again
                log.warning("jobs of HUD's clients could not be looked at: %s", error)
            await asyncio.sleep(self._rooms.settings.sweep)

    async def sweep(self) -> None:
        query = TaskQuery(
            system_tags=[TAG],
            status=[Status.RUNNING],
            order_by=["last_update"],
            fields=["last_update"],
            limit=LOOKED_AT,
        )
        for task in (await self._rooms.tasks.query_tasks(query)).tasks:
            if self._rooms.clock() - task.last_update < IDLE:
                return
            await self._look(task)

    async def _look(self, task: Task) -> None:
        async with self._reporter.turn(task.id):
            now = self._rooms.clock()
            found = await self._reporter.known(task.id)
            if found is None or now - found.last_update < IDLE or found.status != Status.RUNNING.value:
                return
            if found.runs and not found.counts.get("running", 0):
                await self._rooms.tasks.end_task(task.id, Finish(outcome="completed"))
            elif now - found.last_update >= SILENT:
                why = f"nothing was heard of it for {SILENT / 3600:g} hours"
                await self._rooms.tasks.end_task(task.id, Finish(outcome="aborted", reason=why))

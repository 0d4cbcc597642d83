"""Deleting results and whole tasks, in two steps that a crash may part.

The first is a transaction on main: rows go, writers are closed, and `deletions` says what is still to be done.
The second deletes telemetry and bytes, outside of any transaction and as often as it takes; a server that
starts finishes what an earlier one began.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from taskloom.domain.artifact import Model, ModelLink
from taskloom.domain.task import Task
from taskloom.server.artifacts.service import ArtifactService
from taskloom.server.db import Database
from taskloom.server.evals.service import EvalService
from taskloom.server.metrics.service import MetricsService
from taskloom.server.settings import Clock
from taskloom.server.tasks import store
from taskloom.server.tasks.gates import TaskGates


class Removal:
    def __init__(
        self,
        main: Database,
        metrics: MetricsService,
        artifacts: ArtifactService,
        evals: EvalService,
        gates: TaskGates,
        clock: Clock,
    ) -> None:
        self._main, self._metrics, self._artifacts, self._evals = main, metrics, artifacts, evals
        self._gates, self._clock = gates, clock

    def drop_results(self, tx: Connection, task_id: str, *, besides: str = "") -> None:
        """First step of a reset. What its writers still send is discarded, but for the writer `besides`."""
        self._artifacts.drop_results(tx, task_id)
        self._evals.drop_results(tx, task_id)
        store.clear_metrics(tx, task_id)
        store.close_writers(tx, task_id, besides=besides)
        store.note_deletion(tx, [task_id], self._clock(), results_only=True)

    def drop_tasks(self, tx: Connection, task_ids: Sequence[str]) -> dict[str, list[str]]:
        """First step of deleting tasks; tells by task what nobody names any more at their destinations."""
        files = store.files_of(tx, task_ids)
        elsewhere = {task_id: self._artifacts.stored_elsewhere(tx, task_id) for task_id in task_ids}
        for task_id in task_ids:
            self._artifacts.drop_results(tx, task_id)
            self._evals.drop_results(tx, task_id)
            self._evals.drop_strays(tx, task_id)
        store.remove(tx, task_ids)
        self._artifacts.lost_names(tx, files)
        store.note_deletion(tx, task_ids, self._clock(), results_only=False)
        left = {task_id: self._artifacts.named_by_nobody(tx, uris) for task_id, uris in elsewhere.items() if uris}
        return {task_id: uris for task_id, uris in left.items() if uris}

    def keep_inputs(self, tx: Connection, task: Task, links: Sequence[ModelLink]) -> None:
        """Which models go into a run is part of what to run: it outlives a reset and comes along with a clone."""
        for link in links:
            if link.direction == "input":
                self._artifacts.store_model(tx, task, Model(id=link.model), link)

    async def finish(self, task_ids: Sequence[str]) -> None:
        """Second step; nothing is appended to a task meanwhile. May be repeated. Models that went go along."""
        for task_id in [*task_ids, *await self._main.read(store.pending_models)]:
            async with self._gates.alone(task_id):
                if await self._main.read(lambda tx, t=task_id: store.is_deleting(tx, t)):
                    await self._metrics.delete_task(task_id)
                    await self._evals.delete_steps(task_id)
                    await self._main.write(lambda tx, t=task_id: store.settle_deletion(tx, t))
        if task_ids:
            await self._artifacts.delete_unnamed_bytes()

    async def finish_all(self) -> None:
        """What an earlier server did not get to."""
        await self.finish(await self._main.read(store.pending_deletions))

"""Tasks brought over from another server, kept as they were: id, times, state, user.

An import takes three steps, so that a cut one leaves nothing half done that looks whole:

    look     what would have to be done
    begin    the task is there and runs; results of an earlier import are dropped. The importer's journal, under the
             writer it named, brings the results
    finish   the document is written as given, with artifacts and links to models

Each state of the source has a name of its own, the version. A finished version is not begun again, and one whose
importer died is begun anew. A task that somebody ran, moved or reset here since its import belongs to this server:
it is left alone (Conflict), as is one that was never imported. A deleted one stays deleted (Discarded).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection

from taskloom.domain.artifact import Model
from taskloom.domain.errors import BadInput, Conflict, Discarded
from taskloom.domain.status import Status
from taskloom.domain.task import Task
from taskloom.server.artifacts.service import ArtifactService
from taskloom.server.db import Database
from taskloom.server.settings import Clock
from taskloom.server.tasks import store
from taskloom.server.tasks.checks import check_id, check_long, check_writer, checked, finite, told
from taskloom.server.tasks.projection import Projection
from taskloom.server.tasks.removal import Removal
from taskloom.wire.messages import ImportState, TaskImport

Place = Callable[[Connection, Task], Task]
"""The task with the id of its project."""

KEPT = frozenset({Status.DRAFT, Status.COMPLETED, Status.FAILED, Status.ABORTED, Status.PUBLISHED})
LONGEST = 256  # characters of a user's or worker's name
_TIMES = ("status_changed", "created", "started", "completed", "last_update")


class ImportDesk:
    def __init__(
        self,
        main: Database,
        artifacts: ArtifactService,
        removal: Removal,
        projection: Projection,
        clock: Clock,
        place: Place,
    ) -> None:
        self._main, self._artifacts, self._removal = main, artifacts, removal
        self._projection, self._clock, self._place = projection, clock, place

    async def import_task(self, task_id: str, wanted: TaskImport) -> ImportState:
        """What the task was for this import when the step was taken."""
        _check(task_id, wanted)
        if wanted.step == "look":
            return await self._main.read(_bound(_look, task_id, wanted))
        if wanted.step == "begin":
            state = await self._main.write(_bound(self._begin, task_id, wanted))
            if state != "known":
                await self._removal.finish([task_id])
            return state
        await self._projection.flush()  # a later copy of last values would move `last_update`
        await self._main.write(lambda tx: self._finish(tx, task_id, wanted))
        return "known"

    def _begin(self, tx: Connection, task_id: str, wanted: TaskImport) -> ImportState:
        state = _look(tx, task_id, wanted)
        if state == "known":
            return state
        now = self._clock()
        running = msgspec.structs.replace(
            self._whole(tx, wanted.task), status=Status.RUNNING, status_changed=now, last_update=now
        )
        found = store.find(tx, task_id)
        if found is None:
            store.add(tx, running)
        else:
            self._removal.drop_results(tx, task_id)
            _put(tx, found, running)
        store.put_import(tx, task_id, wanted.version, 0)
        store.set_mark(tx, task_id, wanted.writer, 0)
        return state

    def _finish(self, tx: Connection, task_id: str, wanted: TaskImport) -> None:
        found, gate = store.find(tx, task_id), store.gate(tx, task_id, wanted.writer)
        version, finished = store.find_import(tx, task_id) or ("", 0)
        if found is None or gate is None or gate.events is None or gate.closed or version != wanted.version:
            raise Conflict(f"task {task_id} is not being imported by this importer (any more)", task=task_id)
        if finished and finished != _moved(found.task):
            raise _belongs(task_id)
        task = self._whole(tx, wanted.task)
        _put(tx, found, task)
        for artifact in task.artifacts:
            self._artifacts.store_artifact(tx, task_id, artifact)
        for link in task.models:
            self._artifacts.store_model(tx, task, Model(id=link.model), link)
        store.put_import(tx, task_id, wanted.version, _moved(task))

    def _whole(self, tx: Connection, given: Task) -> Task:
        return self._place(tx, checked(_storable(given)))


def _bound(
    step: Callable[[Connection, str, TaskImport], ImportState], task_id: str, wanted: TaskImport
) -> Callable[[Connection], ImportState]:
    return lambda tx: step(tx, task_id, wanted)


def _look(tx: Connection, task_id: str, wanted: TaskImport) -> ImportState:
    found = store.find(tx, task_id)
    if found is None:
        if store.was_deleted(tx, task_id):
            raise Discarded(f"task {task_id} was deleted here", task=task_id)
        return "new"
    mark = store.find_import(tx, task_id)
    if mark is None:
        raise Conflict(f"there is a task {task_id} here that was not imported", task=task_id)
    version, finished = mark
    if not finished:
        return "begun"
    if finished != _moved(found.task):
        raise _belongs(task_id)
    return "known" if version == wanted.version else "changed"


def _belongs(task_id: str) -> Conflict:
    return Conflict(f"task {task_id} was run, moved or reset here since its import", task=task_id)


def _moved(task: Task) -> int:
    """Tells whether the task changed its state since: every move writes this time anew. Never 0."""
    return max(1, round(task.status_changed * 1000))


def _put(tx: Connection, found: store.Found, task: Task) -> None:
    """The task as given, whatever state it is in: no move, because nothing happens here."""
    columns: dict[str, Any] = {"lease": None, "queue_id": "", "status_changed": task.status_changed}
    store.move(tx, task.id, found.status, task.status, **columns)
    store.change(tx, found, task, opener="")


def _storable(task: Task) -> Task:
    """Without what only this server gives: its queues, workers, and metrics, which come from the results."""
    return msgspec.structs.replace(
        task,
        status_reason=told(task.status_reason),
        status_message=told(task.status_message),
        queue="",
        queue_name="",
        attempt=0,
        revision=0,
        metrics=(),
    )


def _check(task_id: str, wanted: TaskImport) -> None:
    check_id(task_id)
    check_writer(wanted.writer)
    check_writer(wanted.version)
    task = wanted.task
    if task.id != task_id:
        raise BadInput(f"the task's id {task.id[:80]!r} is not that of the address, {task_id}")
    if task.status not in KEPT:
        raise BadInput(f"an imported task cannot be {task.status.value}: nothing runs or waits here")
    for name in _TIMES:
        if finite(getattr(task, name), name) < 0:
            raise BadInput(f"{name} {getattr(task, name)}: expected seconds since the epoch")
    for name in ("user", "worker"):
        check_long(getattr(task, name), name, LONGEST)

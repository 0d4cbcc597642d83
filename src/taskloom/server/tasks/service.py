"""Tasks: made, found, edited, cloned, moved, reset, deleted; and the door through which journals come in.

Each call is one transaction on main; live events follow its commit. What a task may hold stands in `checks`, how
it changes its state in `moves`, what a run says about itself in `recording` and `journal`, and what deleting
means in `removal`. Queues build on `moves` inside their own transactions.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from taskloom.domain.artifact import Artifact, ModelLink
from taskloom.domain.errors import (
    Conflict,
    Forbidden,
    IllegalMove,
    NotFound,
    StaleRevision,
    TaskloomError,
)
from taskloom.domain.project import MAX_NAME
from taskloom.domain.status import EDITABLE, ENDED, Move, Status
from taskloom.domain.task import NOT_COPIED_TAGS, Task, TaskEdit, how_to_run
from taskloom.server.artifacts.service import ArtifactService
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.evals.service import EvalService
from taskloom.server.events import EventBus
from taskloom.server.metrics.service import MetricsService
from taskloom.server.projects.service import ProjectService
from taskloom.server.settings import Clock, Settings
from taskloom.server.tasks import moves, query, store
from taskloom.server.tasks.checks import check_id, checked, edited
from taskloom.server.tasks.gates import TaskGates
from taskloom.server.tasks.importing import ImportDesk
from taskloom.server.tasks.journal import JournalDesk
from taskloom.server.tasks.projection import Projection
from taskloom.server.tasks.recording import ENDINGS, RecordKeeper
from taskloom.server.tasks.removal import Removal
from taskloom.server.tasks.reports import ReportDesk
from taskloom.server.tasks.steering import HELD, Resetting, bring
from taskloom.wire.messages import (
    Finish,
    ImportState,
    LiveEvent,
    MoveRequest,
    TaskClone,
    TaskCreate,
    TaskEditRequest,
    TaskImport,
    TaskList,
    TaskQuery,
)

log = logging.getLogger("taskloom.server.tasks")

CLONE_OF = "Clone Of "
DELETED = "deleted"  # what a live event tells as the status of a task that is gone
ALWAYS = frozenset({"id", "name", "project", "status"})


class TaskService:
    def __init__(
        self,
        main: Database,
        bus: EventBus,
        clock: Clock,
        settings: Settings,
        projects: ProjectService,
        metrics: MetricsService,
        artifacts: ArtifactService,
        evals: EvalService,
    ) -> None:
        self._db, self._bus, self._clock, self._settings = main, bus, clock, settings
        self._projects, self._metrics, self._artifacts = projects, metrics, artifacts
        gates = TaskGates()
        self._removal = Removal(main, metrics, artifacts, evals, gates, clock)
        self._resetting = Resetting(artifacts, self._removal)
        self._projection = Projection(main, metrics, clock)
        keeper = RecordKeeper(projects, artifacts, evals, self._removal)
        self.journals = JournalDesk(
            main, metrics, evals, keeper, self._removal, self._projection, gates, bus, clock
        )
        self.reports = ReportDesk(main, metrics, artifacts, self._removal, self._projection, gates, clock)
        self._imports = ImportDesk(
            main,
            artifacts,
            self._removal,
            self._projection,
            clock,
            lambda tx, task: self._placed(tx, task, task.user),
        )
        self._leftovers: asyncio.Task[None] | None = None

    # --- life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Finish what an earlier server began: deletions, and summaries on their way. Nobody waits for it."""
        self._leftovers = asyncio.create_task(self._finish_leftovers())

    async def stop(self) -> None:
        if self._leftovers is not None:
            self._leftovers.cancel()
            await asyncio.gather(self._leftovers, return_exceptions=True)
        await self._projection.stop()

    async def _finish_leftovers(self) -> None:
        try:
            await self._removal.finish_all()
            await self._projection.flush()
        except (TaskloomError, SQLAlchemyError, OSError) as error:  # the next start tries again
            log.warning("what an earlier server left could not be finished: %s", error)

    # --- finding ----------------------------------------------------------------------------------------

    async def get_task(self, task_id: str) -> Task:
        """The whole task; NotFound when there is none."""
        task = await self._db.read(lambda tx: self.load(tx, task_id))
        return msgspec.structs.replace(task, metrics=await self._metrics.summaries(task_id))

    async def peek_task(self, task_id: str) -> Task:
        """The task without its metrics; NotFound when there is none."""
        return await self._db.read(lambda tx: self.load(tx, task_id))

    def load(self, tx: Connection, task_id: str) -> Task:
        """The task with its artifacts and models, without its metrics (they stand in the other database)."""
        return self.with_results(tx, moves.known(tx, task_id).task)

    def with_results(self, tx: Connection, task: Task) -> Task:
        """A task that this transaction has read, with its artifacts and models."""
        return self._with_results(tx, [task])[0]

    async def query_tasks(self, wanted: TaskQuery) -> TaskList:
        query.check(wanted, self._settings.max_page)
        fields = frozenset(wanted.fields)

        def needs(*names: str) -> bool:
            return not fields or not fields.isdisjoint(names)

        def work(tx: Connection) -> tuple[list[Task], int]:
            page = query.page(tx, wanted)
            found = store.find_many(tx, page.ids, documents=needs(*store.DOCUMENT_FIELDS))
            tasks = [found[task_id] for task_id in page.ids if task_id in found]
            if needs("artifacts", "models"):
                tasks = self._with_results(tx, tasks)
            return tasks, page.total

        tasks, total = await self._db.read(work)
        if needs("metrics"):
            summaries = await self._metrics.summaries_of([task.id for task in tasks])
            tasks = [msgspec.structs.replace(task, metrics=summaries.get(task.id, ())) for task in tasks]
        if fields:
            tasks = [_only(task, fields | ALWAYS) for task in tasks]
        return TaskList(tasks=tasks, total=total)

    async def value_keys(self, prefix: str) -> list[str]:
        """Keys that conditions and orders can have and some task has, such as all that begin with `metrics.`"""
        return await self._db.read(lambda tx: query.value_keys(tx, prefix))

    def _with_results(self, tx: Connection, tasks: list[Task]) -> list[Task]:
        ids = [task.id for task in tasks]
        artifacts, links = self._artifacts.of_tasks(tx, ids), self._artifacts.links_of_tasks(tx, ids)
        return [
            msgspec.structs.replace(t, artifacts=artifacts.get(t.id, ()), models=links.get(t.id, ()))
            for t in tasks
        ]

    # --- making and editing -----------------------------------------------------------------------------

    async def create_task(
        self, caller: Caller, wanted: TaskCreate, also: Callable[[Connection, Task], None] | None = None
    ) -> Task:
        """`also` is done with the new task in the same transaction."""
        now = self._clock()
        task = checked(
            Task(
                id=check_id(wanted.id) if wanted.id else uuid.uuid4().hex,
                name=wanted.name,
                project=wanted.project,
                type=wanted.type,
                status_changed=now,
                user=caller.user,
                comment=wanted.comment,
                parent=wanted.parent,
                tags=wanted.tags,
                system_tags=wanted.system_tags,
                created=now,
                last_update=now,
                execution=wanted.execution,
                parameters=wanted.parameters,
                configuration=wanted.configuration,
                properties=wanted.properties,
                runtime=wanted.runtime,
                progress=wanted.progress,
                output_uri=wanted.output_uri,
            )
        )

        def work(tx: Connection) -> Task:
            if store.status_of(tx, task.id) is not None or store.was_deleted(tx, task.id):
                raise Conflict(f"there is or was a task {task.id}; ids are never used again", task=task.id)
            placed = self._placed(tx, task, caller.user)
            self._name_files(tx, "", placed)
            store.add(tx, placed)
            if also is not None:
                also(tx, placed)
            return placed

        return self._told(await self._db.write(work))

    async def edit_task(self, caller: Caller, task_id: str, request: TaskEditRequest) -> Task:
        if request.force and not caller.may("admin"):
            raise Forbidden("only an administrator may force an edit", role=caller.role)
        open_in = frozenset(Status) if request.force else EDITABLE
        await self.change_task(caller, task_id, lambda tx, task: request.edit, open_in)
        return await self.get_task(task_id)

    async def change_task(
        self,
        caller: Caller,
        task_id: str,
        make: Callable[[Connection, Task], TaskEdit],
        open_in: Collection[Status] = EDITABLE,
    ) -> Task:
        """An edit made from the task as it is, in one transaction; the answer is without results.

        `make` may change in that transaction what else belongs to the task. `open_in` are the states in which
        what to run may be edited: a run edits its own, too.
        """

        def work(tx: Connection) -> Task:
            found = moves.known(tx, task_id)
            edit = make(tx, found.task)
            if edit.revision is not None and edit.revision != found.task.revision:
                raise StaleRevision(
                    f"task {task_id} has revision {found.task.revision}, not {edit.revision}; read it again",
                    revision=found.task.revision,
                )
            if edit.needs_draft() and found.status not in open_in:
                raise IllegalMove(
                    f"task {task_id} is {found.status.value}; what to run can be edited in a draft only: "
                    "clone it, or reset it first",
                    status=found.status.value,
                )
            after = self._placed(tx, edited(found.task, edit), caller.user, found.task)
            self._name_files(tx, found.task.execution.files, after)
            return self._write(tx, found, after)

        return self._told(await self._db.write(work))

    async def clone_task(self, caller: Caller, task_id: str, wanted: TaskClone) -> Task:
        """A draft that runs the same; what the source produced stays behind."""
        now = self._clock()

        def work(tx: Connection) -> Task:
            source = moves.known(tx, task_id).task
            kept = tuple(t for t in source.system_tags if t not in NOT_COPIED_TAGS)
            clone = checked(
                Task(
                    id=uuid.uuid4().hex,
                    name=wanted.name or f"{CLONE_OF}{source.name}"[:MAX_NAME].rstrip(),
                    project=wanted.project or source.project,
                    type=source.type,
                    status_changed=now,
                    user=caller.user,
                    comment=source.comment if wanted.comment is None else wanted.comment,
                    parent=wanted.parent or source.id,
                    tags=source.tags,
                    system_tags=kept,
                    created=now,
                    last_update=now,
                    execution=source.execution,
                    parameters=source.parameters,
                    configuration=source.configuration,
                    properties=source.properties,
                    runtime=how_to_run(source.runtime),
                    output_uri=source.output_uri,
                )
            )
            if wanted.edit is not None:
                clone = edited(clone, wanted.edit)
            clone = self._placed(tx, clone, caller.user)
            self._name_files(tx, "", clone)
            store.add(tx, clone)
            self._removal.keep_inputs(tx, clone, self._artifacts.links_of_task(tx, source.id))
            return self.load(tx, clone.id)

        return self._told(await self._db.write(work))

    def add_waiting(self, tx: Connection, source: Task, made: Sequence[Task], queue_id: str) -> None:
        """Tasks that run the same as `source` with other parameters; they wait in the queue already."""
        store.add_many(tx, [msgspec.structs.replace(task, queue=queue_id) for task in made])
        links = [link for link in self._artifacts.links_of_task(tx, source.id) if link.direction == "input"]
        for task in made if links else ():
            self._removal.keep_inputs(tx, task, links)

    def _name_files(self, tx: Connection, before: str, task: Task) -> None:
        """The bytes that an execution names have to be here; those that it named before may go."""
        files = task.execution.files
        if files and files != before:
            self._artifacts.must_hold(tx, files)
        if before and files != before:
            self._artifacts.lost_names(tx, [before])

    def _placed(self, tx: Connection, task: Task, user: str, before: Task | None = None) -> Task:
        """The task with the id of its project, made on the fly with those above it."""
        if before is not None and before.project == task.project:
            return task
        project_id, path = self._projects.ensure_project(tx, task.project, user)
        return msgspec.structs.replace(task, project=path, project_id=project_id)

    def _write(self, tx: Connection, found: store.Found, task: Task) -> Task:
        """One more revision, unless nothing differs."""
        if task == found.task:
            return task
        revised = msgspec.structs.replace(task, revision=task.revision + 1, last_update=self._clock())
        store.change(tx, found, revised)
        return revised

    async def import_task(self, task_id: str, wanted: TaskImport) -> ImportState:
        """See `importing`."""
        state = await self._imports.import_task(task_id, wanted)
        if wanted.step != "look":
            self._told(wanted.task)
        return state

    # --- moving -----------------------------------------------------------------------------------------

    async def start_task(self, task_id: str, request: MoveRequest) -> Task:
        def work(tx: Connection) -> Task:
            self._move(tx, task_id, Move.START, request)
            store.leave_queue(tx, task_id)
            return self.load(tx, task_id)

        return await self._with_metrics(self._told(await self._db.write(work)))

    async def end_task(self, task_id: str, request: Finish) -> Task:
        def work(tx: Connection) -> Task:
            found = moves.known(tx, task_id)
            if found.lease:
                raise Conflict(
                    f"task {task_id} is run by the worker {found.task.worker!r}, which ends it; abort it instead",
                    status=found.status.value,
                )
            exited = "" if request.exit_code is None else f"exit code {request.exit_code}"
            why = MoveRequest(reason=request.reason or exited, message=request.message)
            self._move(tx, task_id, ENDINGS[request.outcome], why)
            return self.load(tx, task_id)

        task = self._told(await self._db.write(work))
        await self._projection.flush()
        return await self._with_metrics(task)

    async def copy_last_values(self) -> None:
        """Lists, filters and `last_iteration` know what was reported before this call."""
        await self._projection.flush()

    async def publish_task(self, task_id: str, request: MoveRequest) -> Task:
        def work(tx: Connection) -> Task:
            self._move(tx, task_id, Move.PUBLISH, request)
            return self.load(tx, task_id)

        return await self._with_metrics(self._told(await self._db.write(work)))

    async def bring_task(
        self, task_id: str, target: Status, why: MoveRequest, sources: Collection[Status] | None = None
    ) -> Task:
        """The task in the state `target`, by whichever moves lead there; see steering. Without its metrics."""

        def work(tx: Connection) -> tuple[Task, str]:
            found = moves.known(tx, task_id)
            queue = found.task.queue if found.status is Status.PENDING else ""
            bring(tx, found, target, why, self._clock(), sources)
            return self.load(tx, task_id), queue

        task, queue = await self._db.write(work)
        if queue:
            self._bus.publish(LiveEvent(kind="queue", queue=queue, task=task_id, time=self._clock()))
        self._told(task)
        if target in ENDED:
            await self._projection.flush()
        return task

    def touch(self, tx: Connection, task_id: str) -> None:
        """What belongs to the task changed in this transaction."""
        store.touch(tx, task_id, self._clock())

    async def ping_task(self, task_id: str) -> None:
        """Its script lives: `last_update` says so while it runs. NotFound when there is none."""
        now = self._clock()
        if not await self._db.write(lambda tx: store.touch_running(tx, task_id, now)):
            await self._db.read(lambda tx: moves.known(tx, task_id))

    async def reset_task(self, task_id: str, request: MoveRequest, *, clear: bool = False) -> Task:
        """Back to a draft; results go. `clear`: what to run goes, too, but for the parameters."""

        def work(tx: Connection) -> tuple[Task, str]:
            queue = self._resetting.reset(tx, task_id, request, self._clock(), clear=clear)
            return self.load(tx, task_id), queue

        task, queue = await self._db.write(work)
        await self._removal.finish([task_id])
        if queue:
            self._bus.publish(LiveEvent(kind="queue", queue=queue, task=task_id, time=self._clock()))
        return self._told(task)

    def _move(self, tx: Connection, task_id: str, kind: Move, request: MoveRequest, **columns: Any) -> None:
        moves.move(tx, task_id, kind, now=self._clock(), reason=request.reason, message=request.message, **columns)

    # --- deleting ---------------------------------------------------------------------------------------

    async def delete_task(self, task_id: str, *, force: bool) -> dict[str, list[str]]:
        """The task with everything it made. What runs, waits or is published is only deleted by force.

        Gives the addresses of bytes at its destinations that are nobody's now.
        """

        def work(tx: Connection) -> tuple[Task, dict[str, list[str]]]:
            task = moves.known(tx, task_id).task
            if not force:
                _check_deletable(task.id, task.status)
            return task, self._removal.drop_tasks(tx, [task_id])

        task, external = await self._db.write(work)
        await self._removal.finish([task_id])
        self._bus.publish(
            LiveEvent(kind="task", task=task_id, project=task.project, status=DELETED, time=self._clock())
        )
        return external

    async def delete_project(self, project: str, *, force: bool) -> dict[str, list[str]]:
        """The project and those below it; one that holds tasks only by force, and the tasks go first.

        Gives by task the addresses of bytes at its destinations that are nobody's now.
        """

        def work(tx: Connection) -> tuple[str, list[str], dict[str, list[str]]]:
            path = self._projects.project_path(tx, project)
            below = store.projects_under(tx, path)
            held = [task_id for task_id, _ in store.ids_in_projects(tx, below)]
            if held and not force:
                raise Conflict(
                    f"project {path!r} holds {len(held)} tasks (archived ones counted); "
                    "move or delete them, or delete it with force",
                    tasks=len(held),
                )
            external = self._removal.drop_tasks(tx, held)
            store.remove_projects(tx, below)
            return path, held, external

        path, held, external = await self._db.write(work)
        await self._removal.finish(held)
        self._bus.publish(LiveEvent(kind="project", project=path, status=DELETED, time=self._clock()))
        return external

    # --- artifacts --------------------------------------------------------------------------------------

    async def put_artifact(self, task_id: str, artifact: Artifact) -> Sequence[Artifact]:
        def work(tx: Connection) -> tuple[Task, Sequence[Artifact]]:
            task = _open_for_results(tx, task_id)
            self._artifacts.store_artifact(tx, task_id, artifact)
            store.touch(tx, task_id, self._clock())
            return task, self._artifacts.of_task(tx, task_id)

        task, told = await self._db.write(work)
        self._told(task, "artifacts")
        return told

    async def link_model(self, task_id: str, link: ModelLink) -> Task:
        """NotFound without such a model; a link of the same direction and name is replaced."""

        def work(tx: Connection) -> Task:
            _open_for_results(tx, task_id)
            self._artifacts.link_model(tx, task_id, link)
            store.touch(tx, task_id, self._clock())
            return self.load(tx, task_id)

        return await self._with_metrics(self._told(await self._db.write(work), "artifacts"))

    async def delete_artifact(self, task_id: str, name: str) -> Sequence[Artifact]:
        def work(tx: Connection) -> tuple[Task, Sequence[Artifact]]:
            task = _open_for_results(tx, task_id)
            if name not in {artifact.name for artifact in self._artifacts.of_task(tx, task_id)}:
                raise NotFound(f"task {task_id} has no artifact {name[:80]!r}", task=task_id)
            self._artifacts.remove_artifact(tx, task_id, name)
            store.touch(tx, task_id, self._clock())
            return task, self._artifacts.of_task(tx, task_id)

        task, told = await self._db.write(work)
        await self._artifacts.delete_unnamed_bytes()
        self._told(task, "artifacts")
        return told

    # --- telling ----------------------------------------------------------------------------------------

    def _told(self, task: Task, kind: str = "task") -> Task:
        self._bus.publish(
            LiveEvent(kind=kind, task=task.id, project=task.project, status=task.status.value, time=self._clock())
        )
        return task

    async def _with_metrics(self, task: Task) -> Task:
        return msgspec.structs.replace(task, metrics=await self._metrics.summaries(task.id))


def _only(task: Task, fields: frozenset[str]) -> Task:
    return Task(**{name: getattr(task, name) for name in fields})


def _check_deletable(task_id: str, status: Status) -> None:
    if status in HELD or status is Status.PUBLISHED:
        raise IllegalMove(f"task {task_id} is {status.value}; it is only deleted by force", status=status.value)


def _open_for_results(tx: Connection, task_id: str) -> Task:
    task = moves.known(tx, task_id).task
    if task.status is Status.PUBLISHED:
        raise IllegalMove(f"task {task_id} is published and takes nothing more", status=task.status.value)
    return task

"""The records of a run, applied to its task: opened, edited, artifacts and models, ended.

Each record was numbered by its writer and comes here exactly once and in order; what it does depends only on the
task's row and the record. Series names and plots pass by: they belong to telemetry. Whether the writer may come in
at all was decided before, see journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection

from taskloom.domain.artifact import Sample
from taskloom.domain.errors import NotFound
from taskloom.domain.status import ENDED, Move, Status, after
from taskloom.domain.task import VERIFICATION, Task, TaskEdit
from taskloom.server.artifacts.service import ArtifactService
from taskloom.server.evals.ending import end_runs
from taskloom.server.evals.service import EvalService
from taskloom.server.projects.service import ProjectService
from taskloom.server.tasks import moves, store
from taskloom.server.tasks.checks import checked, edited, told
from taskloom.server.tasks.removal import Removal
from taskloom.wire.records import (
    ArtifactRemoved,
    ArtifactStored,
    ArtifactUsed,
    Edited,
    Ended,
    EndStatus,
    JobStored,
    ModelStored,
    ModelUsed,
    Opened,
    Plotted,
    Record,
    RunStored,
    Sampled,
    SeriesNamed,
    StepsTaken,
)
from taskloom.wire.worker_protocol import STOPPING

ENDINGS: dict[EndStatus, Move] = {"completed": Move.COMPLETE, "failed": Move.FAIL, "aborted": Move.ABORT}


@dataclass(frozen=True)
class Outcome:
    """What was touched, for the announcements after the commit. `jobs`: of evaluations, this task or others."""

    task: bool = False
    artifacts: bool = False
    jobs: frozenset[str] = frozenset()


class RecordKeeper:
    def __init__(
        self, projects: ProjectService, artifacts: ArtifactService, evals: EvalService, removal: Removal
    ) -> None:
        self._projects, self._artifacts, self._evals = projects, artifacts, evals
        self._removal = removal

    def apply(
        self,
        tx: Connection,
        user: str,
        task_id: str,
        writer: str,
        records: Sequence[Record],
        now: float,
        offset: int = 0,
    ) -> Outcome:
        """Apply new records of one writer; a task that is not there is made by `Opened`. `offset`: of iterations.

        What evaluations tell is gathered and written in bulk, before anything that may end the task and at the end.
        """
        mine = [record for record in records if not isinstance(record, SeriesNamed | Plotted | StepsTaken)]
        if not mine:
            return Outcome()
        run = _Run(tx, task_id, user, writer, now)
        evaluated = _Evaluated(self._evals, run)
        task = artifacts = False
        for record in mine:
            if isinstance(record, JobStored | RunStored):
                evaluated.add(record)
                continue
            task = True
            match record:
                case Opened():
                    evaluated.write()
                    self._open(run, record)
                case Edited():
                    self.edit(run, record.edit)
                case Ended():
                    evaluated.write()
                    _end(run, record)
                case ArtifactStored():
                    self._artifacts.store_artifact(tx, run.task.id, record.artifact)
                    artifacts = True
                case ArtifactRemoved():
                    self._artifacts.remove_artifact(tx, run.task.id, record.name)
                    artifacts = True
                case Sampled():
                    self._artifacts.store_sample(tx, run.task.id, _moved(record.sample, offset), record.history)
                    artifacts = True
                case ModelStored():
                    self._artifacts.store_model(tx, run.task, record.model, record.link, record.changed)
                    artifacts = True
                case ModelUsed():
                    self._artifacts.use_model(tx, run.task, record)
                    artifacts = True
                case ArtifactUsed():
                    self._artifacts.use_artifact(tx, run.task.id, record)
        run.save()
        evaluated.finish()
        return Outcome(task, artifacts, frozenset(evaluated.jobs))

    async def tidy(self, ended: bool) -> None:
        """After the commit: the bytes that applying left without a name."""
        await self._artifacts.delete_dropped_samples(ended)

    def edit(self, run: _Run, edit: TaskEdit) -> None:
        """One more revision for each edit that changes something, however the records were cut."""
        task = self._placed(run, edited(run.task, edit))
        if task != run.task:
            run.change(msgspec.structs.replace(task, revision=task.revision + 1))

    def _placed(self, run: _Run, task: Task) -> Task:
        """The task with the id of its project, which is made when it is new."""
        if task.project_id and task.project == run.task.project:
            return task
        project_id, path = self._projects.ensure_project(run.tx, task.project, run.user)
        return msgspec.structs.replace(task, project=path, project_id=project_id)

    # --- opened -------------------------------------------------------------------------------------------

    def _open(self, run: _Run, record: Opened) -> None:
        if run.found is None:
            self._create(run, record)
        elif run.found.lease or record.mode == "new":
            return  # a worker's attempt opened it, or the record came by two roads
        elif record.mode == "reset":
            self._open_again(run, record)
        else:
            _resume(run, record)

    def _create(self, run: _Run, record: Opened) -> None:
        task = checked(
            Task(
                id=run.task_id,
                name=record.name,
                project=record.project,
                type=record.type,
                status=Status.RUNNING,
                status_changed=run.now,
                user=run.user,
                comment=record.comment,
                parent=record.parent,
                tags=record.tags,
                system_tags=record.system_tags,
                created=record.time,
                started=record.time,
                last_update=run.now,
                runtime=record.runtime,
                output_uri=record.output_uri,
            )
        )
        project_id, path = self._projects.ensure_project(run.tx, task.project, run.user)
        task = msgspec.structs.replace(task, project=path, project_id=project_id)
        store.add(run.tx, task, opener=run.writer)
        run.begin(store.Found(task, "", run.writer))

    def _open_again(self, run: _Run, record: Opened) -> None:
        """The same script runs anew in the same task: nothing of the earlier run stays but who and when."""
        if run.task.status is Status.RUNNING:  # its process died without a word
            run.move(Move.ABORT)
        after(Move.RESET, run.task.status)
        self._removal.drop_results(run.tx, run.task_id, besides=run.writer)
        run.move(Move.RESET, queue_id="")
        run.opener = run.writer
        blank = Task(id=run.task_id, name=record.name, project=record.project)
        task = msgspec.structs.replace(
            run.task,
            name=record.name,
            project=record.project,
            type=record.type,
            comment=record.comment or run.task.comment,
            parent=record.parent or run.task.parent,
            tags=(*run.task.tags, *record.tags),
            system_tags=(*run.task.system_tags, *record.system_tags),
            execution=blank.execution,
            parameters={},
            configuration={},
            runtime=record.runtime,
            output_uri=record.output_uri,
        )
        run.change(self._placed(run, checked(task)))
        run.move(Move.START, at=record.time)


def _moved(sample: Sample, offset: int) -> Sample:
    return msgspec.structs.replace(sample, iteration=sample.iteration + offset) if offset else sample


def _resume(run: _Run, record: Opened) -> None:
    """Go on with the results that are there."""
    if run.task.status is not Status.RUNNING:
        run.move(Move.START if run.task.status is Status.DRAFT else Move.RESUME, at=record.time)
    run.opener = run.writer
    task = msgspec.structs.replace(
        run.task,
        tags=(*run.task.tags, *record.tags),
        system_tags=(*run.task.system_tags, *record.system_tags),
        runtime={**{k: v for k, v in run.task.runtime.items() if k != VERIFICATION}, **record.runtime},
    )
    run.change(checked(task))


def _end(run: _Run, record: Ended) -> None:
    found = run.found
    if found is None:
        raise NotFound(f"no task {run.task_id}")
    if found.lease:  # the holder of the lease ends it; the script's last words are kept for then
        left = found.task.status_message == STOPPING
        message = STOPPING if left else told(record.message)
        run.change(msgspec.structs.replace(run.task, status_reason=told(record.reason), status_message=message))
    elif found.opener not in {"", run.writer}:
        return  # an earlier run of this task, which somebody has continued since
    elif found.status is Status.RUNNING:
        run.move(ENDINGS[record.status], reason=record.reason, message=record.message, at=record.time)
    elif found.status is Status.ABORTED and not found.task.status_message:
        run.change(msgspec.structs.replace(run.task, status_message=told(record.message)))


class _Evaluated:
    """Jobs and runs of evaluations that wait to be written together. `jobs`: those that were touched."""

    def __init__(self, evals: EvalService, run: _Run) -> None:
        self._evals, self._run = evals, run
        self._waiting: list[JobStored | RunStored] = []
        self.jobs: set[str] = set()

    def add(self, record: JobStored | RunStored) -> None:
        self._waiting.append(record)

    def write(self) -> None:
        if self._waiting:
            run = self._run
            self.jobs |= self._evals.apply_records(run.tx, run.task.id, self._waiting, run.now)
            self._waiting = []

    def finish(self) -> None:
        """What a task that is over still tells of runs that began is told of runs that nobody goes on with."""
        over = bool(self._waiting) and self._run.found is not None and self._run.found.status in ENDED
        self.write()
        if over:
            end_runs(self._run.tx, self._run.task_id, self._run.now)


class _Run:
    """A task in the hands of one transaction: edits gather in `task` and are written before it moves on."""

    def __init__(self, tx: Connection, task_id: str, user: str, writer: str, now: float) -> None:
        self.tx, self.task_id, self.user, self.writer, self.now = tx, task_id, user, writer, now
        self.found = store.find(tx, task_id)
        self._task = None if self.found is None else self.found.task
        self.opener = "" if self.found is None else self.found.opener

    @property
    def task(self) -> Task:
        if self._task is None:
            raise NotFound(f"no task {self.task_id}; the record that opens it has not come")
        return self._task

    def begin(self, found: store.Found) -> None:
        self.found, self._task, self.opener = found, found.task, found.opener

    def change(self, task: Task) -> None:
        self._task = task

    def save(self) -> None:
        """Write what was gathered."""
        found = self.found
        if found is None:
            return
        task = self.task
        if task != found.task:
            task = msgspec.structs.replace(task, last_update=self.now)
        if task != found.task or self.opener != found.opener:
            store.change(self.tx, found, task, opener=self.opener)
        self.begin(store.Found(task, found.lease, self.opener))

    def move(self, kind: Move, *, reason: str = "", message: str = "", at: float = 0.0, **columns: Any) -> None:
        self.save()
        if self.found is None:
            raise NotFound(f"no task {self.task_id}")
        self.begin(
            moves.make(self.tx, self.found, kind, now=self.now, reason=reason, message=message, at=at, **columns)
        )

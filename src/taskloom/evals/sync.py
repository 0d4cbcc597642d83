"""Tasksets here and on the server: what differs, row by row, and how the server comes to what is here.

    plan = diff(Taskset.from_file("rows.jsonl"), fetch("questions"))
    push("questions", plan)

Rows are the same by their slug and equal by their signature. What only the server has stays there, unless it is pruned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from taskloom.evals.encoding import plain
from taskloom.evals.task import Task
from taskloom.evals.taskset import Taskset

if TYPE_CHECKING:
    from taskloom.domain.evaluation import EvalRow
    from taskloom.wire.messages import TasksetChanged, TasksetInfo, TasksetUpload

PART_ROWS = 5_000  # in one request
PART_BYTES = 8 * 2**20  # of rows in one request, about

Progress = Callable[[int], None]


@dataclass(frozen=True)
class SyncPlan:
    """What an upload would do, each in the order of its taskset. `version`: of the server's taskset; 0: none is there."""

    to_create: list[Task] = field(default_factory=list[Task])
    to_update: list[Task] = field(default_factory=list[Task])
    unchanged: list[Task] = field(default_factory=list[Task])
    remote_only: list[Task] = field(default_factory=list[Task])
    to_apply: list[Task] = field(default_factory=list[Task])
    version: int | None = None

    def summary(self) -> str:
        return (
            f"{len(self.to_create)} to create, {len(self.to_update)} to update, {len(self.unchanged)} unchanged, "
            f"{len(self.remote_only)} on the server only"
        )


@dataclass(frozen=True)
class Pushed:
    """What an upload did. `taskset` as it is now; None: there was nothing to do, and none was made."""

    taskset: TasksetInfo | None = None
    created: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0

    def summary(self) -> str:
        return (
            f"{self.created} created, {self.updated} updated, {self.removed} removed, {self.unchanged} unchanged"
        )


def diff(local: Taskset, remote: Taskset | None) -> SyncPlan:
    """Which rows of `local` the server does not have, or has otherwise. None: there is no such taskset yet."""
    plan = SyncPlan(version=0 if remote is None else remote.version or None)
    for slug, task in local.items():
        if remote is None or slug not in remote:
            plan.to_create.append(task)
        elif signature(task) != signature(remote[slug]):
            plan.to_update.append(task)
        else:
            plan.unchanged.append(task)
            continue
        plan.to_apply.append(task)
    if remote is not None:
        plan.remote_only.extend(task for slug, task in remote.items() if slug not in local)
    return plan


def signature(task: Task) -> str:
    """All fields that are set but the slug, as sorted JSON: 1 and 1.0 differ, and so do {} and None."""
    entry = task.model_dump(mode="json", exclude={"slug"})
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fetch(name: str, version: int | None = None) -> Taskset | None:
    """The server's taskset of that name or id; None when it has none. Errors of `domain.errors`."""
    from taskloom.domain.errors import NotFound

    try:
        return Taskset.from_api(name, version)
    except NotFound:
        return None


def push(name: str, plan: SyncPlan, *, prune: bool = False, progress: Progress = lambda _: None) -> Pushed:
    """Upload what the plan creates and updates, in parts that make one version; `prune` removes what is remote only.

    progress: told of how many rows more are done. Conflict when somebody changed the taskset since the plan was made.
    """
    from taskloom.domain.errors import BadInput
    from taskloom.wire.connection import find_address
    from taskloom.wire.operations import UPLOAD_TASKSET
    from taskloom.wire.send import Client

    address = find_address()
    if address is None:
        raise BadInput(f"taskset {name!r}: no server is configured; set TASKLOOM_URL and TASKLOOM_API_KEY")
    done = Pushed()
    client = Client(address)
    try:
        for part in _parts(plan, prune=prune):
            told = client.call(UPLOAD_TASKSET, _going_on(part, plan, done), taskset=name)
            done = _sum(done, told)
            progress(len(part.rows) + len(part.remove))
    finally:
        client.close()
    return done


def to_wire(task: Task) -> EvalRow:
    """A row as the server keeps it. TypeError for arguments that no JSON can hold."""
    from taskloom.domain.evaluation import EvalRow

    entry = msgspec.to_builtins(task.model_dump(mode="json"), enc_hook=plain)
    return msgspec.convert({**entry, "slug": task.slug or task.default_slug()}, EvalRow)


def _parts(plan: SyncPlan, *, prune: bool) -> Iterator[TasksetUpload]:
    """Requests of a size that a server takes."""
    from taskloom.wire.messages import TasksetUpload

    for rows in _slices(map(to_wire, plan.to_apply)):
        yield TasksetUpload(rows=rows)
    gone = [task.slug or task.default_slug() for task in plan.remote_only] if prune else []
    for start in range(0, len(gone), PART_ROWS):
        yield TasksetUpload(remove=gone[start : start + PART_ROWS])


def _slices(rows: Iterable[EvalRow]) -> Iterator[list[EvalRow]]:
    some: list[EvalRow] = []
    size = 0
    for row in rows:
        size += len(msgspec.msgpack.encode(row))
        if some and (size > PART_BYTES or len(some) >= PART_ROWS):
            yield some
            some, size = [], len(msgspec.msgpack.encode(row))
        some.append(row)
    if some:
        yield some


def _going_on(part: TasksetUpload, plan: SyncPlan, done: Pushed) -> TasksetUpload:
    """Parts go on with the version that the first change made; before there is one, the plan's has to stand."""
    changed = done.created + done.updated + done.removed
    if changed and done.taskset is not None:
        return msgspec.structs.replace(part, continues=done.taskset.version)
    return part if plan.version is None else msgspec.structs.replace(part, expects=plan.version)


def _sum(done: Pushed, told: TasksetChanged) -> Pushed:
    return Pushed(
        told.taskset,
        done.created + told.created,
        done.updated + told.updated,
        done.removed + told.removed,
        done.unchanged + told.unchanged,
    )

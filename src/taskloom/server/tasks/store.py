"""SQL of tasks: their rows, tags, filterable values, writers' marks and pending deletions.

Knows shapes, not rules: which move is legal or who may edit is the service's business. Every function works on
an open connection and leaves the transaction to its caller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from taskloom.domain.execution import Execution
from taskloom.domain.metrics import SINGLE_VALUE, SeriesSummary, from_wire
from taskloom.domain.parameters import Parameter, Sections, flatten, number
from taskloom.domain.status import Status
from taskloom.domain.task import ARCHIVED_TAG, HIDDEN_TAG, ConfigurationObject, Property, Task, TaskType
from taskloom.server import db
from taskloom.server.prepared import Prepared
from taskloom.server.tables import (
    deletions,
    entries,
    leases,
    projects,
    queues,
    task_tags,
    task_values,
    tasks,
    writers,
)

VALUE_TEXT = 1024  # characters of a value that filters and sorting see
VALUE_KEY = 500  # characters of a key; a longer one is kept in the document but cannot be filtered by
PAGE = 500  # ids in one IN list
CODE_FIELDS = ("repository", "branch", "tag", "commit", "entry_point", "image")  # of an execution, for filters

Value = tuple[float | None, str | None]


class Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """What no query looks into. `opener` is the writer whose script runs the task when no worker does."""

    execution: Execution = Execution()
    parameters: Sections = {}
    configuration: dict[str, ConfigurationObject] = {}
    properties: dict[str, Property] = {}
    runtime: dict[str, Any] = {}
    opener: str = ""


DOCUMENT_FIELDS = frozenset(Document.__struct_fields__) - {"opener"}
_tags_decoder = msgspec.msgpack.Decoder(tuple[str, ...])
_document_decoder = msgspec.msgpack.Decoder(Document)
_encode = msgspec.msgpack.Encoder().encode

_LIGHT = (
    *(c for c in tasks.c if c.name not in {"document", "hidden", "files"}),
    projects.c.name.label("project"),
    queues.c.name.label("queue_name"),
)
_SOURCE = tasks.join(projects, projects.c.id == tasks.c.project_id).outerjoin(
    queues, queues.c.id == tasks.c.queue_id
)


@dataclass(frozen=True)
class Found:
    """A task as its row tells it (artifacts, models and metrics stand elsewhere), with what nobody is shown."""

    task: Task
    lease: str = ""
    opener: str = ""

    @property
    def status(self) -> Status:
        return self.task.status


@dataclass(frozen=True)
class Gate:
    """What decides whether a writer's batch may come in, read without the document."""

    status: Status
    status_message: str
    lease: str
    last_update: float
    project: str
    events: int | None  # None: nothing has come from this writer yet
    closed: bool
    purging: bool


# --- reading ----------------------------------------------------------------------------------------------


def find(connection: Connection, task_id: str) -> Found | None:
    row = _BY_ID.first(connection, {"wanted": task_id})
    return None if row is None else _found(dict(zip(_WHOLE, row, strict=True)))


def find_many(connection: Connection, ids: Sequence[str], *, documents: bool) -> dict[str, Task]:
    """The tasks that are there. Without `documents` what stands in them is left empty and not read."""
    statement = _whole() if documents else select(*_LIGHT).select_from(_SOURCE)
    told: dict[str, Task] = {}
    for start in range(0, len(ids), PAGE):
        for row in connection.execute(statement.where(tasks.c.id.in_(list(ids[start : start + PAGE])))):
            told[row.id] = _found(dict(row._mapping)).task  # pyright: ignore[reportPrivateUsage]
    return told


def status_of(connection: Connection, task_id: str) -> Status | None:
    found = connection.execute(select(tasks.c.status).where(tasks.c.id == task_id)).scalar_one_or_none()
    return None if found is None else Status(found)


def gate(connection: Connection, task_id: str, writer: str) -> Gate | None:
    """One read that tells everything a batch without records needs; None when there is no such task."""
    mark = and_(writers.c.task_id == tasks.c.id, writers.c.writer == writer)
    row = connection.execute(
        select(
            tasks.c.status,
            tasks.c.status_message,
            tasks.c.lease,
            tasks.c.last_update,
            projects.c.name,
            writers.c.events,
            writers.c.closed,
            deletions.c.task_id,
        )
        .select_from(
            tasks.join(projects, projects.c.id == tasks.c.project_id)
            .outerjoin(writers, mark)
            .outerjoin(deletions, deletions.c.task_id == tasks.c.id)
        )
        .where(tasks.c.id == task_id)
    ).one_or_none()
    if row is None:
        return None
    status, message, lease, last_update, project, events, closed, purging = row
    return Gate(
        Status(status), message, lease or "", last_update, project, events, bool(closed), purging is not None
    )


def task_of_lease(connection: Connection, token: str) -> str | None:
    """The task that an attempt was or is at."""
    return connection.execute(select(leases.c.task_id).where(leases.c.token == token)).scalar_one_or_none()


def ids_in_projects(connection: Connection, project_ids: Sequence[str]) -> list[tuple[str, Status]]:
    found = connection.execute(select(tasks.c.id, tasks.c.status).where(tasks.c.project_id.in_(list(project_ids))))
    return [(task_id, Status(status)) for task_id, status in found]


def projects_under(connection: Connection, path: str) -> list[str]:
    """Ids of the project and of those below it."""
    start = f"{path}/"
    below = func.substr(projects.c.name, 1, len(start)) == start
    return list(connection.execute(select(projects.c.id).where(or_(projects.c.name == path, below))).scalars())


def _whole() -> Select[Any]:
    return select(*_LIGHT, tasks.c.document).select_from(_SOURCE)


_WHOLE = tuple(_whole().selected_columns.keys())
_BY_ID = Prepared(_whole().where(tasks.c.id == bindparam("wanted")))


def _found(values: dict[str, Any]) -> Found:
    document = _document_decoder.decode(values.pop("document")) if "document" in values else Document()
    lease = values.pop("lease") or ""
    values["type"] = TaskType(values["type"])
    values["status"] = Status(values["status"])
    values["tags"] = _tags_decoder.decode(values["tags"])
    values["system_tags"] = _tags_decoder.decode(values["system_tags"])
    values["queue"] = values.pop("queue_id")
    values["queue_name"] = values["queue_name"] or ""
    return Found(
        Task(
            **values,
            execution=document.execution,
            parameters=document.parameters,
            configuration=document.configuration,
            properties=document.properties,
            runtime=document.runtime,
        ),
        lease,
        document.opener,
    )


# --- writing ----------------------------------------------------------------------------------------------

_PLAIN = (
    "name",
    "project_id",
    "type",
    "status",
    "status_reason",
    "status_message",
    "status_changed",
    "user",
    "comment",
    "parent",
    "created",
    "started",
    "completed",
    "last_update",
    "last_iteration",
    "progress",
    "revision",
    "output_uri",
    "worker",
    "attempt",
)


def add(connection: Connection, task: Task, *, opener: str = "") -> None:
    """A new row; the task's project must be there."""
    add_many(connection, [task], opener=opener)


def add_many(connection: Connection, made: Sequence[Task], *, opener: str = "") -> None:
    """New rows, as many as a sweep has, with a few statements."""
    connection.execute(insert(tasks), [_row(task, opener) for task in made])
    tags = [
        {"task_id": task.id, "system": system, "tag": tag}
        for task in made
        for system, named in ((False, task.tags), (True, task.system_tags))
        for tag in sorted(set(named))
    ]
    if tags:
        connection.execute(insert(task_tags), tags)
    _put_rows(connection, [(task.id, _values(task)) for task in made])


def _row(task: Task, opener: str) -> dict[str, Any]:
    return {
        "id": task.id,
        "queue_id": task.queue,
        "hidden": _hidden(task),
        "files": task.execution.files,
        "tags": _encode(task.tags),
        "system_tags": _encode(task.system_tags),
        "document": _encode(_document(task, opener)),
        **{name: getattr(task, name) for name in _PLAIN},
    }


def change(connection: Connection, found: Found, task: Task, *, opener: str | None = None) -> None:
    """Write what differs between the task that was found and what it shall be; its state is `move`'s."""
    before = found.task
    opener = found.opener if opener is None else opener
    columns: dict[str, Any] = {
        name: getattr(task, name)
        for name in _PLAIN
        if name != "status" and getattr(task, name) != getattr(before, name)
    }
    if task.tags != before.tags:
        columns["tags"] = _encode(task.tags)
        _set_tags(connection, task.id, before.tags, task.tags, system=False)
    if task.system_tags != before.system_tags:
        columns["system_tags"] = _encode(task.system_tags)
        columns["hidden"] = _hidden(task)
        _set_tags(connection, task.id, before.system_tags, task.system_tags, system=True)
    document = _document(task, opener)
    if document != _document(before, found.opener):
        columns["document"] = _encode(document)
        columns["files"] = task.execution.files
        _set_values(connection, task.id, _values(before), _values(task))
    if columns:
        connection.execute(update(tasks).where(tasks.c.id == task.id).values(**columns))


def move(
    connection: Connection,
    task_id: str,
    found: Status,
    target: Status,
    *,
    holds: str | None = None,
    **columns: Any,
) -> bool:
    """Change the state if it is still the one that was found (and it is still under the lease `holds`)."""
    statement = _move_of(tuple(sorted(columns)), holds is not None)
    given = {"wanted": task_id, "found": found.value, "holds": holds, "status": target.value, **columns}
    return statement.run(connection, given) == 1


@cache
def _move_of(columns: tuple[str, ...], held: bool) -> Prepared:
    """Built once for each set of columns that a move writes."""
    statement = update(tasks).where(tasks.c.id == bindparam("wanted"), tasks.c.status == bindparam("found"))
    if held:
        statement = statement.where(tasks.c.lease == bindparam("holds"))
    return Prepared(statement.values({name: bindparam(name) for name in ("status", *columns)}))


def abort_waiting(connection: Connection, task_ids: Sequence[str], reason: str, now: float) -> list[str]:
    """Abort those of the tasks that wait; which they were."""
    columns: dict[str, Any] = {
        "status": Status.ABORTED.value,
        "status_reason": reason,
        "status_message": "",
        "status_changed": now,
        "last_update": now,
        "completed": now,
    }
    aborted: list[str] = []
    for start in range(0, len(task_ids), PAGE):
        some = tasks.c.id.in_(list(task_ids[start : start + PAGE])) & (tasks.c.status == Status.PENDING.value)
        aborted += connection.execute(update(tasks).where(some).values(**columns).returning(tasks.c.id)).scalars()
    return aborted


def files_of(connection: Connection, task_ids: Sequence[str]) -> list[str]:
    """The digests that the executions of these tasks name."""
    found: list[str] = []
    for start in range(0, len(task_ids), PAGE):
        some = tasks.c.id.in_(list(task_ids[start : start + PAGE])) & (tasks.c.files != "")
        found += connection.execute(select(tasks.c.files).where(some).distinct()).scalars()
    return found


def touch(connection: Connection, task_id: str, now: float) -> None:
    connection.execute(update(tasks).where(tasks.c.id == task_id).values(last_update=now))


def touch_running(connection: Connection, task_id: str, now: float) -> bool:
    """Whether there is such a task and it runs."""
    running = (tasks.c.id == task_id) & (tasks.c.status == Status.RUNNING.value)
    return connection.execute(update(tasks).where(running).values(last_update=now)).rowcount == 1


def remove(connection: Connection, task_ids: Sequence[str]) -> None:
    """Rows that name a task go with it (tags, values, marks, queue entry, leases, artifacts, links)."""
    for start in range(0, len(task_ids), PAGE):
        connection.execute(delete(tasks).where(tasks.c.id.in_(list(task_ids[start : start + PAGE]))))


def _document(task: Task, opener: str) -> Document:
    return Document(task.execution, task.parameters, task.configuration, task.properties, task.runtime, opener)


def _hidden(task: Task) -> bool:
    return not {ARCHIVED_TAG, HIDDEN_TAG}.isdisjoint(task.system_tags)


def _set_tags(
    connection: Connection, task_id: str, before: Sequence[str], after: Sequence[str], *, system: bool
) -> None:
    gone, come = set(before) - set(after), set(after) - set(before)
    if gone:
        connection.execute(
            delete(task_tags).where(
                task_tags.c.task_id == task_id, task_tags.c.system == system, task_tags.c.tag.in_(sorted(gone))
            )
        )
    if come:
        connection.execute(
            insert(task_tags), [{"task_id": task_id, "system": system, "tag": tag} for tag in sorted(come)]
        )


# --- filterable values ------------------------------------------------------------------------------------


def write_metrics(connection: Connection, task_id: str, summaries: Iterable[SeriesSummary], now: float) -> None:
    """Last, minimum and maximum of series as absolute values, and the last iteration that they tell."""
    values: dict[str, Value] = {}
    last: int | None = None
    for summary in summaries:
        key = f"metrics.{summary.title}/{summary.series}"
        values[key] = _metric(from_wire(summary.last))
        values[f"{key}:min"] = _metric(from_wire(summary.min))
        values[f"{key}:max"] = _metric(from_wire(summary.max))
        if not summary.title.startswith(":") and summary.last_iteration != SINGLE_VALUE:
            reached = max(summary.last_iteration, summary.greatest or summary.last_iteration)
            last = reached if last is None else max(last, reached)
    _put_values(connection, task_id, _storable(values))
    columns: dict[str, Any] = {"last_update": now}
    if last is not None:
        farther = tasks.c.last_iteration.is_(None) | (tasks.c.last_iteration < last)
        columns["last_iteration"] = case((farther, last), else_=tasks.c.last_iteration)
    connection.execute(update(tasks).where(tasks.c.id == task_id).values(**columns))


def clear_metrics(connection: Connection, task_id: str) -> None:
    metrics = task_values.c.key.like("metrics.%")
    connection.execute(delete(task_values).where(task_values.c.task_id == task_id, metrics))


def _metric(value: float) -> Value:
    return (None, "NaN") if math.isnan(value) else (value, None)


def _values(task: Task) -> dict[str, Value]:
    values = {f"parameters.{name}": _typed(parameter) for name, parameter in flatten(task.parameters).items()}
    for name, text in task.properties.items():
        values[f"properties.{name}"] = _typed(Parameter(text.value, text.type))
    for name, value in task.runtime.items():
        if isinstance(value, str | int | float):
            values[f"runtime.{name}"] = _plain(value)
    for name in CODE_FIELDS:
        if word := getattr(task.execution, name):
            values[f"execution.{name}"] = (None, word[:VALUE_TEXT])
    return _storable(values)


def _plain(value: str | float) -> Value:
    """Numbers are kept with their text, so that both kinds of comparison find them; flags as the words."""
    found = number(Parameter(str(value), type(value).__name__))
    return (None if found is None or math.isnan(found) else found), str(value)[:VALUE_TEXT]


def _typed(parameter: Parameter) -> Value:
    found = number(parameter)
    return (None if found is None or math.isnan(found) else found), parameter.value[:VALUE_TEXT]


def _storable(values: dict[str, Value]) -> dict[str, Value]:
    """PostgreSQL holds no NUL in text and no index entry of any length."""
    return {
        key.replace("\0", "\ufffd"): (value, text and text.replace("\0", "\ufffd"))
        for key, (value, text) in values.items()
        if len(key) <= VALUE_KEY
    }


def _set_values(connection: Connection, task_id: str, before: dict[str, Value], after: dict[str, Value]) -> None:
    gone = sorted(set(before) - set(after))
    for start in range(0, len(gone), PAGE):
        keys = gone[start : start + PAGE]
        connection.execute(
            delete(task_values).where(task_values.c.task_id == task_id, task_values.c.key.in_(keys))
        )
    _put_values(connection, task_id, {k: v for k, v in after.items() if before.get(k) != v})


def _put_values(connection: Connection, task_id: str, values: dict[str, Value]) -> None:
    _put_rows(connection, [(task_id, values)])


def _put_rows(connection: Connection, told: Sequence[tuple[str, dict[str, Value]]]) -> None:
    rows = [
        {"key": key, "task_id": task_id, "number": n, "text": t}
        for task_id, values in told
        for key, (n, t) in values.items()
    ]
    if not rows:
        return
    statement = db.insert(connection, task_values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[task_values.c.key, task_values.c.task_id],
            set_={"number": statement.excluded.number, "text": statement.excluded.text},
        ),
        rows,
    )


# --- writers' marks, pending deletions --------------------------------------------------------------------


def set_mark(connection: Connection, task_id: str, writer: str, events: int) -> None:
    statement = db.insert(connection, writers).values(task_id=task_id, writer=writer, events=events, closed=False)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[writers.c.task_id, writers.c.writer], set_={"events": events}
        )
    )


def close_writers(connection: Connection, task_id: str, *, besides: str = "") -> None:
    """What these writers still send belongs to results that are gone."""
    connection.execute(
        update(writers).where(writers.c.task_id == task_id, writers.c.writer != besides).values(closed=True)
    )


def note_deletion(connection: Connection, task_ids: Sequence[str], now: float, *, results_only: bool) -> None:
    if not task_ids:
        return
    statement = db.insert(connection, deletions)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[deletions.c.task_id],
            set_={"results_only": statement.excluded.results_only, "done": False},
        ),
        [{"task_id": t, "results_only": results_only, "done": False, "created": now} for t in task_ids],
    )


def pending_deletions(connection: Connection) -> list[str]:
    return list(connection.execute(select(deletions.c.task_id).where(deletions.c.done.is_(False))).scalars())


def pending_models(connection: Connection) -> list[str]:
    """What is to be deleted and is no task."""
    no_task = deletions.c.task_id.not_in(select(tasks.c.id))
    wanted = select(deletions.c.task_id).where(
        deletions.c.done.is_(False), deletions.c.results_only.is_(True), no_task
    )
    return list(connection.execute(wanted).scalars())


def is_deleting(connection: Connection, task_id: str) -> bool:
    """Whether telemetry and blobs of the task, or of its earlier results, are still to be deleted."""
    pending = select(deletions.c.task_id).where(deletions.c.task_id == task_id, deletions.c.done.is_(False))
    return connection.execute(pending).first() is not None


def was_deleted(connection: Connection, task_id: str) -> bool:
    found = select(deletions.c.task_id).where(deletions.c.task_id == task_id, deletions.c.results_only.is_(False))
    return connection.execute(found).first() is not None


def settle_deletion(connection: Connection, task_id: str) -> None:
    """Nothing is left of it: a reset is forgotten, a deleted task is remembered as such."""
    connection.execute(delete(deletions).where(deletions.c.task_id == task_id, deletions.c.results_only.is_(True)))
    connection.execute(update(deletions).where(deletions.c.task_id == task_id).values(done=True))


# --- imports ----------------------------------------------------------------------------------------------

IMPORT = "import."  # begins the name of the writer whose row says which version of a task was imported


def find_import(connection: Connection, task_id: str) -> tuple[str, int] | None:
    """The version that was imported last, and the mark that its end left (0: not finished)."""
    row = connection.execute(
        select(writers.c.writer, writers.c.events).where(
            writers.c.task_id == task_id, writers.c.writer.startswith(IMPORT, autoescape=True)
        )
    ).first()
    return None if row is None else (row.writer.removeprefix(IMPORT), row.events)


def put_import(connection: Connection, task_id: str, version: str, mark: int) -> None:
    connection.execute(
        delete(writers).where(writers.c.task_id == task_id, writers.c.writer.startswith(IMPORT, autoescape=True))
    )
    set_mark(connection, task_id, f"{IMPORT}{version}", mark)


# --- projects that go with their tasks --------------------------------------------------------------------


def remove_projects(connection: Connection, project_ids: Sequence[str]) -> None:
    connection.execute(delete(projects).where(projects.c.id.in_(list(project_ids))))


def leave_queue(connection: Connection, task_id: str) -> None:
    """A task that is taken out of its waiting by a move that no worker made."""
    connection.execute(delete(entries).where(entries.c.task_id == task_id))

"""SQL of queues, their entries, workers and leases. The rows are the queue: nothing of it is kept in memory.

Every function takes an open connection and says nothing about rules; a guarded change tells whether it found
what it wanted to change. On PostgreSQL two claims side by side skip each other's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    BindParameter,
    Connection,
    Double,
    LargeBinary,
    Row,
    Select,
    Text,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from taskloom.domain.queue import Machine, OnLost, Queue, QueueEntry
from taskloom.server import db
from taskloom.server.tables import entries, leases, projects, queues, tasks, workers

LOST = "lost"
GIVEN_BACK = "given back"


class AgentNotes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent of another system told of itself besides what every worker tells.

    task, queue  of its last report; empty while it idles
    timeout      seconds of silence after which it wants to be forgotten
    stats        its machine's numbers by name, a list entry a device
    """

    tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] = ()
    properties: dict[str, str] = {}
    task: str = ""
    queue: str = ""
    timeout: float = 600.0
    stats: dict[str, tuple[float, ...]] = {}


_names = msgspec.msgpack.Decoder(tuple[str, ...])
_machine = msgspec.msgpack.Decoder(Machine)
_notes = msgspec.msgpack.Decoder(AgentNotes)
_encode = msgspec.msgpack.encode


@dataclass(frozen=True)
class WorkerRow:
    id: str
    name: str
    user: str
    queues: tuple[str, ...]
    slots: int
    version: str
    machine: Machine
    lease_seconds: float
    draining: bool
    registered: float
    last_seen: float
    notes: AgentNotes | None = None


@dataclass(frozen=True)
class LeaseRow:
    token: str
    task_id: str
    worker_id: str
    queue_id: str
    attempt: int
    seconds: float
    expires: float
    phase: str
    stop: bool
    stop_reason: str
    outcome: str
    created: float
    said: str = ""

    @property
    def open(self) -> bool:
        return not self.outcome


# --- queues -----------------------------------------------------------------------------------------------


def add_queue(tx: Connection, queue: Queue) -> bool:
    """False when the name is taken."""
    values: dict[str, Any] = {
        "id": queue.id,
        "name": queue.name,
        "description": queue.description,
        "tags": _encode(queue.tags),
        "paused": queue.paused,
        "on_lost": queue.on_lost,
        "max_attempts": queue.max_attempts,
        "created": queue.created,
    }
    made = db.insert(tx, queues).values(**values).on_conflict_do_nothing().returning(queues.c.id)
    return tx.execute(made).first() is not None


def list_queues(tx: Connection) -> list[Queue]:
    waiting = _counts(tx, select(entries.c.queue_id, func.count()).group_by(entries.c.queue_id))
    running = _counts(
        tx, select(leases.c.queue_id, func.count()).where(leases.c.outcome == "").group_by(leases.c.queue_id)
    )
    rows = tx.execute(select(queues).order_by(queues.c.name)).all()
    return [_queue(row, waiting.get(row.id, 0), running.get(row.id, 0)) for row in rows]


def find_queue(tx: Connection, key: str) -> Queue | None:
    """By id, else by name."""
    rows = tx.execute(select(queues).where((queues.c.id == key) | (queues.c.name == key))).all()
    found = next((row for row in rows if row.id == key), rows[0] if rows else None)
    if found is None:
        return None
    waiting = tx.execute(select(func.count()).where(entries.c.queue_id == found.id)).scalar_one()
    running = tx.execute(
        select(func.count()).where(leases.c.queue_id == found.id, leases.c.outcome == "")
    ).scalar_one()
    return _queue(found, waiting, running)


def queue_policies(tx: Connection, keys: Sequence[str]) -> list[Queue]:
    """The queues with these ids or names, in the order of `keys`, without their counts."""
    rows = tx.execute(_POLICIES, {"keys": list(keys)}).all()
    by_key = {**{row.name: row for row in rows}, **{row.id: row for row in rows}}
    return [_queue(by_key[key], 0, 0) for key in dict.fromkeys(keys) if key in by_key]


def edit_queue(tx: Connection, queue_id: str, **columns: Any) -> None:
    if "tags" in columns:
        columns["tags"] = _encode(columns["tags"])
    tx.execute(update(queues).where(queues.c.id == queue_id).values(**columns))


def name_taken(tx: Connection, name: str, besides: str) -> bool:
    return tx.execute(select(queues.c.id).where(queues.c.name == name, queues.c.id != besides)).first() is not None


def delete_queue(tx: Connection, queue_id: str) -> None:
    tx.execute(delete(queues).where(queues.c.id == queue_id))


# --- entries ----------------------------------------------------------------------------------------------


def add_entry(tx: Connection, queue_id: str, task_id: str, user: str, now: float, *, front: bool) -> None:
    ranks = select(func.min(entries.c.rank), func.max(entries.c.rank)).where(entries.c.queue_id == queue_id)
    lowest, highest = tx.execute(ranks).one()
    rank = 0.0 if lowest is None else lowest - 1 if front else highest + 1
    tx.execute(insert(entries).values(task_id=task_id, queue_id=queue_id, rank=rank, user=user, enqueued=now))


def remove_entry(tx: Connection, task_id: str) -> str | None:
    """The id of the queue that the task was taken out of; None when it waited nowhere."""
    return tx.execute(_REMOVE_ENTRY, {"task": task_id}).scalar_one_or_none()


def first_entry(tx: Connection, queue_id: str) -> tuple[str, str, float] | None:
    """Task, user and time of the entry that is next; locked until the transaction ends, where rows can be."""
    row = tx.execute(_FIRST_ENTRY, {"queue": queue_id}).one_or_none()
    return None if row is None else (row.task_id, row.user, row.enqueued)


def any_entry(tx: Connection, keys: Sequence[str]) -> bool:
    """Whether anything waits in one of these queues that is not paused."""
    return (
        tx.execute(
            select(entries.c.task_id)
            .join(queues, queues.c.id == entries.c.queue_id)
            .where(queues.c.id.in_(keys) | queues.c.name.in_(keys), queues.c.paused.is_(False))
            .limit(1)
        ).first()
        is not None
    )


def list_entries(tx: Connection, queue_id: str) -> list[QueueEntry]:
    attempts = (
        select(leases.c.task_id, func.count().label("attempts")).group_by(leases.c.task_id).subquery("attempts")
    )
    rows = tx.execute(
        select(
            entries.c.task_id,
            tasks.c.name,
            projects.c.name.label("project"),
            entries.c.user,
            entries.c.enqueued,
            func.coalesce(attempts.c.attempts, 0).label("attempts"),
        )
        .join(tasks, tasks.c.id == entries.c.task_id)
        .join(projects, projects.c.id == tasks.c.project_id)
        .outerjoin(attempts, attempts.c.task_id == entries.c.task_id)
        .where(entries.c.queue_id == queue_id)
        .order_by(entries.c.rank, entries.c.enqueued)
    ).all()
    return [
        QueueEntry(
            task=row.task_id,
            task_name=row.name,
            project=row.project,
            user=row.user,
            position=position,
            enqueued=row.enqueued,
            attempts=row.attempts,
        )
        for position, row in enumerate(rows, start=1)
    ]


def order(tx: Connection, queue_id: str) -> list[str]:
    """Ids of the waiting tasks, the next one first."""
    rows = select(entries.c.task_id).where(entries.c.queue_id == queue_id)
    return list(tx.execute(rows.order_by(entries.c.rank, entries.c.enqueued)).scalars())


def reorder(tx: Connection, task_ids: Sequence[str]) -> None:
    """Give the entries these places."""
    for rank, task_id in enumerate(task_ids):
        tx.execute(update(entries).where(entries.c.task_id == task_id).values(rank=float(rank)))


def waiting_place(tx: Connection, task_id: str) -> tuple[str, int] | None:
    """The queue's id and how many tasks are ahead; None when the task is in no queue."""
    mine = tx.execute(select(entries).where(entries.c.task_id == task_id)).one_or_none()
    if mine is None:
        return None
    earlier = (entries.c.rank < mine.rank) | ((entries.c.rank == mine.rank) & (entries.c.enqueued < mine.enqueued))
    ahead = tx.execute(select(func.count()).where(entries.c.queue_id == mine.queue_id, earlier)).scalar_one()
    return mine.queue_id, ahead


def waiting_tasks(tx: Connection, queue_ids: Sequence[str]) -> dict[str, list[tuple[str, str, float]]]:
    """By queue: id, name and time of what waits there, the next one first."""
    rows = tx.execute(
        select(entries.c.queue_id, entries.c.task_id, tasks.c.name, entries.c.enqueued)
        .join(tasks, tasks.c.id == entries.c.task_id)
        .where(entries.c.queue_id.in_(list(queue_ids)))
        .order_by(entries.c.rank, entries.c.enqueued)
    )
    found: dict[str, list[tuple[str, str, float]]] = {queue_id: [] for queue_id in queue_ids}
    for row in rows:
        found[row.queue_id].append((row.task_id, row.name, row.enqueued))
    return found


# --- workers ----------------------------------------------------------------------------------------------


def put_worker(tx: Connection, worker: WorkerRow) -> None:
    columns: dict[str, Any] = {
        "name": worker.name,
        "user": worker.user,
        "queues": _encode(worker.queues),
        "slots": worker.slots,
        "version": worker.version,
        "machine": _encode(worker.machine),
        "lease_seconds": worker.lease_seconds,
        "draining": worker.draining,
        "registered": worker.registered,
        "last_seen": worker.last_seen,
        "notes": None if worker.notes is None else _encode(worker.notes),
    }
    statement = db.insert(tx, workers).values(id=worker.id, **columns)
    tx.execute(statement.on_conflict_do_update(index_elements=[workers.c.id], set_=columns))


def find_worker(tx: Connection, worker_id: str) -> WorkerRow | None:
    row = tx.execute(_WORKER_BY_ID, {"worker": worker_id}).one_or_none()
    return None if row is None else _worker(row)


def find_agents(tx: Connection, host: str) -> list[WorkerRow]:
    """Agents of other systems whose id is this word, or begins with it and a colon."""
    theirs = (workers.c.id == host) | workers.c.id.like(db.like(f"{host}:", prefix=True), escape="!")
    return [_worker(row) for row in tx.execute(select(workers).where(theirs, workers.c.notes.is_not(None)))]


def list_workers(tx: Connection) -> list[WorkerRow]:
    return [_worker(row) for row in tx.execute(select(workers).order_by(workers.c.name, workers.c.id))]


def see_worker(
    tx: Connection, worker_id: str, now: float, machine: Machine | None, lease_seconds: float | None = None
) -> None:
    told = {"machine": None if machine is None else _encode(machine), "lease_seconds": lease_seconds}
    tx.execute(_SEE_WORKER, {"worker": worker_id, "now": now, **told})


def drain_worker(tx: Connection, worker_id: str, *, drain: bool) -> bool:
    return tx.execute(update(workers).where(workers.c.id == worker_id).values(draining=drain)).rowcount == 1


def remove_worker(tx: Connection, worker_id: str) -> bool:
    return tx.execute(delete(workers).where(workers.c.id == worker_id)).rowcount == 1


def forget_workers(tx: Connection, before: float, *, agents: bool = False) -> None:
    """Drops workers that were not heard of since `before` and hold nothing; only agents of other systems."""
    holding = select(leases.c.worker_id).where(leases.c.outcome == "")
    gone = (workers.c.last_seen < before) & workers.c.id.not_in(holding)
    tx.execute(delete(workers).where(gone & workers.c.notes.is_not(None) if agents else gone))


# --- leases -----------------------------------------------------------------------------------------------


def add_lease(tx: Connection, lease: LeaseRow) -> None:
    tx.execute(_ADD_LEASE, {name: getattr(lease, name) for name in _LEASE})


def find_lease(tx: Connection, token: str) -> LeaseRow | None:
    row = tx.execute(_LEASE_BY_TOKEN, {"token": token}).one_or_none()
    return None if row is None else _lease(row)


def open_lease(tx: Connection, task_id: str) -> LeaseRow | None:
    """The lease that the task runs under."""
    held = _open().join(tasks, (tasks.c.id == leases.c.task_id) & (tasks.c.lease == leases.c.token))
    row = tx.execute(held.where(leases.c.task_id == task_id)).one_or_none()
    return None if row is None else _lease(row)


def open_leases(tx: Connection) -> list[LeaseRow]:
    return [_lease(row) for row in tx.execute(_open())]


def expired_leases(tx: Connection, now: float) -> list[LeaseRow]:
    found = _open().where(leases.c.expires <= now).order_by(leases.c.expires).with_for_update(skip_locked=True)
    return [_lease(row) for row in tx.execute(found)]


def renew_lease(tx: Connection, token: str, now: float, phase: str) -> LeaseRow | None:
    """One period more from `now` on; None when the lease is closed or its task is not under it any more."""
    row = tx.execute(_RENEW, {"token_": token, "now": now, "phase_": phase}).one_or_none()
    return None if row is None else _lease(row)


def extend_lease(tx: Connection, token: str, expires: float) -> None:
    _change_open(tx, token, {"expires": expires})


def close_lease(tx: Connection, token: str, outcome: str) -> bool:
    """True for the one caller that closed it."""
    return _change_open(tx, token, {"outcome": outcome})


def stop_lease(tx: Connection, token: str, reason: str) -> bool:
    return _change_open(tx, token, {"stop": True, "stop_reason": reason})


def note_said(tx: Connection, token: str, outcome: str) -> bool:
    return _change_open(tx, token, {"said": outcome})


def count_attempts(tx: Connection, task_id: str) -> int:
    """Leases that the task had since it was last enqueued by somebody."""
    return tx.execute(select(func.count()).where(leases.c.task_id == task_id)).scalar_one()


def forget_attempts(tx: Connection, task_id: str) -> None:
    """The closed leases of an earlier time in a queue."""
    tx.execute(delete(leases).where(leases.c.task_id == task_id, leases.c.outcome != ""))


def rename_holder(tx: Connection, lease: LeaseRow, worker_id: str) -> None:
    """Who holds the lease was not known exactly when it was made."""
    tx.execute(update(leases).where(leases.c.token == lease.token).values(worker_id=worker_id))
    held = (tasks.c.id == lease.task_id) & (tasks.c.lease == lease.token)
    tx.execute(update(tasks).where(held).values(worker=worker_id))


def is_held(tx: Connection, task_id: str, token: str) -> bool:
    """Whether the task is running under this very lease."""
    held = (tasks.c.id == task_id) & (tasks.c.lease == token)
    return tx.execute(select(tasks.c.id).where(held)).first() is not None


def tell_status(tx: Connection, task_id: str, token: str, message: str, now: float) -> None:
    """The message that people see while the attempt goes on; the state itself is not touched."""
    held = (tasks.c.id == task_id) & (tasks.c.lease == token)
    tx.execute(update(tasks).where(held).values(status_message=message, last_update=now))


def _change_open(tx: Connection, token: str, columns: dict[str, Any]) -> bool:
    found = leases.c.token == token
    return tx.execute(update(leases).where(found, leases.c.outcome == "").values(**columns)).rowcount == 1


def _open() -> Select[Any]:
    return select(leases).where(leases.c.outcome == "")


# --- statements of the hot paths, built once --------------------------------------------------------------

_keys: BindParameter[Any] = bindparam("keys", expanding=True)
_POLICIES = select(queues).where(queues.c.id.in_(_keys) | queues.c.name.in_(_keys))
_FIRST_ENTRY = (
    select(entries.c.task_id, entries.c.user, entries.c.enqueued)
    .where(entries.c.queue_id == bindparam("queue"))
    .order_by(entries.c.rank, entries.c.enqueued)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_REMOVE_ENTRY = delete(entries).where(entries.c.task_id == bindparam("task")).returning(entries.c.queue_id)
_WORKER_BY_ID = select(workers).where(workers.c.id == bindparam("worker"))
_SEE_WORKER = (
    update(workers)
    .where(workers.c.id == bindparam("worker"))
    .values(
        last_seen=bindparam("now"),
        machine=func.coalesce(bindparam("machine", type_=LargeBinary), workers.c.machine),
        lease_seconds=func.coalesce(bindparam("lease_seconds", type_=Double), workers.c.lease_seconds),
    )
)
_ADD_LEASE = insert(leases)
_LEASE_BY_TOKEN = select(leases).where(leases.c.token == bindparam("token"))
_RENEW = (
    update(leases)
    .where(leases.c.token == bindparam("token_"), leases.c.outcome == "")
    .where(exists().where(tasks.c.id == leases.c.task_id, tasks.c.lease == leases.c.token))
    .values(
        expires=bindparam("now", type_=Double) + leases.c.seconds,
        phase=func.coalesce(func.nullif(bindparam("phase_", type_=Text), ""), leases.c.phase),
    )
    .returning(leases)
)

# --- rows to values ---------------------------------------------------------------------------------------

_LEASE = tuple(LeaseRow.__dataclass_fields__)
_WORKER = tuple(WorkerRow.__dataclass_fields__)


def _counts(tx: Connection, statement: Select[str, int]) -> dict[str, int]:
    return {row[0]: row[1] for row in tx.execute(statement)}


def _queue(row: Row[Any], waiting: int, running: int) -> Queue:
    on_lost: OnLost = "fail" if row.on_lost == "fail" else "requeue"
    return Queue(
        id=row.id,
        name=row.name,
        description=row.description,
        tags=_names.decode(row.tags),
        paused=row.paused,
        on_lost=on_lost,
        max_attempts=row.max_attempts,
        created=row.created,
        waiting=waiting,
        running=running,
    )


def _worker(row: Row[Any]) -> WorkerRow:
    values: dict[str, Any] = {name: getattr(row, name) for name in _WORKER}
    values["queues"] = _names.decode(row.queues)
    values["machine"] = _machine.decode(row.machine)
    values["notes"] = None if row.notes is None else _notes.decode(row.notes)
    return WorkerRow(**values)


def _lease(row: Row[Any]) -> LeaseRow:
    return LeaseRow(**{name: getattr(row, name) for name in _LEASE})

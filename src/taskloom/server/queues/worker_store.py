"""SQL of workers: ours, and agents of other systems with what they tell besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Double, LargeBinary, bindparam, delete, func, select, update

from taskloom.domain.queue import Machine
from taskloom.server import db
from taskloom.server.prepared import Prepared
from taskloom.server.tables import leases, workers


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

    def alive(self, now: float) -> bool:
        return now - self.last_seen <= 2 * self.lease_seconds


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
    row = _WORKER_BY_ID.first(tx, {"worker": worker_id})
    return None if row is None else _worker(row)


def find_agents(tx: Connection, host: str) -> list[WorkerRow]:
    """Agents of other systems whose id is this word, or begins with it and a colon."""
    theirs = (workers.c.id == host) | workers.c.id.like(db.like(f"{host}:", prefix=True), escape="!")
    return [_worker(row) for row in tx.execute(select(*_COLUMNS).where(theirs, workers.c.notes.is_not(None)))]


def list_workers(tx: Connection) -> list[WorkerRow]:
    return [_worker(row) for row in tx.execute(_LIST_WORKERS)]


def see_worker(
    tx: Connection, worker_id: str, now: float, machine: Machine | None, lease_seconds: float | None = None
) -> WorkerRow | None:
    """It lives; None when it is not registered."""
    told = {"machine": None if machine is None else _encode(machine), "lease_seconds": lease_seconds}
    row = _SEE_WORKER.first(tx, {"worker": worker_id, "now": now, **told})
    return None if row is None else _worker(row)


def note_alive(tx: Connection, worker_id: str, now: float) -> None:
    """It lives, and its machine is what it was; nothing happens when it is not registered."""
    _NOTE_ALIVE.run(tx, {"worker": worker_id, "now": now})


def drain_worker(tx: Connection, worker_id: str, *, drain: bool) -> bool:
    return tx.execute(update(workers).where(workers.c.id == worker_id).values(draining=drain)).rowcount == 1


def remove_worker(tx: Connection, worker_id: str) -> bool:
    return tx.execute(delete(workers).where(workers.c.id == worker_id)).rowcount == 1


def forget_workers(tx: Connection, before: float, *, agents: bool = False) -> None:
    """Drops workers that were not heard of since `before` and hold nothing; only agents of other systems."""
    holding = select(leases.c.worker_id).where(leases.c.outcome == "")
    gone = (workers.c.last_seen < before) & workers.c.id.not_in(holding)
    tx.execute(delete(workers).where(gone & workers.c.notes.is_not(None) if agents else gone))


_WORKER = tuple(WorkerRow.__dataclass_fields__)
_COLUMNS = tuple(workers.c[name] for name in _WORKER)
_LIST_WORKERS = select(*_COLUMNS).order_by(workers.c.name, workers.c.id)
_WORKER_BY_ID = Prepared(select(*_COLUMNS).where(workers.c.id == bindparam("worker")))
_NOTE_ALIVE = Prepared(
    update(workers).where(workers.c.id == bindparam("worker")).values(last_seen=bindparam("now"))
)
_SEE_WORKER = Prepared(
    update(workers)
    .where(workers.c.id == bindparam("worker"))
    .values(
        last_seen=bindparam("now"),
        machine=func.coalesce(bindparam("machine", type_=LargeBinary), workers.c.machine),
        lease_seconds=func.coalesce(bindparam("lease_seconds", type_=Double), workers.c.lease_seconds),
    )
    .returning(*_COLUMNS)
)


def _worker(row: Sequence[Any]) -> WorkerRow:
    values: dict[str, Any] = dict(zip(_WORKER, row, strict=True))
    values["queues"] = _names.decode(values["queues"])
    values["machine"] = _machine.decode(values["machine"])
    values["notes"] = None if values["notes"] is None else _notes.decode(values["notes"])
    return WorkerRow(**values)

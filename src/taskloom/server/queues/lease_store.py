"""SQL of leases. A closed one stays until its task is enqueued again, so that tries can be counted by their cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Double,
    Select,
    Text,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from taskloom.server.prepared import Prepared
from taskloom.server.tables import leases, tasks

LOST = "lost"
GIVEN_BACK = "given back"
PAGE = 500  # ids in one IN list
_gpus = msgspec.msgpack.Decoder(tuple[int, ...])
_encode = msgspec.msgpack.encode


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
    user: str = ""
    shape: str = ""
    gpus: tuple[int, ...] | None = None
    preemptible: bool = False
    priority: int = 0
    hand: int = 0
    rank: float = 0.0
    enqueued: float = 0.0
    give_back: bool = False
    cause: str = ""

    @property
    def open(self) -> bool:
        return not self.outcome


def add_lease(tx: Connection, lease: LeaseRow) -> None:
    values: dict[str, Any] = {name: getattr(lease, name) for name in _LEASE}
    values["gpus"] = None if lease.gpus is None else _encode(lease.gpus)
    _ADD_LEASE.run(tx, values)


def find_lease(tx: Connection, token: str) -> LeaseRow | None:
    row = _LEASE_BY_TOKEN.first(tx, {"token": token})
    return None if row is None else _lease(row)


def open_lease(tx: Connection, task_id: str) -> LeaseRow | None:
    """The lease that the task runs under."""
    row = _OPEN_LEASE.first(tx, {"task": task_id})
    return None if row is None else _lease(row)


def open_leases(tx: Connection) -> list[LeaseRow]:
    return [_lease(row) for row in tx.execute(_OPEN)]


def leases_of_worker(tx: Connection, worker_id: str) -> list[LeaseRow]:
    """The open ones: what they reserve is not free there."""
    return [_lease(row) for row in _OPEN_OF_WORKER.rows(tx, {"worker": worker_id})]


def running_by_user(tx: Connection, queue_id: str) -> dict[str, int]:
    """Open leases of the queue, by the user whose task it is."""
    return {row[0]: row[1] for row in _RUNNING_BY_USER.rows(tx, {"queue": queue_id})}


def preemptible_from(tx: Connection) -> int | None:
    """The lowest priority of what runs and may be stopped for others; None when nothing may."""
    return _PREEMPTIBLE_FROM.value(tx, {})


def expired_leases(tx: Connection, now: float) -> list[LeaseRow]:
    found = _OPEN.where(leases.c.expires <= now).order_by(leases.c.expires).with_for_update(skip_locked=True)
    return [_lease(row) for row in tx.execute(found)]


def next_expiry(tx: Connection) -> tuple[float | None, float | None]:
    """When the first open lease runs out, and the shortest period of one."""
    found = tx.execute(
        select(func.min(leases.c.expires), func.min(leases.c.seconds)).where(leases.c.outcome == "")
    )
    row = found.one()
    return row[0], row[1]


def renew_lease(tx: Connection, token: str, now: float, phase: str, keep: float = 0.0) -> LeaseRow | None:
    """One period more from `now` on, or `keep` seconds if that is longer; None when the lease is closed or its
    task is not under it any more.
    """
    row = _RENEW.first(tx, {"token_": token, "now": now, "phase_": phase, "kept": now + keep})
    return None if row is None else _lease(row)


def extend_lease(tx: Connection, token: str, expires: float) -> None:
    _change_open(tx, token, {"expires": expires})


def close_lease(tx: Connection, token: str, outcome: str) -> LeaseRow | None:
    """The lease as it is now, for the one caller that closed it."""
    row = _CLOSE.first(tx, {"token_": token, "outcome_": outcome})
    return None if row is None else _lease(row)


def note_cause(tx: Connection, token: str, cause: str) -> None:
    """What ended a try that may be repeated."""
    tx.execute(update(leases).where(leases.c.token == token).values(cause=cause))


def stop_lease(tx: Connection, token: str, reason: str, *, give_back: bool = False) -> bool:
    return _change_open(tx, token, {"stop": True, "stop_reason": reason, "give_back": give_back})


def note_said(tx: Connection, token: str, outcome: str) -> bool:
    return _change_open(tx, token, {"said": outcome})


def count_causes(tx: Connection, task_id: str) -> dict[str, int]:
    """Tries of the task since somebody enqueued it, by what ended them; those that nothing ended under ''."""
    counted = select(leases.c.cause, func.count()).where(leases.c.task_id == task_id).group_by(leases.c.cause)
    return {row[0]: row[1] for row in tx.execute(counted)}


def count_attempts(tx: Connection, task_ids: Sequence[str]) -> dict[str, int]:
    """Leases that each task had since it was last enqueued by somebody."""
    found: dict[str, int] = {}
    for start in range(0, len(task_ids), PAGE):
        some = leases.c.task_id.in_(list(task_ids[start : start + PAGE]))
        counted = select(leases.c.task_id, func.count()).where(some).group_by(leases.c.task_id)
        found.update({row[0]: row[1] for row in tx.execute(counted)})
    return found


def forget_attempts(tx: Connection, task_id: str) -> None:
    """The closed leases of an earlier time in a queue."""
    _FORGET.run(tx, {"task": task_id})


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


# --- statements of the hot paths, built once --------------------------------------------------------------

_LEASE = tuple(LeaseRow.__dataclass_fields__)
_COLUMNS = tuple(leases.c[name] for name in _LEASE)
_OPEN: Select[Any] = select(*_COLUMNS).where(leases.c.outcome == "")
_ADD_LEASE = Prepared(insert(leases), _LEASE)
_LEASE_BY_TOKEN = Prepared(select(*_COLUMNS).where(leases.c.token == bindparam("token")))
_OPEN_LEASE = Prepared(
    _OPEN.join(tasks, (tasks.c.id == leases.c.task_id) & (tasks.c.lease == leases.c.token)).where(
        leases.c.task_id == bindparam("task")
    )
)
_OPEN_OF_WORKER = Prepared(_OPEN.where(leases.c.worker_id == bindparam("worker")).order_by(leases.c.created))
_RUNNING_BY_USER = Prepared(
    select(leases.c.user, func.count())
    .where(leases.c.queue_id == bindparam("queue"), leases.c.outcome == "")
    .group_by(leases.c.user)
)
_PREEMPTIBLE_FROM = Prepared(
    select(func.min(leases.c.priority)).where(
        leases.c.outcome == "", leases.c.preemptible.is_(True), leases.c.stop.is_(False)
    )
)
_CLOSE = Prepared(
    update(leases)
    .where(leases.c.token == bindparam("token_"), leases.c.outcome == "")
    .values(outcome=bindparam("outcome_"))
    .returning(*_COLUMNS)
)
_FORGET = Prepared(delete(leases).where(leases.c.task_id == bindparam("task"), leases.c.outcome != ""))
_next = bindparam("now", type_=Double) + leases.c.seconds
_kept = bindparam("kept", type_=Double)
_RENEW = Prepared(
    update(leases)
    .where(leases.c.token == bindparam("token_"), leases.c.outcome == "")
    .where(exists().where(tasks.c.id == leases.c.task_id, tasks.c.lease == leases.c.token))
    .values(
        expires=case((_kept > _next, _kept), else_=_next),
        phase=func.coalesce(func.nullif(bindparam("phase_", type_=Text), ""), leases.c.phase),
    )
    .returning(*_COLUMNS)
)
_GPUS = _LEASE.index("gpus")


def _lease(row: Sequence[Any]) -> LeaseRow:
    values = list(row)
    if values[_GPUS] is not None:
        values[_GPUS] = _gpus.decode(values[_GPUS])
    return LeaseRow(*values)

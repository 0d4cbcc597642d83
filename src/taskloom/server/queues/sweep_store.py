"""SQL of sweeps: which tasks are the combinations of which task, while that one runs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from taskloom.domain.status import Status
from taskloom.server.prepared import Prepared
from taskloom.server.queues.waiting import Sweep
from taskloom.server.tables import sweeps, task_values, tasks

_NOTE_END = Prepared(
    update(sweeps).where(sweeps.c.task_id == bindparam("task")).values(open=False).returning(sweeps.c.sweep_id)
)
_ANY_OPEN = Prepared(
    select(sweeps.c.task_id).where(sweeps.c.sweep_id == bindparam("sweep"), sweeps.c.open.is_(True)).limit(1)
)
_DONE = (Status.COMPLETED.value, Status.PUBLISHED.value)


def add_members(tx: Connection, sweep_id: str, task_ids: Sequence[str]) -> None:
    tx.execute(insert(sweeps), [{"task_id": task_id, "sweep_id": sweep_id, "open": True} for task_id in task_ids])


def drop_members(tx: Connection, sweep_id: str) -> None:
    tx.execute(delete(sweeps).where(sweeps.c.sweep_id == sweep_id))


def note_end(tx: Connection, task_id: str) -> str | None:
    """The task is not waited for any more; whose combination it is, if it is one."""
    return _NOTE_END.value(tx, {"task": task_id})


def any_open(tx: Connection, sweep_id: str) -> bool:
    """Whether a task of it was not seen to end."""
    return _ANY_OPEN.first(tx, {"sweep": sweep_id}) is not None


def any_going_on(tx: Connection, sweep_id: str) -> bool:
    """Whether one of those runs or waits: the others ended unseen."""
    going_on = tasks.c.status.in_((Status.PENDING.value, Status.RUNNING.value))
    found = select(tasks.c.id).join(sweeps, sweeps.c.task_id == tasks.c.id)
    mine = (sweeps.c.sweep_id == sweep_id) & sweeps.c.open.is_(True)
    return tx.execute(found.where(mine, going_on).limit(1)).first() is not None


def open_sweeps(tx: Connection) -> list[str]:
    return list(tx.execute(select(sweeps.c.sweep_id).distinct()).scalars())


def members(tx: Connection, sweep_id: str, *statuses: Status) -> list[str]:
    """Its tasks, those in one of the states."""
    mine = select(tasks.c.id).join(sweeps, sweeps.c.task_id == tasks.c.id).where(sweeps.c.sweep_id == sweep_id)
    return list(tx.execute(mine.where(tasks.c.status.in_([status.value for status in statuses]))).scalars())


def progress(tx: Connection, sweep_id: str) -> Sweep | None:
    """None when it has no tasks (any more)."""
    counted = (
        select(tasks.c.status, func.count())
        .join(sweeps, sweeps.c.task_id == tasks.c.id)
        .where(sweeps.c.sweep_id == sweep_id)
        .group_by(tasks.c.status)
    )
    by_status = {row[0]: row[1] for row in tx.execute(counted)}
    if not by_status:
        return None
    return Sweep(
        total=sum(by_status.values()),
        completed=sum(by_status.get(status, 0) for status in _DONE),
        failed=by_status.get(Status.FAILED.value, 0),
        aborted=by_status.get(Status.ABORTED.value, 0),
        running=by_status.get(Status.RUNNING.value, 0),
        waiting=by_status.get(Status.PENDING.value, 0),
        dropped=by_status.get(Status.DRAFT.value, 0),
    )


def best_by_metric(tx: Connection, sweep_id: str, metric: str, *, lower: bool) -> tuple[str, float] | None:
    """The completed task whose last value of the series is the best, and the value."""
    found = (
        select(tasks.c.id, task_values.c.number)
        .join(sweeps, sweeps.c.task_id == tasks.c.id)
        .join(task_values, task_values.c.task_id == tasks.c.id)
        .where(sweeps.c.sweep_id == sweep_id, tasks.c.status.in_(_DONE))
        .where(task_values.c.key == f"metrics.{metric}", task_values.c.number.is_not(None))
        .order_by(task_values.c.number if lower else task_values.c.number.desc(), tasks.c.created, tasks.c.id)
        .limit(1)
    )
    row = tx.execute(found).first()
    return None if row is None else (row[0], row[1])

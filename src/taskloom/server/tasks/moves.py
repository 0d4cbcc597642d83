"""Every change of a task's state, and nothing else changes one.

A move is looked up in `domain.status` and made by one UPDATE that holds only for the state (and the lease) that
was found: of two moves that exclude one another one wins, the other is told a 409. A task with a lease belongs
to a worker's attempt; the moves of that attempt name its token. All functions work in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import Conflict, LeaseLost, NotFound
from taskloom.domain.status import ENDED, Move, Status, after
from taskloom.domain.task import DEVELOPMENT_TAG, Task
from taskloom.server.evals.ending import end_runs
from taskloom.server.tasks import store
from taskloom.server.tasks.checks import told
from taskloom.wire.worker_protocol import STOPPING

_ENDS = frozenset({Move.COMPLETE, Move.FAIL, Move.ABORT})
_STOPS = _ENDS | {Move.REQUEUE}  # nothing of it runs any more


def known(tx: Connection, task_id: str) -> store.Found:
    found = store.find(tx, task_id)
    if found is None:
        raise NotFound(f"no task {task_id[:80]!r}", task=task_id[:80])
    return found


def move(
    tx: Connection,
    task_id: str,
    kind: Move,
    *,
    now: float,
    reason: str = "",
    message: str = "",
    at: float = 0.0,
    **columns: Any,
) -> store.Found:
    """Make the move, or raise IllegalMove with the state that was found.

    `at` is when it happened by the clock of whoever reports it (a journal that arrives late); it becomes
    `started` or `completed`. `columns` are set along: `queue_id`, `worker`, `attempt`, `lease`.
    """
    found = known(tx, task_id)
    return make(tx, found, kind, now=now, reason=reason, message=message, at=at, **columns)


def begin_attempt(tx: Connection, task_id: str, token: str, worker: str, queue_id: str, now: float) -> store.Found:
    """Pending to running under the lease `token`; counts the attempt."""
    found = known(tx, task_id)
    if found.status is not Status.PENDING:
        after(Move.ENQUEUE, found.status)  # says what it is, when it could not even be waiting
        raise Conflict(f"task {task_id} is {found.status.value}, not pending", status=found.status.value)
    columns: dict[str, Any] = {
        "lease": token,
        "worker": worker,
        "queue_id": queue_id,
        "attempt": found.task.attempt + 1,
    }
    return make(tx, found, Move.START, now=now, reason="", message="", at=now, **columns)


def end_attempt(
    tx: Connection,
    found: store.Found,
    token: str,
    kind: Move,
    *,
    now: float,
    reason: str = "",
    message: str = "",
) -> store.Found:
    """The attempt is over: complete, fail, abort or requeue, and the lease is given back.

    Without a reason or message of its own it keeps what the script left. Raises LeaseLost when the task is
    not under this lease.
    """
    if not token or found.lease != token:
        raise LeaseLost(f"task {found.task.id} is not under this lease", status=found.status.value)
    return make(
        tx,
        found,
        kind,
        now=now,
        reason=reason or found.task.status_reason,
        message=message or left_message(found.task),
        at=now,
        lease=None,
        holds=token,
    )


def left_message(task: Task) -> str:
    """What the script said last, unless it was only told to stop."""
    return "" if task.status_message == STOPPING else task.status_message


def abort_waiting(tx: Connection, task_ids: Sequence[str], reason: str, now: float) -> list[str]:
    """Abort those of the tasks that wait; which they were. As many at once as a sweep has."""
    return store.abort_waiting(tx, task_ids, told(reason), now)


def make(
    tx: Connection,
    found: store.Found,
    kind: Move,
    *,
    now: float,
    reason: str = "",
    message: str = "",
    at: float = 0.0,
    holds: str | None = None,
    **columns: Any,
) -> store.Found:
    """`move` for a task that this transaction has read already; `holds` is the lease it must still be under."""
    before = found.task
    target = after(kind, before.status)
    fields: dict[str, Any] = {
        "status_reason": told(reason),
        "status_message": told(message),
        "status_changed": now,
        "last_update": now,
        **_times(kind, before, at or now),
        **columns,
    }
    if not store.move(tx, before.id, before.status, target, holds=holds, **fields):
        raise Conflict(
            f"task {before.id} changed its state at the same moment; try again", status=before.status.value
        )
    if kind in _STOPS and before.status is Status.RUNNING:
        end_runs(tx, before.id, now)
    lease = fields.pop("lease", found.lease) or ""
    queue = fields.pop("queue_id", before.queue)
    made = store.Found(msgspec.structs.replace(before, status=target, queue=queue, **fields), lease, found.opener)
    return _for_workers(tx, made) if kind is Move.ENQUEUE else made


def _for_workers(tx: Connection, found: store.Found) -> store.Found:
    """What waits for a worker is no longer run by hand."""
    if DEVELOPMENT_TAG not in found.task.system_tags:
        return found
    tags = tuple(tag for tag in found.task.system_tags if tag != DEVELOPMENT_TAG)
    task = msgspec.structs.replace(found.task, system_tags=tags)
    store.change(tx, found, task)
    return store.Found(task, found.lease, found.opener)


def _times(kind: Move, task: Task, at: float) -> dict[str, Any]:
    if kind in {Move.START, Move.RESUME}:
        return {"started": task.started if kind is Move.RESUME and task.started else at, "completed": 0.0}
    if kind in _ENDS and task.status not in ENDED:
        return {"completed": max(at, task.started)}
    if kind is Move.ENQUEUE:
        return {"completed": 0.0}
    if kind is Move.RESET:
        return {
            "started": 0.0,
            "completed": 0.0,
            "last_iteration": None,
            "progress": None,
            "attempt": 0,
            "worker": "",
        }
    return {}

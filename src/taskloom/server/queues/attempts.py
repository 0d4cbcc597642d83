"""Attempts: a worker owns a task only while its lease is fresh.

Every function is one step of `wire.worker_protocol` inside the caller's transaction; they are the only ones
that open or close a lease. A lease is closed once, by whoever comes first: the holder's FINISH, the sweeper, or
a reset of the task. Its row stays, so that a repeated FINISH gets its answer and attempts can be counted; the
next enqueue forgets it. A lease is void from the moment the sweeper closed it and not before: a holder that
comes late, but earlier than anybody noticed, keeps its task. Nothing here touches a clock or a process.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from taskloom.domain.errors import Conflict, LeaseLost, NotFound
from taskloom.domain.queue import Machine, Queue
from taskloom.domain.status import Move
from taskloom.domain.task import Task
from taskloom.server.accounts.service import AccountService
from taskloom.server.call import Caller
from taskloom.server.queues import store
from taskloom.server.queues.store import GIVEN_BACK, LOST, LeaseRow
from taskloom.server.tasks import moves
from taskloom.server.tasks.store import close_writers
from taskloom.wire.messages import Finish, Lease
from taskloom.wire.worker_protocol import AGENT_LEASE, STOPPING, WORKER_LOST, fence

_MOVES = {"completed": Move.COMPLETE, "failed": Move.FAIL, "aborted": Move.ABORT}
HANDED_BACK = "the worker was stopped"


@dataclass(frozen=True)
class Changed:
    """A task after a step, for the answer and the live events."""

    task: Task
    queue: str = ""


def claim(
    tx: Connection, accounts: AccountService, worker_id: str, keys: Sequence[str], seconds: float, now: float
) -> Lease | None:
    """The next task of the first queue that has one, under a fresh lease."""
    worker = store.find_worker(tx, worker_id)
    if worker is None:
        raise NotFound(f"no worker {worker_id[:80]!r}; register first", worker=worker_id[:80])
    if worker.draining:
        return None
    for queue in store.queue_policies(tx, keys):
        while not queue.paused and (entry := store.first_entry(tx, queue.id)) is not None:
            task_id, user, _ = entry
            store.remove_entry(tx, task_id)
            try:
                lease, task = _begin(tx, task_id, worker_id, worker.name, queue, _fresh_token(), seconds, now)
            except (Conflict, NotFound):  # before anything was written
                continue  # an entry whose task does not wait: nothing to run
            return Lease(
                token=lease.token,
                expires=lease.expires,
                seconds=seconds,
                attempt=lease.attempt,
                queue=queue.name,
                task=task,
                user=user,
                key=accounts.create_lease_key(tx, user, lease.token, lease.expires),
            )
    return None


def pull(tx: Connection, queue: Queue, worker_id: str, seconds: float, now: float) -> tuple[Task, float] | None:
    """For an agent of another system: the queue's next task, and since when it waited. The lease is held by the
    worker's id; its token is told to nobody, and no key is made for the script.
    """
    while not queue.paused and (entry := store.first_entry(tx, queue.id)) is not None:
        task_id, _, enqueued = entry
        store.remove_entry(tx, task_id)
        token = f"{AGENT_LEASE}{_fresh_token()}"
        try:
            _, task = _begin(tx, task_id, worker_id, worker_id, queue, token, seconds, now)
        except (Conflict, NotFound):
            continue
        return task, enqueued
    return None


def _begin(
    tx: Connection,
    task_id: str,
    worker_id: str,
    worker_name: str,
    queue: Queue,
    token: str,
    seconds: float,
    now: float,
) -> tuple[LeaseRow, Task]:
    task = moves.begin_attempt(tx, task_id, token, worker_name, queue.id, now).task
    lease = LeaseRow(
        token=token,
        task_id=task_id,
        worker_id=worker_id,
        queue_id=queue.id,
        attempt=task.attempt,
        seconds=seconds,
        expires=now + seconds,
        phase="preparing",
        stop=False,
        stop_reason="",
        outcome="",
        created=now,
    )
    store.add_lease(tx, lease)
    return lease, task


def _fresh_token() -> str:
    return secrets.token_urlsafe(32)


def renew(
    tx: Connection, accounts: AccountService, token: str, phase: str, machine: Machine | None, now: float
) -> LeaseRow:
    """The lease with its new end; LeaseLost when it is void."""
    lease = store.renew_lease(tx, token, now, phase)
    if lease is None:
        raise LeaseLost("this lease is void: it ran out, or its task was reset or deleted")
    store.see_worker(tx, lease.worker_id, now, machine)
    accounts.extend_lease_keys(tx, token, lease.expires)
    return lease


def finish(tx: Connection, accounts: AccountService, token: str, said: Finish, now: float) -> Changed:
    """Ends the task, once. The same word again gets the same answer; another one, or a void token, LeaseLost."""
    lease = store.find_lease(tx, token)
    if lease is not None and not lease.open and lease.outcome == _word(said):
        return Changed(moves.known(tx, lease.task_id).task, lease.queue_id)
    if lease is None or not store.close_lease(tx, token, _word(said)):
        raise LeaseLost("this lease is void: it ran out, or its task was reset or deleted")
    store.see_worker(tx, lease.worker_id, now, None)
    accounts.revoke_lease_keys(tx, token)
    if said.requeue and not lease.stop:
        return _again(tx, lease, now, said.reason or HANDED_BACK, said.message, _MOVES[said.outcome])
    outcome = _told(lease, "aborted" if said.requeue else said.outcome)
    reason = said.reason or (lease.stop_reason if lease.stop else "")
    left = moves.known(tx, lease.task_id).task.status_reason
    if lease.said == outcome and left:
        reason = left
    elif not reason and outcome == "failed" and not left:
        reason = "failed" if said.exit_code is None else f"exit code {said.exit_code}"
    kind = _MOVES[outcome]
    found = moves.end_attempt(tx, lease.task_id, token, kind, now=now, reason=reason, message=said.message)
    return Changed(found.task, lease.queue_id)


def expire(tx: Connection, accounts: AccountService, lease: LeaseRow, now: float) -> Changed | None:
    """The holder fell silent: the token is void, the queue's policy decides about the task."""
    if not store.close_lease(tx, lease.token, LOST):
        return None
    accounts.revoke_lease_keys(tx, lease.token)
    if not store.is_held(tx, lease.task_id, lease.token):
        return None  # reset meanwhile: the task is no longer this attempt's
    if not fence(lease.token):  # its reports bear no token, so the writers themselves are shut out
        close_writers(tx, lease.task_id)
    if lease.stop:
        kind, reason = _MOVES[_told(lease, "aborted")], lease.stop_reason
        found = moves.end_attempt(tx, lease.task_id, lease.token, kind, now=now, reason=reason)
        return Changed(found.task, lease.queue_id)
    silent = f"the worker of attempt {lease.attempt} was not heard of for {lease.seconds:g} s"
    return _again(tx, lease, now, WORKER_LOST, silent, Move.FAIL)


def foretell(tx: Connection, lease: LeaseRow, caller: Caller, said: Finish, now: float) -> None:
    """The end of a task that a worker of ours runs, told by others. From the script itself it is what its exit
    code is held against; from outside, an end that is no success stops the run.
    """
    store.note_said(tx, lease.token, said.outcome)
    if caller.lease != lease.token and said.outcome != "completed" and not lease.stop:
        stop(tx, lease, said.reason or f"{said.outcome} by {caller.user}", now)


def stop(tx: Connection, lease: LeaseRow, reason: str, now: float) -> None:
    """Marks the attempt to be stopped; its worker hears it with the next renewal."""
    store.stop_lease(tx, lease.token, reason)
    store.tell_status(tx, lease.task_id, lease.token, STOPPING, now)


def extend_all(tx: Connection, accounts: AccountService, now: float) -> int:
    """The server was away: its own absence costs no run, so every open lease lives one period from now on."""
    held = store.open_leases(tx)
    for lease in held:
        expires = max(lease.expires, now + lease.seconds)
        store.extend_lease(tx, lease.token, expires)
        accounts.extend_lease_keys(tx, lease.token, expires)
    return len(held)


def _again(tx: Connection, lease: LeaseRow, now: float, reason: str, message: str, otherwise: Move) -> Changed:
    """Back to the front of its queue while the policy and the attempts allow it; else the task ends."""
    found = store.queue_policies(tx, [lease.queue_id])
    queue = found[0] if found else None
    tries = store.count_attempts(tx, lease.task_id)
    if queue is not None and queue.on_lost == "requeue" and tries < queue.max_attempts:
        told = f"{message}; attempt {tries} of {queue.max_attempts}" if message else ""
        task = moves.end_attempt(
            tx, lease.task_id, lease.token, Move.REQUEUE, now=now, reason=reason, message=told
        ).task
        store.add_entry(tx, queue.id, lease.task_id, task.user, now, front=True)
        return Changed(task, queue.id)
    why = f"{message}; it had {tries} of {queue.max_attempts} attempts" if queue and message else message
    ended = moves.end_attempt(tx, lease.task_id, lease.token, otherwise, now=now, reason=reason, message=why)
    return Changed(ended.task, lease.queue_id)


def _told(lease: LeaseRow, outcome: str) -> str:
    """How it ended, by its holder and by what was foretold; a success has to be one by both."""
    if not lease.said or (lease.said == "completed" and outcome != "completed"):
        return outcome
    return lease.said


def _word(said: Finish) -> str:
    return GIVEN_BACK if said.requeue else said.outcome

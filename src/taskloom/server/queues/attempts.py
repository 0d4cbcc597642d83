"""Attempts: a worker owns a task only while its lease is fresh.

Every method is one step of `wire.worker_protocol` inside the caller's transaction; they are the only ones that open
or close a lease. A lease is closed once, by whoever comes first: the holder's FINISH, the sweeper, or a reset of the
task. Its row stays, so that a repeated FINISH gets its answer and tries can be counted; the next enqueue forgets it.
A lease is void from the moment the sweeper closed it and not before: a holder that comes late, but earlier than
anybody noticed, keeps its task. A task whose attempt ended too early waits again at the place in its queue that it
had, as long as `retrying` allows. Nothing here touches a clock or a process.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from taskloom.domain.errors import Conflict, LeaseLost, NotFound, ServerFault
from taskloom.domain.placeholders import secret_names
from taskloom.domain.queue import Machine, Queue
from taskloom.domain.status import Move
from taskloom.domain.task import Task
from taskloom.server.accounts.service import AccountService
from taskloom.server.call import Caller
from taskloom.server.queues import entry_store, lease_store, placing, store, worker_store
from taskloom.server.queues.entry_store import Entry
from taskloom.server.queues.lease_store import GIVEN_BACK, LOST, LeaseRow
from taskloom.server.queues.retrying import Cause, judge, pause_after
from taskloom.server.queues.secret_desk import SecretDesk
from taskloom.server.queues.worker_store import WorkerRow
from taskloom.server.tasks import moves
from taskloom.server.tasks.service import TaskService
from taskloom.server.tasks.store import Found, close_writers
from taskloom.wire.messages import Credential, Finish, Lease
from taskloom.wire.worker_protocol import AGENT_LEASE, STOPPING, WORKER_LOST, fence

_MOVES = {"completed": Move.COMPLETE, "failed": Move.FAIL, "aborted": Move.ABORT}
HANDED_BACK = "the worker was stopped"
PREEMPTED = "preempted"
_VOID = "this lease is void: it ran out, or its task was reset or deleted"


@dataclass(frozen=True)
class Changed:
    """A task after a step, for the answer and the live events; `also`: others that changed with it. taken: a claim took
    it out of its queue, so nobody who waits for a task has a reason to look.
    """

    task: Task
    queue: str = ""
    also: tuple[Changed, ...] = ()
    taken: bool = False


@dataclass(frozen=True)
class Claimed:
    """lease: None when there is nothing for the worker now. passed: something waits that does not fit there. ended:
    what was next and cannot be run.
    """

    lease: Lease | None = None
    passed: bool = False
    ended: tuple[Changed, ...] = ()


class Attempts:
    def __init__(self, accounts: AccountService, tasks: TaskService, desk: SecretDesk) -> None:
        self._accounts, self._tasks, self._secrets = accounts, tasks, desk

    # --- beginning --------------------------------------------------------------------------------------

    def claim(self, tx: Connection, worker: WorkerRow, keys: Sequence[str], seconds: float, now: float) -> Claimed:
        """The next task that fits the worker, under a fresh lease."""
        if worker.draining:
            return Claimed()
        queues = store.queue_policies(tx, keys)
        ended: list[Changed] = []
        while True:
            found = placing.look(tx, worker, queues, now)
            if found.hold is not None:
                entry_store.hold_for(tx, found.hold.task_id, worker.id)
            if found.entry is None or found.queue is None:
                return Claimed(passed=found.passed, ended=tuple(ended))
            got = self._claimed(tx, found.entry, found.queue, worker, found.gpus, seconds, now)
            if isinstance(got, Lease):
                return Claimed(got, ended=tuple(ended))
            if got is not None:
                ended.append(got)

    def _claimed(
        self,
        tx: Connection,
        entry: Entry,
        queue: Queue,
        worker: WorkerRow,
        gpus: tuple[int, ...] | None,
        seconds: float,
        now: float,
    ) -> Lease | Changed | None:
        """Changed: the task failed, because what it names is not there any more. None: there was nothing to run behind
        the entry; it is gone.
        """
        begun = self._begin(tx, entry, worker.id, worker.name, queue, _fresh_token(), seconds, now, gpus)
        if begun is None:
            return None
        lease, task = begun
        try:
            values, credentials = self._secrets_of(tx, task, entry.user)
        except NotFound as error:
            lease_store.close_lease(tx, lease.token, "failed")
            begun_task = moves.known(tx, task.id)
            failed = moves.end_attempt(tx, begun_task, lease.token, Move.FAIL, now=now, reason=error.message)
            return self._changed(tx, failed, lease)
        return Lease(
            token=lease.token,
            expires=lease.expires,
            seconds=seconds,
            attempt=lease.attempt,
            queue=queue.name,
            task=self._tasks.with_results(tx, task),
            user=entry.user,
            key=self._accounts.create_lease_key(tx, entry.user, lease.token, lease.expires),
            gpus=gpus,
            secrets=values,
            credentials=credentials,
        )

    def _secrets_of(self, tx: Connection, task: Task, user: str) -> tuple[dict[str, str], tuple[Credential, ...]]:
        """NotFound when one is not there any more, or cannot be read: the next claim would not find it either."""
        names = secret_names(task.execution, task.parameters)
        try:
            values, credentials = self._secrets.for_lease(tx, names, user, task.project, task.execution)
        except ServerFault as error:
            raise NotFound(f"secrets cannot be read: {error.message}") from error
        missing = [name for name in names if name not in values]
        if missing:
            raise NotFound(f"secrets are not there any more: {', '.join(missing)}")
        return values, credentials

    def pull(
        self, tx: Connection, queue: Queue, worker_id: str, seconds: float, now: float
    ) -> tuple[Task, float] | None:
        """For an agent of another system: the queue's next task for it, and since when it waited. The lease is held
        by the worker's id; its token is told to nobody, and no key is made for the script.
        """
        while (entry := placing.for_agent(tx, queue, now)) is not None:
            token = f"{AGENT_LEASE}{_fresh_token()}"
            begun = self._begin(tx, entry, worker_id, worker_id, queue, token, seconds, now, None)
            if begun is not None:
                return begun[1], entry.enqueued
        return None

    def _begin(
        self,
        tx: Connection,
        entry: Entry,
        worker_id: str,
        worker_name: str,
        queue: Queue,
        token: str,
        seconds: float,
        now: float,
        gpus: tuple[int, ...] | None,
    ) -> tuple[LeaseRow, Task] | None:
        entry_store.remove_entry(tx, entry.task_id)
        try:
            task = moves.begin_attempt(tx, entry.task_id, token, worker_name, queue.id, now).task
        except (Conflict, NotFound):  # before anything was written: an entry whose task does not wait
            return None
        lease = LeaseRow(
            token=token,
            task_id=entry.task_id,
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
            user=entry.user,
            shape=entry.shape,
            gpus=gpus,
            preemptible=task.execution.preemptible,
            priority=entry.priority,
            hand=entry.hand,
            rank=entry.rank,
            enqueued=entry.enqueued,
        )
        lease_store.add_lease(tx, lease)
        return lease, task

    # --- going on ---------------------------------------------------------------------------------------

    def renew(
        self, tx: Connection, token: str, phase: str, machine: Machine | None, keep: float, now: float
    ) -> LeaseRow:
        """The lease with its new end; LeaseLost when it is void."""
        lease = lease_store.renew_lease(tx, token, now, phase, keep)
        if lease is None:
            raise LeaseLost(_VOID)
        if machine is None:
            worker_store.note_alive(tx, lease.worker_id, now)
        else:
            worker_store.see_worker(tx, lease.worker_id, now, machine)
        self._accounts.extend_lease_keys(tx, token, lease.expires)
        return lease

    def stop(self, tx: Connection, lease: LeaseRow, reason: str, now: float, *, give_back: bool = False) -> None:
        """Marks the attempt to be stopped; its worker hears it with the next renewal."""
        lease_store.stop_lease(tx, lease.token, reason, give_back=give_back)
        lease_store.tell_status(tx, lease.task_id, lease.token, STOPPING, now)

    def foretell(self, tx: Connection, lease: LeaseRow, caller: Caller, said: Finish, now: float) -> None:
        """The end of a task that a worker of ours runs, told by others. From the script itself it is what its exit
        code is held against; from outside, an end that is no success stops the run.
        """
        lease_store.note_said(tx, lease.token, said.outcome)
        if caller.lease != lease.token and said.outcome != "completed" and (not lease.stop or lease.give_back):
            self.stop(tx, lease, said.reason or f"{said.outcome} by {caller.user}", now)

    def extend_all(self, tx: Connection, now: float) -> int:
        """The server was away: its own absence costs no run, so every open lease lives one period from now on."""
        held = lease_store.open_leases(tx)
        for lease in held:
            expires = max(lease.expires, now + lease.seconds)
            lease_store.extend_lease(tx, lease.token, expires)
            self._accounts.extend_lease_keys(tx, lease.token, expires)
        return len(held)

    # --- ending -----------------------------------------------------------------------------------------

    def finish(self, tx: Connection, token: str, said: Finish, now: float) -> Changed:
        """Ends the task, once. The same word again gets the same answer; another one, or a void token, LeaseLost."""
        lease = lease_store.close_lease(tx, token, _word(said))
        if lease is None:
            before = lease_store.find_lease(tx, token)
            if before is not None and before.outcome == _word(said):
                return self._changed(tx, moves.known(tx, before.task_id), before)
            raise LeaseLost(_VOID)
        worker_store.note_alive(tx, lease.worker_id, now)
        self._accounts.revoke_lease_keys(tx, token)
        found = moves.known(tx, lease.task_id)
        if lease.give_back and (said.requeue or said.outcome == "aborted"):
            return self._again(tx, found, lease, now, PREEMPTED, lease.stop_reason, said.message, Move.ABORT)
        if said.requeue and not lease.stop:
            why = said.reason or HANDED_BACK
            return self._again(tx, found, lease, now, LOST, why, said.message, _MOVES[said.outcome])
        outcome = _told(lease, "aborted" if said.requeue else said.outcome)
        reason = _reason(found.task, lease, said, outcome)
        if outcome == "failed" and not lease.stop and found.task.execution.retries.failed:
            return self._again(tx, found, lease, now, "failed", reason, said.message, Move.FAIL)
        kind = _MOVES[outcome]
        ended = moves.end_attempt(tx, found, token, kind, now=now, reason=reason, message=said.message)
        return self._changed(tx, ended, lease)

    def expire(self, tx: Connection, lease: LeaseRow, now: float) -> Changed | None:
        """The holder fell silent: the token is void, and retries or the queue's policy decide about the task."""
        if not lease_store.close_lease(tx, lease.token, LOST):
            return None
        self._accounts.revoke_lease_keys(tx, lease.token)
        if not lease_store.is_held(tx, lease.task_id, lease.token):
            return None  # reset meanwhile: the task is no longer this attempt's
        if not fence(lease.token):  # its reports bear no token, so the writers themselves are shut out
            close_writers(tx, lease.task_id)
        found = moves.known(tx, lease.task_id)
        if lease.stop and not lease.give_back:
            kind, reason = _MOVES[_told(lease, "aborted")], lease.stop_reason
            ended = moves.end_attempt(tx, found, lease.token, kind, now=now, reason=reason)
            return self._changed(tx, ended, lease)
        silent = f"the worker of attempt {lease.attempt} was not heard of for {lease.seconds:g} s"
        if lease.give_back:
            return self._again(tx, found, lease, now, PREEMPTED, lease.stop_reason, silent, Move.FAIL)
        return self._again(tx, found, lease, now, LOST, WORKER_LOST, silent, Move.FAIL)

    def _again(
        self,
        tx: Connection,
        found: Found,
        lease: LeaseRow,
        now: float,
        cause: Cause,
        reason: str,
        message: str,
        otherwise: Move,
    ) -> Changed:
        """Back to its place in its queue while that is allowed; else the task ends."""
        lease_store.note_cause(tx, lease.token, cause)
        policies = store.queue_policies(tx, [lease.queue_id])
        queue = policies[0] if policies else None
        tries = lease_store.count_causes(tx, lease.task_id).get(cause, 0)
        verdict = judge(found.task.execution.retries, queue, cause, tries)
        if not verdict.again or queue is None:
            left = message or (moves.left_message(found.task) if cause == "failed" else "")
            told = "; ".join(part for part in (left, verdict.why_no_more if queue else "") if part)
            ended = moves.end_attempt(tx, found, lease.token, otherwise, now=now, reason=reason, message=told)
            return self._changed(tx, ended, lease)
        pause = pause_after(tries) if cause == "failed" else 0.0
        if cause == "failed":
            reason = f"{verdict.number}: {reason}"
            told = "; ".join(part for part in (message, f"the next one begins {pause:g} s later") if part)
        else:
            told = f"{message}; {verdict.number}" if message else ""
        waiting = moves.end_attempt(tx, found, lease.token, Move.REQUEUE, now=now, reason=reason, message=told)
        entry_store.add_entries(tx, [_at_its_place(lease, now + pause if pause else 0.0)])
        return Changed(self._tasks.with_results(tx, waiting.task), queue.id)

    def _changed(self, tx: Connection, found: Found, lease: LeaseRow) -> Changed:
        return Changed(self._tasks.with_results(tx, found.task), lease.queue_id)


def _at_its_place(lease: LeaseRow, not_before: float) -> Entry:
    return entry_store.make_entry(
        lease.queue_id,
        lease.task_id,
        lease.user,
        lease.shape,
        lease.priority,
        lease.rank,
        lease.enqueued,
        lease.hand,
        not_before,
    )


def _fresh_token() -> str:
    return secrets.token_urlsafe(32)


def _reason(task: Task, lease: LeaseRow, said: Finish, outcome: str) -> str:
    """Why it ended: the worker's word, unless the script's own says more."""
    reason, left = said.reason or (lease.stop_reason if lease.stop else ""), task.status_reason
    if lease.said == outcome and left:
        return left
    if not reason and outcome == "failed" and not left:
        return "failed" if said.exit_code is None else f"exit code {said.exit_code}"
    return reason or left


def _told(lease: LeaseRow, outcome: str) -> str:
    """How it ended, by its holder and by what was foretold; a success has to be one by both."""
    if not lease.said or (lease.said == "completed" and outcome != "completed"):
        return outcome
    return lease.said


def _word(said: Finish) -> str:
    return GIVEN_BACK if said.requeue else said.outcome

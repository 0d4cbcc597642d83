"""Queues: who may wait where, who runs next, and what becomes of a task whose worker fell silent.

Each call is one transaction, and the rows are the queue. Leases go by this server's clock alone. What an attempt is
and how it ends stands in `attempts`, how a worker asks for its next one in `claims`, which task it gets in `placing`,
queues themselves in `queue_desk`, the order in `order`, the sentence for a waiting task in `waiting`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Conflict, Forbidden, TaskloomError
from taskloom.domain.placeholders import secret_names
from taskloom.domain.placement import shape_of, wanted_by
from taskloom.domain.project import check_text
from taskloom.domain.queue import Queue, Waiting, WorkerInfo
from taskloom.domain.status import Move, Status
from taskloom.domain.task import Task
from taskloom.server.accounts.service import AccountService
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.events import EventBus
from taskloom.server.queues import (
    entry_store,
    lease_store,
    preempting,
    reasons,
    sweep_store,
    worker_store,
)
from taskloom.server.queues.agents import AgentDesk
from taskloom.server.queues.attempts import Attempts, Changed
from taskloom.server.queues.claims import TAKEN, ClaimDesk
from taskloom.server.queues.queue_desk import QueueDesk, queue_or_new
from taskloom.server.queues.queue_rules import (
    DEFAULT_QUEUE,
    check_registration,
)
from taskloom.server.queues.secret_desk import SecretDesk
from taskloom.server.queues.sweeps import Sweeps
from taskloom.server.queues.task_files import check_values
from taskloom.server.queues.worker_desk import WorkerDesk
from taskloom.server.settings import Clock, Settings
from taskloom.server.tasks import moves
from taskloom.server.tasks.execution_checks import check_priority
from taskloom.server.tasks.service import TaskService
from taskloom.wire.messages import (
    Claim,
    Enqueue,
    Finish,
    Lease,
    LiveEvent,
    MoveRequest,
    QueueCreate,
    QueueEdit,
    QueueEntries,
    QueuePage,
    Renew,
    Renewed,
    WorkerRegister,
)
from taskloom.wire.worker_protocol import MAX_LEASE

FORGET_WORKER = 7 * 86_400.0

log = logging.getLogger("taskloom.server.queues")


class QueueService:
    def __init__(
        self,
        main: Database,
        bus: EventBus,
        clock: Clock,
        settings: Settings,
        accounts: AccountService,
        tasks: TaskService,
        secrets: SecretDesk,
    ) -> None:
        self._db, self._bus, self._clock, self._settings = main, bus, clock, settings
        self._tasks, self._secrets = tasks, secrets
        self._attempts = Attempts(accounts, tasks, secrets)
        self._sweeps = Sweeps(tasks, self._attempts)
        self._desk = QueueDesk(main, clock, tasks, self._wake, self._tell)
        self._claims = ClaimDesk(main, bus, clock, settings, self._attempts, self._sweeps)
        self._workers = WorkerDesk(main, clock, self._served)
        self.agents = AgentDesk(main, clock, settings, tasks, self._attempts, self._sweeps, self._tell)
        self._sweeper: asyncio.Task[None] | None = None

    # --- life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """The queue `default` is there, and every open lease lives one more period: we were away, not they."""
        now = self._clock()

        def work(tx: Connection) -> None:
            queue_or_new(tx, DEFAULT_QUEUE, now, create=True)
            self._attempts.extend_all(tx, now)
            worker_store.forget_workers(tx, now - FORGET_WORKER)

        await self._db.write(work)
        self._sweeper = asyncio.create_task(self._sweep_for_ever())

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    async def _sweep_for_ever(self) -> None:
        pause = self._settings.sweep
        while True:
            await asyncio.sleep(pause)
            try:
                await self.sweep()
                pause = await self._db.read(self._pause)
            except TaskloomError as error:  # a full disk, a busy database: the next look finds the same leases
                log.warning("the look for expired leases failed: %s", error.message)

    def _pause(self, tx: Connection) -> float:
        """Five seconds, or a sixth of the shortest lease."""
        shortest = lease_store.next_expiry(tx)[1]
        return min(self._settings.sweep, (math.inf if shortest is None else shortest) / 6)

    async def sweep(self) -> int:
        """Close every lease that ran out; how many there were. Ends sweeps, and makes room for what is urgent."""
        now = self._clock()
        if not await self._db.read(lambda tx: self._must_sweep(tx, now)):
            return 0

        def work(tx: Connection) -> tuple[int, list[Changed]]:
            expired = lease_store.expired_leases(tx, now)
            ended = [self._attempts.expire(tx, lease, now) for lease in expired]
            told = [self._sweeps.after(tx, changed, now) for changed in ended if changed is not None]
            told += self._sweeps.settle_all(tx, now)
            preempting.make_room(tx, self._attempts, now)
            return len(expired), told

        number, told = await self._db.write(work)
        for changed in told:
            self._tell(changed)
        return number

    def _must_sweep(self, tx: Connection, now: float) -> bool:
        first, _ = lease_store.next_expiry(tx)
        if first is not None and first <= now:
            return True
        if lease_store.preemptible_from(tx) is not None:
            return True
        return any(self._sweeps.is_over(tx, sweep_id) for sweep_id in sweep_store.open_sweeps(tx))

    # --- queues -----------------------------------------------------------------------------------------

    async def list_queues(self) -> list[Queue]:
        return await self._desk.list_queues()

    async def get_queue(self, key: str, page: QueuePage) -> QueueEntries:
        return await self._desk.get_queue(key, page)

    async def find_queue(self, key: str) -> Queue:
        return await self._desk.find_queue(key)

    async def waiting_tasks(self, queue_ids: Sequence[str]) -> dict[str, list[tuple[str, str, float]]]:
        return await self._desk.waiting_tasks(queue_ids)

    async def create_queue(self, wanted: QueueCreate) -> Queue:
        return await self._desk.create_queue(wanted)

    async def edit_queue(self, key: str, edit: QueueEdit) -> Queue:
        return await self._desk.edit_queue(key, edit)

    async def delete_queue(self, key: str, *, force: bool = False) -> None:
        await self._desk.delete_queue(key, force=force)

    async def move_entry(self, key: str, task_id: str, position: int) -> QueueEntries:
        return await self._desk.move_entry(key, task_id, position)

    async def place_entry(self, key: str, task_id: str, position: int) -> int:
        return await self._desk.place_entry(key, task_id, position)

    async def shift_entry(self, key: str, task_id: str, steps: int) -> int:
        return await self._desk.shift_entry(key, task_id, steps)

    # --- tasks in queues --------------------------------------------------------------------------------

    async def enqueue(self, caller: Caller, task_id: str, wanted: Enqueue) -> Task:
        """Pending; or, with a sweep, running, while the tasks that are its combinations are pending."""
        now = self._clock()
        if wanted.priority is not None:
            check_priority(wanted.priority)
        found = await self._db.read(lambda tx: moves.known(tx, task_id))
        await asyncio.to_thread(check_values, found.task)

        def work(tx: Connection) -> Changed:
            queue = queue_or_new(tx, wanted.queue or DEFAULT_QUEUE, now, create=wanted.create)
            found = moves.known(tx, task_id)
            pending = moves.make(tx, found, Move.ENQUEUE, now=now, queue_id=queue.id, worker="")
            task = pending.task
            self._must_have_secrets(tx, caller, task)
            lease_store.forget_attempts(tx, task_id)
            grid, waits = task.execution.sweep, [task]
            if grid is not None:
                waits = self._sweeps.combine(task, grid, caller.user, now)
            _check_waiting(tx, queue, caller.user, len(waits))
            if grid is not None:
                task = self._sweeps.begin(tx, pending, waits, queue.id, now)
            rank = entry_store.next_rank(tx, queue.id, now)
            entry_store.add_entries(tx, _entries(waits, queue.id, caller.user, wanted.priority, rank, now))
            preempting.make_room(tx, self._attempts, now)
            named = msgspec.structs.replace(task, queue_name=queue.name)
            return Changed(self._tasks.with_results(tx, named), queue.id)

        return self._tell(await self._db.write(work)).task

    def _must_have_secrets(self, tx: Connection, caller: Caller, task: Task) -> None:
        names = secret_names(task.execution, task.parameters)
        missing = self._secrets.missing(tx, names, caller.user, task.project) if names else []
        if missing:
            raise BadInput(
                f"secrets that the task names and nobody has set: {', '.join(missing)}; "
                f"expected them of the user {caller.user} or the project {task.project}",
                secrets=missing,
            )

    async def dequeue(self, task_id: str, wanted: MoveRequest) -> Task:
        now = self._clock()

        def work(tx: Connection) -> Changed:
            moves.move(tx, task_id, Move.DEQUEUE, now=now, reason=wanted.reason, message=wanted.message)
            queue = entry_store.remove_entry(tx, task_id) or ""
            return self._sweeps.after(tx, Changed(self._tasks.load(tx, task_id), queue), now)

        return self._tell(await self._db.write(work)).task

    async def abort(self, caller: Caller, task_id: str, wanted: MoveRequest) -> Task:
        """Pending: never runs. Running under a lease: marked to stop. Running without one: aborted at once, and if
        that is a sweep, with what is left of its tasks.
        """
        now = self._clock()
        reason = wanted.reason or f"aborted by {caller.user}"

        def work(tx: Connection) -> Changed:
            found = moves.known(tx, task_id)
            lease = lease_store.open_lease(tx, task_id)
            if found.status is Status.RUNNING and lease is not None:
                if not lease.stop or lease.give_back:
                    self._attempts.stop(tx, lease, reason, now)
                return Changed(self._tasks.load(tx, task_id), lease.queue_id)
            moves.make(tx, found, Move.ABORT, now=now, reason=reason, message=wanted.message, lease=None)
            queue = entry_store.remove_entry(tx, task_id) or ""
            also: tuple[Changed, ...] = ()
            if found.task.execution.sweep is not None:
                also = self._sweeps.abort(tx, task_id, f"its sweep was aborted: {reason}", now)
                queue = queue or found.task.queue
            return self._sweeps.after(tx, Changed(self._tasks.load(tx, task_id), queue, also), now)

        return self._tell(await self._db.write(work)).task

    async def waiting(self, task_id: str) -> Waiting:
        now = self._clock()
        return await self._db.read(lambda tx: reasons.waiting(tx, task_id, now))

    # --- workers ----------------------------------------------------------------------------------------

    async def list_workers(self) -> list[WorkerInfo]:
        return await self._workers.list()

    async def register_worker(self, caller: Caller, wanted: WorkerRegister) -> WorkerInfo:
        _no_task(caller)
        check_registration(wanted)
        info = await self._workers.register(caller, wanted)
        self._wake("", "worker")
        return info

    async def unregister_worker(self, worker_id: str) -> None:
        await self._workers.unregister(worker_id)
        self._wake("", "worker")

    async def drain_worker(self, worker_id: str, *, drain: bool) -> WorkerInfo:
        info = await self._workers.drain(worker_id, drain=drain)
        self._wake("", "worker")
        self._wake("")
        return info

    def _served(self, tx: Connection, key: str, create: bool) -> str:
        return queue_or_new(tx, key, self._clock(), create=create).id

    # --- leases -----------------------------------------------------------------------------------------

    async def claim(self, caller: Caller, wanted: Claim, gone: Callable[[], Awaitable[bool]]) -> Lease | None:
        """The next task, waited for. Nothing is claimed for a worker that hung up meanwhile."""
        _no_task(caller)
        return await self._claims.claim(wanted, gone, self._tell)

    async def renew(self, token: str, said: Renew) -> Renewed:
        now = self._clock()
        phase = check_text(said.phase[:64], "phase")
        if not 0 <= said.keep <= MAX_LEASE:
            raise BadInput(f"keep {said.keep}: expected 0 to {MAX_LEASE:g} seconds")
        lease = await self._db.write(
            lambda tx: self._attempts.renew(tx, token, phase, said.machine, said.keep, now)
        )
        return Renewed(expires=lease.expires, stop=lease.stop, give_back=lease.give_back, reason=lease.stop_reason)

    async def finish(self, token: str, said: Finish) -> Task:
        now = self._clock()

        def work(tx: Connection) -> Changed:
            return self._sweeps.after(tx, self._attempts.finish(tx, token, said, now), now)

        await self._tasks.copy_last_values()  # who sees the task ended sees them, too
        return self._tell(await self._db.write(work)).task

    # --- what agents of other systems say of their tasks --------------------------------------------------

    async def heard_of(self, task_id: str) -> None:
        """A report about the task came in: an agent that runs it lives. Cheap."""
        await self.agents.heard_of(task_id)

    async def start_for_agent(self, caller: Caller, task_id: str) -> Task | None:
        """None: the task is not under the lease of an agent of another system."""
        return await self.agents.start(task_id)

    async def end_for_agent(self, caller: Caller, task_id: str, said: Finish) -> Task | None:
        """None: the task is not under the lease of an agent of another system."""
        return await self.agents.end(caller, task_id, said)

    # --- who wants to know ------------------------------------------------------------------------------

    def _tell(self, changed: Changed) -> Changed:
        """Say what changed, after the transaction; claims that wait listen to the queue's events."""
        task = changed.task
        self._bus.publish(
            LiveEvent(
                kind="task",
                task=task.id,
                project=task.project,
                queue=changed.queue,
                status=task.status.value,
                time=self._clock(),
            )
        )
        for other in changed.also:
            self._tell(other)
        if changed.queue:
            self._wake(changed.queue, status=TAKEN if changed.taken else "")
        return changed

    def _wake(self, queue: str, kind: str = "queue", status: str = "") -> None:
        self._bus.publish(LiveEvent(kind=kind, queue=queue, status=status, time=self._clock()))


def _entries(
    waits: Sequence[Task], queue_id: str, user: str, priority: int | None, rank: float, now: float
) -> list[entry_store.Entry]:
    """One after the other, from the rank on. `priority`: None is each task's own."""
    return [
        entry_store.make_entry(
            queue_id,
            task.id,
            user,
            shape_of(wanted_by(task.execution)),
            task.execution.priority if priority is None else priority,
            rank + number * entry_store.STEP,
            now,
        )
        for number, task in enumerate(waits)
    ]


def _check_waiting(tx: Connection, queue: Queue, user: str, more: int) -> None:
    most = queue.max_waiting_per_user
    if not most:
        return
    waiting = entry_store.count_waiting(tx, queue.id, user)
    if waiting + more > most:
        raise Conflict(
            f"queue {queue.name!r} lets {most} tasks of one user wait; {user} has {waiting} waiting"
            + (f" and brings {more}" if more > 1 else ""),
            limit=most,
            waiting=waiting,
        )


def _no_task(caller: Caller) -> None:
    if caller.lease:
        raise Forbidden("the key of a running task is not a worker's: it can neither register nor claim")

"""Queues: who may wait where, who runs next, and what becomes of a task whose worker fell silent.

Each call is one transaction; the rows are the queue, and what is in memory is only the wish to be woken: a claim
that found nothing watches the live events and looks again. Leases go by this server's clock alone. What an
attempt is and how it ends stands in `attempts`, which task a worker gets in `placing`, the order in `order`, the
sentence for a waiting task in `waiting`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Conflict, Forbidden, NotFound, TaskloomError
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
    order,
    placing,
    position_store,
    preempting,
    reasons,
    store,
    sweep_store,
    worker_store,
)
from taskloom.server.queues.agents import AgentDesk
from taskloom.server.queues.attempts import Attempts, Changed
from taskloom.server.queues.queue_rules import (
    DEFAULT_QUEUE,
    MAX_PAGE,
    MAX_QUEUES,
    check_page,
    check_registration,
    checked_edit,
    new_queue,
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
from taskloom.wire.worker_protocol import MAX_LEASE, MAX_WAIT, MIN_LEASE

LOOK_AGAIN = 2.0  # seconds after which a waiting claim looks by itself (another server on the same database)
FORGET_WORKER = 7 * 86_400.0
_WAKING = frozenset({"queue"})

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
        self._workers = WorkerDesk(main, clock, self._served)
        self.agents = AgentDesk(main, clock, settings, tasks, self._attempts, self._sweeps, self._tell)
        self._sweeper: asyncio.Task[None] | None = None

    # --- life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """The queue `default` is there, and every open lease lives one more period: we were away, not they."""
        now = self._clock()

        def work(tx: Connection) -> None:
            _queue_or_new(tx, DEFAULT_QUEUE, now, create=True)
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
        return await self._db.read(store.list_queues)

    async def get_queue(self, key: str, page: QueuePage) -> QueueEntries:
        check_page(page)

        def work(tx: Connection) -> QueueEntries:
            queue = _queue(tx, key)
            return QueueEntries(queue=queue, entries=position_store.page(tx, queue.id, page.limit, page.offset))

        return await self._db.read(work)

    async def find_queue(self, key: str) -> Queue:
        """By id, else by name, without its entries."""
        return await self._db.read(lambda tx: _queue(tx, key))

    async def waiting_tasks(self, queue_ids: Sequence[str]) -> dict[str, list[tuple[str, str, float]]]:
        """By queue: id, name and time of what waits there, the next one first."""
        return await self._db.read(lambda tx: entry_store.waiting_tasks(tx, queue_ids))

    async def create_queue(self, wanted: QueueCreate) -> Queue:
        queue = new_queue(wanted, self._clock())

        def work(tx: Connection) -> Queue:
            if store.find_queue(tx, queue.name) is not None or not store.add_queue(tx, queue):
                raise Conflict(f"there is a queue {queue.name!r} already", queue=queue.name)
            return queue

        await self._db.write(work)
        self._wake(queue.id)
        return queue

    async def edit_queue(self, key: str, edit: QueueEdit) -> Queue:
        columns = checked_edit(edit)

        def work(tx: Connection) -> Queue:
            queue = _queue(tx, key)
            if queue.name == DEFAULT_QUEUE and columns.get("name", DEFAULT_QUEUE) != DEFAULT_QUEUE:
                raise Conflict(f"the queue {DEFAULT_QUEUE!r} keeps its name: tasks without a queue go there")
            if "name" in columns and store.name_taken(tx, str(columns["name"]), queue.id):
                raise Conflict(f"there is a queue {columns['name']!r} already", queue=columns["name"])
            if columns:
                store.edit_queue(tx, queue.id, **columns)
            return _queue(tx, queue.id)

        queue = await self._db.write(work)
        self._wake(queue.id)
        return queue

    async def delete_queue(self, key: str, *, force: bool = False) -> None:
        """By force also one that is in use: what waits there becomes a draft again, what runs goes on."""
        now = self._clock()

        def work(tx: Connection) -> tuple[str, list[Changed]]:
            queue = _queue(tx, key)
            if queue.name == DEFAULT_QUEUE:
                raise Conflict(f"the queue {DEFAULT_QUEUE!r} cannot be deleted: tasks without a queue go there")
            if (queue.waiting or queue.running) and not force:
                raise Conflict(
                    f"queue {queue.name!r} has {queue.waiting} waiting and {queue.running} running tasks",
                    waiting=queue.waiting,
                    running=queue.running,
                )
            freed: list[Changed] = []
            for task_id in entry_store.order(tx, queue.id):
                entry_store.remove_entry(tx, task_id)
                moves.move(tx, task_id, Move.DEQUEUE, now=now, reason=f"queue {queue.name} was deleted")
                freed.append(Changed(self._tasks.load(tx, task_id)))
            store.delete_queue(tx, queue.id)
            return queue.id, freed

        queue_id, freed = await self._db.write(work)
        for changed in freed:
            self._tell(changed)
        self._wake(queue_id)

    async def move_entry(self, key: str, task_id: str, position: int) -> QueueEntries:
        """Position 1 is the front, -1 the back, -2 one before it. The page of entries where it stands now."""
        place = await self.place_entry(key, task_id, position)
        return await self.get_queue(key, QueuePage(offset=(place - 1) // MAX_PAGE * MAX_PAGE))

    async def place_entry(self, key: str, task_id: str, position: int) -> int:
        """The same; the place that it has got, counted from 1."""
        if position == 0:
            raise BadInput("position 0: expected 1 for the front, or -1 for the back")
        return await self._moved(key, lambda tx, queue: order.place(tx, queue, task_id, position))

    async def shift_entry(self, key: str, task_id: str, steps: int) -> int:
        """So many places nearer to the back; a negative number of them nearer to the front. Its new place."""
        return await self._moved(key, lambda tx, queue: order.shift(tx, queue, task_id, steps))

    async def _moved(self, key: str, step: Callable[[Connection, Queue], int]) -> int:
        def work(tx: Connection) -> tuple[str, int]:
            queue = _queue(tx, key)
            return queue.id, step(tx, queue)

        queue_id, place = await self._db.write(work)
        self._wake(queue_id)
        return place

    # --- tasks in queues --------------------------------------------------------------------------------

    async def enqueue(self, caller: Caller, task_id: str, wanted: Enqueue) -> Task:
        """Pending; or, with a sweep, running, while the tasks that are its combinations are pending."""
        now = self._clock()
        if wanted.priority is not None:
            check_priority(wanted.priority)
        found = await self._db.read(lambda tx: moves.known(tx, task_id))
        await asyncio.to_thread(check_values, found.task)

        def work(tx: Connection) -> Changed:
            queue = _queue_or_new(tx, wanted.queue or DEFAULT_QUEUE, now, create=wanted.create)
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
        return _queue_or_new(tx, key, self._clock(), create=create).id

    # --- leases -----------------------------------------------------------------------------------------

    async def claim(self, caller: Caller, wanted: Claim, gone: Callable[[], Awaitable[bool]]) -> Lease | None:
        """The next task, waited for. Nothing is claimed for a worker that hung up meanwhile."""
        _no_task(caller)
        if not MIN_LEASE <= wanted.lease <= MAX_LEASE:
            raise BadInput(f"lease {wanted.lease}: expected {MIN_LEASE:g} to {MAX_LEASE:g} seconds")
        if not 0 <= wanted.wait <= MAX_WAIT:
            raise BadInput(f"wait {wanted.wait}: expected 0 to {MAX_WAIT:g} seconds")
        if not 1 <= len(wanted.queues) <= MAX_QUEUES:
            raise BadInput(f"queues: expected 1 to {MAX_QUEUES} names or ids")
        ends = time.monotonic() + min(wanted.wait, self._settings.max_wait)
        async with self._bus.subscribe(kinds=_WAKING) as live:  # before the first look: no wake-up is missed
            first = True
            while first or (time.monotonic() < ends and not live.closed and not await gone()):
                lease = await self._look(wanted, first=first)
                if lease is not None:
                    self._tell(Changed(lease.task, lease.task.queue))
                    return lease
                first = False
                if await live.next(max(min(LOOK_AGAIN, ends - time.monotonic()), 0)) is not None:
                    while await live.next(0) is not None:  # one look for all that happened meanwhile
                        pass
        return None

    async def _look(self, wanted: Claim, *, first: bool) -> Lease | None:
        """One look. The first one always writes: it says that the worker lives, and whether it is known."""
        now = self._clock()
        if not first and not await self._db.read(lambda tx: self._would_find(tx, wanted, now)):
            return None

        def work(tx: Connection) -> Lease | None:
            worker = worker_store.see_worker(tx, wanted.worker, now, wanted.machine, wanted.lease)
            if worker is None:
                raise NotFound(f"no worker {wanted.worker[:80]!r}; register first", worker=wanted.worker[:80])
            claimed = self._attempts.claim(tx, worker, wanted.queues, wanted.lease, now)
            if claimed.passed:
                preempting.make_room(tx, self._attempts, now)
            return claimed.lease

        return await self._db.write(work)

    def _would_find(self, tx: Connection, wanted: Claim, now: float) -> bool:
        """Whether there is something to write for this claim."""
        if not entry_store.any_entry(tx, wanted.queues):
            return False
        worker = worker_store.find_worker(tx, wanted.worker)
        if worker is None or worker.draining:
            return worker is None
        found = placing.look(tx, worker, store.queue_policies(tx, wanted.queues), now)
        return found.entry is not None or found.hold is not None

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
            self._wake(changed.queue)
        return changed

    def _wake(self, queue: str, kind: str = "queue") -> None:
        self._bus.publish(LiveEvent(kind=kind, queue=queue, time=self._clock()))


def _queue(tx: Connection, key: str) -> Queue:
    found = store.find_queue(tx, key)
    if found is None:
        raise NotFound(f"no queue {key[:80]!r}", queue=key[:80])
    return found


def _queue_or_new(tx: Connection, key: str, now: float, *, create: bool) -> Queue:
    """Without its counts."""
    found = store.queue_policies(tx, [key])
    if not found and create:
        made = new_queue(QueueCreate(name=key), now)
        return made if store.add_queue(tx, made) else _queue(tx, key)
    return found[0] if found else _queue(tx, key)


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

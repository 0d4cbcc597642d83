"""Queues: who may wait where, who runs next, and what becomes of a task whose worker fell silent.

Each call is one transaction; the rows are the queue, and what is in memory is only the wish to be woken: a claim
that found nothing watches the live events and looks again. Leases go by this server's clock alone. What an
attempt is and how it ends stands in `attempts`, the sentence for a waiting task in `waiting`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Conflict, Forbidden, NotFound, TaskloomError
from taskloom.domain.project import check_tag, check_text
from taskloom.domain.queue import Queue, Waiting, WorkerInfo
from taskloom.domain.status import Move, Status
from taskloom.domain.task import Task
from taskloom.server.accounts.service import AccountService
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.events import EventBus
from taskloom.server.queues import attempts, store
from taskloom.server.queues.agents import AgentDesk, check_worker
from taskloom.server.queues.attempts import Changed
from taskloom.server.queues.store import WorkerRow
from taskloom.server.queues.waiting import Serving, explain, free_slots
from taskloom.server.settings import Clock, Settings
from taskloom.server.tasks import moves
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
    Renew,
    Renewed,
    WorkerRegister,
)
from taskloom.wire.worker_protocol import MAX_LEASE, MAX_WAIT, MIN_LEASE

DEFAULT_QUEUE = "default"
MAX_NAME, MAX_SLOTS, MAX_QUEUES, MAX_ATTEMPTS, MAX_TAGS = 256, 1024, 256, 1000, 256
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
    ) -> None:
        self._db, self._bus, self._clock, self._settings = main, bus, clock, settings
        self._accounts, self._tasks = accounts, tasks
        self.agents = AgentDesk(main, clock, settings, accounts, tasks, self._tell)
        self._sweeper: asyncio.Task[None] | None = None

    # --- life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """The queue `default` is there, and every open lease lives one more period: we were away, not they."""
        now = self._clock()
        await self._db.write(lambda tx: _prepare(tx, self._accounts, now))
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
        shortest = min((lease.seconds for lease in store.open_leases(tx)), default=math.inf)
        return min(self._settings.sweep, shortest / 6)

    async def sweep(self) -> int:
        """Close every lease that ran out; how many there were."""
        now = self._clock()
        if not await self._db.read(lambda tx: any(lease.expires <= now for lease in store.open_leases(tx))):
            return 0

        def work(tx: Connection) -> list[Changed | None]:
            return [attempts.expire(tx, self._accounts, lease, now) for lease in store.expired_leases(tx, now)]

        ended = await self._db.write(work)
        for changed in ended:
            if changed is not None:
                self._tell(changed)
        return len(ended)

    # --- queues -----------------------------------------------------------------------------------------

    async def list_queues(self) -> list[Queue]:
        return await self._db.read(store.list_queues)

    async def get_queue(self, key: str) -> QueueEntries:
        return await self._db.read(lambda tx: _entries(tx, _queue(tx, key)))

    async def find_queue(self, key: str) -> Queue:
        """By id, else by name, without its entries."""
        return await self._db.read(lambda tx: _queue(tx, key))

    async def waiting_tasks(self, queue_ids: Sequence[str]) -> dict[str, list[tuple[str, str, float]]]:
        """By queue: id, name and time of what waits there, the next one first."""
        return await self._db.read(lambda tx: store.waiting_tasks(tx, queue_ids))

    async def create_queue(self, wanted: QueueCreate) -> Queue:
        queue = _new_queue(wanted, self._clock())

        def work(tx: Connection) -> Queue:
            if store.find_queue(tx, queue.name) is not None or not store.add_queue(tx, queue):
                raise Conflict(f"there is a queue {queue.name!r} already", queue=queue.name)
            return queue

        await self._db.write(work)
        self._wake(queue.id)
        return queue

    async def edit_queue(self, key: str, edit: QueueEdit) -> Queue:
        columns = _checked_edit(edit)

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
            for task_id in store.order(tx, queue.id):
                store.remove_entry(tx, task_id)
                moves.move(tx, task_id, Move.DEQUEUE, now=now, reason=f"queue {queue.name} was deleted")
                freed.append(Changed(self._tasks.load(tx, task_id)))
            store.delete_queue(tx, queue.id)
            return queue.id, freed

        queue_id, freed = await self._db.write(work)
        for changed in freed:
            self._tell(changed)
        self._wake(queue_id)

    async def move_entry(self, key: str, task_id: str, position: int) -> QueueEntries:
        """Position 1 is the front, -1 the back, -2 one before it."""
        if position == 0:
            raise BadInput("position 0: expected 1 for the front, or -1 for the back")
        return await self._place(
            key, task_id, lambda _, last: position - 1 if position > 0 else last + position + 1
        )

    async def shift_entry(self, key: str, task_id: str, steps: int) -> QueueEntries:
        """So many places nearer to the back; a negative number of them nearer to the front."""
        return await self._place(key, task_id, lambda now, _: now + steps)

    async def _place(self, key: str, task_id: str, where: Callable[[int, int], int]) -> QueueEntries:
        """`where` tells the new place, from the present one and the last one; all count from 0."""

        def work(tx: Connection) -> QueueEntries:
            queue = _queue(tx, key)
            waiting = store.order(tx, queue.id)
            if task_id not in waiting:
                raise NotFound(f"task {task_id[:80]!r} does not wait in queue {queue.name!r}")
            rest = [other for other in waiting if other != task_id]
            place = max(where(waiting.index(task_id), len(rest)), 0)
            store.reorder(tx, [*rest[:place], task_id, *rest[place:]])
            return _entries(tx, queue)

        moved = await self._db.write(work)
        self._wake(moved.queue.id)
        return moved

    # --- tasks in queues --------------------------------------------------------------------------------

    async def enqueue(self, caller: Caller, task_id: str, wanted: Enqueue) -> Task:
        now = self._clock()

        def work(tx: Connection) -> Changed:
            queue = _queue_or_new(tx, wanted.queue or DEFAULT_QUEUE, now, create=wanted.create)
            moves.move(tx, task_id, Move.ENQUEUE, now=now, queue_id=queue.id, worker="")
            store.forget_attempts(tx, task_id)
            store.add_entry(tx, queue.id, task_id, caller.user, now, front=False)
            return Changed(self._tasks.load(tx, task_id), queue.id)

        return self._tell(await self._db.write(work)).task

    async def dequeue(self, task_id: str, wanted: MoveRequest) -> Task:
        now = self._clock()

        def work(tx: Connection) -> Changed:
            moves.move(tx, task_id, Move.DEQUEUE, now=now, reason=wanted.reason, message=wanted.message)
            queue = store.remove_entry(tx, task_id) or ""
            return Changed(self._tasks.load(tx, task_id), queue)

        return self._tell(await self._db.write(work)).task

    async def abort(self, caller: Caller, task_id: str, wanted: MoveRequest) -> Task:
        """Pending: never runs. Running under a lease: marked to stop. Running without one: aborted at once."""
        now = self._clock()
        reason = wanted.reason or f"aborted by {caller.user}"

        def work(tx: Connection) -> Changed:
            found = moves.known(tx, task_id)
            lease = store.open_lease(tx, task_id)
            if found.status is Status.RUNNING and lease is not None:
                if not lease.stop:
                    attempts.stop(tx, lease, reason, now)
                return Changed(self._tasks.load(tx, task_id), lease.queue_id)
            moves.move(tx, task_id, Move.ABORT, now=now, reason=reason, message=wanted.message, lease=None)
            queue = store.remove_entry(tx, task_id) or ""
            return Changed(self._tasks.load(tx, task_id), queue)

        return self._tell(await self._db.write(work)).task

    async def waiting(self, task_id: str) -> Waiting:
        now = self._clock()
        return await self._db.read(lambda tx: _waiting(tx, task_id, now))

    # --- workers ----------------------------------------------------------------------------------------

    async def list_workers(self) -> list[WorkerInfo]:
        now = self._clock()

        def work(tx: Connection) -> list[WorkerInfo]:
            held = _tasks_by_worker(tx)
            return [_info(row, held.get(row.id, ()), now) for row in store.list_workers(tx)]

        return await self._db.read(work)

    async def register_worker(self, caller: Caller, wanted: WorkerRegister) -> WorkerInfo:
        _no_task(caller)
        _check_registration(wanted)
        now = self._clock()

        def work(tx: Connection) -> WorkerInfo:
            served = [_queue_or_new(tx, key, now, create=wanted.create_queues).id for key in wanted.queues]
            row = WorkerRow(
                id=wanted.id,
                name=wanted.name,
                user=caller.user,
                queues=tuple(dict.fromkeys(served)),
                slots=wanted.slots,
                version=wanted.version,
                machine=wanted.machine,
                lease_seconds=30.0,
                draining=False,
                registered=now,
                last_seen=now,
            )
            store.put_worker(tx, row)
            return _info(row, _tasks_by_worker(tx).get(row.id, ()), now)

        info = await self._db.write(work)
        self._wake("", "worker")
        return info

    async def unregister_worker(self, worker_id: str) -> None:
        def work(tx: Connection) -> None:
            if not store.remove_worker(tx, worker_id):
                raise NotFound(f"no worker {worker_id[:80]!r}")

        await self._db.write(work)
        self._wake("", "worker")

    async def drain_worker(self, worker_id: str, *, drain: bool) -> WorkerInfo:
        now = self._clock()

        def work(tx: Connection) -> WorkerInfo:
            store.drain_worker(tx, worker_id, drain=drain)
            row = store.find_worker(tx, worker_id)
            if row is None:
                raise NotFound(f"no worker {worker_id[:80]!r}")
            return _info(row, _tasks_by_worker(tx).get(row.id, ()), now)

        info = await self._db.write(work)
        self._wake("", "worker")
        self._wake("")
        return info

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
                await live.next(max(min(LOOK_AGAIN, ends - time.monotonic()), 0))
        return None

    async def _look(self, wanted: Claim, *, first: bool) -> Lease | None:
        """One look. The first one always writes: it says that the worker lives, and whether it is known."""
        if not first and not await self._db.read(lambda tx: store.any_entry(tx, wanted.queues)):
            return None
        now = self._clock()

        def work(tx: Connection) -> Lease | None:
            store.see_worker(tx, wanted.worker, now, wanted.machine, wanted.lease)
            lease = attempts.claim(tx, self._accounts, wanted.worker, wanted.queues, wanted.lease, now)
            return lease and msgspec.structs.replace(lease, task=self._tasks.load(tx, lease.task.id))

        return await self._db.write(work)

    async def renew(self, token: str, said: Renew) -> Renewed:
        now = self._clock()
        phase = check_text(said.phase[:64], "phase")
        lease = await self._db.write(
            lambda tx: attempts.renew(tx, self._accounts, token, phase, said.machine, now)
        )
        return Renewed(expires=lease.expires, stop=lease.stop, reason=lease.stop_reason)

    async def finish(self, token: str, said: Finish) -> Task:
        now = self._clock()

        def work(tx: Connection) -> Changed:
            ended = attempts.finish(tx, self._accounts, token, said, now)
            return Changed(self._tasks.load(tx, ended.task.id), ended.queue)

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
        if changed.queue:
            self._wake(changed.queue)
        return changed

    def _wake(self, queue: str, kind: str = "queue") -> None:
        self._bus.publish(LiveEvent(kind=kind, queue=queue, time=self._clock()))


def _prepare(tx: Connection, accounts: AccountService, now: float) -> None:
    _queue_or_new(tx, DEFAULT_QUEUE, now, create=True)
    attempts.extend_all(tx, accounts, now)
    store.forget_workers(tx, now - FORGET_WORKER)


def _queue(tx: Connection, key: str) -> Queue:
    found = store.find_queue(tx, key)
    if found is None:
        raise NotFound(f"no queue {key[:80]!r}", queue=key[:80])
    return found


def _queue_or_new(tx: Connection, key: str, now: float, *, create: bool) -> Queue:
    found = store.find_queue(tx, key)
    if found is None and create:
        found = _new_queue(QueueCreate(name=key), now)
        if not store.add_queue(tx, found):
            return _queue(tx, key)
    return found if found is not None else _queue(tx, key)


def _new_queue(wanted: QueueCreate, now: float) -> Queue:
    return Queue(
        id=uuid.uuid4().hex,
        name=_check_name(wanted.name),
        description=check_text(wanted.description, "description"),
        on_lost=wanted.on_lost,
        max_attempts=_check_attempts(wanted.max_attempts),
        tags=_check_tags(wanted.tags),
        created=now,
    )


def _checked_edit(edit: QueueEdit) -> dict[str, str | int | bool | tuple[str, ...]]:
    columns: dict[str, str | int | bool | tuple[str, ...]] = {}
    if edit.name is not None:
        columns["name"] = _check_name(edit.name)
    if edit.description is not None:
        columns["description"] = check_text(edit.description, "description")
    if edit.tags is not None:
        columns["tags"] = _check_tags(edit.tags)
    if edit.paused is not None:
        columns["paused"] = edit.paused
    if edit.on_lost is not None:
        columns["on_lost"] = edit.on_lost
    if edit.max_attempts is not None:
        columns["max_attempts"] = _check_attempts(edit.max_attempts)
    return columns


def _check_name(name: str) -> str:
    name = check_text(name.strip(), "queue name")
    if not 1 <= len(name) <= MAX_NAME:
        raise BadInput(f"queue name {name[:80]!r}: expected 1 to {MAX_NAME} characters")
    return name


def _check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    if len(tags) > MAX_TAGS:
        raise BadInput(f"{len(tags)} tags; expected at most {MAX_TAGS}")
    return tuple(dict.fromkeys(check_tag(tag) for tag in tags))


def _check_attempts(number: int) -> int:
    if not 1 <= number <= MAX_ATTEMPTS:
        raise BadInput(f"max_attempts {number}: expected 1 to {MAX_ATTEMPTS}")
    return number


def _check_registration(wanted: WorkerRegister) -> None:
    check_worker(wanted.id)
    if not 1 <= len(check_text(wanted.name, "worker name")) <= MAX_NAME:
        raise BadInput(f"worker name: expected 1 to {MAX_NAME} characters")
    if not 1 <= wanted.slots <= MAX_SLOTS:
        raise BadInput(f"slots {wanted.slots}: expected 1 to {MAX_SLOTS}")
    if not 1 <= len(wanted.queues) <= MAX_QUEUES:
        raise BadInput(f"queues: expected 1 to {MAX_QUEUES} names or ids")


def _no_task(caller: Caller) -> None:
    if caller.lease:
        raise Forbidden("the key of a running task is not a worker's: it can neither register nor claim")


def _entries(tx: Connection, queue: Queue) -> QueueEntries:
    return QueueEntries(queue=queue, entries=store.list_entries(tx, queue.id))


def _tasks_by_worker(tx: Connection) -> dict[str, tuple[str, ...]]:
    held: dict[str, tuple[str, ...]] = {}
    for lease in store.open_leases(tx):
        held[lease.worker_id] = (*held.get(lease.worker_id, ()), lease.task_id)
    return held


def _info(row: WorkerRow, held: Sequence[str], now: float) -> WorkerInfo:
    return WorkerInfo(
        id=row.id,
        name=row.name,
        queues=row.queues,
        slots=row.slots,
        tasks=tuple(held),
        machine=row.machine,
        version=row.version,
        user=row.user,
        registered=row.registered,
        last_seen=row.last_seen,
        alive=_alive(row, now),
        draining=row.draining,
    )


def _alive(row: WorkerRow, now: float) -> bool:
    return now - row.last_seen <= 2 * row.lease_seconds


def _waiting(tx: Connection, task_id: str, now: float) -> Waiting:
    status = moves.known(tx, task_id).status
    place = store.waiting_place(tx, task_id)
    if place is None:
        raise Conflict(f"task {task_id} is {status.value}; it does not wait in a queue", status=status.value)
    queue_id, ahead = place
    queue = _queue(tx, queue_id)
    busy = Counter(lease.worker_id for lease in store.open_leases(tx))
    serving = [
        Serving(row.name, row.slots, busy[row.id], _alive(row, now), row.draining)
        for row in store.list_workers(tx)
        if queue_id in row.queues
    ]
    return Waiting(
        task=task_id,
        queue=queue.name,
        position=ahead + 1,
        ahead=ahead,
        reason=explain(queue, ahead, serving),
        workers=sum(1 for worker in serving if worker.alive),
        free_slots=free_slots(serving),
    )

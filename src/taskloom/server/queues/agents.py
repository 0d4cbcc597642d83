"""Agents of other systems (ClearML's): they take a task, run it and tell its end, but know no token.

What they pull is under a lease like any other (see attempts), whose token is told to nobody. The agent holds it by
its worker's id; that id is not known at the pull, where only a host's name comes along, but from the first status
report about the task on. Whatever is heard about the task renews the lease: status reports, events, pings, edits;
whoever tells its start or end does so for the holder. When nothing is heard of it for long the sweeper ends it, and
the queue's policy decides: a task that was pulled and never started waits again.

A late agent is no danger to the task: it asks for the task's state every few seconds and stops by itself when the
task waits again or has ended. Until it asks, what it says about the task is taken like anybody's word; only its
script's journals are refused. An agent that is to take no more tasks learns it as its runtime property `force`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Conflict, Forbidden, NotFound
from taskloom.domain.queue import Machine
from taskloom.domain.task import Task
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.queues import lease_store, store, worker_store
from taskloom.server.queues.attempts import Attempts, Changed
from taskloom.server.queues.lease_store import LeaseRow
from taskloom.server.queues.sweeps import Sweeps
from taskloom.server.queues.worker_store import AgentNotes, WorkerRow
from taskloom.server.settings import Clock, Settings
from taskloom.server.tasks.service import TaskService
from taskloom.wire.messages import Finish
from taskloom.wire.worker_protocol import AGENT_LEASE

HEARD_EVERY = 5.0  # seconds between two renewals of one lease, however much is heard
REMEMBERED = 10_000  # tasks that were heard of lately
MAX_ID, MAX_VALUE, MAX_PROPERTIES, MANY_SLOTS = 256, 4096, 64, 1024
FORCE, OFF = "force", "off"  # the runtime property by which agents are told to take nothing more
INSTANCES = "max_num_instances"  # how many tasks an agent in services mode runs at once; -1 as many as come
RUNNING = "running"


@dataclass(frozen=True)
class Pulled:
    """A task for an agent. `enqueued`: since when it waited."""

    task: Task
    enqueued: float


@dataclass(frozen=True)
class Report:
    """What an agent says of itself. None: not told, what was told before stays. `task`, `queue` empty: it idles."""

    worker: str
    version: str = ""
    task: str = ""
    queue: str = ""
    queues: tuple[str, ...] | None = None  # ids or names
    machine: Machine | None = None
    stats: Mapping[str, tuple[float, ...]] | None = None
    tags: tuple[str, ...] | None = None
    system_tags: tuple[str, ...] | None = None
    timeout: float | None = None


class AgentDesk:
    def __init__(
        self,
        main: Database,
        clock: Clock,
        settings: Settings,
        tasks: TaskService,
        attempts: Attempts,
        sweeps: Sweeps,
        tell: Callable[[Changed], Changed],
    ) -> None:
        self._db, self._clock, self._settings = main, clock, settings
        self._tasks, self._attempts, self._sweeps, self._tell = tasks, attempts, sweeps, tell
        self._heard: OrderedDict[str, float] = OrderedDict()

    # --- tasks ------------------------------------------------------------------------------------------

    async def pull(self, caller: Caller, worker: str, queue: str) -> Pulled | None:
        """The queue's next task, running from now on; None when there is none for this agent. `worker` is its id,
        or the name of its host.
        """
        _no_task(caller)
        now, seconds = self._clock(), self._settings.agent_lease
        if not await self._db.read(lambda tx: _waits(tx, queue)):
            return None

        def work(tx: Connection) -> tuple[Changed, float] | None:
            found = store.find_queue(tx, queue)
            if found is None:
                raise NotFound(f"no queue {queue[:80]!r}", queue=queue[:80])
            agents = [agent for agent in worker_store.find_agents(tx, worker) if found.id in agent.queues]
            if agents and all(agent.draining for agent in agents):
                return None
            holder = agents[0].id if len(agents) == 1 else check_worker(worker or caller.user)
            pulled = self._attempts.pull(tx, found, holder, seconds, now)
            if pulled is None:
                return None
            worker_store.see_worker(tx, holder, now, None)
            return Changed(self._tasks.load(tx, pulled[0].id), found.id), pulled[1]

        pulled = await self._db.write(work)
        if pulled is None:
            return None
        return Pulled(self._tell(pulled[0]).task, pulled[1])

    async def heard_of(self, task_id: str) -> None:
        """Somebody reported about the task: if an agent runs it, the agent lives. Cheap: called for every batch."""
        now = self._clock()
        last = self._heard.get(task_id)
        if last is not None and 0 <= now - last < min(HEARD_EVERY, self._settings.agent_lease / 6):
            return
        self._heard[task_id] = now
        self._heard.move_to_end(task_id)
        if len(self._heard) > REMEMBERED:
            self._heard.popitem(last=False)
        lease = await self._db.read(lambda tx: held_by_agent(tx, task_id))
        if lease is not None:
            await self._db.write(lambda tx: lease_store.renew_lease(tx, lease.token, now, ""))

    async def start(self, task_id: str) -> Task | None:
        """The agent begins to run what it pulled. None: no agent holds the task."""

        def work(tx: Connection, lease: LeaseRow, now: float) -> Changed:
            lease_store.renew_lease(tx, lease.token, now, RUNNING)
            return Changed(self._tasks.load(tx, task_id), lease.queue_id)

        return await self._for_holder(task_id, work)

    async def end(self, caller: Caller, task_id: str, said: Finish) -> Task | None:
        """The end of the task, told by its agent or script. None: no agent holds the task; what is said about a
        task of a worker of ours is kept until that worker tells its end.
        """

        def work(tx: Connection, lease: LeaseRow, now: float) -> Changed:
            reason = lease.stop_reason if lease.stop and said.outcome == "aborted" else said.reason
            told = msgspec.structs.replace(said, reason=reason)
            return self._sweeps.after(tx, self._attempts.finish(tx, lease.token, told, now), now)

        lease = await self._db.read(lambda tx: lease_store.open_lease(tx, task_id))
        if lease is None:
            return None
        if not lease.token.startswith(AGENT_LEASE):
            now = self._clock()
            await self._db.write(lambda tx: self._attempts.foretell(tx, lease, caller, said, now))
            return None
        await self._tasks.copy_last_values()  # who sees the task ended sees them, too
        return await self._for_holder(task_id, work)

    async def _for_holder(
        self, task_id: str, step: Callable[[Connection, LeaseRow, float], Changed]
    ) -> Task | None:
        if await self._db.read(lambda tx: held_by_agent(tx, task_id)) is None:
            return None
        now = self._clock()

        def work(tx: Connection) -> Changed | None:
            lease = held_by_agent(tx, task_id)
            if lease is None:
                return None
            changed = step(tx, lease, now)
            return replace(changed, task=self._tasks.load(tx, task_id))

        changed = await self._db.write(work)
        return None if changed is None else self._tell(changed).task

    # --- workers ----------------------------------------------------------------------------------------

    async def register(self, caller: Caller, told: Report) -> WorkerRow:
        """Said once at a start; the same id again, after a restart, takes the place of the first."""
        _no_task(caller)
        now = self._clock()

        def work(tx: Connection) -> WorkerRow:
            before = _known(tx, told.worker)
            worker_store.forget_workers(tx, now - self._forget(before), agents=True)
            blank = self._blank(caller, told.worker, now)
            row = _reported(tx, blank if before is None else replace(before, registered=now), told, now)
            if told.queues is not None and len(row.queues) < len(set(told.queues)):
                raise NotFound(
                    f"worker {told.worker!r} names queues that are not there", queue=told.queues[0][:80]
                )
            worker_store.put_worker(tx, row)
            return row

        return await self._db.write(work)

    async def report(self, caller: Caller, told: Report) -> WorkerRow:
        """Said every half minute, and when a task begins or ends. Who was never registered is from now on."""
        _no_task(caller)
        now = self._clock()

        def work(tx: Connection) -> WorkerRow:
            row = _reported(tx, _known(tx, told.worker) or self._blank(caller, told.worker, now), told, now)
            worker_store.put_worker(tx, row)
            lease = held_by_agent(tx, told.task) if told.task else None
            if lease is not None:
                lease_store.renew_lease(tx, lease.token, now, "")
                if lease.worker_id != told.worker:
                    lease_store.rename_holder(tx, lease, told.worker)
            return row

        return await self._db.write(work)

    async def unregister(self, worker: str) -> None:
        """Its leases stay: they are ended by word, or run out."""

        def work(tx: Connection) -> None:
            if _known(tx, worker) is None or not worker_store.remove_worker(tx, worker):
                raise NotFound(f"no worker {worker[:80]!r}", worker=worker[:80])

        await self._db.write(work)

    async def properties(self, worker: str) -> dict[str, str]:
        """The runtime properties of an agent; none of one that is not known."""
        row = await self._db.read(lambda tx: worker_store.find_worker(tx, worker))
        if row is None or row.notes is None:
            return {}
        found = {name: value for name, value in row.notes.properties.items() if name != FORCE or value != OFF}
        return {**found, FORCE: OFF} if row.draining else found

    async def set_properties(self, caller: Caller, worker: str, values: Mapping[str, str | None]) -> None:
        """None takes a property away. `force` with `off` drains the worker, as our own call does."""
        _no_task(caller)
        now = self._clock()

        def work(tx: Connection) -> None:
            row = _known(tx, worker) or self._blank(caller, worker, now)
            notes = row.notes or AgentNotes()
            merged = {**notes.properties, **{k: v for k, v in values.items() if v is not None}}
            kept = {k: v for k, v in merged.items() if values.get(k, v) is not None}
            if len(kept) > MAX_PROPERTIES or any(len(k) + len(v) > MAX_VALUE for k, v in kept.items()):
                raise BadInput(f"expected at most {MAX_PROPERTIES} properties of {MAX_VALUE} characters each")
            draining = kept.get(FORCE, "").lower() == OFF if FORCE in values else row.draining
            fresh = msgspec.structs.replace(notes, properties=kept)
            worker_store.put_worker(
                tx, replace(row, notes=fresh, draining=draining, slots=_slots(kept), last_seen=now)
            )

        await self._db.write(work)

    async def list(self) -> list[WorkerRow]:
        """All workers, ours too."""
        return await self._db.read(worker_store.list_workers)

    def _blank(self, caller: Caller, worker: str, now: float) -> WorkerRow:
        return WorkerRow(
            id=check_worker(worker),
            name=worker,
            user=caller.user,
            queues=(),
            slots=1,
            version="",
            machine=Machine(host=worker.partition(":")[0]),
            lease_seconds=self._settings.agent_lease / 2,
            draining=False,
            registered=now,
            last_seen=now,
            notes=AgentNotes(),
        )

    def _forget(self, row: WorkerRow | None) -> float:
        """Seconds of silence after which agents are no longer listed."""
        timeout = row.notes.timeout if row is not None and row.notes is not None else AgentNotes().timeout
        return max(timeout, 2 * self._settings.agent_lease)


def held_by_agent(tx: Connection, task_id: str) -> LeaseRow | None:
    """The lease that an agent of another system holds on the task."""
    lease = lease_store.open_lease(tx, task_id)
    return lease if lease is not None and lease.token.startswith(AGENT_LEASE) else None


def check_worker(worker: str) -> str:
    if not 1 <= len(worker) <= MAX_ID or not worker.isprintable():
        raise BadInput(
            f"worker id {worker[:80]!a}: expected 1 to {MAX_ID} printable characters", worker=worker[:80]
        )
    return worker


def _known(tx: Connection, worker: str) -> WorkerRow | None:
    row = worker_store.find_worker(tx, check_worker(worker))
    if row is not None and row.notes is None:
        raise Conflict(f"worker {worker!r} is one of Taskloom's own; it speaks for itself", worker=worker)
    return row


def _reported(tx: Connection, row: WorkerRow, told: Report, now: float) -> WorkerRow:
    """The row with what the agent says now; queues that are gone are left out."""
    notes = row.notes or AgentNotes()
    queues = row.queues
    if told.queues is not None:
        queues = tuple(queue.id for queue in store.queue_policies(tx, told.queues))
    fresh = msgspec.structs.replace(
        notes,
        tags=notes.tags if told.tags is None else told.tags,
        system_tags=notes.system_tags if told.system_tags is None else told.system_tags,
        stats=notes.stats if told.stats is None else dict(told.stats),
        timeout=notes.timeout if told.timeout is None else told.timeout,
        task=told.task,
        queue=told.queue,
    )
    return replace(
        row,
        queues=queues,
        machine=told.machine or row.machine,
        version=told.version or row.version,
        last_seen=now,
        notes=fresh,
    )


def _slots(properties: Mapping[str, str]) -> int:
    """Tasks at once: one, unless the agent runs services."""
    try:
        most = int(properties.get(INSTANCES, "1"))
    except ValueError:
        most = 1
    return MANY_SLOTS if most < 0 else min(max(most, 1), MANY_SLOTS)


def _waits(tx: Connection, queue: str) -> bool:
    found = store.find_queue(tx, queue)
    if found is None:
        raise NotFound(f"no queue {queue[:80]!r}", queue=queue[:80])
    return found.waiting > 0 and not found.paused


def _no_task(caller: Caller) -> None:
    if caller.lease:
        raise Forbidden("the key of a running task is not a worker's: it can neither register nor claim")

"""Agents of other systems (ClearML's): they take a task, run it and tell its end, but know no token.

What they pull is under a lease like any other (see attempts), whose token is told to nobody. The agent holds it by
its worker's id; that id is not known at the pull, where only a host's name comes along, but from the first status
report about the task on. Whatever is heard about the task renews the lease: status reports, events, pings, edits;
whoever tells its start or end does so for the holder. When nothing is heard of it for long the sweeper ends it, and
the queue's policy decides: a task that was pulled and never started waits again.

A late agent is no danger to the task: it asks for the task's state every few seconds and stops by itself when the
task waits again or has ended. Until it asks, what it says about the task is taken like anybody's word; only its
script's journals are refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Forbidden, NotFound
from taskloom.domain.queue import Machine
from taskloom.domain.task import Task
from taskloom.server.accounts.service import AccountService
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.queues import attempts, store
from taskloom.server.queues.attempts import Changed
from taskloom.server.queues.store import LeaseRow
from taskloom.server.settings import Clock, Settings
from taskloom.server.tasks.service import TaskService
from taskloom.wire.messages import Finish
from taskloom.wire.worker_protocol import AGENT_LEASE

HEARD_EVERY = 5.0  # seconds between two renewals of one lease, however much is heard
REMEMBERED = 10_000  # tasks that were heard of lately
MAX_ID = 256
RUNNING = "running"


@dataclass(frozen=True)
class Pulled:
    """A task for an agent. `enqueued`: since when it waited."""

    task: Task
    enqueued: float


@dataclass(frozen=True)
class Report:
    """What an agent says of itself. None: not told, what was told before stays."""

    worker: str
    machine: Machine | None = None
    queues: tuple[str, ...] | None = None  # ids or names
    queue: str = ""
    task: str = ""
    version: str = ""


class AgentDesk:
    def __init__(
        self,
        main: Database,
        clock: Clock,
        settings: Settings,
        accounts: AccountService,
        tasks: TaskService,
        tell: Callable[[Changed], Changed],
    ) -> None:
        self._db, self._clock, self._settings = main, clock, settings
        self._accounts, self._tasks, self._tell = accounts, tasks, tell
        self._heard: OrderedDict[str, float] = OrderedDict()

    # --- tasks ------------------------------------------------------------------------------------------

    async def pull(self, caller: Caller, worker: str, queue: str) -> Pulled | None:
        """The next task of the queue, running from now on; None when nothing waits. `worker`: as far as known."""
        _no_task(caller)
        now, seconds = self._clock(), self._settings.agent_lease
        if not await self._db.read(lambda tx: _waits(tx, queue)):
            return None

        def work(tx: Connection) -> tuple[Changed, float] | None:
            found = store.find_queue(tx, queue)
            if found is None:
                raise NotFound(f"no queue {queue[:80]!r}", queue=queue[:80])
            pulled = attempts.pull(tx, found, check_worker(worker or caller.user), seconds, now)
            if pulled is None:
                return None
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
            await self._db.write(lambda tx: store.renew_lease(tx, lease.token, now, ""))

    async def start(self, caller: Caller, task_id: str) -> Task | None:
        """The agent begins to run what it pulled. None: no agent holds the task."""
        return await self._for_holder(task_id, self._begin_run)

    async def end(self, caller: Caller, task_id: str, said: Finish) -> Task | None:
        """The end of the task, told by its agent or script. None: no agent holds the task."""

        def work(tx: Connection, lease: LeaseRow, now: float) -> Changed:
            reason = lease.stop_reason if lease.stop and said.outcome == "aborted" else said.reason
            told = msgspec.structs.replace(said, reason=reason)
            return attempts.finish(tx, self._accounts, lease.token, told, now)

        await self._tasks.copy_last_values()  # who sees the task ended sees them, too
        return await self._for_holder(task_id, work)

    def _begin_run(self, tx: Connection, lease: LeaseRow, now: float) -> Changed:
        store.renew_lease(tx, lease.token, now, RUNNING)
        return Changed(self._tasks.load(tx, lease.task_id))

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


def held_by_agent(tx: Connection, task_id: str) -> LeaseRow | None:
    """The lease that an agent of another system holds on the task."""
    lease = store.open_lease(tx, task_id)
    return lease if lease is not None and lease.token.startswith(AGENT_LEASE) else None


def check_worker(worker: str) -> str:
    if not 1 <= len(worker) <= MAX_ID or not worker.isprintable():
        raise BadInput(
            f"worker id {worker[:80]!a}: expected 1 to {MAX_ID} printable characters", worker=worker[:80]
        )
    return worker


def _waits(tx: Connection, queue: str) -> bool:
    found = store.find_queue(tx, queue)
    if found is None:
        raise NotFound(f"no queue {queue[:80]!r}", queue=queue[:80])
    return found.waiting > 0 and not found.paused


def _no_task(caller: Caller) -> None:
    if caller.lease:
        raise Forbidden("the key of a running task is not a worker's: it can neither register nor claim")

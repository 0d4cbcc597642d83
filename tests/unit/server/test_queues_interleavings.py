"""Any interleaving of claim, renew, expire, abort, finish, reset and restart keeps what is promised, also beside
agents that pull, speak and end without a token.

A seeded story drives the real service over the real database with a clock of its own; several calls of a story
run at the same time. After every step the rows are checked: at most one valid lease a task, an entry exactly
for what is pending, end states final, no void token obeyed, attempts bounded. In the end faults stop and
everything must come to an end. TASKLOOM_STORIES raises the number of stories.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from taskloom.domain.errors import Conflict, LeaseLost
from taskloom.domain.execution import Execution
from taskloom.domain.queue import Machine
from taskloom.domain.status import ENDED, Status
from taskloom.server.app import House
from taskloom.server.call import Caller
from taskloom.server.queues.agents import Report
from taskloom.server.queues.service import QueueService
from taskloom.server.settings import read_settings
from taskloom.server.tables import entries, leases, tasks
from taskloom.server.tasks.service import TaskService
from taskloom.wire import messages as m

STORIES = int(os.environ.get("TASKLOOM_STORIES", "60"))
STEPS = 60
LEASE = 30.0
WORKERS = ("a", "b", "c")
AGENTS = ("host:0", "host:1", "elsewhere")  # of another system: they know no token
ME = Caller("somebody", "u1", "member", "k1")


class VirtualClock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Told:
    """What the story knows of one token: from whom it came, and what the server said to its holder."""

    task: str
    outcome: str = ""  # the FINISH that was acknowledged
    void: bool = False


@dataclass
class Known:
    """What the story knows of one task: when it may leave an end state again, and how it was tried."""

    ended: Status | None = None
    attempts: int = 0
    finished: int = 0
    may_leave: bool = False
    stopped: bool = False  # an abort was acknowledged: it never runs again


@dataclass
class Story:
    queues: QueueService
    tasks: TaskService
    database: Any
    clock: VirtualClock
    luck: random.Random
    queue: str
    limit: int
    on_lost: str
    known: dict[str, Known] = field(default_factory=dict)
    tokens: dict[str, Told] = field(default_factory=dict)

    async def begin(self) -> None:
        wanted = m.QueueCreate(name=self.queue, max_attempts=self.limit, on_lost=self.on_lost)  # type: ignore[arg-type]
        await self.queues.create_queue(wanted)
        for name in WORKERS:
            await self.queues.register_worker(ME, self.registration(name))
        for _ in range(self.luck.randint(1, 3)):
            create = m.TaskCreate(name="a task", project="stories", execution=Execution(command=("true",)))
            task = await self.tasks.create_task(ME, create)
            self.known[task.id] = Known()
            await self.enqueue(task.id)

    def registration(self, name: str) -> m.WorkerRegister:
        return m.WorkerRegister(id=name, name=name, queues=(self.queue,), slots=2, machine=Machine(), version="0")

    # --- steps ------------------------------------------------------------------------------------------

    def any_task(self) -> str:
        return self.luck.choice(list(self.known))

    def any_token(self) -> str | None:
        return self.luck.choice(list(self.tokens)) if self.tokens else None

    async def enqueue(self, task: str | None = None) -> None:
        task = task or self.any_task()
        try:
            await self.queues.enqueue(ME, task, m.Enqueue(queue=self.queue))
        except Conflict:
            return
        self.known[task] = Known(may_leave=True)
        for told in self.tokens.values():  # earlier leases are forgotten, their answers, too
            if told.task == task:
                told.void, told.outcome = True, ""

    async def claim(self) -> str | None:
        wanted = m.Claim(worker=self.luck.choice(WORKERS), queues=(self.queue,), lease=LEASE, wait=0.0)

        async def here() -> bool:
            return False

        stopped = {task for task, known in self.known.items() if known.stopped}
        lease = await self.queues.claim(ME, wanted, here)
        if lease is None:
            return None
        assert lease.task.id not in stopped, "an aborted task ran again"
        assert lease.token not in self.tokens
        self.tokens[lease.token] = Told(lease.task.id)
        known = self.known[lease.task.id]
        known.attempts += 1
        assert known.attempts <= self.limit, "more attempts than the queue allows"
        return lease.token

    async def pull(self) -> None:
        stopped = {task for task, known in self.known.items() if known.stopped}
        pulled = await self.queues.agents.pull(ME, self.luck.choice(AGENTS), self.queue)
        if pulled is None:
            return
        assert pulled.task.id not in stopped, "an aborted task ran again"
        known = self.known[pulled.task.id]
        known.attempts += 1
        assert known.attempts <= self.limit, "more attempts than the queue allows"

    async def agent_speaks(self) -> None:
        """A report, a ping, a start; of a task that the agent may have lost meanwhile."""
        task = self.any_task()
        said = self.luck.choice(["report", "ping", "start"])
        if said == "report":
            await self.queues.agents.report(ME, Report(worker=self.luck.choice(AGENTS), task=task))
        elif said == "ping":
            await self.queues.heard_of(task)
        else:
            await self.queues.start_for_agent(ME, task)

    async def agent_ends(self) -> None:
        task, outcome = self.any_task(), self.luck.choice(["completed", "failed", "aborted"])
        ended = await self.queues.end_for_agent(ME, task, m.Finish(outcome=outcome))  # type: ignore[arg-type]
        if ended is not None:
            self.known[task].finished += 1
            assert self.known[task].finished == 1, "a task was ended twice"

    async def renew(self) -> None:
        token = self.any_token()
        if token is None:
            return
        told = self.tokens[token]
        try:
            await self.queues.renew(token, m.Renew(phase="running"))
        except LeaseLost:
            told.void = True
        else:
            assert not told.void, "a void lease was renewed"
            assert not told.outcome, "a finished lease was renewed"

    async def finish(self, token: str | None = None) -> None:
        token = token or self.any_token()
        if token is None:
            return
        told, outcome = self.tokens[token], self.luck.choice(["completed", "failed", "aborted", "given back"])
        said = m.Finish(outcome="failed", requeue=True) if outcome == "given back" else m.Finish(outcome=outcome)  # type: ignore[arg-type]
        try:
            await self.queues.finish(token, said)
        except LeaseLost:
            assert told.outcome != outcome or not told.outcome, "a repeated FINISH was refused"
            told.void = True
            return
        if told.outcome:
            assert told.outcome == outcome, "a second word replaced the first"
            return
        assert not told.void, "a void lease ended a task"
        told.outcome = outcome
        if outcome != "given back":
            self.known[told.task].finished += 1
            assert self.known[told.task].finished == 1, "a task was ended twice"

    async def abort(self) -> None:
        task = self.any_task()
        try:
            await self.queues.abort(ME, task, m.MoveRequest())
        except Conflict:
            return
        self.known[task].stopped = True

    async def dequeue(self) -> None:
        try:
            await self.queues.dequeue(self.any_task(), m.MoveRequest())
        except Conflict:
            return

    async def reset(self) -> None:
        task = self.any_task()
        try:
            await self.tasks.reset_task(task, m.MoveRequest(force=True))
        except Conflict:
            return
        self.known[task] = Known(may_leave=True)
        for told in self.tokens.values():
            if told.task == task and not told.outcome:
                told.void = True

    async def sweep(self) -> None:
        await self.queues.sweep()

    async def wait(self) -> None:
        self.clock.now += self.luck.choice([0.5, LEASE / 3, LEASE - 0.5, LEASE + 1])

    async def restart(self) -> None:
        """The server was away for a while; until it is back nobody can say anything."""
        self.clock.now += self.luck.choice([1.0, LEASE * 5])
        await self.queues.start()
        await self.queues.stop()
        running = await self.database.read(_open_tokens)
        await self.queues.sweep()
        assert running == await self.database.read(_open_tokens), "the server's own absence cost a run"

    # --- the promises -----------------------------------------------------------------------------------

    async def check(self) -> None:
        rows, waiting, held = await self.database.read(lambda tx: _rows(tx, list(self.known)))
        for task, (status, lease) in rows.items():
            known = self.known[task]
            assert (status is Status.PENDING) == (task in waiting), f"{status} and its entry disagree"
            assert (lease is not None) == (status is Status.RUNNING), f"{status} with lease {lease}"
            valid = [token for token in held.get(task, []) if token == lease]
            assert len(valid) == (1 if lease else 0), "not exactly one valid lease for a running task"
            if known.ended is not None and not known.may_leave:
                moved = {known.ended, Status.ABORTED} if known.ended is Status.FAILED else {known.ended}
                assert status in moved, f"{known.ended} became {status}"  # failed may be called aborted
            known.ended = status if status in ENDED else None
            known.may_leave = False

    async def run(self) -> None:
        await self.begin()
        steps: list[tuple[Callable[[], Awaitable[object]], int]] = [
            (self.claim, 7),
            (self.pull, 5),
            (self.agent_speaks, 5),
            (self.agent_ends, 3),
            (self.renew, 8),
            (self.finish, 5),
            (self.wait, 6),
            (self.sweep, 5),
            (self.abort, 2),
            (self.enqueue, 3),
            (self.restart, 1),
            (self.reset, 1),
            (self.dequeue, 1),
        ]
        whole = [step for step, weight in steps for _ in range(weight)]
        alone = {self.restart, self.reset, self.enqueue}  # what they mean for the story is known at once
        for _ in range(STEPS):
            chosen = self.luck.choice(whole)
            if chosen in alone or self.luck.random() < 0.6:
                await chosen()
            else:
                others = [self.luck.choice([s for s in whole if s not in alone]) for _ in range(2)]
                await asyncio.gather(chosen(), *(step() for step in others))
            await self.check()
        await self.calm()

    async def calm(self) -> None:
        """Faults stop: one worker that does its work brings everything to an end."""
        self.clock.now += LEASE + 1
        await self.queues.sweep()
        for _ in range(len(self.known) * (self.limit + 1)):
            token = await self.claim()
            if token is None:
                break
            await self.queues.finish(token, m.Finish(outcome="completed"))
            self.known[self.tokens[token].task].may_leave = True
            await self.check()
        rows, waiting, held = await self.database.read(lambda tx: _rows(tx, list(self.known)))
        assert not waiting
        assert not held
        assert all(status in ENDED or status is Status.DRAFT for status, _ in rows.values()), rows


def _open_tokens(tx: Connection) -> set[str]:
    return set(tx.execute(select(leases.c.token).where(leases.c.outcome == "")).scalars())


def _rows(tx: Connection, ids: list[str]) -> tuple[dict[str, Any], set[str], dict[str, list[str]]]:
    found = tx.execute(select(tasks.c.id, tasks.c.status, tasks.c.lease).where(tasks.c.id.in_(ids))).all()
    waiting = set(tx.execute(select(entries.c.task_id).where(entries.c.task_id.in_(ids))).scalars())
    held: dict[str, list[str]] = {}
    open_ones = (leases.c.outcome == "") & leases.c.task_id.in_(ids)
    for task, token in tx.execute(select(leases.c.task_id, leases.c.token).where(open_ones)):
        held.setdefault(task, []).append(token)
    return {row.id: (Status(row.status), row.lease) for row in found}, waiting, held


def test_every_interleaving_keeps_the_promises(tmp_path: Path) -> None:
    clock = VirtualClock()
    settings = msgspec.structs.replace(read_settings(tmp_path, environ={}), agent_lease=LEASE)
    house = House(settings, clock)

    def service(kind: type[Any]) -> Any:
        return next(s for s in house._services if isinstance(s, kind))

    async def tell_all() -> None:
        await service(QueueService).start()
        await service(QueueService).stop()
        for seed in range(STORIES):
            luck = random.Random(seed)
            limit, on_lost = luck.randint(1, 3), luck.choice(["requeue", "requeue", "fail"])
            story = Story(
                service(QueueService),
                service(TaskService),
                house.main,
                clock,
                luck,
                f"queue {seed}",
                limit,
                on_lost,
            )
            try:
                await story.run()
            except AssertionError as error:
                raise AssertionError(f"story {seed}: {error}") from error

    try:
        asyncio.run(tell_all())
    finally:
        house.close()

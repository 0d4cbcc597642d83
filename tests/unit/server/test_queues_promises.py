"""Whatever users, workers, limits, priorities and sizes meet in one queue, what is promised holds.

A seeded story drives the real service over a real database with a clock of its own. After every step the rows are
checked against the promises: nothing runs twice, no machine is given away twice, no limit is exceeded, what is claimed
is the first in the listed order that fits, users of one priority are never further apart than what fits allows, and in
the end every task has ended once. TASKLOOM_STORIES raises the number of stories.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from taskloom.domain.execution import Execution, Resources, Retries
from taskloom.domain.placement import fits, read_shape
from taskloom.domain.queue import Machine
from taskloom.domain.status import ENDED, Status
from taskloom.server.app import House
from taskloom.server.call import Caller
from taskloom.server.queues import entry_store, lease_store, position_store, worker_store
from taskloom.server.queues.placing import at_limit, room_of
from taskloom.server.queues.service import QueueService
from taskloom.server.settings import read_settings
from taskloom.server.tables import entries, tasks
from taskloom.server.tasks.service import TaskService
from taskloom.wire import messages as m

STORIES = int(os.environ.get("TASKLOOM_STORIES", "12"))
STEPS = 45
LEASE = 30.0
NEVER = 10.0**7  # so long nothing is kept free: then what is claimed must be the first that fits
USERS = ("ann", "bob", "cat")
MACHINES = {
    "big": Machine(
        cpus=8, memory=64, gpus=("NVIDIA A100-SXM4-80GB",) * 2 + ("Tesla T4",) * 2, containers="podman"
    ),
    "small": Machine(cpus=2, memory=8),
    "bare": Machine(),
}
SIZES = (
    Resources(),
    Resources(cpus=1),
    Resources(cpus=0.5, memory=6),
    Resources(cpus=6),
    Resources(gpus=1, gpu_type="A100"),
    Resources(gpus=3),
    Resources(gpus=0),
)


class VirtualClock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Story:
    queues: QueueService
    tasks: TaskService
    database: Any
    clock: VirtualClock
    luck: random.Random
    queue: str
    made: list[str] = field(default_factory=list)
    leases: dict[str, str] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)

    async def begin(self) -> None:
        limits = {"max_running": self.luck.choice((0, 0, 3)), "max_running_per_user": self.luck.choice((0, 0, 2))}
        hold = self.luck.choice((NEVER, NEVER, 20.0))
        wanted = m.QueueCreate(name=self.queue, max_attempts=1000, hold_after=hold, **limits)
        self.policy = await self.queues.create_queue(wanted)
        for name, machine in MACHINES.items():
            await self.register(name, machine)
        for _ in range(6):
            await self.bring()

    def worker(self, name: str) -> str:
        return f"{self.queue} {name}"

    async def register(self, name: str, machine: Machine) -> None:
        body = m.WorkerRegister(
            id=self.worker(name), name=name, queues=(self.queue,), slots=3, machine=machine, version="0"
        )
        await self.queues.register_worker(Caller("ann", "u", "member", "k"), body)

    # --- steps ------------------------------------------------------------------------------------------

    async def bring(self) -> None:
        me = Caller(self.luck.choice(USERS), "u", "member", "k")
        execution = Execution(
            command=("true",),
            resources=self.luck.choice(SIZES),
            image=self.luck.choice(("", "", "", "python:3.12")),
            priority=self.luck.choice((0, 0, 0, 1, 5)),
            preemptible=self.luck.random() < 0.4,
            retries=Retries(failed=1000),
        )
        task = await self.tasks.create_task(
            me, m.TaskCreate(name="a task", project="stories", execution=execution)
        )
        await self.queues.enqueue(me, task.id, m.Enqueue(queue=self.queue))
        self.made.append(task.id)

    async def claim(self) -> bool:
        name = self.luck.choice(tuple(MACHINES))
        expected = await self.database.read(lambda tx: self.first_that_fits(tx, self.worker(name)))

        async def here() -> bool:
            return False

        wanted = m.Claim(worker=self.worker(name), queues=(self.queue,), lease=LEASE, wait=0.0)
        lease = await self.queues.claim(Caller("ann", "u", "member", "k"), wanted, here)
        if self.policy.hold_after == NEVER:
            assert (lease.task.id if lease else None) == expected, "not the first in the order that fits"
        if lease is not None:
            assert lease.task.id not in self.leases.values(), "two claims got one task"
            self.leases[lease.token] = lease.task.id
        return lease is not None

    def first_that_fits(self, tx: Connection, worker_id: str) -> str | None:
        """The slow and plain way: walk the whole order; who does not fit is left out of the count of shares."""
        worker = worker_store.find_worker(tx, worker_id)
        assert worker is not None
        room = room_of(worker, lease_store.leases_of_worker(tx, worker_id))
        running = lease_store.running_by_user(tx, self.policy.id)
        fitting: list[tuple[Any, ...]] = []
        for row in tx.execute(select(entries).where(entries.c.queue_id == self.policy.id)):
            wanted = read_shape(row.lane.partition("\n")[2])
            ready = row.not_before <= self.clock() and not at_limit(self.policy, running, row.user)
            if ready and fits(wanted, room.free):
                share = 0 if row.hand else running.get(row.user, 0)
                fitting.append((row.hand, row.band, share, row.rank, row.task_id))
        return min(fitting)[-1] if fitting else None

    async def first_in_the_list_is_next(self) -> None:
        """Where everything fits, the claim and the listed order are the same."""
        listed = await self.database.read(lambda tx: entry_store.order(tx, self.policy.id))
        rows = await self.database.read(lambda tx: [entry_store.find_entry(tx, task) for task in listed[:1]])
        if rows and rows[0] is not None and rows[0].not_before <= self.clock():
            worker = self.worker("big")
            first = await self.database.read(lambda tx: self.first_that_fits(tx, worker))
            room = await self.database.read(
                lambda tx: room_of(worker_store.find_worker(tx, worker), lease_store.leases_of_worker(tx, worker))  # type: ignore[arg-type]
            )
            running = await self.database.read(lambda tx: lease_store.running_by_user(tx, self.policy.id))
            if fits(rows[0].wanted, room.free) and not at_limit(self.policy, running, rows[0].user):
                assert first == listed[0], "the first in the list fits and is not the next"

    async def finish(self) -> None:
        if not self.leases:
            return
        token = self.luck.choice(list(self.leases))
        how = self.luck.choice(("completed", "completed", "failed", "given back"))
        said = m.Finish(outcome="aborted", requeue=True) if how == "given back" else m.Finish(outcome=how)  # type: ignore[arg-type]
        told = await self.queues.finish(token, said)
        task = self.leases.pop(token)
        if told.status in ENDED:
            self.ends[task] += 1
        else:
            assert how != "completed"

    async def move(self) -> None:
        waiting = await self.database.read(lambda tx: entry_store.order(tx, self.policy.id))
        if not waiting:
            return
        task, place = self.luck.choice(waiting), self.luck.randint(1, len(waiting))
        assert await self.queues.place_entry(self.queue, task, place) == place
        after = await self.database.read(lambda tx: entry_store.order(tx, self.policy.id))
        assert after[place - 1] == task, "it does not stand where it was put"

    async def wait(self) -> None:
        self.clock.now += self.luck.choice((0.5, 5.0, LEASE / 2))
        for token in self.leases:
            await self.queues.renew(token, m.Renew(phase="running"))

    async def lose(self) -> None:
        """All workers fall silent for longer than their leases."""
        self.clock.now += LEASE + 1
        await self.queues.sweep()
        self.leases.clear()

    # --- the promises -----------------------------------------------------------------------------------

    async def check(self) -> None:
        await self.first_in_the_list_is_next()
        await self.database.read(self.promises)
        await self.database.read(self.places_are_those_of_the_whole_order)

    def places_are_those_of_the_whole_order(self, tx: Connection) -> None:
        whole = entry_store.order(tx, self.policy.id)
        start = self.luck.randint(0, len(whole))
        stop = self.luck.randint(start, len(whole) + 1)
        assert position_store.between(tx, self.policy.id, start, stop) == whole[start:stop]
        for task in self.luck.sample(whole, min(len(whole), 2)):
            standing = position_store.standing(tx, task)
            assert standing is not None
            assert whole[standing.ahead] == task
            before = [entry_store.find_entry(tx, other) for other in whole[: standing.ahead]]
            mine = standing.entry
            assert standing.by_hand == sum(e is not None and e.hand < mine.hand for e in before)
            assert standing.by_priority == sum(
                e is not None and e.hand == mine.hand and e.band < mine.band for e in before
            )
            assert standing.by_share == sum(
                e is not None and (e.hand, e.band) == (mine.hand, mine.band) and e.rank > mine.rank for e in before
            )

    def promises(self, tx: Connection) -> None:
        held = [lease for lease in lease_store.open_leases(tx) if lease.queue_id == self.policy.id]
        assert len({lease.task_id for lease in held}) == len(held), "a task runs twice"
        for name in MACHINES:
            row = worker_store.find_worker(tx, self.worker(name))
            assert row is not None
            mine = [lease for lease in held if lease.worker_id == row.id]
            asked = [read_shape(lease.shape) for lease in mine]
            assert len(mine) <= row.slots
            assert sum(one.cpus for one in asked) <= row.machine.cpus, f"{name} was given away twice"
            assert sum(one.memory for one in asked) <= row.machine.memory, f"{name} was given away twice"
            gpus = [gpu for lease in mine for gpu in lease.gpus or ()]
            assert len(gpus) == len(set(gpus)) <= len(row.machine.gpus), f"GPUs of {name}: {gpus}"
        running = Counter(lease.user for lease in held)
        assert not self.policy.max_running or running.total() <= self.policy.max_running
        most = self.policy.max_running_per_user
        assert not most or max(running.values(), default=0) <= most
        status = dict(tx.execute(select(tasks.c.id, tasks.c.status).where(tasks.c.id.in_(self.made))).all())  # type: ignore[arg-type]
        waiting = set(entry_store.order(tx, self.policy.id))
        assert waiting == {task for task, found in status.items() if found == Status.PENDING.value}
        assert all(self.ends[task] <= 1 for task in self.made), "a task ended twice"

    async def run(self) -> None:
        await self.begin()
        steps = (
            [self.claim] * 9 + [self.finish] * 5 + [self.bring] * 4 + [self.move, self.wait, self.wait]
            + [self.queues.sweep, self.lose]
        )  # fmt: skip
        for _ in range(STEPS):
            await self.luck.choice(steps)()
            await self.check()
        await self.calm()

    async def calm(self) -> None:
        """From now on everything succeeds, and what fits a worker comes to its end."""
        for _ in range(40 * len(self.made)):
            self.clock.now += 10.0
            for token in list(self.leases):
                await self.queues.renew(token, m.Renew())
            found = [await self.claim() for _ in range(6)]
            await self.check()
            for token in list(self.leases):
                ended = await self.queues.finish(token, m.Finish(outcome="completed"))
                assert ended.status is Status.COMPLETED
                self.ends[self.leases.pop(token)] += 1
            if not any(found) and not await self.database.read(lambda tx: entry_store.order(tx, self.policy.id)):
                break
        await self.check()
        assert [self.ends[task] for task in self.made] == [1] * len(self.made), "not every task ended once"


def test_every_story_keeps_the_promises_of_queues(tmp_path: Path) -> None:
    clock = VirtualClock()
    house = House(read_settings(tmp_path, environ={}), clock)

    def service(kind: type[Any]) -> Any:
        return next(s for s in house._services if isinstance(s, kind))

    async def tell_all() -> None:
        for seed in range(STORIES):
            story = Story(
                service(QueueService),
                service(TaskService),
                house.main,
                clock,
                random.Random(seed),
                f"queue {seed}",
            )
            try:
                await story.run()
            except AssertionError as error:
                raise AssertionError(f"story {seed}: {error}") from error

    try:
        asyncio.run(tell_all())
    finally:
        house.close()


def test_no_user_is_ever_two_tasks_behind_another_who_has_less_waiting(tmp_path: Path) -> None:
    """Everything fits and nothing ends: after each claim the users that still wait run equally many, give or take 1."""
    clock = VirtualClock()
    house = House(read_settings(tmp_path, environ={}), clock)
    queues: QueueService = next(s for s in house._services if isinstance(s, QueueService))
    made: TaskService = next(s for s in house._services if isinstance(s, TaskService))
    luck = random.Random(5)

    async def here() -> bool:
        return False

    async def story() -> None:
        await queues.create_queue(m.QueueCreate(name="fair"))
        brought = [user for user, number in zip(USERS, (20, 3, 9), strict=True) for _ in range(number)]
        luck.shuffle(brought)
        for user in brought:
            me = Caller(user, "u", "member", "k")
            task = await made.create_task(me, m.TaskCreate(name="a task", project="fair ones"))
            await queues.enqueue(me, task.id, m.Enqueue(queue="fair"))
        me = Caller("ann", "u", "member", "k")
        body = m.WorkerRegister(id="w", name="w", queues=("fair",), slots=100, machine=Machine(), version="0")
        await queues.register_worker(me, body)
        running: Counter[str] = Counter(dict.fromkeys(USERS, 0))
        left = Counter(brought)
        for _ in brought:
            lease = await queues.claim(me, m.Claim(worker="w", queues=("fair",), wait=0.0), here)
            assert lease is not None
            running[lease.user] += 1
            left[lease.user] -= 1
            waits = [running[user] for user in USERS if left[user]]
            assert not waits or max(running.values()) - min(waits) <= 1

    try:
        asyncio.run(story())
    finally:
        house.close()

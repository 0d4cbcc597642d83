"""Short words for what the tests of queues do: several users, workers of any size, a clock that can be put forward."""

from __future__ import annotations

import asyncio
from typing import Any

from taskloom.domain.execution import Execution
from taskloom.domain.queue import Machine, Waiting
from taskloom.domain.task import Task
from taskloom.server.queues.service import QueueService
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.messages import Lease

LEASE = 30.0
HERE = Machine(host="here")


class Rig:
    """A house with short words for what the tests do."""

    def __init__(self, house: Any, clock: Any) -> None:
        self.house, self.clock = house, clock
        self._keys: dict[str, str] = {}

    @property
    def client(self) -> Any:
        return self.house.client

    def user(self, name: str) -> Any:
        """A client of that user; without a name, of the administrator."""
        if not name:
            return self.client
        if name not in self._keys:
            self._keys[name] = self.house.make_key(user=name)
        return self.house.client_of(self._keys[name])

    def task(self, name: str = "a task", user: str = "", **execution: Any) -> str:
        run = Execution(**{"command": ("true",), **execution})
        return (
            self.user(user).call(op.CREATE_TASK, m.TaskCreate(name=name, project="queue tests", execution=run)).id
        )

    def enqueue(
        self, name: str = "a task", queue: str = "", user: str = "", priority: int | None = None, **execution: Any
    ) -> str:
        task = self.task(name, user, **execution)
        self.put(task, queue, user, priority)
        return task

    def put(self, task: str, queue: str = "", user: str = "", priority: int | None = None) -> Task:
        body = m.Enqueue(queue=queue, create=True, priority=priority)
        return self.user(user).call(op.ENQUEUE_TASK, body, task=task)

    def get(self, task: str) -> Task:
        return self.client.call(op.GET_TASK, task=task)

    def register(
        self, worker: str = "w1", queues: tuple[str, ...] = ("default",), slots: int = 4, machine: Machine = HERE
    ) -> None:
        body = m.WorkerRegister(
            id=worker, name=worker, queues=queues, slots=slots, machine=machine, version="0", create_queues=True
        )
        self.client.call(op.REGISTER_WORKER, body)

    def ask(self, worker: str = "w1", queues: tuple[str, ...] = ("default",), wait: float = 0.0) -> Lease | None:
        claim = m.Claim(worker=worker, queues=queues, lease=LEASE, wait=wait)
        return self.client.call(op.CLAIM_TASK, claim).lease

    def claim(self, worker: str = "w1", queues: tuple[str, ...] = ("default",)) -> Lease:
        lease = self.ask(worker, queues)
        assert lease is not None
        return lease

    def renew(self, lease: Lease, **more: Any) -> m.Renewed:
        return self.client.call(op.RENEW_LEASE, m.Renew(phase="running", **more), token=lease.token)

    def finish(self, lease: Lease, outcome: Any = "completed", **more: Any) -> Task:
        return self.client.call(op.FINISH_LEASE, m.Finish(outcome=outcome, **more), token=lease.token)

    def abort(self, task: str, **more: Any) -> Task:
        return self.client.call(op.ABORT_TASK, m.MoveRequest(**more), task=task)

    def sweep(self) -> None:
        """What the sweeper does at its next turn, now."""
        services = self.house.listener.house._services
        asyncio.run(next(s for s in services if isinstance(s, QueueService)).sweep())

    def edit(self, queue: str = "default", **limits: Any) -> None:
        self.client.call(op.EDIT_QUEUE, m.QueueEdit(**limits), queue=queue)

    def move(self, task: str, position: int, queue: str = "default") -> list[str]:
        told = self.client.call(op.MOVE_ENTRY, m.EntryMove(task=task, position=position), queue=queue)
        return [entry.task for entry in told.entries]

    def order(self, queue: str = "default") -> list[str]:
        return [entry.task for entry in self.client.call(op.GET_QUEUE, queue=queue).entries]

    def waiting(self, task: str) -> Waiting:
        return self.client.call(op.WAITING, task=task)

    def why(self, task: str) -> str:
        return self.waiting(task).reason

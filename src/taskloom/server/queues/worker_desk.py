"""Workers: who is there, what they serve and what they have in hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from taskloom.domain.errors import NotFound
from taskloom.domain.placement import read_shape
from taskloom.domain.queue import Reserved, WorkerInfo
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.queues import lease_store, worker_store
from taskloom.server.queues.lease_store import LeaseRow
from taskloom.server.queues.worker_store import WorkerRow
from taskloom.server.settings import Clock
from taskloom.wire.messages import WorkerRegister

QueueId = Callable[[Connection, str, bool], str]
"""The id of a queue by its id or name; made when it is not there and that is wanted."""


class WorkerDesk:
    def __init__(self, main: Database, clock: Clock, queue_id: QueueId) -> None:
        self._db, self._clock, self._queue_id = main, clock, queue_id

    async def list(self) -> list[WorkerInfo]:
        now = self._clock()

        def work(tx: Connection) -> list[WorkerInfo]:
            held: dict[str, list[LeaseRow]] = {}
            for lease in lease_store.open_leases(tx):
                held.setdefault(lease.worker_id, []).append(lease)
            return [_info(row, held.get(row.id, ()), now) for row in worker_store.list_workers(tx)]

        return await self._db.read(work)

    async def register(self, caller: Caller, wanted: WorkerRegister) -> WorkerInfo:
        now = self._clock()

        def work(tx: Connection) -> WorkerInfo:
            served = [self._queue_id(tx, key, wanted.create_queues) for key in wanted.queues]
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
            worker_store.put_worker(tx, row)
            return _info(row, lease_store.leases_of_worker(tx, row.id), now)

        return await self._db.write(work)

    async def unregister(self, worker_id: str) -> None:
        def work(tx: Connection) -> None:
            if not worker_store.remove_worker(tx, worker_id):
                raise NotFound(f"no worker {worker_id[:80]!r}")

        await self._db.write(work)

    async def drain(self, worker_id: str, *, drain: bool) -> WorkerInfo:
        now = self._clock()

        def work(tx: Connection) -> WorkerInfo:
            worker_store.drain_worker(tx, worker_id, drain=drain)
            row = worker_store.find_worker(tx, worker_id)
            if row is None:
                raise NotFound(f"no worker {worker_id[:80]!r}")
            return _info(row, lease_store.leases_of_worker(tx, row.id), now)

        return await self._db.write(work)


def _info(row: WorkerRow, held: Sequence[LeaseRow], now: float) -> WorkerInfo:
    wanted = [read_shape(lease.shape) for lease in held]
    return WorkerInfo(
        id=row.id,
        name=row.name,
        queues=row.queues,
        slots=row.slots,
        tasks=tuple(lease.task_id for lease in held),
        phases=tuple(lease.phase for lease in held),
        reserved=Reserved(
            cpus=sum(one.cpus for one in wanted),
            memory=sum(one.memory for one in wanted),
            disk=sum(one.disk for one in wanted),
            gpus=tuple(sorted(gpu for lease in held for gpu in lease.gpus or ())),
        ),
        machine=row.machine,
        version=row.version,
        user=row.user,
        registered=row.registered,
        last_seen=row.last_seen,
        alive=row.alive(now),
        draining=row.draining,
    )

"""Claims: a worker asks for its next task, and the question may stay open until there is one.

What is in memory is only the wish to be woken: a claim that found nothing watches the live events and looks again.
That another claim took something is no reason to look. A look that would change nothing writes nothing, but the first
one: it says that the worker lives, and whether it is known.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, NotFound
from taskloom.server.db import Database
from taskloom.server.events import EventBus, Subscription
from taskloom.server.queues import entry_store, placing, preempting, store, worker_store
from taskloom.server.queues.attempts import Attempts, Changed, Claimed
from taskloom.server.queues.queue_rules import MAX_QUEUES
from taskloom.server.queues.sweeps import Sweeps
from taskloom.server.settings import Clock, Settings
from taskloom.wire.messages import Claim, Lease
from taskloom.wire.worker_protocol import MAX_LEASE, MAX_WAIT, MIN_LEASE

LOOK_AGAIN = 2.0  # seconds after which a waiting claim looks by itself (another server on the same database)
TAKEN = "taken"  # the status in a queue's live event that says: a claim took something out of it
_WAKING = frozenset({"queue"})


class ClaimDesk:
    def __init__(
        self, main: Database, bus: EventBus, clock: Clock, settings: Settings, attempts: Attempts, sweeps: Sweeps
    ) -> None:
        self._db, self._bus, self._clock, self._settings = main, bus, clock, settings
        self._attempts, self._sweeps = attempts, sweeps

    async def claim(
        self, wanted: Claim, gone: Callable[[], Awaitable[bool]], tell: Callable[[Changed], Changed]
    ) -> Lease | None:
        """The next task, waited for. Nothing is claimed for a worker that hung up meanwhile. `tell` is told of every
        task that changed.
        """
        _check(wanted)
        ends = time.monotonic() + min(wanted.wait, self._settings.max_wait)
        async with self._bus.subscribe(kinds=_WAKING) as live:  # before the first look: no wake-up is missed
            first = True
            while first or (time.monotonic() < ends and not live.closed and not await gone()):
                found = await self._look(wanted, first=first)
                for changed in found.ended:
                    tell(changed)
                if found.lease is not None:
                    tell(Changed(found.lease.task, found.lease.task.queue, taken=True))
                    return found.lease
                first = False
                await _woken(live, ends)
        return None

    async def _look(self, wanted: Claim, *, first: bool) -> Claimed:
        now = self._clock()
        if not first and not await self._db.read(lambda tx: self._would_find(tx, wanted, now)):
            return Claimed()

        def work(tx: Connection) -> Claimed:
            worker = worker_store.see_worker(tx, wanted.worker, now, wanted.machine, wanted.lease)
            if worker is None:
                raise NotFound(f"no worker {wanted.worker[:80]!r}; register first", worker=wanted.worker[:80])
            claimed = self._attempts.claim(tx, worker, wanted.queues, wanted.lease, now)
            if claimed.passed:
                preempting.make_room(tx, self._attempts, now)
            ended = tuple(self._sweeps.after(tx, changed, now) for changed in claimed.ended)
            return Claimed(claimed.lease, claimed.passed, ended)

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


def _check(wanted: Claim) -> None:
    if not MIN_LEASE <= wanted.lease <= MAX_LEASE:
        raise BadInput(f"lease {wanted.lease}: expected {MIN_LEASE:g} to {MAX_LEASE:g} seconds")
    if not 0 <= wanted.wait <= MAX_WAIT:
        raise BadInput(f"wait {wanted.wait}: expected 0 to {MAX_WAIT:g} seconds")
    if not 1 <= len(wanted.queues) <= MAX_QUEUES:
        raise BadInput(f"queues: expected 1 to {MAX_QUEUES} names or ids")


async def _woken(live: Subscription, ends: float) -> None:
    """Returns when there is a reason to look again; one look for all that happened meanwhile."""
    until = min(time.monotonic() + LOOK_AGAIN, ends)
    while (event := await live.next(max(until - time.monotonic(), 0))) is not None and event.status == TAKEN:
        pass
    while event is not None:
        event = await live.next(0)

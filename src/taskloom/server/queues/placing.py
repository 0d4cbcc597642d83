"""Which waiting task a worker gets: the first in the order of its queues that fits what is free there.

What is free is what the machine has without what the open leases of the worker reserve. A task that does not fit is
passed by, also in the count by which users share, until it has waited as long as its queue says (`hold_after`). Then
one worker that it would fit keeps free for it what others give back: nothing behind it starts there, from its queue or
from those that the worker looks at later. Nothing here writes: who claims does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from taskloom.domain.placement import Place, choose_gpus, fits, read_shape, whole_place, without
from taskloom.domain.queue import Queue
from taskloom.server.queues import entry_store, lease_store, worker_store
from taskloom.server.queues.entry_store import Entry
from taskloom.server.queues.lease_store import LeaseRow
from taskloom.server.queues.worker_store import WorkerRow


@dataclass(frozen=True)
class Found:
    """entry: what to run, with its queue and GPUs. hold: what the worker shall keep free for from now on.

    passed: something waits that does not fit here at the moment.
    """

    entry: Entry | None = None
    queue: Queue | None = None
    gpus: tuple[int, ...] | None = None
    hold: Entry | None = None
    passed: bool = False


@dataclass(frozen=True)
class Room:
    """A worker's machine, and what is free of it."""

    worker: WorkerRow
    whole: Place
    free: Place


def room_of(worker: WorkerRow, held: Sequence[LeaseRow]) -> Room:
    whole = whole_place(worker.machine, worker.slots)
    free = whole
    for lease in held:
        free = without(free, read_shape(lease.shape), lease.gpus or ())
    return Room(worker, whole, free)


def look(tx: Connection, worker: WorkerRow, queues: Sequence[Queue], now: float) -> Found:
    """The task for one free slot of the worker."""
    room = room_of(worker, lease_store.leases_of_worker(tx, worker.id))
    passed = False
    if room.free.slots < 1:
        return Found()
    for queue in queues:
        if queue.paused:
            continue
        found = _Looking(tx, room, queue, now).first()
        passed = passed or found.passed
        if found.entry is not None or found.hold is not None:
            return found
        if found.queue is not None:  # the worker keeps free for something of this queue
            break
    return Found(passed=passed)


def at_limit(queue: Queue, running: dict[str, int], user: str) -> bool:
    if queue.max_running and sum(running.values()) >= queue.max_running:
        return True
    return bool(queue.max_running_per_user) and running.get(user, 0) >= queue.max_running_per_user


class _Looking:
    """One worker's look at one queue."""

    def __init__(self, tx: Connection, room: Room, queue: Queue, now: float) -> None:
        self._tx, self._room, self._queue, self._now = tx, room, queue, now
        self._running: dict[str, int] | None = None
        self._fits: dict[str, bool] = {}
        self._passed = False

    def first(self) -> Found:
        place: tuple[int, int] | None = None
        while (place := entry_store.next_band(self._tx, self._queue.id, place)) is not None:
            if self._queue.max_running and self._full():
                return Found()
            for entry in entry_store.heads(self._tx, self._queue.id, *place, self._now):
                found = self._take(entry)
                if found is not None:
                    return found
        return Found(passed=self._passed)

    def _take(self, entry: Entry) -> Found | None:
        """None: on to the next entry."""
        if self._queue.max_running_per_user and at_limit(self._queue, self._count(), entry.user):
            return None
        if self._fits_in(entry, self._room.free):
            gpus = choose_gpus(entry.wanted, self._room.free, self._room.whole)
            return Found(entry, self._queue, gpus)
        self._passed = True
        if self._now - entry.enqueued < self._queue.hold_after or not fits(entry.wanted, self._room.whole):
            return None
        if entry.hold == self._room.worker.id:
            return Found(queue=self._queue, passed=True)
        if entry.hold and self._holds(entry):
            return None
        return Found(queue=self._queue, hold=entry, passed=True)

    def _fits_in(self, entry: Entry, place: Place) -> bool:
        shape = entry.shape
        if shape not in self._fits:
            self._fits[shape] = fits(entry.wanted, place)
        return self._fits[shape]

    def _count(self) -> dict[str, int]:
        if self._running is None:
            self._running = lease_store.running_by_user(self._tx, self._queue.id)
        return self._running

    def _full(self) -> bool:
        return sum(self._count().values()) >= self._queue.max_running

    def _holds(self, entry: Entry) -> bool:
        """Whether the worker that was to keep free for the entry still can."""
        worker = worker_store.find_worker(self._tx, entry.hold)
        return (
            worker is not None
            and worker.alive(self._now)
            and not worker.draining
            and entry.queue_id in worker.queues
            and fits(entry.wanted, whole_place(worker.machine, worker.slots))
        )


def for_agent(tx: Connection, queue: Queue, now: float) -> Entry | None:
    """The first entry that wants nothing an agent of another system cannot tell: it says neither what its machine has
    nor can it be told which GPUs to use. What image a task runs in is such an agent's own business.
    """
    if queue.paused:
        return None
    running = lease_store.running_by_user(tx, queue.id)
    place: tuple[int, int] | None = None
    while (place := entry_store.next_band(tx, queue.id, place)) is not None:
        for entry in entry_store.heads(tx, queue.id, *place, now):
            wanted = entry.wanted
            anywhere = not (wanted.cpus or wanted.memory or wanted.disk or wanted.gpus or wanted.nodes > 1)
            if anywhere and not at_limit(queue, running, entry.user):
                return entry
    return None

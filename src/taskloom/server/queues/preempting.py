"""Preemption: what may be stopped makes room for a task of higher priority that fits nowhere else.

Looked at after an enqueue, when a claim found nothing that fits, and by the sweeper. Of every worker that would be
large enough it is asked which of its preemptible leases of lower priority have to go; the worker where the fewest go
is taken, then the one where those of the lowest priority go, then the youngest. They are marked as for an abort, with
`give_back`: their workers stop them and hand them back, and they wait again at their places. What is being stopped
counts as free from then on, for as many of the waiting tasks as it has room for, so that nothing is stopped twice for
one task. Costs one look at the open leases as long as none of them may be stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from sqlalchemy import Connection

from taskloom.domain.placement import Place, choose_gpus, fits, read_shape, whole_place, without
from taskloom.domain.queue import Queue
from taskloom.server.queues import entry_store, lease_store, store, worker_store
from taskloom.server.queues.attempts import Attempts
from taskloom.server.queues.entry_store import Entry
from taskloom.server.queues.lease_store import LeaseRow
from taskloom.server.queues.placing import at_limit
from taskloom.server.queues.worker_store import WorkerRow
from taskloom.server.tasks import moves
from taskloom.wire.worker_protocol import AGENT_LEASE

LOOKED_AT = 200  # waiting tasks of a queue that are looked at
FEW = 12  # leases of which every choice is tried; of more, one is dropped after the other
NAME = 80  # characters of a task's name in a reason


def make_room(tx: Connection, attempts: Attempts, now: float) -> int:
    """Mark what has to go; how many leases that are."""
    lowest = lease_store.preemptible_from(tx)
    if lowest is None:
        return 0
    hosts = _hosts(tx, now)
    marked = 0
    for queue in store.queues_with_entries(tx):
        if queue.paused:
            continue
        running = lease_store.running_by_user(tx, queue.id)
        for entry in entry_store.foremost(tx, queue.id, lowest, now, LOOKED_AT):
            if not at_limit(queue, running, entry.user):
                marked += _for_entry(tx, attempts, hosts, queue, entry, now)
    return marked


@dataclass
class Host:
    """A worker as it will be when everything that is being stopped has gone."""

    worker: WorkerRow
    whole: Place
    held: list[LeaseRow]
    taken: tuple[tuple[Entry, tuple[int, ...]], ...] = ()  # waiting tasks that will find room, and their GPUs

    def free(self, gone: Sequence[LeaseRow] = ()) -> Place:
        left = self.whole
        for lease in self.held:
            if not lease.stop and lease not in gone:
                left = without(left, read_shape(lease.shape), lease.gpus or ())
        for entry, gpus in self.taken:
            left = without(left, entry.wanted, gpus)
        return left

    def take(self, entry: Entry) -> None:
        gpus = choose_gpus(entry.wanted, self.free(), self.whole) or ()
        self.taken = (*self.taken, (entry, gpus))

    def must_go(self, entry: Entry) -> tuple[LeaseRow, ...] | None:
        """The fewest leases without which the entry fits; None when it does not even without all of them."""
        may = [
            lease
            for lease in self.held
            if lease.preemptible
            and not lease.stop
            and lease.priority < entry.priority
            and not lease.token.startswith(AGENT_LEASE)
        ]
        may.sort(key=lambda lease: (lease.priority, -lease.created, lease.token))
        if not may or not fits(entry.wanted, self.free(may)):
            return None
        if len(may) <= FEW:
            for size in range(1, len(may) + 1):
                found = [some for some in combinations(may, size) if fits(entry.wanted, self.free(some))]
                if found:
                    return min(found, key=_cost)
        chosen = list(may)
        for lease in reversed(may):  # keep what is dear, as long as it is not needed
            rest = [other for other in chosen if other is not lease]
            chosen = rest if fits(entry.wanted, self.free(rest)) else chosen
        return tuple(chosen)


def _for_entry(
    tx: Connection, attempts: Attempts, hosts: Sequence[Host], queue: Queue, entry: Entry, now: float
) -> int:
    serving = [host for host in hosts if queue.id in host.worker.queues]
    for host in serving:
        if fits(entry.wanted, host.free()):
            host.take(entry)
            return 0
    choices = [(gone, host) for host in serving if (gone := host.must_go(entry)) is not None]
    if not choices:
        return 0
    gone, host = min(choices, key=lambda choice: (*_cost(choice[0]), choice[1].worker.id))
    task = moves.known(tx, entry.task_id).task
    reason = f"its place is needed by {task.name[:NAME]!r} ({entry.task_id}) of priority {entry.priority}"
    for lease in gone:
        attempts.stop(tx, lease, f"preempted: {reason}", now, give_back=True)
    host.held = [replace(lease, stop=True) if lease in gone else lease for lease in host.held]
    host.take(entry)
    return len(gone)


def _cost(gone: Sequence[LeaseRow]) -> tuple[int, tuple[int, ...], float]:
    """How dear it is to stop these: how many, their priorities, and for how long they have run."""
    return (
        len(gone),
        tuple(sorted((lease.priority for lease in gone), reverse=True)),
        -sum(lease.created for lease in gone),
    )


def _hosts(tx: Connection, now: float) -> list[Host]:
    held: dict[str, list[LeaseRow]] = {}
    for lease in lease_store.open_leases(tx):
        held.setdefault(lease.worker_id, []).append(lease)
    return [
        Host(row, whole_place(row.machine, row.slots), held.get(row.id, []))
        for row in worker_store.list_workers(tx)
        if row.notes is None and row.alive(now) and not row.draining
    ]

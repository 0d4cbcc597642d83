"""The facts behind the sentence for a waiting task, read in one transaction; the sentence itself is `waiting`'s."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from taskloom.domain.errors import Conflict
from taskloom.domain.queue import Queue, Waiting
from taskloom.domain.status import Status
from taskloom.server.queues import entry_store, lease_store, position_store, store, sweep_store, worker_store
from taskloom.server.queues.entry_store import Entry
from taskloom.server.queues.lease_store import LeaseRow
from taskloom.server.queues.placing import room_of
from taskloom.server.queues.waiting import Ahead, Facts, Serving, explain, explain_sweep, free_slots
from taskloom.server.tasks import moves
from taskloom.server.tasks.store import Found


def waiting(tx: Connection, task_id: str, now: float) -> Waiting:
    found = moves.known(tx, task_id)
    standing = position_store.standing(tx, task_id)
    if standing is None:
        return _of_sweep(tx, found)
    entry = standing.entry
    queue = store.queue_policies(tx, [entry.queue_id])[0]
    serving = _serving(tx, queue, entry, now)
    holder = worker_store.find_worker(tx, entry.hold) if entry.hold else None
    facts = Facts(
        queue=queue,
        ahead=Ahead(standing.ahead, standing.by_hand, standing.by_priority, standing.by_share),
        serving=serving,
        user=entry.user,
        wanted=entry.wanted,
        running=lease_store.running_by_user(tx, queue.id),
        pause=entry.not_before - now,
        held_by=holder.name if holder is not None and holder.alive(now) and not holder.draining else "",
    )
    return Waiting(
        task=task_id,
        queue=queue.name,
        position=standing.ahead + 1,
        ahead=standing.ahead,
        reason=explain(facts),
        workers=sum(1 for worker in serving if worker.alive),
        free_slots=free_slots(serving),
    )


def _of_sweep(tx: Connection, found: Found) -> Waiting:
    """A task that runs as a sweep waits for the tasks of it."""
    task = found.task
    sweep = sweep_store.progress(tx, task.id) if found.status is Status.RUNNING else None
    if sweep is None:
        raise Conflict(
            f"task {task.id} is {found.status.value}; it does not wait in a queue", status=found.status.value
        )
    return Waiting(task=task.id, queue=task.queue_name, position=0, ahead=0, reason=explain_sweep(sweep))


def _serving(tx: Connection, queue: Queue, entry: Entry, now: float) -> list[Serving]:
    held: dict[str, list[LeaseRow]] = {}
    for lease in lease_store.open_leases(tx):
        held.setdefault(lease.worker_id, []).append(lease)
    kept = entry_store.held_for(tx, queue.id, besides=entry.task_id)
    serving: list[Serving] = []
    for row in worker_store.list_workers(tx):
        if queue.id not in row.queues:
            continue
        mine = held.get(row.id, [])
        room = room_of(row, mine)
        one = Serving(row.name, row.slots, len(mine), row.alive(now), row.draining, room.whole, room.free)
        stopping = sum(1 for lease in mine if lease.stop)
        if row.notes is not None:  # an agent tells nothing of its machine: what wants nothing will do
            one = replace(
                one, whole=replace(room.whole, containers=True), free=replace(room.free, containers=True)
            )
        serving.append(replace(one, held_for=kept.get(row.id, ""), stopping=stopping))
    return serving

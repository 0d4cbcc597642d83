"""Why a task waits: one true sentence made from the queue, the workers that serve it and what they run.

Pure: the facts are read elsewhere, in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskloom.domain.queue import Queue


@dataclass(frozen=True)
class Serving:
    """A worker that serves the queue. `busy`: slots with a task."""

    name: str
    slots: int
    busy: int
    alive: bool
    draining: bool


def free_slots(serving: Sequence[Serving]) -> int:
    return sum(max(w.slots - w.busy, 0) for w in serving if w.alive and not w.draining)


def explain(queue: Queue, ahead: int, serving: Sequence[Serving]) -> str:
    """The sentence. What would have to change first comes first."""
    alive = [worker for worker in serving if worker.alive]
    ready = [worker for worker in alive if not worker.draining]
    place = "next in line" if ahead == 0 else f"{_count(ahead, 'task is', 'tasks are')} ahead"
    if queue.paused:
        return f"queue {queue.name} is paused; {place}"
    if not serving:
        return f"no worker serves queue {queue.name}; {place}"
    if not alive:
        silent = _count(len(serving), "worker that serves", "workers that serve")
        return f"no worker: the {silent} queue {queue.name} fell silent; {place}"
    if not ready:
        draining = "the only worker" if len(alive) == 1 else f"all {len(alive)} workers"
        verb = "takes" if len(alive) == 1 else "take"
        return f"{draining} of queue {queue.name} {verb} no new tasks (draining); {place}"
    free = free_slots(ready)
    total = sum(worker.slots for worker in ready)
    if free == 0:
        slots = "the only slot" if total == 1 else f"all {total} slots"
        verb = "is" if total == 1 else "are"
        of = f"of {_count(len(ready), 'worker', 'workers')}"
        return f"{slots} {of} {verb} busy; {place}"
    if ahead == 0:
        return f"next in line; {_count(free, 'slot is', 'slots are')} free"
    return f"{place}; {_count(free, 'slot is', 'slots are')} free"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"

"""Why a task waits: one true sentence made from the queue, the workers that serve it and what they run.

Pure: the facts are read elsewhere, in one transaction. What would have to change first comes first, and the place in
the queue is always told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from taskloom.domain.placement import Kind, Lack, Place, Wanted, fits, lacks
from taskloom.domain.queue import Queue

ANY_PLACE = Place(slots=1, cpus=0.0, memory=0, disk=0, gpus=(), containers=False)
_WORDS: dict[Kind, str] = {
    "nodes": "machine",
    "containers": "runner of containers",
    "gpus": "GPU",
    "memory": "memory",
    "cpus": "CPU",
    "disk": "disk",
    "slots": "slot",
}
_LACKING: dict[Kind, str] = {
    "nodes": "is one machine",
    "containers": "runs no containers",
    "gpus": "has too few GPUs",
    "memory": "has too little memory",
    "cpus": "has too few CPUs",
    "disk": "has too little disk",
    "slots": "has no slot",
}
_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


@dataclass(frozen=True)
class Serving:
    """A worker that serves the queue. `busy`: slots with a task. held_for: whom it keeps free for, by name."""

    name: str
    slots: int
    busy: int
    alive: bool
    draining: bool
    whole: Place = ANY_PLACE
    free: Place = ANY_PLACE
    held_for: str = ""
    stopping: int = 0  # of its tasks that are being stopped


@dataclass(frozen=True)
class Ahead:
    """How many tasks stand before it; of those, by hand, by a higher priority, and by fair share."""

    number: int = 0
    by_hand: int = 0
    by_priority: int = 0
    by_share: int = 0


@dataclass(frozen=True)
class Facts:
    """wanted: what the task wants of a machine. running: tasks of the queue that run, by user. pause: seconds until
    its next attempt may begin. held_by: the worker that keeps free for it.
    """

    queue: Queue
    ahead: Ahead
    serving: Sequence[Serving]
    user: str = ""
    wanted: Wanted = field(default_factory=Wanted)
    running: dict[str, int] = field(default_factory=dict[str, int])
    pause: float = 0.0
    held_by: str = ""


@dataclass(frozen=True)
class Sweep:
    """How far the tasks of a sweep are."""

    total: int
    completed: int = 0
    failed: int = 0
    aborted: int = 0
    running: int = 0
    waiting: int = 0
    dropped: int = 0  # taken out of their queue, or back to drafts


def free_slots(serving: Sequence[Serving]) -> int:
    return sum(max(w.slots - w.busy, 0) for w in serving if w.alive and not w.draining)


def explain(facts: Facts) -> str:
    place = _place(facts.ahead)
    why = _closed(facts) or _no_worker(facts) or _limits(facts) or _pause(facts) or _too_large(facts)
    if why:
        return f"{why}; {place}"
    why = _busy(facts) or _held(facts) or _not_free(facts)
    if why:
        return f"{why}; {place}"
    free = free_slots(facts.serving)
    return f"{place}; {_count(free, 'slot is', 'slots are')} free"


def explain_sweep(sweep: Sweep) -> str:
    """What the task that has a sweep waits for."""
    ended = sweep.total - sweep.running - sweep.waiting
    return f"its sweep: {ended} of {_count(sweep.total, 'task has', 'tasks have')} ended ({tally(sweep)})"


def tally(sweep: Sweep) -> str:
    named = (
        (sweep.completed, "completed"),
        (sweep.failed, "failed"),
        (sweep.aborted, "aborted"),
        (sweep.dropped, "taken out"),
        (sweep.running, "running"),
        (sweep.waiting, "waiting"),
    )
    return ", ".join(f"{number} {word}" for number, word in named if number) or "none"


def _place(ahead: Ahead) -> str:
    if ahead.number == 0:
        return "next in line"
    told = f"{_count(ahead.number, 'task is', 'tasks are')} ahead"
    why = [
        words
        for number, words in (
            (ahead.by_hand, f"{ahead.by_hand} moved by hand"),
            (ahead.by_priority, f"{ahead.by_priority} of higher priority"),
            (ahead.by_share, f"{ahead.by_share} by fair share"),
        )
        if number
    ]
    return f"{told} ({', '.join(why)})" if why else told


# --- what nobody gets past --------------------------------------------------------------------------------


def _closed(facts: Facts) -> str:
    return f"queue {facts.queue.name} is paused" if facts.queue.paused else ""


def _no_worker(facts: Facts) -> str:
    queue, serving = facts.queue, facts.serving
    alive = [worker for worker in serving if worker.alive]
    if not serving:
        return f"no worker serves queue {queue.name}"
    if not alive:
        silent = _count(len(serving), "worker that serves", "workers that serve")
        return f"no worker: the {silent} queue {queue.name} fell silent"
    if all(worker.draining for worker in alive):
        draining = "the only worker" if len(alive) == 1 else f"all {len(alive)} workers"
        verb = "takes" if len(alive) == 1 else "take"
        return f"{draining} of queue {queue.name} {verb} no new tasks (draining)"
    return ""


def _limits(facts: Facts) -> str:
    queue, running = facts.queue, facts.running
    if queue.max_running and sum(running.values()) >= queue.max_running:
        who = sorted(running.items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{number} of {user or 'nobody'}" for user, number in who[:3])
        more = ", ..." if len(who) > 3 else ""
        return f"queue {queue.name} runs {_count(queue.max_running, 'task', 'tasks')} at once: {told}{more}"
    mine = running.get(facts.user, 0)
    if queue.max_running_per_user and mine >= queue.max_running_per_user:
        most = _count(queue.max_running_per_user, "task", "tasks")
        return f"queue {queue.name} runs {most} of one user at once: {facts.user} has {mine} running"
    return ""


def _pause(facts: Facts) -> str:
    return f"it pauses for {max(facts.pause, 1):.0f} s after a failed attempt" if facts.pause > 0 else ""


def _too_large(facts: Facts) -> str:
    ready = _ready(facts)
    short = [(worker, lacks(facts.wanted, worker.whole)) for worker in ready]
    if not all(lack for _, lack in short):
        return ""
    queue = facts.queue.name
    common = [
        lack.kind for lack in short[0][1] if all(any(o.kind == lack.kind for o in more) for _, more in short)
    ]
    if not common:
        told = ", ".join(f"{worker.name} {_LACKING[lack[0].kind]}" for worker, lack in short[:3])
        return f"no worker of queue {queue} has all that it wants: {told}"
    kind = common[0]
    if kind == "nodes":
        return f"it wants {facts.wanted.nodes} machines at once, and no worker is more than one"
    if kind == "containers":
        return f"it runs in an image, and no worker of queue {queue} runs containers (docker or podman)"
    best, worker = max(
        ((lack, worker) for worker, many in short for lack in many if lack.kind == kind),
        key=lambda pair: pair[0].offered,
    )
    offer = f"the most that one has is {_amount(best, best.offered, facts.wanted)} ({worker.name})"
    if not best.offered:
        offer = "none has any"
    return (
        f"no worker of queue {queue} is large enough: it wants {_amount(best, best.wanted, facts.wanted)}, {offer}"
    )


# --- what time will bring ---------------------------------------------------------------------------------


def _busy(facts: Facts) -> str:
    ready = _large_enough(facts)
    if free_slots(ready):
        return ""
    total = sum(worker.slots for worker in ready)
    slots = "the only slot" if total == 1 else f"all {total} slots"
    verb = "is" if total == 1 else "are"
    stopping = sum(worker.stopping for worker in ready)
    told = f"{slots} of {_count(len(ready), 'worker', 'workers')} {verb} busy"
    return f"{told}, {_count(stopping, 'task is', 'tasks are')} being stopped" if stopping else told


def _held(facts: Facts) -> str:
    """Where it would fit is kept free for a task that has waited long."""
    now = [worker for worker in _large_enough(facts) if fits(facts.wanted, worker.free)]
    if now and all(worker.held_for for worker in now):
        names = ", ".join(f"{worker.name} for {worker.held_for!r}" for worker in now[:3])
        return f"kept free for a task that has waited longer: {names}"
    return ""


def _not_free(facts: Facts) -> str:
    large = [worker for worker in _large_enough(facts) if worker.slots > worker.busy]
    if any(fits(facts.wanted, worker.free) for worker in large):
        return ""
    best, worker = max(
        ((lacks(facts.wanted, worker.free)[0], worker) for worker in large),
        key=lambda pair: pair[0].offered / max(pair[0].wanted, 1e-9),
    )
    all_of = _all_of(worker.whole, best.kind, facts.wanted)
    wanted = _amount(best, best.wanted, facts.wanted)
    told = f"waits for {wanted} ({worker.name} has {_short(best, best.offered)} of {_short(best, all_of)} free)"
    return f"{told}; {facts.held_by} keeps free for it what others give back" if facts.held_by else told


def _ready(facts: Facts) -> list[Serving]:
    return [worker for worker in facts.serving if worker.alive and not worker.draining]


def _large_enough(facts: Facts) -> list[Serving]:
    return [worker for worker in _ready(facts) if fits(facts.wanted, worker.whole)]


# --- words ------------------------------------------------------------------------------------------------


def _all_of(whole: Place, kind: Kind, wanted: Wanted) -> float:
    if kind == "gpus":
        missing = [lack.offered for lack in lacks(Wanted(gpus=10**6, gpu_type=wanted.gpu_type), whole)]
        return missing[0]
    values: dict[str, float] = {
        "memory": whole.memory,
        "cpus": whole.cpus,
        "disk": whole.disk,
        "slots": whole.slots,
    }
    return values.get(kind, 1)


def _amount(lack: Lack, number: float, wanted: Wanted) -> str:
    """Such as `4 GPUs of type A100-80GB`, `64 GiB of memory`."""
    if lack.kind in {"memory", "disk"}:
        return f"{_short(lack, number)} of {_WORDS[lack.kind]}"
    word = _WORDS[lack.kind]
    told = f"{_short(lack, number)} {word if number == 1 else word + 's'}"
    return f"{told} of type {wanted.gpu_type.upper()}" if lack.kind == "gpus" and wanted.gpu_type else told


def _short(lack: Lack, number: float) -> str:
    if lack.kind not in {"memory", "disk"}:
        return f"{number:g}"
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return f"{number:g} bytes"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"

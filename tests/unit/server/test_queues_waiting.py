"""The sentence that says why a task waits: a table of what is the case and what is said."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from taskloom.domain.placement import Wanted, whole_place, without
from taskloom.domain.queue import Machine, Queue
from taskloom.server.queues.waiting import Ahead, Facts, Serving, Sweep, explain, explain_sweep

GIB = 2**30
A100, T4 = "NVIDIA A100-SXM4-80GB", "Tesla T4"
MACHINE = Machine(cpus=16, memory=64 * GIB, disk_free=GIB, gpus=(A100,) * 4, gpu_memory=(80 * GIB,) * 4)
SMALL = Machine(cpus=4, memory=8 * GIB, disk_free=GIB, gpus=(T4,), gpu_memory=(16 * GIB,), containers="podman")
QUEUE = Queue(id="q", name="gpu")


def worker(name: str = "w1", slots: int = 2, *running: Wanted, machine: Machine = MACHINE, **more: Any) -> Serving:
    """A worker that runs these; each has as many of the first GPUs as it wants."""
    whole = whole_place(machine, slots)
    free = whole
    for task in running:
        free = without(free, task, [gpu.index for gpu in free.gpus[: task.gpus or 0]])
    one = Serving(name, slots, len(running), True, False, whole, free)
    return dataclasses.replace(one, **more)


def facts(*serving: Serving, wanted: Wanted | None = None, ahead: Ahead | None = None, **more: Any) -> Facts:
    return Facts(
        more.pop("queue", QUEUE), ahead or Ahead(), serving, user="ann", wanted=wanted or Wanted(), **more
    )


def limited(**limits: int) -> Queue:
    return Queue(id="q", name="gpu", **limits)  # type: ignore[arg-type]


TABLE: list[tuple[Facts, str]] = [
    # nobody gets past these
    (facts(worker(), queue=Queue(id="q", name="gpu", paused=True)), "queue gpu is paused; next in line"),
    (facts(ahead=Ahead(1)), "no worker serves queue gpu; 1 task is ahead"),
    (facts(worker(alive=False)), "no worker: the 1 worker that serves queue gpu fell silent; next in line"),
    (facts(worker(draining=True)), "the only worker of queue gpu takes no new tasks (draining); next in line"),
    (
        facts(worker(), queue=limited(max_running=3), running={"bob": 2, "ann": 1}),
        "queue gpu runs 3 tasks at once: 2 of bob, 1 of ann; next in line",
    ),
    (
        facts(worker(), queue=limited(max_running_per_user=1), running={"ann": 1}, ahead=Ahead(4)),
        "queue gpu runs 1 task of one user at once: ann has 1 running; 4 tasks are ahead",
    ),
    (facts(worker(), pause=7.6), "it pauses for 8 s after a failed attempt; next in line"),
    # no worker is large enough
    (
        facts(worker("w1"), worker("w2", machine=SMALL), wanted=Wanted(gpus=8)),
        "no worker of queue gpu is large enough: it wants 8 GPUs, the most that one has is 4 GPUs (w1); "
        "next in line",
    ),
    (
        facts(worker(machine=SMALL), wanted=Wanted(gpus=1, gpu_type="a100-80gb")),
        "no worker of queue gpu is large enough: it wants 1 GPU of type A100-80GB, none has any; next in line",
    ),
    (
        facts(worker(), wanted=Wanted(memory=128 * GIB)),
        "no worker of queue gpu is large enough: it wants 128 GiB of memory, the most that one has is 64 GiB of "
        "memory (w1); next in line",
    ),
    (
        facts(worker("w1", machine=MACHINE), worker("w2", machine=SMALL), wanted=Wanted(gpus=2, container=True)),
        "no worker of queue gpu has all that it wants: w1 runs no containers, w2 has too few GPUs; next in line",
    ),
    (
        facts(worker(), wanted=Wanted(container=True)),
        "it runs in an image, and no worker of queue gpu runs containers (docker or podman); next in line",
    ),
    (
        facts(worker(), wanted=Wanted(nodes=2)),
        "it wants 2 machines at once, and no worker is more than one; next in line",
    ),
    # time will bring it
    (facts(worker("w1", 1, Wanted())), "the only slot of 1 worker is busy; next in line"),
    (
        facts(worker("w1", 1, Wanted(), stopping=1)),
        "the only slot of 1 worker is busy, 1 task is being stopped; next in line",
    ),
    (
        facts(worker("w1", 2, Wanted(gpus=2)), wanted=Wanted(gpus=4)),
        "waits for 4 GPUs (w1 has 2 of 4 free); next in line",
    ),
    (
        facts(worker("w1", 2, Wanted(gpus=2)), wanted=Wanted(gpus=4), held_by="w1"),
        "waits for 4 GPUs (w1 has 2 of 4 free); w1 keeps free for it what others give back; next in line",
    ),
    (
        facts(worker("w1", 2, Wanted(memory=48 * GIB)), wanted=Wanted(memory=32 * GIB), ahead=Ahead(1)),
        "waits for 32 GiB of memory (w1 has 16 GiB of 64 GiB free); 1 task is ahead",
    ),
    (
        facts(worker(held_for="a big one"), ahead=Ahead(1)),
        "kept free for a task that has waited longer: w1 for 'a big one'; 1 task is ahead",
    ),
    # only the order
    (facts(worker()), "next in line; 2 slots are free"),
    (facts(worker(), ahead=Ahead(3)), "3 tasks are ahead; 2 slots are free"),
    (
        facts(worker(), ahead=Ahead(6, by_hand=1, by_priority=2, by_share=3)),
        "6 tasks are ahead (1 moved by hand, 2 of higher priority, 3 by fair share); 2 slots are free",
    ),
]


@pytest.mark.parametrize(("given", "said"), TABLE, ids=[said[:60] for _, said in TABLE])
def test_why_a_task_waits(given: Facts, said: str) -> None:
    assert explain(given) == said


def test_a_sweep_waits_for_its_tasks() -> None:
    sweep = Sweep(total=20, completed=9, failed=2, aborted=1, running=3, waiting=5)
    assert explain_sweep(sweep) == (
        "its sweep: 12 of 20 tasks have ended (9 completed, 2 failed, 1 aborted, 3 running, 5 waiting)"
    )

"""Claims give only what fits: machines, GPUs, images, holds; and what lets a restarting worker keep its leases."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contracts.queue_rig import LEASE, Rig

from taskloom.domain.errors import BadInput
from taskloom.domain.execution import Resources
from taskloom.domain.queue import Machine
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op

GIB = 2**30
A100 = "NVIDIA A100-SXM4-80GB"
BIG = Machine(host="big", cpus=16, memory=64 * GIB, disk_free=GIB, gpus=(A100,) * 4, gpu_memory=(80 * GIB,) * 4)


@pytest.fixture
def rig(any_house: Any, clock: Any) -> Rig:
    return Rig(any_house, clock)


def wants(**resources: Any) -> dict[str, Any]:
    return {"resources": Resources(**resources)}


def test_the_first_that_fits_what_is_free_is_given(rig: Rig) -> None:
    rig.register(machine=BIG)
    half = [rig.enqueue(f"half {n}", **wants(memory=32 * GIB)) for n in range(3)]
    small = rig.enqueue("small", **wants(memory=GIB))
    first = rig.claim()
    assert [first.task.id, rig.claim().task.id] == half[:2]
    assert rig.ask() is None
    assert rig.why(half[2]) == "waits for 32 GiB of memory (w1 has 0 bytes of 64 GiB free); next in line"
    rig.finish(first)
    assert rig.claim().task.id == half[2]
    assert rig.ask() is None
    worker = rig.client.call(op.LIST_WORKERS).workers[0]
    assert (worker.reserved.memory, worker.phases) == (64 * GIB, ("preparing", "preparing"))
    assert rig.waiting(small).position == 1


def test_gpus_are_given_by_index_and_to_one_task_only(rig: Rig) -> None:
    rig.register(machine=BIG, slots=4)
    rig.enqueue("two", **wants(gpus=2, gpu_type="A100-80GB"))
    rig.enqueue("none", **wants(gpus=0))
    three = rig.enqueue("three", **wants(gpus=3))
    share = rig.enqueue("no word")
    two, none = rig.claim(), rig.claim()
    assert (two.gpus, none.gpus) == ((0, 1), ())
    rest = rig.claim()
    assert (rest.task.id, rest.gpus) == (share, (2,)), "passes the one that does not fit, and takes its share"
    assert rig.why(three) == "waits for 3 GPUs (w1 has 1 of 4 free); next in line"
    for lease in (two, rest):
        rig.finish(lease)
    assert rig.claim().gpus == (0, 1, 2)
    assert rig.client.call(op.LIST_WORKERS).workers[0].reserved.gpus == (0, 1, 2)


def test_a_worker_without_gpus_hears_no_word_about_them(rig: Rig) -> None:
    rig.register()
    rig.enqueue()
    assert rig.claim().gpus is None


def test_slots_are_counted_by_the_server(rig: Rig) -> None:
    rig.register(slots=1)
    rig.enqueue("first")
    second = rig.enqueue("second")
    lease = rig.claim()
    assert rig.ask() is None
    rig.finish(lease)
    assert rig.claim().task.id == second


def test_what_no_worker_can_ever_run_is_told_and_keeps_nobody_waiting(rig: Rig) -> None:
    rig.register("small", machine=Machine(cpus=2, memory=GIB))
    huge = rig.enqueue("huge", **wants(gpus=8))
    nodes = rig.enqueue("nodes", **wants(nodes=2))
    image = rig.enqueue("image", image="python:3.12")
    plain = rig.enqueue("plain")
    rig.clock.advance(10_000)
    rig.register("small", machine=Machine(cpus=2, memory=GIB))
    assert rig.claim("small").task.id == plain
    assert "is large enough: it wants 8 GPUs, none has any" in rig.why(huge)
    assert "2 machines at once" in rig.why(nodes)
    assert "no worker of queue default runs containers" in rig.why(image)
    rig.register("docker", machine=Machine(cpus=2, memory=GIB, containers="docker"))
    assert rig.claim("docker").task.id == image


def test_a_worker_keeps_free_for_what_has_waited_long_enough(rig: Rig) -> None:
    rig.edit(hold_after=60.0)
    rig.register("w1", machine=BIG)
    rig.register("w2", machine=BIG)
    for worker in ("w1", "w2"):
        rig.enqueue(f"on {worker}", **wants(gpus=2))
    running = [rig.claim(worker) for worker in ("w1", "w2")]
    large = rig.enqueue("large", **wants(gpus=4))
    before = rig.enqueue("before", **wants(gpus=1))
    after = rig.enqueue("after", **wants(gpus=1))
    assert rig.claim("w1").task.id == before, "so long the others pass it"
    rig.clock.advance(61)
    for lease in running:
        rig.renew(lease)
    assert rig.ask("w1") is None
    assert rig.why(large).startswith("waits for 4 GPUs (w2 has 2 of 4 free); w1 keeps free for it")
    assert rig.claim("w2").task.id == after, "one worker keeps free, the other goes on"
    late = rig.enqueue("late")
    assert rig.ask("w1") is None
    rig.client.call(op.DRAIN_WORKER, m.WorkerDrain(), worker="w2")
    assert rig.why(late).startswith("kept free for a task that has waited longer: w1 for 'large'")


def test_another_worker_keeps_free_when_the_first_one_cannot(rig: Rig) -> None:
    rig.edit(hold_after=0.0)
    for worker in ("w1", "w2"):
        rig.register(worker, machine=BIG)
        rig.enqueue(f"on {worker}", **wants(gpus=1))
        rig.claim(worker)
    large = rig.enqueue("large", **wants(gpus=4))
    rig.enqueue("small")
    assert rig.ask("w1") is None
    rig.client.call(op.DRAIN_WORKER, m.WorkerDrain(), worker="w1")
    assert rig.ask("w2") is None
    assert "w2 keeps free for it" in rig.why(large)


def test_a_lease_can_be_kept_for_longer_than_its_period(rig: Rig) -> None:
    rig.register()
    task = rig.enqueue()
    lease = rig.claim()
    kept = rig.renew(lease, keep=600.0)
    assert kept.expires - rig.clock() > 590
    rig.clock.advance(500)
    rig.sweep()
    assert rig.get(task).status is Status.RUNNING
    assert rig.renew(lease).expires - rig.clock() < LEASE + 1
    assert rig.house.client_of(lease.key).call(op.GET_TASK, task=task).id == task
    for keep in (-1.0, 3601.0, float("nan")):
        with pytest.raises(BadInput, match="keep"):
            rig.renew(lease, keep=keep)
    rig.clock.advance(LEASE + 1)
    rig.sweep()
    assert rig.get(task).status is Status.PENDING


@pytest.mark.parametrize(
    "asked",
    [
        {"cpus": -1.0},
        {"cpus": float("inf")},
        {"memory": -1},
        {"disk": -1},
        {"gpus": -1},
        {"gpus": 2000},
        {"nodes": 0},
        {"gpu_type": "x" * 65},
    ],
)
def test_resources_that_make_no_sense_are_refused(rig: Rig, asked: dict[str, Any]) -> None:
    with pytest.raises(BadInput if "gpu_type" not in asked else Exception, match="resources"):
        rig.task(**wants(**asked))

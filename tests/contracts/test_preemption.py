"""Preemption and retries: what makes room, what waits again, at which place, how often and why."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contracts.queue_rig import LEASE, Rig

from taskloom.domain.errors import BadInput
from taskloom.domain.execution import Resources, Retries
from taskloom.domain.queue import Machine
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.messages import Lease
from taskloom.wire.worker_protocol import WORKER_LOST

GPUS = Machine(host="gpu", gpus=("Tesla T4",) * 4)


@pytest.fixture
def rig(any_house: Any, clock: Any) -> Rig:
    return Rig(any_house, clock)


def on_gpus(number: int) -> dict[str, Any]:
    return {"resources": Resources(gpus=number)}


def run(rig: Rig, name: str, worker: str = "w1", **execution: Any) -> Lease:
    task = rig.enqueue(name, **execution)
    lease = rig.claim(worker)
    assert lease.task.id == task
    return lease


def asked_to_give_back(rig: Rig, *leases: Lease) -> list[str]:
    return [lease.task.name for lease in leases if rig.renew(lease).give_back]


# --- preemption -------------------------------------------------------------------------------------------


def test_a_preemptible_task_makes_room_and_waits_again_at_its_place(rig: Rig) -> None:
    rig.register(slots=1)
    lease = run(rig, "cheap", preemptible=True)
    later = rig.enqueue("later")
    urgent = rig.enqueue("urgent", priority=10)
    told = rig.renew(lease)
    assert (told.stop, told.give_back) == (True, True)
    assert told.reason == f"preempted: its place is needed by 'urgent' ({urgent}) of priority 10"
    assert rig.why(urgent) == "the only slot of 1 worker is busy, 1 task is being stopped; next in line"
    back = rig.finish(lease, "aborted", requeue=True)
    assert (back.status, back.status_reason) == (Status.PENDING, told.reason)
    assert rig.finish(lease, "aborted", requeue=True).status is Status.PENDING, "the same word, the same answer"
    assert rig.order() == [urgent, lease.task.id, later]
    rig.finish(rig.claim())
    again = rig.claim()
    assert (again.task.id, again.attempt) == (lease.task.id, 2)


@pytest.mark.parametrize(
    ("running", "urgent"),
    [
        ({"preemptible": False}, {"priority": 10}),
        ({"preemptible": True, "priority": 10}, {"priority": 10}),
        ({"preemptible": True}, {"priority": 10, "resources": Resources(gpus=9)}),
    ],
    ids=["not preemptible", "no lower priority", "would not fit even then"],
)
def test_nothing_is_stopped_in_vain(rig: Rig, running: dict[str, Any], urgent: dict[str, Any]) -> None:
    rig.register(slots=1)
    lease = run(rig, "runs", **running)
    rig.enqueue("urgent", **urgent)
    rig.sweep()
    assert rig.ask() is None
    assert not rig.renew(lease).stop


def test_as_few_as_possible_go_the_lowest_priority_and_the_youngest_first(rig: Rig) -> None:
    rig.register(slots=8, machine=GPUS)
    dear = run(rig, "dear", preemptible=True, priority=5, **on_gpus(1))
    old = run(rig, "old", preemptible=True, **on_gpus(1))
    rig.clock.advance(1)
    young = run(rig, "young", preemptible=True, **on_gpus(1))
    fixed = run(rig, "fixed", **on_gpus(1))
    rig.enqueue("one more", priority=10, **on_gpus(1))
    assert asked_to_give_back(rig, dear, old, young, fixed) == ["young"]
    rig.sweep()
    assert asked_to_give_back(rig, dear, old, young, fixed) == ["young"], (
        "room is on its way: nobody else is stopped"
    )
    rig.enqueue("and two more", priority=10, **on_gpus(2))
    assert asked_to_give_back(rig, dear, old, young, fixed) == ["dear", "old", "young"]


def test_one_large_task_goes_rather_than_two_small_ones(rig: Rig) -> None:
    rig.register(slots=8, machine=GPUS)
    small = [run(rig, f"small {n}", preemptible=True, **on_gpus(1)) for n in range(2)]
    large = run(rig, "large", preemptible=True, **on_gpus(2))
    rig.enqueue("urgent", priority=1, **on_gpus(2))
    assert asked_to_give_back(rig, *small, large) == ["large"]


def test_a_free_place_elsewhere_saves_the_others(rig: Rig) -> None:
    rig.register("w1", slots=1)
    rig.register("w2", slots=1)
    lease = run(rig, "cheap", preemptible=True)
    urgent = rig.enqueue("urgent", priority=10)
    assert not rig.renew(lease).stop
    assert rig.claim("w2").task.id == urgent


def test_an_abort_wins_over_giving_back(rig: Rig) -> None:
    rig.register(slots=1)
    lease = run(rig, "cheap", preemptible=True)
    rig.enqueue("urgent", priority=10)
    assert rig.renew(lease).give_back
    rig.abort(lease.task.id, reason="not needed any more")
    told = rig.renew(lease)
    assert (told.stop, told.give_back, told.reason) == (True, False, "not needed any more")
    assert rig.finish(lease, "aborted", requeue=True).status is Status.ABORTED


def test_a_worker_that_dies_while_it_stops_a_task_gives_it_back_all_the_same(rig: Rig) -> None:
    rig.register(slots=1)
    lease = run(rig, "cheap", preemptible=True, retries=Retries(lost=0))
    rig.enqueue("urgent", priority=10)
    rig.clock.advance(LEASE + 1)
    rig.sweep()
    assert rig.get(lease.task.id).status is Status.PENDING


def test_a_task_that_ends_before_it_is_stopped_has_ended(rig: Rig) -> None:
    rig.register(slots=1)
    lease = run(rig, "cheap", preemptible=True)
    rig.enqueue("urgent", priority=10)
    assert rig.finish(lease, "completed").status is Status.COMPLETED


def test_preemptions_are_counted_for_themselves_and_can_be_limited(rig: Rig) -> None:
    rig.register(slots=1)
    rig.edit(max_attempts=1)
    lease = run(rig, "cheap", preemptible=True, retries=Retries(preempted=1))
    for again in (True, False):
        urgent = rig.enqueue("urgent", priority=10)
        back = rig.finish(lease, "aborted", requeue=True)
        assert (back.status is Status.PENDING) == again
        done = rig.claim()
        assert done.task.id == urgent
        rig.finish(done)
        lease = rig.claim() if again else lease
    ended = rig.get(lease.task.id)
    assert (ended.status, ended.status_message) == (Status.ABORTED, "it had 2 of 2 attempts")


# --- retries ----------------------------------------------------------------------------------------------


def test_a_failure_is_tried_again_after_a_growing_pause(rig: Rig) -> None:
    rig.register()
    lease = run(rig, "fails", retries=Retries(failed=2))
    later = rig.enqueue("later")
    failed = rig.finish(lease, "failed", exit_code=3)
    assert (failed.status, failed.status_reason) == (Status.PENDING, "attempt 1 of 3: exit code 3")
    assert failed.status_message == "the next one begins 2 s later"
    assert rig.order() == [lease.task.id, later], "at its place in the order"
    assert rig.why(lease.task.id) == "it pauses for 2 s after a failed attempt; next in line"
    assert rig.claim().task.id == later, "nobody waits for the pause"
    assert rig.ask() is None
    rig.clock.advance(2.5)
    second = rig.finish(rig.claim(), "failed", exit_code=4)
    assert (second.status_reason, second.attempt) == ("attempt 2 of 3: exit code 4", 2)
    rig.clock.advance(2.5)
    assert rig.ask() is None
    rig.clock.advance(2)
    third = rig.finish(rig.claim(), "failed", exit_code=5)
    assert (third.status, third.status_reason) == (Status.FAILED, "exit code 5")
    assert third.status_message == "it had 3 of 3 attempts"


def test_without_retries_a_failure_is_the_end(rig: Rig) -> None:
    rig.register()
    lease = run(rig, "fails")
    assert rig.finish(lease, "failed", exit_code=3).status is Status.FAILED


def test_the_tasks_own_word_about_lost_workers_wins_over_the_queues(rig: Rig) -> None:
    rig.edit(on_lost="fail")
    rig.register()
    lease = run(rig, "stubborn", retries=Retries(lost=1))
    rig.clock.advance(LEASE + 1)
    rig.sweep()
    waits = rig.get(lease.task.id)
    assert (waits.status, waits.status_reason) == (Status.PENDING, WORKER_LOST)
    assert waits.status_message.endswith("attempt 1 of 2")
    rig.register()
    rig.claim()
    rig.clock.advance(LEASE + 1)
    rig.sweep()
    assert rig.get(lease.task.id).status is Status.FAILED
    rig.edit(on_lost="requeue")
    rig.register()
    never = run(rig, "never", retries=Retries(lost=0))
    assert rig.finish(never, "aborted", requeue=True).status is Status.ABORTED


def test_each_cause_is_counted_for_itself(rig: Rig) -> None:
    rig.edit(max_attempts=2)
    rig.register()
    lease = run(rig, "unlucky", retries=Retries(failed=1))
    assert rig.finish(lease, "aborted", requeue=True).status is Status.PENDING
    assert rig.finish(rig.claim(), "failed", exit_code=1).status is Status.PENDING
    rig.clock.advance(3)
    ended = rig.finish(rig.claim(), "aborted", requeue=True)
    assert (ended.status, ended.attempt) == (Status.ABORTED, 3)


def test_retries_that_make_no_sense_are_refused(rig: Rig) -> None:
    for retries in (Retries(failed=-1), Retries(lost=1001), Retries(preempted=-1)):
        with pytest.raises(BadInput, match="retries"):
            rig.task(retries=retries)
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput):
            rig.task(time_limit=seconds)


def test_a_task_whose_secrets_nobody_has_is_not_enqueued(rig: Rig) -> None:
    task = rig.task(run="curl -H {{secret.TOKEN}} x", secrets=("OTHER",))
    with pytest.raises(BadInput, match="OTHER, TOKEN"):
        rig.put(task)
    assert rig.get(task).status is Status.DRAFT
    assert rig.client.call(op.LIST_QUEUES).queues[0].waiting == 0
    assert rig.client.call(op.GET_QUEUE, query=m.QueuePage(), queue="default").entries == []

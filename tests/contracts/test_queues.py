"""Queues by the calls of a client: order, claims, leases, aborts, policies, and why a task waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.contracts.queue_rig import LEASE, Rig

from taskloom.domain.errors import BadInput, Conflict, Forbidden, IllegalMove, LeaseLost, NotFound, Unauthorized
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.worker_protocol import STOPPING, WORKER_LOST


@pytest.fixture
def rig(any_house: Any, clock: Any) -> Rig:
    return Rig(any_house, clock)


# --- queues -----------------------------------------------------------------------------------------------


def test_the_default_queue_is_there_from_the_first_start_and_stays(rig: Rig) -> None:
    assert [queue.name for queue in rig.client.call(op.LIST_QUEUES).queues] == ["default"]
    with pytest.raises(Conflict, match="cannot be deleted"):
        rig.client.call(op.DELETE_QUEUE, queue="default")
    with pytest.raises(Conflict, match="keeps its name"):
        rig.client.call(op.EDIT_QUEUE, m.QueueEdit(name="other"), queue="default")


def test_queues_are_made_edited_and_deleted(rig: Rig) -> None:
    made = rig.client.call(op.CREATE_QUEUE, m.QueueCreate(name="gpu", on_lost="fail", max_attempts=2))
    assert (made.on_lost, made.max_attempts, made.paused) == ("fail", 2, False)
    with pytest.raises(Conflict, match="already"):
        rig.client.call(op.CREATE_QUEUE, m.QueueCreate(name="gpu"))
    edited = rig.client.call(op.EDIT_QUEUE, m.QueueEdit(name="big gpu", paused=True), queue=made.id)
    assert (edited.name, edited.paused, edited.max_attempts) == ("big gpu", True, 2)
    rig.enqueue(queue="big gpu")
    with pytest.raises(Conflict, match="1 waiting"):
        rig.client.call(op.DELETE_QUEUE, queue="big gpu")
    rig.client.call(op.CREATE_QUEUE, m.QueueCreate(name="empty"))
    rig.client.call(op.DELETE_QUEUE, queue="empty")
    with pytest.raises(NotFound, match="empty"):
        rig.client.call(op.GET_QUEUE, queue="empty")


@pytest.mark.parametrize(
    "wanted",
    [
        m.QueueCreate(name=""),
        m.QueueCreate(name="a\nb"),
        m.QueueCreate(name="x" * 257),
        m.QueueCreate(name="fine", max_attempts=0),
    ],
)
def test_a_queue_that_makes_no_sense_is_refused(rig: Rig, wanted: m.QueueCreate) -> None:
    with pytest.raises(BadInput):
        rig.client.call(op.CREATE_QUEUE, wanted)


def test_tasks_run_in_the_order_they_came_unless_somebody_moves_them(rig: Rig) -> None:
    first, second, third = (rig.enqueue(f"task {n}") for n in range(3))
    assert rig.order() == [first, second, third]
    move = m.EntryMove(task=third, position=1)
    moved = rig.client.call(op.MOVE_ENTRY, move, queue="default")
    assert [(e.task, e.position) for e in moved.entries] == [(third, 1), (first, 2), (second, 3)]
    rig.client.call(op.MOVE_ENTRY, m.EntryMove(task=third, position=-1), queue="default")
    assert rig.order() == [first, second, third]
    rig.client.call(op.MOVE_ENTRY, m.EntryMove(task=first, position=2), queue="default")
    assert rig.order() == [second, first, third]
    with pytest.raises(NotFound):
        rig.client.call(op.MOVE_ENTRY, m.EntryMove(task="0" * 32, position=1), queue="default")
    with pytest.raises(BadInput):
        rig.client.call(op.MOVE_ENTRY, m.EntryMove(task=first, position=0), queue="default")
    rig.register()
    assert [rig.claim().task.id for _ in range(3)] == [second, first, third]
    assert rig.ask() is None


def test_enqueue_makes_a_draft_pending_and_dequeue_takes_it_back(rig: Rig) -> None:
    task = rig.task()
    pending = rig.client.call(op.ENQUEUE_TASK, m.Enqueue(), task=task)
    assert (pending.status, pending.queue_name) == (Status.PENDING, "default")
    with pytest.raises(IllegalMove) as refused:
        rig.client.call(op.ENQUEUE_TASK, m.Enqueue(), task=task)
    assert refused.value.details["status"] == "pending"
    draft = rig.client.call(op.DEQUEUE_TASK, m.MoveRequest(), task=task)
    assert draft.status is Status.DRAFT
    assert rig.order() == []
    with pytest.raises(NotFound, match="nowhere"):
        rig.client.call(op.ENQUEUE_TASK, m.Enqueue(queue="nowhere"), task=task)
    assert rig.get(task).status is Status.DRAFT


# --- claims -----------------------------------------------------------------------------------------------


def test_a_claim_gives_the_whole_task_under_a_fresh_lease(rig: Rig) -> None:
    task = rig.enqueue()
    rig.register()
    lease = rig.claim()
    assert lease.task.id == task
    assert lease.task.execution.command == ("true",)
    assert (lease.task.status, lease.attempt, lease.queue, lease.seconds) == (Status.RUNNING, 1, "default", LEASE)
    assert lease.task.worker == "w1"
    assert rig.ask() is None
    assert rig.client.call(op.LIST_QUEUES).queues[0].running == 1
    assert [w.tasks for w in rig.client.call(op.LIST_WORKERS).workers] == [(task,)]


def test_queues_are_looked_at_in_the_order_given_and_paused_ones_not(rig: Rig) -> None:
    low, high = rig.enqueue(queue="low"), rig.enqueue(queue="high")
    other = rig.enqueue(queue="paused")
    rig.client.call(op.EDIT_QUEUE, m.QueueEdit(paused=True), queue="paused")
    rig.register(queues=("paused", "high", "low"))
    asked = ("paused", "high", "low")
    assert rig.claim(queues=asked).task.id == high
    assert rig.claim(queues=asked).task.id == low
    assert rig.ask(queues=asked) is None
    rig.client.call(op.EDIT_QUEUE, m.QueueEdit(paused=False), queue="paused")
    assert rig.claim(queues=asked).task.id == other


def test_a_waiting_claim_is_woken_by_an_enqueue(rig: Rig) -> None:
    rig.register()
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(rig.ask, wait=25.0)
        task = rig.enqueue()
        lease = asking.result(20)
    assert lease is not None
    assert lease.task.id == task


def test_many_claims_at_once_get_every_task_once(rig: Rig) -> None:
    tasks = {rig.enqueue(f"task {n}") for n in range(60)}
    for n in range(6):
        rig.register(f"w{n}")
    start = threading.Barrier(6)

    def drain(n: int) -> list[str]:
        start.wait()
        got: list[str] = []
        while (lease := rig.ask(f"w{n}")) is not None:
            got.append(lease.task.id)
            rig.finish(lease)
        return got

    with ThreadPoolExecutor(6) as pool:
        claimed = [task for got in pool.map(drain, range(6)) for task in got]
    assert len(claimed) == len(set(claimed)) == 60
    assert set(claimed) == tasks
    assert {rig.get(task).attempt for task in tasks} == {1}


def test_an_unknown_or_draining_worker_gets_nothing(rig: Rig) -> None:
    rig.enqueue()
    with pytest.raises(NotFound, match="register"):
        rig.ask("stranger")
    rig.register()
    assert rig.client.call(op.DRAIN_WORKER, m.WorkerDrain(), worker="w1").draining
    assert rig.ask() is None
    rig.client.call(op.DRAIN_WORKER, m.WorkerDrain(drain=False), worker="w1")
    assert rig.ask() is not None
    rig.client.call(op.UNREGISTER_WORKER, worker="w1")
    with pytest.raises(NotFound):
        rig.client.call(op.UNREGISTER_WORKER, worker="w1")


@pytest.mark.parametrize("lease", [0.0, 1.9, 3601.0, float("nan")])
def test_a_lease_beyond_its_bounds_is_refused(rig: Rig, lease: float) -> None:
    rig.register()
    with pytest.raises(BadInput, match="lease"):
        rig.client.call(op.CLAIM_TASK, m.Claim(worker="w1", queues=("default",), lease=lease))


def test_the_key_of_a_lease_lives_with_it_and_is_no_workers_key(rig: Rig) -> None:
    task = rig.enqueue()
    rig.register()
    lease = rig.claim()
    child = rig.house.client_of(lease.key)
    assert child.call(op.GET_TASK, task=task).id == task
    with pytest.raises(Forbidden):
        child.call(op.CLAIM_TASK, m.Claim(worker="w1", queues=("default",)))
    with pytest.raises(Forbidden):
        child.call(op.LIST_KEYS)
    rig.finish(lease)
    rig.clock.advance(2)
    with pytest.raises(Unauthorized):
        child.call(op.GET_TASK, task=task)


# --- leases -----------------------------------------------------------------------------------------------


def test_a_task_waits_again_in_front_when_its_worker_falls_silent(rig: Rig) -> None:
    task = rig.enqueue()
    later = rig.enqueue("later")
    rig.register()
    lease = rig.claim()
    rig.clock.advance(LEASE + 1)
    rig.sweep()
    found = rig.get(task)
    assert (found.status, found.status_reason, found.attempt) == (Status.PENDING, WORKER_LOST, 1)
    entries = rig.client.call(op.GET_QUEUE, queue="default").entries
    assert [(e.task, e.attempts) for e in entries] == [(task, 1), (later, 0)]
    for late in (lambda: rig.renew(lease), lambda: rig.finish(lease)):
        with pytest.raises(LeaseLost):
            late()
    again = rig.claim()
    assert (again.task.id, again.attempt) == (task, 2)
    assert again.token != lease.token
    assert rig.finish(again).status is Status.COMPLETED


def test_renewals_keep_a_lease_for_ever(rig: Rig) -> None:
    task = rig.enqueue()
    rig.register()
    lease = rig.claim()
    for _ in range(5):
        rig.clock.advance(LEASE - 1)
        rig.sweep()
        assert not rig.renew(lease).stop
    assert rig.get(task).status is Status.RUNNING


def test_attempts_are_bounded_and_a_new_enqueue_counts_anew(rig: Rig) -> None:
    rig.client.call(op.CREATE_QUEUE, m.QueueCreate(name="two", max_attempts=2))
    task = rig.enqueue(queue="two")
    rig.register(queues=("two",))
    for _ in range(2):
        rig.claim(queues=("two",))
        rig.clock.advance(LEASE + 1)
        rig.sweep()
    failed = rig.get(task)
    assert (failed.status, failed.status_reason, failed.attempt) == (Status.FAILED, WORKER_LOST, 2)
    assert "2 of 2" in failed.status_message
    rig.client.call(op.ENQUEUE_TASK, m.Enqueue(queue="two"), task=task)
    assert rig.finish(rig.claim(queues=("two",))).status is Status.COMPLETED


def test_a_queue_that_fails_lost_tasks_does_so_at_once(rig: Rig) -> None:
    rig.client.call(op.CREATE_QUEUE, m.QueueCreate(name="once", on_lost="fail"))
    task = rig.enqueue(queue="once")
    rig.register(queues=("once",))
    rig.claim(queues=("once",))
    rig.clock.advance(LEASE + 1)
    rig.sweep()
    assert rig.get(task).status is Status.FAILED


def test_the_sweeper_works_by_itself(rig: Rig, eventually: Callable[..., None]) -> None:
    task = rig.enqueue()
    rig.register()
    rig.claim()
    rig.clock.advance(LEASE + 1)
    eventually(lambda: rig.get(task).status is Status.PENDING)


def test_finish_is_answered_again_and_another_word_is_refused(rig: Rig) -> None:
    task = rig.enqueue()
    rig.register()
    lease = rig.claim()
    ended = rig.finish(lease, "failed", exit_code=3)
    assert (ended.status, ended.status_reason) == (Status.FAILED, "exit code 3")
    assert rig.finish(lease, "failed", exit_code=3).status is Status.FAILED
    with pytest.raises(LeaseLost):
        rig.finish(lease, "completed")
    with pytest.raises(LeaseLost):
        rig.client.call(op.FINISH_LEASE, m.Finish(outcome="failed"), token="x" * 43)
    assert rig.get(task).status is Status.FAILED


def test_a_task_given_back_waits_again_as_far_as_the_policy_allows(rig: Rig) -> None:
    task = rig.enqueue()
    rig.register()
    lease = rig.claim()
    back = rig.finish(lease, "aborted", requeue=True, reason="the worker was stopped")
    assert (back.status, back.status_reason) == (Status.PENDING, "the worker was stopped")
    assert rig.finish(lease, "aborted", requeue=True).status is Status.PENDING
    rig.client.call(op.EDIT_QUEUE, m.QueueEdit(on_lost="fail"), queue="default")
    assert rig.finish(rig.claim(), "aborted", requeue=True).status is Status.ABORTED
    assert rig.order() == []
    assert rig.get(task).attempt == 2


def test_a_server_that_was_away_longer_than_the_lease_costs_no_run(rig: Rig) -> None:
    task = rig.enqueue()
    rig.register()
    lease = rig.claim()
    rig.house.stop()
    rig.clock.advance(10 * LEASE)
    rig.house.start()
    rig.sweep()
    assert rig.get(task).status is Status.RUNNING
    assert rig.finish(lease).status is Status.COMPLETED


def test_a_reset_takes_the_task_from_its_worker(rig: Rig) -> None:
    task = rig.enqueue()
    rig.register()
    lease = rig.claim()
    rig.client.call(op.RESET_TASK, m.MoveRequest(force=True), task=task)
    with pytest.raises(LeaseLost):
        rig.renew(lease)
    rig.client.call(op.ENQUEUE_TASK, m.Enqueue(), task=task)
    again = rig.claim()
    rig.clock.advance(LEASE - 1)
    rig.renew(again)
    rig.clock.advance(2)
    rig.sweep()  # the first lease runs out; the second attempt goes on
    assert rig.get(task).status is Status.RUNNING
    with pytest.raises(LeaseLost):
        rig.finish(lease)
    assert rig.finish(again).status is Status.COMPLETED


# --- aborts -----------------------------------------------------------------------------------------------


def test_an_aborted_pending_task_never_runs(rig: Rig) -> None:
    task = rig.enqueue()
    assert rig.abort(task, reason="not needed").status is Status.ABORTED
    rig.register()
    assert rig.ask() is None
    assert rig.get(task).status_reason == "not needed"


def test_an_abort_of_a_running_task_is_told_with_the_next_renewal(rig: Rig) -> None:
    task = rig.enqueue()
    rig.register()
    lease = rig.claim()
    marked = rig.abort(task, reason="wrong data")
    assert (marked.status, marked.status_message) == (Status.RUNNING, STOPPING)
    assert rig.abort(task).status is Status.RUNNING
    renewed = rig.renew(lease)
    assert (renewed.stop, renewed.reason) == (True, "wrong data")
    ended = rig.finish(lease, "aborted")
    assert (ended.status, ended.status_reason, ended.status_message) == (Status.ABORTED, "wrong data", "")
    with pytest.raises(IllegalMove):
        rig.abort(task)


def test_an_aborted_task_is_aborted_even_when_its_worker_falls_silent(rig: Rig) -> None:
    task = rig.enqueue()
    rig.register()
    rig.claim()
    rig.abort(task)
    rig.clock.advance(LEASE + 1)
    rig.sweep()
    assert rig.get(task).status is Status.ABORTED
    assert rig.order() == []


def test_an_aborted_task_that_is_given_back_does_not_wait_again(rig: Rig) -> None:
    task = rig.enqueue()
    rig.register()
    lease = rig.claim()
    rig.abort(task)
    assert rig.finish(lease, "aborted", requeue=True).status is Status.ABORTED
    assert rig.order() == []


def test_a_task_that_runs_without_a_worker_is_aborted_at_once(rig: Rig) -> None:
    task = rig.task()
    rig.client.call(op.START_TASK, m.MoveRequest(), task=task)
    assert rig.abort(task).status is Status.ABORTED


def test_what_ended_cannot_be_aborted(rig: Rig) -> None:
    task = rig.enqueue()
    rig.register()
    rig.finish(rig.claim())
    with pytest.raises(IllegalMove):
        rig.abort(task)
    with pytest.raises(IllegalMove):
        rig.abort(rig.task())


# --- why a task waits -------------------------------------------------------------------------------------


def test_why_a_task_waits_is_told(rig: Rig) -> None:
    first, second, third = (rig.enqueue(f"task {n}") for n in range(3))
    told = rig.waiting(second)
    assert (told.queue, told.position, told.ahead) == ("default", 2, 1)
    assert told.reason == "no worker serves queue default; 1 task is ahead"
    rig.register("w1", slots=1)
    assert rig.waiting(first).reason == "next in line; 1 slot is free"
    assert rig.waiting(third).reason == "2 tasks are ahead; 1 slot is free"
    rig.claim("w1")
    assert rig.waiting(third).reason == "the only slot of 1 worker is busy; 1 task is ahead"
    rig.register("w2", slots=2)
    told = rig.waiting(third)
    assert (told.workers, told.free_slots, told.ahead) == (2, 2, 1)
    rig.client.call(op.DRAIN_WORKER, m.WorkerDrain(), worker="w2")
    assert rig.waiting(second).reason == "the only slot of 1 worker is busy; next in line"
    rig.client.call(op.DRAIN_WORKER, m.WorkerDrain(), worker="w1")
    assert "draining" in rig.waiting(second).reason
    rig.clock.advance(10 * LEASE)
    assert "fell silent" in rig.waiting(second).reason
    rig.client.call(op.EDIT_QUEUE, m.QueueEdit(paused=True), queue="default")
    assert rig.waiting(second).reason == "queue default is paused; next in line"
    with pytest.raises(Conflict, match="running"):
        rig.waiting(first)

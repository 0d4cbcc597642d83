"""The states of a task as ClearML's clients change them: every move from every state, with and without force."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.conftest import Clock, House
from tests.journals import Run
from tests.unit.server.compat.wire import ClearMLWire, Refused

from taskloom.domain.queue import Machine
from taskloom.domain.status import Status
from taskloom.wire.messages import Claim, Enqueue, Finish, Lease, QueueCreate, WorkerRegister
from taskloom.wire.operations import (
    CLAIM_TASK,
    CREATE_QUEUE,
    ENQUEUE_TASK,
    FINISH_LEASE,
    GET_QUEUE,
    GET_TASK,
    REGISTER_WORKER,
)
from taskloom.wire.records import EndStatus

STATES = ("created", "queued", "in_progress", "stopped", "failed", "completed", "published")
WAYS: dict[str, tuple[str, ...]] = {
    "created": (),
    "queued": ("enqueue",),
    "in_progress": ("started",),
    "stopped": ("started", "stopped"),
    "failed": ("started", "failed"),
    "completed": ("started", "completed"),
    "published": ("started", "completed", "publish"),
}
LEADS_TO = {
    "started": "in_progress",
    "stopped": "stopped",
    "failed": "failed",
    "completed": "completed",
    "publish": "published",
    "stop": "stopped",
    "close": "completed",
    "reset": "created",
    "enqueue": "queued",
    "dequeue": "created",
}
ALLOWED: dict[str, set[str]] = {
    "started": {"created", "queued", "stopped", "completed"},
    "stopped": {"queued", "in_progress", "failed"},
    "stop": {"queued", "in_progress", "failed"},
    "failed": {"in_progress", "stopped"},
    "completed": {"in_progress", "stopped"},
    "close": {"in_progress", "stopped"},
    "publish": {"stopped", "failed", "completed"},
    "reset": {"created", "queued", "in_progress", "stopped", "failed", "completed"},
    "enqueue": {"created", "stopped", "failed"},
    "dequeue": {"queued"},
}
AGAIN_IS_REFUSED = {("enqueue", "queued"): 706, ("dequeue", "created"): 703}
BY_FORCE = ("started", "stopped", "stop", "failed", "completed", "close", "publish")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = House(tmp_path_factory.mktemp("lives") / "house", Clock())
    yield running
    running.stop()


@pytest.fixture(scope="module")
def wire(house: House) -> ClearMLWire:
    return ClearMLWire(house)


def make(wire: ClearMLWire, status: str = "created", **fields: object) -> str:
    task: str = wire.call("tasks.create", **{"name": "some task", "type": "training", **fields})["id"]
    for step in WAYS[status]:
        wire.call(f"tasks.{step}", task=task)
    assert status_of(wire, task) == status
    return task


def status_of(wire: ClearMLWire, task: str) -> str:
    return wire.call("tasks.get_by_id", task=task)["task"]["status"]


def refusal(work: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(Refused) as refused:
        work()
    return refused.value.code, refused.value.subcode


@pytest.mark.parametrize("status", STATES)
@pytest.mark.parametrize("move", LEADS_TO)
def test_a_move_without_force_is_what_clearml_allows(wire: ClearMLWire, move: str, status: str) -> None:
    task = make(wire, status)
    target = LEADS_TO[move]
    there_already = status == target and (move, status) not in AGAIN_IS_REFUSED
    if status in ALLOWED[move] or there_already:
        told = wire.call(f"tasks.{move}", task=task)
        assert told["updated"] == 1
        assert told["fields"]["status"] == target
        assert status_of(wire, task) == target
    else:
        subcode = AGAIN_IS_REFUSED.get((move, status), 703 if move == "dequeue" else 110)
        assert refusal(lambda: wire.call(f"tasks.{move}", task=task)) == (400, subcode)
        assert status_of(wire, task) == status


@pytest.mark.parametrize("status", STATES)
@pytest.mark.parametrize("move", BY_FORCE)
def test_by_force_every_state_is_reached_but_from_published(wire: ClearMLWire, move: str, status: str) -> None:
    task = make(wire, status)
    target = LEADS_TO[move]
    if status == "published" and target != "published":
        assert refusal(lambda: wire.call(f"tasks.{move}", task=task, force=True)) == (400, 110)
    else:
        assert wire.call(f"tasks.{move}", task=task, force=True)["fields"]["status"] == target
        assert status_of(wire, task) == target
        assert wire.call("tasks.get_by_id", task=task)["task"]["execution"]["queue"] is None or status == "queued"


@pytest.mark.parametrize("move", ["started", "stopped", "failed", "completed"])
def test_the_same_word_again_changes_nothing_but_the_words(wire: ClearMLWire, move: str) -> None:
    task = make(wire, "in_progress")
    wire.call(f"tasks.{move}", task=task, status_reason="first", status_message="one")
    once = wire.call("tasks.get_by_id", task=task)["task"]
    wire.call(f"tasks.{move}", task=task)
    again = wire.call("tasks.get_by_id", task=task)["task"]
    for field in ("status", "started", "completed", "status_changed", "status_reason", "status_message"):
        assert again[field] == once[field]
    wire.call(f"tasks.{move}", task=task, status_reason="second")
    assert wire.call("tasks.get_by_id", task=task)["task"]["status_reason"] == "second"


@pytest.mark.parametrize(
    "call", ["started", "stopped", "completed", "failed", "get_by_id", "edit", "ping", "reset"]
)
def test_an_unknown_task_is_told_by_its_number(wire: ClearMLWire, call: str) -> None:
    for task in ("f" * 32, "no id", "ABC"):
        assert refusal(lambda task=task: wire.call(f"tasks.{call}", task=task)) == (400, 101)


def test_reasons_and_messages_are_kept(wire: ClearMLWire, house: House) -> None:
    task = make(wire, "in_progress")
    wire.call("tasks.failed", task=task, status_reason="exit code 3", status_message="Traceback")
    found = house.client.call(GET_TASK, task=task)
    assert (found.status, found.status_reason, found.status_message) == (Status.FAILED, "exit code 3", "Traceback")
    assert found.completed >= found.started > 0


def test_completed_may_publish_with_its_models(wire: ClearMLWire) -> None:
    task = make(wire, "in_progress")
    told = wire.call("tasks.completed", task=task, publish=True)
    assert told["published"] == 1
    assert status_of(wire, task) == "published"


# --- queues -----------------------------------------------------------------------------------------------


def test_a_queued_task_loses_the_tag_of_scripts_that_are_run_by_hand(wire: ClearMLWire, house: House) -> None:
    task = make(wire, "in_progress", system_tags=["development", "other"])
    wire.call("tasks.stopped", task=task)
    wire.call("tasks.enqueue", task=task)
    assert house.client.call(GET_TASK, task=task).system_tags == ("other",)


def test_queues_are_named_by_id_or_name_and_made_by_name(wire: ClearMLWire, house: House) -> None:
    known = house.client.call(CREATE_QUEUE, QueueCreate(name="known")).id
    first = make(wire)
    told = wire.call("tasks.enqueue", task=first, queue=known)
    assert told["queued"] == 1
    assert told["fields"]["execution.queue"] == known
    second = make(wire)
    wire.call("tasks.enqueue", task=second, queue_name="quite new", status_reason="why not")
    queue = house.client.call(GET_QUEUE, queue="quite new")
    assert [entry.task for entry in queue.entries] == [second]
    assert refusal(lambda: wire.call("tasks.enqueue", task=make(wire), queue="0" * 32)) == (400, 701)


def test_who_asks_learns_whether_anybody_watches_the_queue(wire: ClearMLWire, house: House) -> None:
    house.client.call(CREATE_QUEUE, QueueCreate(name="watched"))
    house.client.call(CREATE_QUEUE, QueueCreate(name="lonely"))
    worker(house, "watcher", "watched")
    for name, watched in (("watched", True), ("lonely", False)):
        told = wire.call("tasks.enqueue", task=make(wire), queue_name=name, verify_watched_queue=True)
        assert told["queue_watched"] is watched
    many = wire.call("tasks.enqueue_many", ids=[make(wire)], queue_name="watched", verify_watched_queue=True)
    assert many["queue_watched"] is True


def test_who_leaves_a_queue_may_name_the_state(wire: ClearMLWire) -> None:
    for target in ("created", "in_progress", "stopped"):
        task = make(wire, "queued")
        told = wire.call("tasks.dequeue", task=task, new_status=target)
        assert told["dequeued"] == 1
        assert status_of(wire, task) == target
    task = make(wire, "queued")
    assert refusal(lambda: wire.call("tasks.dequeue", task=task, new_status="published")) == (400, 12)


def test_resetting_tells_what_left_the_queue_and_what_was_deleted(wire: ClearMLWire) -> None:
    task = make(wire, "queued")
    assert wire.call("tasks.reset", task=task)["dequeued"] == {"removed": 1}
    task = make(wire, "completed", script={"entry_point": "a.py"}, hyperparams={"Args": {"a": {"value": "1"}}})
    told = wire.call("tasks.reset", task=task, clear_all=True, return_file_urls=True)
    assert told["dequeued"] == {}
    assert told["deleted_models"] == 0
    assert told["urls"] == {"artifact_urls": [], "model_urls": [], "event_urls": []}
    found = wire.call("tasks.get_by_id", task=task)["task"]
    assert found["script"]["entry_point"] == ""
    assert found["hyperparams"]["Args"]["a"]["value"] == "1"
    assert found["started"] is None


# --- leases -----------------------------------------------------------------------------------------------


def worker(house: House, name: str, queue: str) -> None:
    wanted = WorkerRegister(
        id=name, name=name, queues=(queue,), slots=1, machine=Machine(), version="1", create_queues=True
    )
    house.client.call(REGISTER_WORKER, wanted)


def claimed(wire: ClearMLWire, house: House, queue: str) -> tuple[str, Lease]:
    """A task under the lease of a worker of ours."""
    worker(house, f"worker-of-{queue}", queue)
    task = make(wire)
    house.client.call(ENQUEUE_TASK, Enqueue(queue=queue), task=task)
    lease = house.client.call(CLAIM_TASK, Claim(worker=f"worker-of-{queue}", queues=(queue,), wait=0)).lease
    assert lease is not None
    assert lease.task.id == task
    return task, lease


@pytest.mark.parametrize(
    ("move", "outcome", "status"), [("completed", "completed", "completed"), ("failed", "failed", "failed")]
)
def test_a_task_under_our_workers_lease_is_ended_by_the_worker_with_the_scripts_words(
    wire: ClearMLWire, house: House, move: str, outcome: EndStatus, status: str
) -> None:
    task, lease = claimed(wire, house, f"for {move}")
    script = ClearMLWire(house, lease.key)
    assert script.call("tasks.started", task=task)["fields"]["status"] == "in_progress"
    told = script.call(f"tasks.{move}", task=task, status_reason="the script says", status_message="its words")
    assert told["fields"]["status"] == "in_progress"
    house.client.call(FINISH_LEASE, Finish(outcome=outcome), token=lease.token)
    found = house.client.call(GET_TASK, task=task)
    assert found.status.value == status
    assert (found.status_reason, found.status_message) == ("the script says", "its words")


def test_who_fails_the_task_of_a_worker_from_outside_stops_it(wire: ClearMLWire, house: House) -> None:
    task, lease = claimed(wire, house, "to fail")
    told = wire.call("tasks.failed", task=task, status_reason="a person says")
    assert (told["fields"]["status"], told["fields"]["status_message"]) == ("in_progress", "stopping")
    house.client.call(FINISH_LEASE, Finish(outcome="aborted"), token=lease.token)
    found = house.client.call(GET_TASK, task=task)
    assert (found.status, found.status_reason) == (Status.FAILED, "a person says")


def test_stop_asks_the_worker_and_the_script_sees_it(wire: ClearMLWire, house: House) -> None:
    task, _ = claimed(wire, house, "to stop")
    told = wire.call("tasks.stop", task=task, status_reason="abort request")
    assert told["fields"]["status"] == "in_progress"
    assert told["fields"]["status_message"] == "stopping"
    assert wire.call("tasks.stopped", task=task, status_message="gone")["fields"]["status_message"] == "stopping"
    assert refusal(lambda: wire.call("tasks.publish", task=task, force=True)) == (400, 110)


def test_stop_of_a_script_that_a_person_runs_aborts_it_at_once(wire: ClearMLWire) -> None:
    task = make(wire, "in_progress", system_tags=["development"])
    assert wire.call("tasks.stop", task=task)["fields"]["status"] == "stopped"


def test_a_task_of_our_own_sdk_is_seen_in_clearmls_states(wire: ClearMLWire, house: House) -> None:
    run = Run(house.client).open().scalar(3, 0.5)
    run.ship()
    assert status_of(wire, run.task) == "in_progress"
    run.end("completed", "done").ship()
    found = wire.call("tasks.get_by_id", task=run.task)["task"]
    assert (found["status"], found["status_reason"], found["last_iteration"]) == ("completed", "done", 3)


# --- pings and many ---------------------------------------------------------------------------------------


def test_a_ping_says_that_a_running_task_lives(wire: ClearMLWire, house: House) -> None:
    task, ended = make(wire, "in_progress"), make(wire, "completed")
    before, ended_before = (house.client.call(GET_TASK, task=i).last_update for i in (task, ended))
    house.clock.advance(5)
    assert wire.call("tasks.ping", task=task) == {}
    assert wire.call("tasks.ping", task=ended) == {}
    assert house.client.call(GET_TASK, task=task).last_update >= before + 5
    assert house.client.call(GET_TASK, task=ended).last_update == ended_before


@pytest.mark.parametrize(
    ("call", "status", "field"),
    [
        ("enqueue_many", "created", "queued"),
        ("dequeue_many", "queued", "dequeued"),
        ("archive_many", "completed", "archived"),
        ("unarchive_many", "completed", "unarchived"),
        ("delete_many", "created", "deleted"),
        ("reset_many", "completed", "updated"),
        ("stop_many", "in_progress", "updated"),
        ("publish_many", "completed", "updated"),
    ],
)
def test_many_tell_who_succeeded_and_who_did_not(wire: ClearMLWire, call: str, status: str, field: str) -> None:
    good, other = make(wire, status), make(wire, "published")
    told = wire.call(f"tasks.{call}", ids=[good, other, "f" * 32, "odd"])
    succeeded = {one["id"]: one for one in told["succeeded"]}
    failed = {one["id"]: one["error"] for one in told["failed"]}
    assert succeeded[good][field]
    assert failed["f" * 32]["codes"] == [400, 101]
    assert failed["odd"]["codes"] == [400, 101]
    published_is_fine = {"archive_many", "unarchive_many", "publish_many"}
    assert (other in succeeded) == (call in published_is_fine)

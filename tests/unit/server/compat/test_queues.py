"""ClearML's queues over the wire: found, edited, filled, pulled from; the same queues as our own calls tell."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from tests.conftest import House
from tests.unit.server.compat.wire import ClearMLWire, Refused

from taskloom.domain.execution import Execution
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op


class Rig:
    def __init__(self, house: House) -> None:
        self.house, self.wire = house, ClearMLWire(house)

    def queue(self, name: str = "gpu", **more: Any) -> str:
        return self.wire.call("queues.create", name=name, **more)["id"]

    def task(self, name: str = "a task") -> str:
        create = m.TaskCreate(name=name, project="queue tests", execution=Execution(command=("true",)))
        return self.house.client.call(op.CREATE_TASK, create).id

    def enqueued(self, queue: str, *names: str) -> list[str]:
        tasks = [self.task(name) for name in names]
        for task in tasks:
            self.wire.call("queues.add_task", queue=queue, task=task)
        return tasks

    def entries(self, queue: str) -> list[str]:
        return [entry["task"] for entry in self.wire.call("queues.get_by_id", queue=queue)["queue"]["entries"]]

    def status(self, task: str) -> Status:
        return self.house.client.call(op.GET_TASK, task=task).status

    def names(self, **fields: Any) -> list[str]:
        return [queue["name"] for queue in self.wire.call("queues.get_all", **fields)["queues"]]


@pytest.fixture
def rig(house: House) -> Rig:
    return Rig(house)


def refused(rig: Rig, call: str, **fields: Any) -> tuple[int, int]:
    with pytest.raises(Refused) as told:
        rig.wire.call(call, **fields)
    return told.value.code, told.value.subcode


def test_a_queue_is_made_and_is_the_same_in_our_own_calls(rig: Rig) -> None:
    queue = rig.queue("a queue / with words", tags=["fast"])
    ours = rig.house.client.call(op.GET_QUEUE, queue="a queue / with words").queue
    assert (ours.id, ours.tags) == (queue, ("fast",))
    told = rig.wire.call("queues.get_by_id", queue=queue)["queue"]
    assert (told["name"], told["tags"], told["entries"]) == ("a queue / with words", ["fast"], [])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", told["created"])
    assert refused(rig, "queues.create", name="a queue / with words") == (400, 801)
    assert refused(rig, "queues.create") == (400, 11)
    assert refused(rig, "queues.create", name="a\nline") == (400, 12)


def test_the_default_queue_is_told_and_bears_its_tag(rig: Rig) -> None:
    default = rig.wire.call("queues.get_default")
    assert default["name"] == "default"
    assert rig.names(system_tags=["default"]) == ["default"]
    assert refused(rig, "queues.delete", queue=default["id"], force=True) == (400, 704)


def test_queues_are_found_by_pattern_id_and_tags(rig: Rig) -> None:
    ids = {
        name: rig.queue(name, tags=tags) for name, tags in (("gpu 1", ["a"]), ("gpu.2", ["a", "b"]), ("cpu", []))
    }
    assert rig.names(name="^gpu") == ["gpu 1", "gpu.2"]
    assert rig.names(name="^gpu\\.2$") == ["gpu.2"]
    assert rig.names(name=re.escape("gpu 1")) == ["gpu 1"]
    assert rig.names(id=[ids["cpu"], "f" * 32]) == ["cpu"]
    assert rig.names(tags=["a", "-b"]) == ["gpu 1"]
    assert rig.names(order_by=["-name"]) == ["gpu.2", "gpu 1", "default", "cpu"]
    assert rig.names(order_by=["-name"], page=1, page_size=3) == ["cpu"]
    only = rig.wire.call("queues.get_all", name="^cpu$", only_fields=["name"])["queues"]
    assert only == [{"id": ids["cpu"], "name": "cpu"}]
    assert refused(rig, "queues.get_all", name="(") == (400, 12)
    assert refused(rig, "queues.get_by_id", queue="cpu") == (400, 701)


def test_a_scroll_over_queues_ends(rig: Rig) -> None:
    for number in range(5):
        rig.queue(f"q{number}")
    seen: list[str] = []
    scroll: str | None = None
    while True:
        page = rig.wire.call("queues.get_all", size=2, scroll_id=scroll)
        if not page["queues"]:
            break
        seen += [queue["name"] for queue in page["queues"]]
        scroll = page["scroll_id"]
    assert seen == ["default", "q0", "q1", "q2", "q3", "q4"]
    assert refused(rig, "queues.get_all", scroll_id="nonsense") == (400, 1104)


def test_a_queue_is_renamed_tagged_and_deleted(rig: Rig) -> None:
    queue = rig.queue()
    assert rig.wire.call("queues.update", queue=queue, name="big", tags=["x"]) == {
        "updated": 1,
        "fields": {"name": "big", "tags": ["x"]},
    }
    assert rig.wire.call("queues.update", queue=queue, tags=[])["fields"] == {"tags": []}
    assert refused(rig, "queues.update", queue=queue, name="default") == (400, 801)
    (task,) = rig.enqueued(queue, "waits")
    assert refused(rig, "queues.delete", queue=queue) == (400, 704)
    assert rig.wire.call("queues.delete", queue=queue, force=True) == {"deleted": 1}
    assert rig.status(task) is Status.DRAFT
    assert refused(rig, "queues.delete", queue=queue) == (400, 701)


def test_entries_are_added_moved_and_removed(rig: Rig) -> None:
    queue = rig.queue()
    a, b, c = rig.enqueued(queue, "aaa", "bbb", "ccc")
    assert rig.status(a) is Status.PENDING
    assert rig.wire.call("queues.get_num_entries", queue=queue) == {"num": 3}
    assert rig.wire.call("queues.peek_task", queue=queue) == {"task": a}
    assert rig.wire.call("queues.move_task_to_back", queue=queue, task=a) == {"position": 2}
    assert rig.wire.call("queues.move_task_forward", queue=queue, task=a) == {"position": 1}
    assert rig.wire.call("queues.move_task_forward", queue=queue, task=c, count=99) == {"position": 0}
    assert rig.wire.call("queues.move_task_backward", queue=queue, task=c, count=99) == {"position": 2}
    assert rig.wire.call("queues.move_task_to_front", queue=queue, task=c) == {"position": 0}
    assert rig.entries(queue) == [c, b, a]
    assert refused(rig, "queues.add_task", queue=queue, task=a) == (400, 706)
    assert rig.wire.call("queues.remove_task", queue=queue, task=b) == {"removed": 1}
    assert rig.status(b) is Status.DRAFT
    assert refused(rig, "queues.remove_task", queue=queue, task=b) == (400, 703)
    assert refused(rig, "queues.move_task_to_front", queue=queue, task=b) == (400, 703)
    assert refused(rig, "queues.add_task", queue=queue, task="f" * 32) == (400, 101)
    assert rig.wire.call("queues.clear_queue", queue=queue) == {"removed_tasks": [c, a]}
    assert rig.wire.call("queues.peek_task", queue=queue) == {}


def test_the_extended_list_names_what_waits_and_who_serves(rig: Rig) -> None:
    queue = rig.queue()
    rig.wire.call("workers.register", worker="host:0", queues=[queue])
    (task,) = rig.enqueued(queue, "named")
    found = rig.wire.call("queues.get_all_ex", id=[queue])["queues"][0]
    assert found["entries"][0]["task"] == {"id": task, "name": "named"}
    assert [worker["key"] for worker in found["workers"]] == ["host:0"]
    metrics = rig.wire.call("queues.get_queue_metrics", queue_ids=[queue], from_date=0, to_date=2**31, interval=60)
    assert metrics["queues"][0]["queue_lengths"] == [1]


def test_an_agents_pull_gives_the_next_task_and_takes_it_out(rig: Rig) -> None:
    queue = rig.queue()
    assert rig.wire.call("queues.get_next_task", queue=queue) == {}
    first, second = rig.enqueued(queue, "one", "two")
    pulled = rig.wire.call("queues.get_next_task", queue=queue, get_task_info=True)
    assert pulled["entry"]["task"] == first
    assert pulled["task_info"]["user"] == rig.wire.call("users.get_current_user")["user"]["id"]
    assert rig.status(first) is Status.RUNNING
    assert rig.entries(queue) == [second]
    assert refused(rig, "queues.get_next_task", queue="f" * 32) == (400, 701)


def test_a_paused_queue_gives_nothing(rig: Rig) -> None:
    queue = rig.queue()
    rig.enqueued(queue, "waits")
    rig.house.client.call(op.EDIT_QUEUE, m.QueueEdit(paused=True), queue=queue)
    assert rig.wire.call("queues.get_next_task", queue=queue) == {}


def test_a_viewer_reads_queues_and_changes_nothing(rig: Rig) -> None:
    queue = rig.queue()
    viewer = ClearMLWire(rig.house, rig.house.make_key("viewer"))
    assert viewer.call("queues.get_by_id", queue=queue)["queue"]["name"] == "gpu"
    for call in ("get_next_task", "delete", "update", "clear_queue"):
        with pytest.raises(Refused) as told:
            viewer.call(f"queues.{call}", queue=queue)
        assert told.value.code == 403


@pytest.mark.parametrize("value", [1.5, {"a": 1}, ["x"], True, "\ud800", "x" * 10_000])
@pytest.mark.parametrize(
    "call", ["get_by_id", "get_next_task", "move_task_to_front", "get_num_entries", "get_all", "update", "create"]
)
def test_fields_of_another_kind_are_refused_or_ignored_never_a_fault(rig: Rig, call: str, value: Any) -> None:
    fields = {
        "queue": value,
        "name": value,
        "task": value,
        "id": value,
        "tags": value,
        "count": value,
        "new": value,
    }
    url = f"{rig.house.url}/v2.23/queues.{call}"
    headers = {"authorization": f"Bearer {rig.house.key}", "content-type": "application/json"}
    answer = httpx.request("GET", url, content=json.dumps(fields), headers=headers, timeout=30)
    assert answer.status_code in {200, 400}, answer.text

"""ClearML's agents over the wire: who is there, what their machines say, and that ours and theirs are one list."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.conftest import Clock, House
from tests.unit.server.compat.wire import ClearMLWire, Refused

from taskloom.domain.execution import Execution
from taskloom.domain.queue import Machine
from taskloom.wire import messages as m
from taskloom.wire import operations as op

STATS = {
    "cpu_usage": 12.5,
    "memory_used": 1024.0,
    "memory_free": 3072.0,
    "gpu_usage": [10.0, 30.0],
    "gpu_memory_used": [1024.0, 0.0],
    "gpu_memory_free": [80896.0, 81920.0],
    "network_tx": 0.001,
}
AGENT = "a machine:gpu0,1"


class Rig:
    def __init__(self, house: House) -> None:
        self.house, self.wire = house, ClearMLWire(house)
        self.default = self.wire.call("queues.get_default")["id"]

    def workers(self, **fields: Any) -> dict[str, dict[str, Any]]:
        return {worker["id"]: worker for worker in self.wire.call("workers.get_all", **fields)["workers"]}

    def ours(self) -> dict[str, Any]:
        return {worker.id: worker for worker in self.house.client.call(op.LIST_WORKERS).workers}

    def report(self, worker: str = AGENT, **fields: Any) -> None:
        self.wire.call("workers.status_report", worker=worker, timestamp=1, is_daemon=True, **fields)

    def pulled(self) -> str:
        create = m.TaskCreate(name="a task", project="worker tests", execution=Execution(command=("true",)))
        task = self.house.client.call(op.CREATE_TASK, create).id
        self.house.client.call(op.ENQUEUE_TASK, m.Enqueue(), task=task)
        assert self.wire.call("queues.get_next_task", queue=self.default)["entry"]["task"] == task
        return task


@pytest.fixture
def rig(house: House) -> Rig:
    return Rig(house)


def refused(rig: Rig, call: str, **fields: Any) -> tuple[int, int]:
    with pytest.raises(Refused) as told:
        rig.wire.call(call, **fields)
    return told.value.code, told.value.subcode


def test_an_agent_registers_and_stands_in_both_lists(rig: Rig) -> None:
    rig.wire.call("workers.register", worker=AGENT, queues=[rig.default], timeout=600)
    ours = rig.ours()[AGENT]
    assert (ours.queues, ours.alive, ours.machine.host) == ((rig.default,), True, "a machine")
    told = rig.workers()[AGENT]
    assert [queue["name"] for queue in told["queues"]] == ["default"]
    assert (told["task"], told["queue"], told["project"]) == (None, None, None)
    assert told["user"]["name"] == rig.wire.call("users.get_current_user")["user"]["name"]
    assert rig.wire.call("workers.get_count") == {"count": 1}
    rig.wire.call("workers.unregister", worker=AGENT)
    assert rig.workers() == {}
    assert refused(rig, "workers.unregister", worker=AGENT) == (400, 901)


def test_registering_again_takes_the_place_of_the_first(rig: Rig) -> None:
    rig.wire.call("workers.register", worker=AGENT, queues=[rig.default])
    rig.wire.call("workers.register", worker=AGENT, queues=[])
    assert rig.ours()[AGENT].queues == ()
    assert refused(rig, "workers.register", worker=AGENT, queues=["f" * 32]) == (400, 701)


def test_an_agents_report_tells_its_machine_and_its_task(rig: Rig) -> None:
    rig.wire.call("workers.register", worker=AGENT, queues=[rig.default])
    task = rig.pulled()
    rig.report(machine_stats=STATS, task=task, queue=rig.default, queues=[rig.default], tags=["fast"])
    machine = rig.ours()[AGENT].machine
    assert (machine.cpu_use, machine.memory, machine.memory_use) == (12.5, 4 * 2**30, 25.0)
    assert machine.gpus == ("GPU of 80 GiB", "GPU of 80 GiB")
    assert rig.ours()[AGENT].tasks == (task,)
    assert rig.house.client.call(op.GET_TASK, task=task).worker == AGENT
    told = rig.workers(tags=["fast"])[AGENT]
    assert (told["task"]["id"], told["task"]["name"], told["project"]["name"]) == (task, "a task", "worker tests")
    assert told["queue"]["name"] == "default"
    rig.report(machine_stats=None)
    assert rig.ours()[AGENT].machine == machine  # what was not told stays


def test_an_agent_that_was_never_registered_is_known_from_its_report(rig: Rig) -> None:
    rig.report("host:service:1", task="f" * 32)
    assert rig.workers()["host:service:1"]["task"] is None
    assert rig.ours()["host:service:1"].tasks == ()


def test_silent_agents_leave_the_list(rig: Rig, clock: Clock) -> None:
    rig.wire.call("workers.register", worker="old:0", queues=[], timeout=60)
    clock.advance(4000)
    assert rig.workers() == {}
    assert list(rig.workers(last_seen=0)) == ["old:0"]
    assert not rig.ours()["old:0"].alive
    rig.wire.call("workers.register", worker="new:0", queues=[])
    assert list(rig.workers(last_seen=0)) == ["new:0"]  # the other one is forgotten


def test_workers_of_ours_stand_in_the_list_and_nobody_speaks_for_them(rig: Rig) -> None:
    body = m.WorkerRegister(
        id="w1", name="ours", queues=("default",), slots=2, version="1", machine=Machine(host="h", memory=2**30)
    )
    rig.house.client.call(op.REGISTER_WORKER, body)
    assert [queue["name"] for queue in rig.workers()["w1"]["queues"]] == ["default"]
    for call in ("register", "status_report", "unregister"):
        assert refused(rig, f"workers.{call}", worker="w1", queues=[], timestamp=1)[0] == 400
    assert rig.wire.call("workers.get_runtime_properties", worker="w1") == {"runtime_properties": []}


def test_runtime_properties_are_kept_and_force_off_drains(rig: Rig) -> None:
    def told() -> dict[str, str]:
        found = rig.wire.call("workers.get_runtime_properties", worker=AGENT)["runtime_properties"]
        return {item["key"]: item["value"] for item in found}

    def tell(**values: str | None) -> None:
        items = [{"key": key, "value": value} for key, value in values.items()]
        rig.wire.call("workers.set_runtime_properties", worker=AGENT, runtime_properties=items)

    assert told() == {}
    rig.wire.call("workers.register", worker=AGENT, queues=[rig.default])
    tell(available_gpus="0_0,1_0", max_num_instances="3")
    assert told() == {"available_gpus": "0_0,1_0", "max_num_instances": "3"}
    assert rig.ours()[AGENT].slots == 3
    tell(available_gpus=None)
    rig.house.client.call(op.DRAIN_WORKER, m.WorkerDrain(drain=True), worker=AGENT)
    assert told() == {"max_num_instances": "3", "force": "off"}
    rig.report()  # a report changes nothing of it
    assert told()["force"] == "off"
    rig.house.client.call(op.DRAIN_WORKER, m.WorkerDrain(drain=False), worker=AGENT)
    assert told() == {"max_num_instances": "3"}
    tell(force="off")
    assert rig.ours()[AGENT].draining
    tell(force="on")
    assert not rig.ours()[AGENT].draining
    assert told()["force"] == "on"


def test_an_agent_that_drains_is_given_nothing(rig: Rig) -> None:
    rig.wire.call("workers.register", worker="somewhere:0", queues=[rig.default])
    rig.house.client.call(op.DRAIN_WORKER, m.WorkerDrain(drain=True), worker="somewhere:0")
    create = m.TaskCreate(name="a task", project="worker tests", execution=Execution(command=("true",)))
    task = rig.house.client.call(op.CREATE_TASK, create).id
    rig.house.client.call(op.ENQUEUE_TASK, m.Enqueue(), task=task)
    host = {"x-clearml-worker": "somewhere"}
    rig.wire.http.headers.update(host)
    assert rig.wire.call("queues.get_next_task", queue=rig.default) == {}
    rig.house.client.call(op.DRAIN_WORKER, m.WorkerDrain(drain=False), worker="somewhere:0")
    assert rig.wire.call("queues.get_next_task", queue=rig.default)["entry"]["task"] == task
    assert rig.ours()["somewhere:0"].tasks == (task,)  # the only agent of that host


def test_the_last_numbers_are_told_as_statistics(rig: Rig, clock: Clock) -> None:
    rig.report(machine_stats=STATS)
    keys = rig.wire.call("workers.get_metric_keys")["categories"]
    assert {"name": "memory", "metric_keys": ["memory_free", "memory_used"]} in keys
    now = clock()
    items = [{"key": "gpu_usage", "category": "max"}, {"key": "cpu_usage"}, {"key": "unknown"}]
    span = {"from_date": now - 60, "to_date": now + 60, "interval": 10}
    (found,) = rig.wire.call("workers.get_stats", items=items, **span)["workers"]
    assert [(n["metric"], n["stats"]) for n in found["metrics"]] == [
        ("gpu_usage", [{"aggregation": "max", "values": [30.0]}]),
        ("cpu_usage", [{"aggregation": "avg", "values": [12.5]}]),
    ]
    early = {"from_date": now - 7200, "to_date": now - 3600, "interval": 10}
    assert rig.wire.call("workers.get_stats", items=items, **early)["workers"][0]["metrics"] == []
    activity = rig.wire.call("workers.get_activity_report", **span)
    assert activity["total"]["counts"][-1] == 1
    assert activity["active"]["counts"][-1] == 0
    huge = rig.wire.call("workers.get_activity_report", from_date=0, to_date=2**31, interval=1)
    assert len(huge["total"]["dates"]) <= 2001


@pytest.mark.parametrize("value", [1.5, {"a": 1}, ["x"], True, "\ud800", "a\nb", "x" * 10_000, 10**400, [[1]]])
@pytest.mark.parametrize("call", ["register", "status_report", "get_all", "set_runtime_properties", "get_stats"])
def test_fields_of_another_kind_are_refused_or_ignored_never_a_fault(rig: Rig, call: str, value: Any) -> None:
    names = ("queues", "queue", "tags", "timeout", "last_seen", "runtime_properties", "items", "from_date")
    stats = {"cpu_usage": value, "memory_used": [value], "gpu_memory_used": value, "memory_free": 1e300}
    for field in ("worker", "machine_stats", "task", *names):
        fields = {"worker": AGENT, "machine_stats": stats, field: value}
        answer = httpx.request(
            "GET",
            f"{rig.house.url}/v2.23/workers.{call}",
            content=json.dumps(fields),
            headers={"authorization": f"Bearer {rig.house.key}", "content-type": "application/json"},
            timeout=30,
        )
        assert answer.status_code in {200, 400}, (field, answer.text)

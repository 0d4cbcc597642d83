"""The main job through the API, on every database: recorded, changed, queued, run by a worker, compared."""

from __future__ import annotations

import hashlib
import math
import struct
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.conftest import House

from taskloom.domain.artifact import Artifact
from taskloom.domain.errors import BlobMissing, IllegalMove, LeaseLost, NotFound
from taskloom.domain.execution import Execution
from taskloom.domain.parameters import Parameter
from taskloom.domain.queue import Machine
from taskloom.domain.status import Status
from taskloom.domain.task import Task, TaskEdit
from taskloom.wire import operations as op
from taskloom.wire.messages import (
    Claim,
    Condition,
    ConsoleBytes,
    ConsoleQuery,
    Enqueue,
    Finish,
    JournalBatch,
    JournalMarks,
    Lease,
    MoveRequest,
    PlotsQuery,
    PointsQuery,
    ProjectDelete,
    Renew,
    ScalarColumns,
    TaskClone,
    TaskCreate,
    TaskDelete,
    TaskEditRequest,
    TaskQuery,
    WorkerRegister,
)
from taskloom.wire.records import ArtifactStored, Edited, Ended, Opened, Plotted, Record, SeriesNamed

EXECUTION = Execution(entry_point="train.py", diff="print('training')\n", python="3.11")


def lr(value: float) -> TaskEdit:
    return TaskEdit(parameters={"Args": {"lr": Parameter(str(value), "float")}})


def columns(start: int, values: list[float], series: int = 0) -> ScalarColumns:
    count = len(values)
    return ScalarColumns(
        start=start,
        series=struct.pack(f"<{count}I", *[series] * count),
        iteration=struct.pack(f"<{count}q", *range(start, start + count)),
        value=struct.pack(f"<{count}d", *values),
        time=struct.pack(f"<{count}d", *range(1000, 1000 + count)),
    )


class Script:
    """What a journal's shipper sends for one run."""

    def __init__(self, house: House, task: str = "", lease: str = "") -> None:
        self.house, self.task, self.lease = house, task or uuid.uuid4().hex, lease
        self.writer = uuid.uuid4().hex
        self.events = self.rows = self.bytes = 0

    def ship(self, *records: Record, values: list[float] | None = None, console: bytes = b"") -> JournalMarks:
        batch = JournalBatch(
            writer=self.writer,
            lease=self.lease,
            events_start=self.events,
            events=list(records),
            scalars=columns(self.rows, values) if values else None,
            console=[ConsoleBytes("stdout", self.bytes, console, 1.0)] if console else [],
        )
        marks = self.house.client.call(op.SHIP_JOURNAL, batch, task=self.task)
        assert self.house.client.call(op.SHIP_JOURNAL, batch, task=self.task) == marks  # again is harmless
        self.events, self.rows, self.bytes = marks.events, marks.rows, marks.console.get("stdout", 0)
        return marks

    def opened(self, name: str = "first", project: str = "digits") -> Opened:
        return Opened(mode="new", name=name, project=project, time=1.0)


def record_a_run(house: House, rate: float, loss: list[float], name: str = "first") -> str:
    """A script that a person ran: opened, parameters, a curve, console, a plot, ended."""
    script = Script(house)
    script.ship(script.opened(name), Edited(edit=lr(rate), time=1.0))
    script.ship(SeriesNamed(number=0, title="loss", series="train"), values=loss[:2], console=b"epoch 1\n")
    script.ship(values=loss[2:], console="épo\x1b[31mch 2\n".encode())
    script.ship(
        Plotted(title="confusion", series="test", iteration=3, time=2.0, kind="confusion_matrix", figure="{}"),
        Edited(
            edit=TaskEdit(execution={"entry_point": "train.py", "diff": "print()\n"}, add_tags=("kept",)), time=2.0
        ),
        Ended(status="completed", time=3.0),
    )
    return script.task


def get(house: House, task: str) -> Task:
    return house.client.call(op.GET_TASK, task=task)


def test_what_a_run_told_can_be_read(any_house: House) -> None:
    task_id = record_a_run(any_house, 0.1, [3.0, 2.0, math.nan, 1.5, math.inf])
    task, client = get(any_house, task_id), any_house.client
    assert (task.status, task.project, task.tags) == (Status.COMPLETED, "digits", ("kept",))
    assert task.parameters["Args"]["lr"].value == "0.1"
    (summary,) = task.metrics
    assert (summary.count, summary.last, summary.min, summary.last_iteration) == (5, "Infinity", 1.5, 4)
    points = client.call(op.GET_POINTS, query=PointsQuery(title="loss", series="train", points=0), task=task_id)
    assert (points.iteration, points.value) == ([0, 1, 2, 3, 4], [3.0, 2.0, "NaN", 1.5, "Infinity"])
    page = client.call(op.GET_CONSOLE, query=ConsoleQuery(), task=task_id)
    assert "".join(entry.text for entry in page.entries) == "epoch 1\népo\x1b[31mch 2\n"
    assert page.ended
    (plot,) = client.call(op.LIST_PLOTS, query=PlotsQuery(), task=task_id).plots
    assert (plot.title, plot.iteration, plot.figure) == ("confusion", 3, "{}")


def test_runs_are_found_filtered_and_sorted_by_what_they_told(any_house: House) -> None:
    rates = {
        rate: record_a_run(any_house, rate, [5.0, 5.0, 1 / rate], f"rate {rate}") for rate in (0.5, 0.1, 10.0)
    }

    def find(**query: object) -> list[str]:
        return [task.id for task in any_house.client.call(op.QUERY_TASKS, TaskQuery(**query)).tasks]

    assert find(order_by=["parameters.Args/lr"]) == [rates[0.1], rates[0.5], rates[10.0]]
    assert find(order_by=["metrics.loss/train"]) == [rates[10.0], rates[0.5], rates[0.1]]
    assert find(where=[Condition(key="parameters.Args/lr", is_="<", value=0.2)]) == [rates[0.1]]
    assert find(where=[Condition(key="metrics.loss/train:max", is_=">", value=7.0)]) == [rates[0.1]]
    assert find(name="RATE 0.5") == [rates[0.5]]
    assert find(tags=["-kept"]) == []
    assert set(find(project="digits", status=["completed"])) == set(rates.values())


def worker(house: House, name: str = "w1") -> str:
    registration = WorkerRegister(
        id=name, name=name, queues=("default",), slots=1, machine=Machine(host="here"), version="1"
    )
    return house.client.call(op.REGISTER_WORKER, registration).id


def claim(house: House, by: str, lease: float = 30.0) -> Lease | None:
    wanted = Claim(worker=by, queues=("default",), lease=lease, wait=0.0)
    return house.client.call(op.CLAIM_TASK, wanted).lease


def test_a_clone_with_one_change_runs_under_a_worker(any_house: House) -> None:
    house, client = any_house, any_house.client
    source = record_a_run(house, 0.1, [3.0, 2.0, 1.0])
    clone = client.call(op.CLONE_TASK, TaskClone(), task=source)
    assert (clone.name, clone.status, clone.metrics, clone.parent) == ("Clone Of first", Status.DRAFT, (), source)
    edited = client.call(op.EDIT_TASK, TaskEditRequest(edit=lr(0.5)), task=clone.id)
    assert edited.parameters["Args"]["lr"].value == "0.5"
    assert client.call(op.ENQUEUE_TASK, Enqueue(), task=clone.id).status is Status.PENDING
    assert client.call(op.WAITING, task=clone.id).position == 1
    by = worker(house)
    lease = claim(house, by)
    assert lease is not None
    assert (lease.task.id, lease.attempt, lease.task.execution.entry_point) == (clone.id, 1, "train.py")
    assert claim(house, by) is None
    assert not client.call(op.RENEW_LEASE, Renew(phase="running"), token=lease.token).stop
    script = Script(house, clone.id, lease.token)
    script.ship(script.opened(), SeriesNamed(number=0, title="loss", series="train"), values=[2.0, 1.0])
    with pytest.raises(LeaseLost):
        Script(house, clone.id).ship(values=[9.0])
    done = client.call(op.FINISH_LEASE, Finish(outcome="completed", exit_code=0), token=lease.token)
    assert done.status is Status.COMPLETED
    assert get(house, clone.id).metrics[0].last == 1.0
    assert client.call(op.FINISH_LEASE, Finish(outcome="completed", exit_code=0), token=lease.token) == done
    assert get(house, source).metrics[0].last == 1.0
    with pytest.raises(IllegalMove):
        client.call(op.ENQUEUE_TASK, Enqueue(), task=clone.id)


def test_of_many_workers_each_task_is_claimed_once(any_house: House) -> None:
    house = any_house
    tasks = []
    for number in range(12):
        made = house.client.call(
            op.CREATE_TASK, TaskCreate(name=f"task {number}", project="crowd", execution=EXECUTION)
        )
        house.client.call(op.ENQUEUE_TASK, Enqueue(), task=made.id)
        tasks.append(made.id)
    names = [worker(house, f"w{number}") for number in range(6)]

    def drain(name: str) -> list[str]:
        claimed = []
        while (lease := claim(house, name)) is not None:
            claimed.append(lease.task.id)
            house.client.call(op.FINISH_LEASE, Finish(outcome="completed"), token=lease.token)
        return claimed

    with ThreadPoolExecutor(6) as threads:
        claimed = [task for part in threads.map(drain, names) for task in part]
    assert sorted(claimed) == sorted(tasks)


def test_a_task_waits_again_when_its_worker_falls_silent(any_house: House) -> None:
    house, client = any_house, any_house.client
    made = client.call(op.CREATE_TASK, TaskCreate(name="task", project="lost", execution=EXECUTION))
    client.call(op.ENQUEUE_TASK, Enqueue(), task=made.id)
    first = claim(house, worker(house), lease=5.0)
    assert first is not None
    house.clock.advance(6)
    import asyncio

    queues = next(s for s in house.listener.house._services if hasattr(s, "sweep"))
    asyncio.run_coroutine_threadsafe(queues.sweep(), house.listener.servers[0].get_loop()).result(20)
    assert get(house, made.id).status is Status.PENDING
    second = claim(house, worker(house, "w2"))
    assert second is not None
    assert (second.task.id, second.attempt) == (made.id, 2)
    with pytest.raises(LeaseLost):
        client.call(op.FINISH_LEASE, Finish(outcome="completed"), token=first.token)


def test_an_artifact_is_there_when_its_bytes_are(any_house: House) -> None:
    house, client = any_house, any_house.client
    task_id = record_a_run(house, 0.1, [1.0, 1.0])
    content = b"weights" * 1000
    digest = hashlib.sha256(content).hexdigest()
    artifact = Artifact(name="best/weights", digest=digest, size=len(content), filename="w.bin")
    with pytest.raises(BlobMissing):
        Script(house).ship(Script(house).opened(), ArtifactStored(artifact=artifact))
    headers = client.address.headers()
    wrong = client.http.put(f"{house.url}/api/blobs/{'0' * 64}", content=content, headers=headers)
    assert wrong.status_code == 422
    assert client.http.put(f"{house.url}/api/blobs/{digest}", content=content, headers=headers).status_code == 200
    client.call(op.PUT_ARTIFACT, artifact, task=task_id)
    assert [a.name for a in get(house, task_id).artifacts] == ["best/weights"]
    part = client.http.get(f"{house.url}/api/blobs/{digest}", headers={**headers, "Range": "bytes=7-13"})
    assert (part.status_code, part.content) == (206, b"weights")
    client.call(op.DELETE_ARTIFACT, task=task_id, name="best/weights")
    assert get(house, task_id).artifacts == ()


def test_reset_and_delete_leave_nothing_behind(any_house: House) -> None:
    client = any_house.client
    task_id = record_a_run(any_house, 0.1, [3.0, 2.0, 1.0])
    assert client.call(op.RESET_TASK, MoveRequest(), task=task_id).status is Status.DRAFT
    assert get(any_house, task_id).metrics == ()
    assert client.call(op.GET_CONSOLE, query=ConsoleQuery(), task=task_id).entries == []
    client.call(op.DELETE_TASK, query=TaskDelete(), task=task_id)
    with pytest.raises(NotFound):
        get(any_house, task_id)
    project = client.call(op.LIST_PROJECTS).projects[0]
    client.call(op.DELETE_PROJECT, query=ProjectDelete(), project=project.id)
    assert client.call(op.LIST_PROJECTS).total == 0


def test_of_many_who_move_one_task_one_wins(any_house: House) -> None:
    client = any_house.client
    for _ in range(4):
        made = client.call(op.CREATE_TASK, TaskCreate(name="task", project="race", execution=EXECUTION))

        def attempt(_: int, task: str = made.id) -> bool:
            try:
                client.call(op.START_TASK, MoveRequest(), task=task)
            except IllegalMove as error:
                assert error.details["status"] == "running"
                return False
            return True

        with ThreadPoolExecutor(6) as threads:
            assert sum(threads.map(attempt, range(6))) == 1


def test_everything_is_still_there_after_a_restart(any_house: House) -> None:
    task_id = record_a_run(any_house, 0.1, [3.0, 2.0, 1.0])
    before = get(any_house, task_id)
    any_house.restart()
    assert get(any_house, task_id) == before

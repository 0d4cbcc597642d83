"""Tasks brought to a state in one step, edited from what they are, and reset with all that they run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import Connection
from tests.conftest import House
from tests.contracts.test_task_states import make
from tests.journals import Run

from taskloom.domain.artifact import Artifact, Model, ModelLink
from taskloom.domain.errors import IllegalMove, NotFound
from taskloom.domain.execution import Execution
from taskloom.domain.parameters import Parameter
from taskloom.domain.queue import Machine
from taskloom.domain.status import ENDED, MOVES, Status, way
from taskloom.domain.task import Property, Task, TaskEdit
from taskloom.server.artifacts.service import ArtifactService
from taskloom.server.call import Caller
from taskloom.server.tasks.service import TaskService
from taskloom.wire.messages import (
    Claim,
    Enqueue,
    Finish,
    ModelCreate,
    MoveRequest,
    TaskClone,
    TaskCreate,
    WorkerRegister,
)
from taskloom.wire.operations import (
    CLAIM_TASK,
    CLONE_TASK,
    CREATE_MODEL,
    CREATE_TASK,
    ENQUEUE_TASK,
    FINISH_LEASE,
    GET_QUEUE,
    GET_TASK,
    REGISTER_WORKER,
)

ADA = Caller("ada", "a" * 32, "member", "k")


class Desk:
    """The services inside a running house, called from outside."""

    def __init__(self, house: House) -> None:
        self.house = house
        services = house.listener.house._services  # pyright: ignore[reportPrivateUsage]
        self.tasks = next(s for s in services if isinstance(s, TaskService))
        self.artifacts = next(s for s in services if isinstance(s, ArtifactService))

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    def bring(self, task: str, target: Status, **more: Any) -> Task:
        why = MoveRequest(reason=more.pop("reason", ""), message=more.pop("message", ""))
        return self.do(self.tasks.bring_task(task, target, why, **more))


@pytest.fixture
def desk(any_house: House) -> Desk:
    return Desk(any_house)


def test_a_task_is_brought_wherever_moves_lead(desk: Desk) -> None:
    client = desk.house.client
    for status in Status:
        for target in Status:
            task = make(client, status)
            steps = way(status, target)
            if steps is None:
                with pytest.raises(IllegalMove):
                    desk.bring(task, target)
                assert client.call(GET_TASK, task=task).status is status
            else:
                assert desk.bring(task, target, reason="why").status is target
                found = client.call(GET_TASK, task=task)
                assert (found.status, found.status_reason) == (target, "why")
                assert (found.completed >= found.started > 0) or target not in ENDED or status is Status.PENDING
    waiting = [entry.task for entry in client.call(GET_QUEUE, queue="default").entries]
    assert all(client.call(GET_TASK, task=task).status is Status.PENDING for task in waiting)
    assert len(waiting) == 2, "the one that stayed, and the one that no move leads back from"


def test_only_from_the_states_that_are_named(desk: Desk) -> None:
    task = make(desk.house.client, Status.FAILED)
    with pytest.raises(IllegalMove, match="failed"):
        desk.bring(task, Status.COMPLETED, sources={Status.RUNNING})
    assert desk.bring(task, Status.FAILED, sources=set()).status is Status.FAILED, "who is there stays there"


def test_a_way_is_made_of_legal_moves() -> None:
    for status in Status:
        for target in Status:
            here = status
            for step in way(status, target) or ():
                sources, there = MOVES[step]
                assert here in sources
                here = there
            assert here is target or way(status, target) is None
    assert way(Status.PUBLISHED, Status.RUNNING) is None
    assert way(Status.RUNNING, Status.DRAFT) is None, "a draft has lost its results"


def test_the_worker_ends_what_it_holds_with_the_words_that_were_left(desk: Desk) -> None:
    client = desk.house.client
    task = client.call(CREATE_TASK, TaskCreate(name="some task", project="tests")).id
    client.call(
        REGISTER_WORKER,
        WorkerRegister(id="w", name="w", queues=("default",), slots=1, machine=Machine(), version="1"),
    )
    client.call(ENQUEUE_TASK, Enqueue(), task=task)
    lease = client.call(CLAIM_TASK, Claim(worker="w", queues=("default",), wait=0)).lease
    assert lease is not None
    assert desk.bring(task, Status.RUNNING).status is Status.RUNNING
    assert desk.bring(task, Status.FAILED, reason="it broke", message="here").status is Status.RUNNING
    with pytest.raises(IllegalMove):
        desk.bring(task, Status.PUBLISHED)
    client.call(FINISH_LEASE, Finish(outcome="completed"), token=lease.token)
    found = client.call(GET_TASK, task=task)
    assert (found.status, found.status_reason, found.status_message) == (Status.COMPLETED, "it broke", "here")


def test_an_edit_is_made_from_the_task_as_it_is(desk: Desk) -> None:
    client = desk.house.client
    task = make(client, Status.RUNNING)

    def longer(_: Connection, found: Task) -> TaskEdit:
        return TaskEdit(comment=f"{found.comment}+")

    for _ in range(3):
        desk.do(desk.tasks.change_task(ADA, task, longer))
    assert client.call(GET_TASK, task=task).comment == "+++"
    more = TaskEdit(parameters={"Args": {"a": Parameter("1")}})
    with pytest.raises(IllegalMove):
        desk.do(desk.tasks.change_task(ADA, task, lambda tx, found: more))
    desk.do(desk.tasks.change_task(ADA, task, lambda tx, found: more, {Status.RUNNING}))
    assert client.call(GET_TASK, task=task).parameters == {"Args": {"a": Parameter("1")}}
    with pytest.raises(NotFound):
        desk.do(desk.tasks.change_task(ADA, "f" * 32, longer))


def test_what_else_belongs_to_the_task_changes_with_it_or_not_at_all(desk: Desk) -> None:
    client = desk.house.client
    model = client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name="weights", uri="s3://a"))).id
    task = make(client, Status.DRAFT)
    artifacts = desk.artifacts

    def both(then: Callable[[], TaskEdit]) -> Callable[[Connection, Task], TaskEdit]:
        def made(tx: Connection, found: Task) -> TaskEdit:
            artifacts.store_artifact(tx, found.id, Artifact("a", uri="s3://b"))
            artifacts.link_model(tx, found.id, ModelLink("m", model, "input"))
            return then()

        return made

    with pytest.raises(Exception, match="3 to 256"):
        desk.do(desk.tasks.change_task(ADA, task, both(lambda: TaskEdit(name="x"))))
    found = client.call(GET_TASK, task=task)
    assert (found.artifacts, found.models) == ((), ())
    desk.do(desk.tasks.change_task(ADA, task, both(TaskEdit)))
    found = client.call(GET_TASK, task=task)
    assert ([a.name for a in found.artifacts], [m.model for m in found.models]) == (["a"], [model])

    def unlinked(tx: Connection, found: Task) -> TaskEdit:
        assert artifacts.unlink_model(tx, found.id, "input", "m")
        assert not artifacts.unlink_model(tx, found.id, "input", "m")
        with pytest.raises(NotFound):
            artifacts.link_model(tx, found.id, ModelLink("m", "0" * 32))
        return TaskEdit()

    desk.do(desk.tasks.change_task(ADA, task, unlinked))
    assert client.call(GET_TASK, task=task).models == ()


def test_properties_and_runtime_are_replaced_when_told(desk: Desk) -> None:
    wanted = TaskCreate(
        name="some task", project="tests", properties={"a": Property("1")}, runtime={"x": 1}, progress=5
    )
    client = desk.house.client
    task = client.call(CREATE_TASK, wanted).id
    edit = TaskEdit(
        properties={"b": Property("2")}, replace_properties=True, runtime={"y": 2}, replace_runtime=True
    )
    desk.do(desk.tasks.change_task(ADA, task, lambda tx, found: edit))
    found = client.call(GET_TASK, task=task)
    assert (found.properties, found.runtime, found.progress) == ({"b": Property("2")}, {"y": 2}, 5)


def test_a_ping_is_seen_while_the_task_runs(desk: Desk) -> None:
    client = desk.house.client
    running, ended = make(client, Status.RUNNING), make(client, Status.COMPLETED)
    before = client.call(GET_TASK, task=ended).last_update
    desk.house.clock.advance(10)
    desk.do(desk.tasks.ping_task(running))
    desk.do(desk.tasks.ping_task(ended))
    assert client.call(GET_TASK, task=running).last_update > before + 9
    assert client.call(GET_TASK, task=ended).last_update == before
    with pytest.raises(NotFound):
        desk.do(desk.tasks.ping_task("f" * 32))


def test_a_reset_may_clear_what_to_run(desk: Desk) -> None:
    client = desk.house.client
    run = Run(client).open().edit(execution={"entry_point": "a.py", "foreign": {"requirements": {"conda": "c"}}})
    run.edit(parameters={"Args": {"a": Parameter("1")}}).scalar(1, 0.5).end().ship()
    force = MoveRequest(force=True)
    kept = desk.do(desk.tasks.reset_task(run.task, force))
    assert kept.execution.foreign == {"requirements": {"conda": "c"}}
    cleared = desk.do(desk.tasks.reset_task(run.task, force, clear=True))
    assert (cleared.status, cleared.execution) == (Status.DRAFT, Execution())
    assert cleared.parameters == {"Args": {"a": Parameter("1")}}


def test_a_clone_is_made_with_an_edit_and_keeps_what_is_foreign(any_house: House) -> None:
    client = any_house.client
    execution = Execution(entry_point="a.py", foreign={"requirements": {"conda": "c"}})
    task = client.call(CREATE_TASK, TaskCreate(name="some task", project="tests", execution=execution)).id
    edit = TaskEdit(tags=("new",), system_tags=(), execution={"image": "x"})
    clone = client.call(CLONE_TASK, TaskClone(edit=edit), task=task)
    assert (clone.tags, clone.execution.image, clone.execution.foreign) == (("new",), "x", execution.foreign)


def test_waiting_for_a_worker_ends_a_development(any_house: House) -> None:
    client = any_house.client
    wanted = TaskCreate(name="some task", project="tests", system_tags=("development", "other"))
    task = client.call(CREATE_TASK, wanted).id
    assert client.call(ENQUEUE_TASK, Enqueue(), task=task).system_tags == ("other",)

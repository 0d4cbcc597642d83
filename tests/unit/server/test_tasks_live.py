"""Who watches is told of every change of a task, after it can be read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from tests.conftest import House
from tests.journals import Run

from taskloom.domain.artifact import Artifact
from taskloom.domain.task import TaskEdit
from taskloom.wire.messages import (
    Condition,
    Finish,
    LiveEvent,
    MoveRequest,
    TaskClone,
    TaskCreate,
    TaskDelete,
    TaskEditRequest,
    TaskQuery,
)
from taskloom.wire.operations import (
    CLONE_TASK,
    CREATE_TASK,
    DELETE_TASK,
    EDIT_TASK,
    END_TASK,
    PUBLISH_TASK,
    PUT_ARTIFACT,
    QUERY_TASKS,
    RESET_TASK,
    START_TASK,
)


@pytest.fixture
def heard(house: House) -> list[LiveEvent]:
    """Every live event of the house, as it comes."""
    told: list[LiveEvent] = []
    ready = threading.Event()

    async def listen() -> None:
        async with house.listener.house.bus.subscribe() as live:
            ready.set()
            async for event in live:
                told.append(event)

    threading.Thread(target=lambda: asyncio.run(listen()), daemon=True).start()
    assert ready.wait(10)
    return told


def test_each_change_is_told_with_the_state_it_led_to(
    house: House, heard: list[LiveEvent], eventually: Callable[[Callable[[], object]], None]
) -> None:
    client = house.client
    task = client.call(CREATE_TASK, TaskCreate(name="watched", project="main/sub")).id
    client.call(EDIT_TASK, TaskEditRequest(edit=TaskEdit(comment="x")), task=task)
    client.call(START_TASK, MoveRequest(), task=task)
    client.call(PUT_ARTIFACT, Artifact("a", uri="u"), task=task)
    client.call(END_TASK, Finish(outcome="failed"), task=task)
    client.call(RESET_TASK, MoveRequest(), task=task)
    client.call(START_TASK, MoveRequest(), task=task)
    client.call(END_TASK, Finish(outcome="completed"), task=task)
    client.call(PUBLISH_TASK, MoveRequest(), task=task)
    clone = client.call(CLONE_TASK, TaskClone(), task=task).id
    client.call(DELETE_TASK, query=TaskDelete(force=True), task=task)
    eventually(lambda: heard and heard[-1].status == "deleted")
    told = [(e.kind, e.status) for e in heard if e.task == task]
    assert told == [
        ("task", "draft"),
        ("task", "draft"),
        ("task", "running"),
        ("artifacts", "running"),
        ("task", "failed"),
        ("task", "draft"),
        ("task", "running"),
        ("task", "completed"),
        ("task", "published"),
        ("task", "deleted"),
    ]
    assert [(e.kind, e.status) for e in heard if e.task == clone] == [("task", "draft")]
    assert {e.project for e in heard if e.kind == "task"} == {"main/sub"}


def test_a_journal_is_told_by_what_it_brought(
    house: House, heard: list[LiveEvent], eventually: Callable[[Callable[[], object]], None]
) -> None:
    run = Run(house.client).open()
    run.ship()
    run.scalar(0, 1.0).ship()
    run.print("x").ship()
    run.end().ship()
    eventually(lambda: any(e.status == "completed" for e in heard))
    kinds = [e.kind for e in heard if e.task == run.task]
    assert kinds[0] == "task" and kinds[-1] == "task"
    assert {"metrics", "console"} <= set(kinds)
    assert kinds.count("task") == 2  # rows and console alone do not touch the task


def test_values_of_a_run_that_goes_on_can_soon_be_filtered_by(
    house: House, eventually: Callable[[Callable[[], object]], None]
) -> None:
    run = Run(house.client).open()
    run.ship()
    for value in (1.0, 2.0, 7.5):
        run.scalar(int(value), value).ship()
    query = TaskQuery(where=[Condition(key="metrics.loss/train", value=7.5)], fields=["last_iteration"])
    eventually(lambda: [t.last_iteration for t in house.client.call(QUERY_TASKS, query).tasks] == [7])

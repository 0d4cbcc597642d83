"""The state table, driven through the server: every move from every state, legal ones and refused ones."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.conftest import House
from tests.journals import Run

from taskloom.domain.errors import Conflict, IllegalMove, TaskloomError
from taskloom.domain.status import MOVES, Move, Status
from taskloom.wire.messages import Enqueue, Finish, MoveRequest, TaskCreate
from taskloom.wire.operations import (
    ABORT_TASK,
    CREATE_TASK,
    DEQUEUE_TASK,
    END_TASK,
    ENQUEUE_TASK,
    GET_TASK,
    PUBLISH_TASK,
    RESET_TASK,
    START_TASK,
)
from taskloom.wire.records import EndStatus
from taskloom.wire.send import Client


def make(client: Client, status: Status) -> str:
    """A task in this state, on the shortest legal way."""
    task = client.call(CREATE_TASK, TaskCreate(name="some task", project="tests")).id
    ways: dict[Status, list[Move]] = {
        Status.DRAFT: [],
        Status.PENDING: [Move.ENQUEUE],
        Status.RUNNING: [Move.START],
        Status.COMPLETED: [Move.START, Move.COMPLETE],
        Status.FAILED: [Move.START, Move.FAIL],
        Status.ABORTED: [Move.START, Move.ABORT],
        Status.PUBLISHED: [Move.START, Move.COMPLETE, Move.PUBLISH],
    }
    for step in ways[status]:
        MAKE[step](client, task)
    assert client.call(GET_TASK, task=task).status is status
    return task


def resume(client: Client, task: str) -> None:
    Run(client, task, writer="again").open("resume").ship()


def end(outcome: EndStatus) -> Callable[[Client, str], object]:
    return lambda client, task: client.call(END_TASK, Finish(outcome=outcome), task=task)


MAKE: dict[Move, Callable[[Client, str], object]] = {
    Move.ENQUEUE: lambda client, task: client.call(ENQUEUE_TASK, Enqueue(), task=task),
    Move.DEQUEUE: lambda client, task: client.call(DEQUEUE_TASK, MoveRequest(), task=task),
    Move.START: lambda client, task: client.call(START_TASK, MoveRequest(), task=task),
    Move.RESUME: resume,
    Move.COMPLETE: end("completed"),
    Move.FAIL: end("failed"),
    Move.ABORT: lambda client, task: client.call(ABORT_TASK, MoveRequest(), task=task),
    Move.RESET: lambda client, task: client.call(RESET_TASK, MoveRequest(), task=task),
    Move.PUBLISH: lambda client, task: client.call(PUBLISH_TASK, MoveRequest(), task=task),
}
# A script that continues a task finds it as a draft or still running, too: both are no fault of it.
FORGIVING = {(Move.RESUME, Status.DRAFT): Status.RUNNING, (Move.RESUME, Status.RUNNING): Status.RUNNING}


def test_every_move_from_every_state(any_house: House) -> None:
    client = any_house.client
    for move, make_it in MAKE.items():
        sources, target = MOVES[move]
        for status in Status:
            task = make(client, status)
            expected = target if status in sources else FORGIVING.get((move, status))
            if expected is not None:
                make_it(client, task)
                assert client.call(GET_TASK, task=task).status is expected, (move, status)
            else:
                with pytest.raises(IllegalMove) as refused:
                    make_it(client, task)
                assert refused.value.details["status"] == status.value, (move, status)
                assert client.call(GET_TASK, task=task).status is status, (move, status)


def test_of_moves_that_exclude_one_another_one_wins(any_house: House) -> None:
    client = any_house.client
    for _ in range(5):
        task = make(client, Status.COMPLETED)

        def attempt(move: Move, task: str = task) -> bool:
            try:
                MAKE[move](any_house.client_of(any_house.key), task)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(attempt, [Move.PUBLISH, Move.RESET, Move.PUBLISH, Move.RESET]))
        status = client.call(GET_TASK, task=task).status
        if status is Status.PUBLISHED:
            assert (won[0], won[2]) in {(True, False), (False, True)}
        else:
            assert status is Status.DRAFT
            assert won[0] is won[2] is False


def test_a_move_says_why_and_when(any_house: House) -> None:
    client = any_house.client
    task = make(client, Status.RUNNING)
    started = client.call(GET_TASK, task=task)
    ended = client.call(END_TASK, Finish(outcome="failed", exit_code=3, message="Traceback ..."), task=task)
    assert (ended.status_reason, ended.status_message) == ("exit code 3", "Traceback ...")
    assert started.completed == 0 < started.started <= ended.completed
    again = client.call(RESET_TASK, MoveRequest(reason="once more"), task=task)
    assert (again.started, again.completed, again.status_reason) == (0, 0, "once more")


def test_force_reaches_a_task_that_waits_or_runs(any_house: House) -> None:
    client = any_house.client
    for status in (Status.PENDING, Status.RUNNING):
        task = make(client, status)
        reset = client.call(RESET_TASK, MoveRequest(force=True), task=task)
        assert (reset.status, reset.queue) == (Status.DRAFT, "")
        MAKE[Move.ENQUEUE](client, task)  # nothing of the old wait is left


def test_unknown_tasks_are_told_by_their_id(any_house: House) -> None:
    for move, make_it in MAKE.items():
        if move is Move.RESUME:
            continue  # it makes the task
        with pytest.raises(TaskloomError, match=r"no task '?f{32}") as refused:
            make_it(any_house.client, "f" * 32)
        assert refused.value.http_status == 404, move

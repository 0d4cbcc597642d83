"""Sweeps: a task for each combination, one end for all; and the files that an execution names stay."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from tests.contracts.queue_rig import Rig
from tests.journals import Run

from taskloom.domain.errors import BadInput, BlobMissing, NotFound
from taskloom.domain.execution import Execution, Sweep
from taskloom.domain.parameters import Parameter, encode
from taskloom.domain.status import Status
from taskloom.domain.task import Task, TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as op

PARAMETERS = {"General": {"lr": encode(0.01), "layers": encode(2), "name": encode("plain"), "fast": encode(False)}}


@pytest.fixture
def rig(any_house: Any, clock: Any) -> Rig:
    return Rig(any_house, clock)


def draft(rig: Rig, grid: dict[str, tuple[Any, ...]], **sweep: Any) -> str:
    execution = Execution(command=("true",), sweep=Sweep(grid=grid, **sweep), priority=3)
    body = m.TaskCreate(name="sweep", project="sweeps", execution=execution, parameters=PARAMETERS, tags=("mine",))
    return rig.client.call(op.CREATE_TASK, body).id


def begun(rig: Rig, grid: dict[str, tuple[Any, ...]], **sweep: Any) -> str:
    task = draft(rig, grid, **sweep)
    assert rig.put(task).status is Status.RUNNING
    return task


def children(rig: Rig) -> list[Task]:
    return [rig.get(task) for task in rig.order()]


def test_a_sweep_makes_a_task_for_each_combination_in_the_order_of_its_grid(rig: Rig) -> None:
    sweep = begun(rig, {"lr": (0.1, 1), "name": ("a", 5), "layers": ("3",)})
    made = children(rig)
    assert [task.name for task in made] == [
        "sweep lr=0.1 name=a layers=3",
        "sweep lr=0.1 name=5 layers=3",
        "sweep lr=1.0 name=a layers=3",
        "sweep lr=1.0 name=5 layers=3",
    ]
    first = made[0]
    assert (first.parent, first.project, first.tags, first.status) == (sweep, "sweeps", ("mine",), Status.PENDING)
    assert first.execution == Execution(command=("true",), priority=3)
    values = made[3].parameters["General"]
    assert values == {
        "lr": Parameter("1.0", "float"),
        "name": Parameter("5", "str"),
        "layers": Parameter("3", "int"),
        "fast": Parameter("False", "bool"),
    }
    assert rig.waiting(sweep).reason == "its sweep: 0 of 4 tasks have ended (4 waiting)"
    assert rig.client.call(op.QUERY_TASKS, m.TaskQuery(parent=[sweep])).total == 4


def test_a_sweep_ends_with_its_last_task_and_names_the_best(rig: Rig) -> None:
    sweep = begun(rig, {"lr": (0.1, 0.2, 0.3, 0.4)}, metric="accuracy", lower_is_better=False)
    rig.register(slots=4)
    leases = [rig.claim() for _ in range(4)]
    for lease, score in zip(leases, (0.5, 0.9, 0.7, 0.99), strict=True):
        edit = m.TaskEditRequest(edit=TaskEdit(runtime={"score": {"accuracy": score}}))
        rig.client.call(op.EDIT_TASK, edit, task=lease.task.id)
    for lease in leases[:3]:
        rig.finish(lease)
        assert rig.get(sweep).status is Status.RUNNING
    assert rig.waiting(sweep).reason == "its sweep: 3 of 4 tasks have ended (3 completed, 1 running)"
    rig.finish(leases[3], "failed", exit_code=1)
    ended = rig.get(sweep)
    assert (ended.status, ended.status_message) == (
        Status.COMPLETED,
        "3 completed, 1 failed; best accuracy 0.9 with lr=0.2",
    )
    assert ended.runtime["sweep"] == {
        "total": 4,
        "completed": 3,
        "failed": 1,
        "aborted": 0,
        "metric": "accuracy",
        "lower_is_better": False,
        "best": {
            "task": leases[1].task.id,
            "name": "sweep lr=0.2",
            "value": 0.9,
            "parameters": {"lr": 0.2},
        },
    }


def test_the_best_of_a_sweep_goes_by_the_last_value_of_a_series_before_any_score(rig: Rig) -> None:
    sweep = begun(rig, {"lr": (0.1, 0.2, 0.3, 0.4)}, metric="valley/height", lower_is_better=True)
    rig.register(slots=4)
    leases = [rig.claim() for _ in range(4)]
    for lease, heights in zip(leases, ((1.0, 7.0), (9.0, 3.0), (0.5, 5.0), (0.1, 0.1)), strict=True):
        run = Run(rig.client, lease.task.id, lease=lease.token).open("reset")
        for iteration, height in enumerate(heights):
            run.scalar(iteration, height, "valley", "height")
        run.edit(runtime={"score": -heights[0]}).ship()
    for lease in leases[:3]:
        rig.finish(lease)
    rig.finish(leases[3], "failed", exit_code=1)
    ended = rig.get(sweep)
    assert ended.status_message == "3 completed, 1 failed; best valley/height 3 with lr=0.2"
    assert ended.runtime["sweep"]["best"]["task"] == leases[1].task.id
    assert ended.runtime["sweep"]["best"]["value"] == 3.0


def test_a_sweep_all_of_whose_tasks_failed_is_completed_and_says_so(rig: Rig) -> None:
    sweep = begun(rig, {"lr": (0.1, 0.2)})
    rig.register(slots=4)
    for lease in [rig.claim(), rig.claim()]:
        rig.finish(lease, "failed")
    ended = rig.get(sweep)
    assert (ended.status, ended.status_message) == (Status.COMPLETED, "2 failed")
    assert "best" not in ended.runtime["sweep"]


def test_an_aborted_sweep_takes_its_tasks_along(rig: Rig) -> None:
    sweep = begun(rig, {"lr": (0.1, 0.2, 0.3)})
    rig.register()
    lease = rig.claim()
    waiting = rig.order()
    assert rig.abort(sweep, reason="wrong grid").status is Status.ABORTED
    assert {rig.get(task).status for task in waiting} == {Status.ABORTED}
    assert rig.get(waiting[0]).status_reason == "its sweep was aborted: wrong grid"
    assert rig.order() == []
    assert rig.renew(lease).stop
    assert rig.finish(lease, "aborted").status is Status.ABORTED
    assert rig.get(sweep).status is Status.ABORTED


def test_what_is_taken_out_or_deleted_is_not_waited_for(rig: Rig) -> None:
    sweep = begun(rig, {"lr": (0.1, 0.2, 0.3)})
    first, second, third = rig.order()
    rig.abort(first)
    rig.client.call(op.DEQUEUE_TASK, m.MoveRequest(), task=second)
    assert rig.get(sweep).status is Status.RUNNING
    rig.client.call(op.DELETE_TASK, query=m.TaskDelete(force=True), task=third)
    rig.sweep()
    ended = rig.get(sweep)
    assert (ended.status, ended.status_message) == (Status.COMPLETED, "1 aborted, 1 taken out")


def test_an_ended_sweep_can_be_enqueued_again(rig: Rig) -> None:
    sweep = begun(rig, {"lr": (0.1, 0.2)})
    rig.abort(sweep)
    assert rig.put(sweep).status is Status.RUNNING
    rig.register()
    for lease in [rig.claim(), rig.claim()]:
        rig.finish(lease)
    assert rig.get(sweep).status_message == "2 completed"


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({}, "expected values of at least one"),
        ({"lr": ()}, "'lr' has no values"),
        ({"lr": tuple(range(101)), "layers": tuple(range(100))}, "10100 combinations; expected at most 10000"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(rig: Rig, grid: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        draft(rig, grid)


def test_a_grid_of_unknown_parameters_or_wrong_values_is_refused_at_enqueue(rig: Rig) -> None:
    for grid, said in (({"learning_rate": (1,)}, "no parameter 'learning_rate'"), ({"layers": ("x",)}, "layers")):
        task = draft(rig, grid)
        with pytest.raises(BadInput, match=said):
            rig.put(task)
        assert rig.get(task).status is Status.DRAFT


# --- files ------------------------------------------------------------------------------------------------


def upload(rig: Rig, content: bytes) -> str:
    import httpx

    digest = hashlib.sha256(content).hexdigest()
    url = f"{rig.house.url}/api/blobs/{digest}"
    httpx.put(url, content=content, headers={"Authorization": f"Bearer {rig.house.key}"}).raise_for_status()
    return digest


def test_files_of_an_execution_have_to_be_there_and_stay_until_the_last_task_goes(rig: Rig) -> None:
    with pytest.raises(BlobMissing):
        rig.task(files="0" * 64)
    digest, other = upload(rig, b"a folder"), upload(rig, b"another")
    task = rig.task(files=digest)
    with pytest.raises(BlobMissing):
        rig.client.call(op.CLONE_TASK, m.TaskClone(edit=TaskEdit(execution={"files": "1" * 64})), task=task)
    clone = rig.client.call(op.CLONE_TASK, m.TaskClone(), task=task).id
    rig.client.call(op.DELETE_TASK, query=m.TaskDelete(), task=task)
    rig.clock.advance(3 * 86_400)
    assert rig.client.call(op.BLOB_STATUS, digest=digest).complete, "the clone still names it"
    edit = m.TaskEditRequest(edit=TaskEdit(execution={"files": other}))
    rig.client.call(op.EDIT_TASK, edit, task=clone)
    rig.client.call(op.DELETE_TASK, query=m.TaskDelete(), task=clone)
    for gone in (digest, other):
        assert not rig.client.call(op.BLOB_STATUS, digest=gone).complete
    with pytest.raises(NotFound):
        rig.get(clone)

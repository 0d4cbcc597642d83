"""A server that dies between the two steps of a deletion: the next one, or the next batch, finishes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import Connection, func, select
from tests.conftest import House
from tests.journals import Run

from taskloom.domain.errors import Conflict
from taskloom.domain.status import Status
from taskloom.server.tables import console, deletions, marks, series
from taskloom.server.tasks.gates import TaskGates
from taskloom.server.tasks.removal import Removal
from taskloom.wire.messages import MoveRequest, TaskCreate, TaskDelete
from taskloom.wire.operations import CREATE_TASK, DELETE_TASK, RESET_TASK


def telemetry_rows(house: House, task: str) -> int:
    def count(tx: Connection) -> int:
        return sum(
            tx.execute(select(func.count()).select_from(table).where(table.c.task_id == task)).scalar_one()
            for table in (series, console, marks)
        )

    return house.listener.house.telemetry.read_now(count)


def pending(house: House) -> int:
    open_ones = select(func.count()).select_from(deletions).where(deletions.c.done.is_(False))
    return house.listener.house.main.read_now(lambda tx: tx.execute(open_ones).scalar_one())


@pytest.fixture
def dies_in_between(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The second step never happens until `undo`."""

    async def nothing(_: Removal, __: Sequence[str]) -> None:
        return None

    monkeypatch.setattr(Removal, "finish", nothing)
    return monkeypatch


def test_a_deletion_that_was_cut_off_is_finished_at_the_next_start(
    house: House, dies_in_between: pytest.MonkeyPatch, eventually: Callable[[Callable[[], object]], None]
) -> None:
    run = Run(house.client).open().scalar(0, 1.0).print("x").end()
    run.ship()
    house.client.call(DELETE_TASK, query=TaskDelete(), task=run.task)
    assert (telemetry_rows(house, run.task), pending(house)) == (3, 1)
    dies_in_between.undo()
    house.restart()
    eventually(lambda: pending(house) == 0)
    assert telemetry_rows(house, run.task) == 0
    with pytest.raises(Conflict, match="never used again"):
        house.client.call(CREATE_TASK, TaskCreate(id=run.task, name="again", project="tests"))


def test_a_reset_that_was_cut_off_is_finished_by_the_next_run(
    house: House, dies_in_between: pytest.MonkeyPatch
) -> None:
    old = Run(house.client, writer="old").open().scalar(0, 1.0).print("old").end()
    old.ship()
    house.client.call(RESET_TASK, MoveRequest(), task=old.task)
    assert (telemetry_rows(house, old.task), pending(house)) == (3, 1)
    dies_in_between.undo()
    new = Run(house.client, old.task, writer="new").open("resume").scalar(5, 2.0)
    new.ship()
    assert (new.points().iteration, pending(house)) == ([5], 0)
    assert new.seen().status is Status.RUNNING


def test_a_run_that_took_the_place_of_another_survives_a_crash_in_between(
    house: House, dies_in_between: pytest.MonkeyPatch
) -> None:
    """Main has the new run, telemetry still the old one's results; the batch is sent again."""
    old = Run(house.client, writer="old").open().scalar(0, 1.0).end()
    old.ship()
    new = Run(house.client, old.task, writer="new").open("reset").scalar(5, 2.0)
    with pytest.raises(Conflict):
        new.ship()
    dies_in_between.undo()
    house.restart()
    new.client = house.client
    assert new.ship().rows == 1
    assert new.ship().rows == 1
    assert new.points().iteration == [5]


def test_appending_and_deleting_exclude_each_other_and_nobody_starves() -> None:
    async def scenario() -> list[str]:
        gates, told = TaskGates(), list[str]()
        inside = asyncio.Event()
        leave = asyncio.Event()

        async def append(name: str) -> None:
            async with gates.shared("t"):
                told.append(f"{name} in")
                inside.set()
                await leave.wait()
                told.append(f"{name} out")

        async def remove() -> None:
            async with gates.alone("t"):
                told.append("alone")
                await asyncio.sleep(0)
                told.append("done")

        first = asyncio.create_task(append("first"))
        await inside.wait()
        removing = asyncio.create_task(remove())
        await asyncio.sleep(0)
        late = asyncio.create_task(append("late"))
        async with gates.shared("another"):  # other tasks do not wait
            await asyncio.sleep(0)
        leave.set()
        await asyncio.gather(first, removing, late)
        async with gates.alone("t"):
            pass
        return told

    assert asyncio.run(scenario()) == ["first in", "first out", "alone", "done", "late in", "late out"]


def test_whoever_gives_up_waiting_leaves_the_gate_as_it_was() -> None:
    async def scenario() -> None:
        gates = TaskGates()
        async with gates.shared("t"):
            removing = asyncio.create_task(gates.alone("t").__aenter__())
            await asyncio.sleep(0.01)
            removing.cancel()
            await asyncio.gather(removing, return_exceptions=True)
            async with asyncio.timeout(5), gates.shared("t"):
                pass

    asyncio.run(scenario())

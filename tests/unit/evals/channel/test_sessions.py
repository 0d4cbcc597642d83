"""What becomes of a task whose connection is lost."""

from __future__ import annotations

import pytest
from tests.unit.evals.channel.conftest import World
from tests.unit.evals.channel.peers import RawClient, Served, until

from taskloom.evals.channel import sessions


async def park(house: Served, a: int = 1) -> str:
    """Start a task and hang up; its session."""
    client = await house.client()
    session = (await client.result("hello"))["session_id"]
    await client.result("tasks.start", id="add", args={"a": a})
    await client.hang_up()
    await until(lambda: session in house.server._sessions._parked)
    return session


async def resumed(house: Served, session: str) -> RawClient:
    client = await house.client()
    assert (await client.result("hello", session_id=session))["session_id"] == session
    return client


async def test_a_parked_task_is_graded_by_who_resumes_its_session(house: Served, world: World) -> None:
    first, second = await park(house, 1), await park(house, 5)
    assert world.events == []
    client = await resumed(house, second)
    assert await client.result("tasks.grade", answer="7") == {"score": 1.0}
    client = await resumed(house, first)
    assert await client.result("tasks.grade", answer="3") == {"score": 1.0}


async def test_a_bare_grade_adopts_the_one_parked_task(house: Served) -> None:
    await park(house)
    client = await house.client()
    assert await client.result("tasks.grade", answer="3") == {"score": 1.0}
    assert await client.refusal("tasks.grade", answer="3") == (-32600, "no task in progress")


async def test_with_several_parked_a_bare_grade_is_told_their_ids(house: Served) -> None:
    both = [await park(house), await park(house)]
    client = await house.client()
    code, message = await client.refusal("tasks.grade", answer="3")
    assert code == -32600
    assert all(session in message for session in both)


async def test_a_task_of_ones_own_goes_before_a_parked_one(house: Served) -> None:
    await park(house, 1)
    client = await house.client()
    await client.result("tasks.start", id="add", args={"a": 5})
    assert await client.result("tasks.grade", answer="7") == {"score": 1.0}
    assert await client.result("tasks.grade", answer="3") == {"score": 1.0}


async def test_a_live_session_cannot_be_taken(house: Served) -> None:
    owner, other = await house.client(), await house.client()
    session = (await owner.result("hello"))["session_id"]
    await owner.result("tasks.start", id="add", args={"a": 1})
    assert await other.refusal("hello", session_id=session) == (
        -32600,
        f"session {session!r} has a live connection",
    )
    assert await other.refusal("tasks.grade") == (-32600, "no task in progress")
    assert await owner.result("tasks.grade", answer="3") == {"score": 1.0}


async def test_a_session_without_a_task_is_unknown_once_its_connection_is_gone(house: Served) -> None:
    client = await house.client()
    session = (await client.result("hello"))["session_id"]
    await client.hang_up()
    other = await house.client()
    await until(lambda: session not in house.server._sessions._live)
    assert (await other.refusal("hello", session_id=session))[1] == f"unknown session: {session!r}"


async def test_who_resumes_another_session_parks_what_it_held_itself(house: Served) -> None:
    session = await park(house, 1)
    client = await house.client()
    own = (await client.result("hello"))["session_id"]
    await client.result("tasks.start", id="add", args={"a": 5})
    await client.result("hello", session_id=session)
    assert await client.result("tasks.grade", answer="3") == {"score": 1.0}
    await client.result("hello", session_id=own)
    assert await client.result("tasks.grade", answer="7") == {"score": 1.0}


async def test_a_resumed_session_is_parked_again_when_it_is_lost_again(house: Served) -> None:
    session = await park(house)
    await (await resumed(house, session)).hang_up()
    await until(lambda: session in house.server._sessions._parked)
    assert await (await resumed(house, session)).result("tasks.grade", answer="3") == {"score": 1.0}


async def test_lost_during_start_the_start_goes_on_and_is_parked(house: Served, world: World) -> None:
    client = await house.client()
    session = (await client.result("hello"))["session_id"]
    await client.send({"id": 1, "method": "tasks.start", "params": {"id": "slow_start"}})
    await until(lambda: world.events == ["starting"])
    await client.hang_up()
    other = await house.client()
    assert "live" in (await other.refusal("hello", session_id=session))[1]
    world.gate.set()
    await until(lambda: session in house.server._sessions._parked)
    await other.result("hello", session_id=session)
    assert await other.result("tasks.grade", answer="x") == {"score": 1.0}


async def test_lost_during_grade_the_task_is_gone(house: Served, world: World) -> None:
    client = await house.client()
    session = (await client.result("hello"))["session_id"]
    await client.result("tasks.start", id="slow_grade")
    await client.send({"id": 1, "method": "tasks.grade"})
    await until(lambda: world.events == ["grading"])
    await client.hang_up()
    await until(lambda: world.events == ["grading", "closed", "torn down"])
    other = await house.client()
    assert (await other.refusal("hello", session_id=session))[0] == -32600
    assert await other.refusal("tasks.grade") == (-32600, "no task in progress")


async def test_bye_ends_the_task_instead_of_parking_it(house: Served, world: World) -> None:
    client = await house.client()
    await client.result("tasks.start", id="add", args={"a": 1})
    assert await client.result("bye") == {"goodbye": True}
    assert world.events == ["closed", "torn down"]
    assert await (await house.client()).refusal("tasks.grade") == (-32600, "no task in progress")


async def test_of_more_parked_tasks_than_are_kept_the_oldest_is_closed(
    house: Served, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "PARKED", 2)
    first, second, third = [await park(house, number) for number in range(3)]
    await until(lambda: world.events == ["closed", "torn down"])
    client = await house.client()
    assert (await client.refusal("hello", session_id=first))[1] == f"unknown session: {first!r}"
    for session, answer in ((second, "3"), (third, "4")):
        await client.result("hello", session_id=session)
        assert await client.result("tasks.grade", answer=answer) == {"score": 1.0}

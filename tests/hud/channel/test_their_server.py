"""Our client drives an environment that the unmodified hud package serves."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from taskloom.evals import Run, Runtime
from taskloom.evals.channel.client import Client, connect
from taskloom.evals.channel.contract import Refused
from taskloom.evals.failures import EnvironmentFailure, GraderFailure


@pytest.fixture
def runtime(their_port: int) -> Runtime:
    return Runtime(f"tcp://127.0.0.1:{their_port}", {"ready_timeout": 20.0})


async def answer(runtime: Runtime, template: str, answer: object, **args: object) -> Run:
    async with connect(runtime) as client, Run(client, template, args) as run:
        run.trace.content = answer
    return run


async def test_a_run_is_graded(runtime: Runtime) -> None:
    run = await answer(runtime, "add", "3", a=1)
    assert (run.prompt, run.reward) == ("What is 1 + 2?", 1.0)
    assert run.task.env == "world"
    assert (await answer(runtime, "add", "4", a="1")).reward == 0.0


async def test_eight_at_once_keep_their_prompts_and_grades(runtime: Runtime) -> None:
    gate = asyncio.Semaphore(8)

    async def one(number: int) -> Run:
        async with gate:
            return await answer(runtime, "add", str(number + 2), a=number)

    runs = await asyncio.gather(*(one(number) for number in range(60)))
    assert [run.prompt for run in runs] == [f"What is {number} + 2?" for number in range(60)]
    assert [run.reward for run in runs] == [1.0] * 60


async def test_messages_and_results_with_parts_arrive(runtime: Runtime) -> None:
    run = await answer(runtime, "chat", "hello", messages=[{"role": "user", "content": "hi"}])
    assert run.prompt_text == "hi\n\nand now?"
    assert run.grade is not None
    assert (run.reward, run.grade.content, run.grade.info) == (0.5, "heard hello", {"turns": 1})
    assert [(part.name, part.value, part.weight) for part in run.grade.subscores] == [
        ("tone", 1.0, 0.5),
        ("fact", 0.0, 0.5),
    ]


@pytest.mark.parametrize("said", ['{"x": 4}', {"x": 4}])
async def test_typed_answers_are_parsed(runtime: Runtime, said: object) -> None:
    run = await answer(runtime, "typed", said)
    assert run.opening["hint"] == "a point"
    assert run.grade is not None
    assert (run.reward, run.grade.raw["x"]) == (1.0, 4)


async def test_what_fails_there_fails_at_the_right_boundary(runtime: Runtime) -> None:
    with pytest.raises(EnvironmentFailure, match="no world today"):
        await answer(runtime, "fails", "", where="start")
    with pytest.raises(GraderFailure, match="no grade today"):
        await answer(runtime, "fails", "", where="grade")
    with pytest.raises(GraderFailure, match="non-finite"):
        await answer(runtime, "fails", "", where="later")
    with pytest.raises(EnvironmentFailure, match="bad args"):
        await answer(runtime, "add", "")
    with pytest.raises(EnvironmentFailure, match="unknown task"):
        await answer(runtime, "nothing", "")


async def test_capabilities_are_reached_through_the_control_port(runtime: Runtime) -> None:
    async with connect(runtime) as client:
        capability = await client.binding("echo")
        parts = urlsplit(capability.url)
        assert capability.url == f"echo://me@127.0.0.1:{parts.port}/deep?x=1"

        async def ask(text: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(text)
            writer.write_eof()
            heard = await reader.read()
            writer.close()
            return heard

        texts = [f"text {number} ".encode() * 20_000 for number in range(8)]
        assert await asyncio.gather(*map(ask, texts)) == [text.upper() for text in texts]


async def test_a_parked_task_is_resumed_by_its_session_and_adopted_without(runtime: Runtime) -> None:
    async with connect(runtime) as client:
        await client.start("add", {"a": 1})
    async with connect(runtime, session_id=client.session_id) as other:
        assert await other.grade("3") == {"score": 1.0}
    async with connect(runtime) as client:
        await client.start("add", {"a": 5})
    async with connect(runtime) as other:
        assert await other.grade("7") == {"score": 1.0}
        with pytest.raises(Refused, match="no task in progress"):
            await other.grade("7")


async def test_a_line_that_is_lost_between_prompt_and_grade_is_made_good(runtime: Runtime) -> None:
    async with connect(runtime) as client:
        await client.start("add", {"a": 1})
        gone = asyncio.Event()
        client.on_lost(lambda _: gone.set())
        client._line.transport.abort()
        await gone.wait()
        assert await client.grade("3") == {"score": 1.0}


async def events(client: Client) -> list[str]:
    await client.start("seen", {})
    return (await client.grade(None))["events"]


@pytest.mark.parametrize("where", ["start", "grade"])
async def test_a_call_that_is_given_up_ends_the_task_there(runtime: Runtime, where: str) -> None:
    client = await connect(runtime).__aenter__()
    if where == "grade":
        await client.start("hangs", {"where": where})
    work = asyncio.create_task(client.grade("x") if where == "grade" else client.start("hangs", {"where": where}))
    await asyncio.sleep(0.1)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await client.close()
    async with connect(runtime) as other:
        assert f"hangs {where} closed" in await events(other)
        await other.start("add", {"a": 77})
        await other.cancel()
        assert "add 77 closed" in await events(other)


async def test_the_manifest_is_read(runtime: Runtime) -> None:
    async with connect(runtime) as client:
        assert (client.env_name, client.env_version) == ("world", "1.2")
        assert [entry["id"] for entry in await client.list_tasks()][:2] == ["add", "seen"]
        assert await client._line.call("hello", {"session_id": client.session_id})


async def test_megabytes_go_both_ways(runtime: Runtime) -> None:
    run = await answer(runtime, "large", "y" * 5_000_000, size=5_000_000)
    assert run.grade is not None
    assert (len(run.prompt), run.grade.raw["length"]) == (5_000_000, 5_000_000)

"""The client's side: it waits until an environment is ready, and says in one sentence what broke."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from tests.unit.evals.channel.conftest import World
from tests.unit.evals.channel.peers import HELLO, Script, Scripted, Served, scripted, served, until

from taskloom.evals import Environment, Run, Runtime
from taskloom.evals.channel import client as client_module
from taskloom.evals.channel import connection, framing
from taskloom.evals.channel.client import connect
from taskloom.evals.channel.contract import ChannelLost, Refused, read_address
from taskloom.evals.failures import EnvironmentFailure, GraderFailure


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that no test has to wait for."""
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(client_module, "LONGEST_PAUSE", 0.01)


async def test_a_run_goes_from_prompt_to_grade(house: Served) -> None:
    async with connect(house.runtime) as client:
        assert (client.env_name, client.env_version) == ("world", "1.2")
        assert client.session_id.startswith("sess-")
        assert [entry["id"] for entry in await client.list_tasks()][:1] == ["add"]
        async with Run(client, "add", {"a": 1}) as run:
            assert run.prompt == "What is 1 + 2?"
            run.trace.content = "3"
    assert run.reward == 1.0


async def test_refusals_have_code_and_message_and_the_line_goes_on(house: Served) -> None:
    async with connect(house.runtime) as client:
        with pytest.raises(Refused, match="unknown task: 'nothing'") as refused:
            await client.start("nothing", {})
        assert refused.value.code == -32602
        with pytest.raises(Refused, match="no task in progress"):
            await client.grade("x")
        await client.start("add", {"a": 1})
        assert (await client.grade("3"))["score"] == 1.0


async def test_runs_fail_at_the_boundary_that_was_crossed(house: Served) -> None:
    async with connect(house.runtime) as client:
        with pytest.raises(EnvironmentFailure, match="no world today"):
            await Run(client, "fails", {"where": "start"}).begin()
        run = Run(client, "fails", {"where": "grade"})
        await run.begin()
        with pytest.raises(GraderFailure, match="no grade today"):
            await run.finish()


async def test_close_parks_the_task_and_another_client_resumes_it(house: Served) -> None:
    async with connect(house.runtime) as client:
        await client.start("add", {"a": 1})
    async with connect(house.runtime, session_id=client.session_id) as other:
        assert other.session_id == client.session_id
        assert (await other.grade("3"))["score"] == 1.0
    with pytest.raises(Refused, match="unknown session"):
        async with connect(house.runtime, session_id=client.session_id):
            pass


async def test_cancel_ends_the_task(house: Served, world: World) -> None:
    async with connect(house.runtime) as client:
        await client.start("add", {"a": 1})
        await client.cancel()
        assert world.events == ["closed", "torn down"]


# --- the way to the first answer ------------------------------------------------------------------------------


async def test_it_waits_for_an_environment_that_is_not_there_yet(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    waiting = asyncio.create_task(connect(Runtime(f"tcp://127.0.0.1:{port}"), ready_timeout=10).__aenter__())
    await asyncio.sleep(0.02)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)  # up, nothing behind
    await asyncio.sleep(0.02)
    server.close()
    await server.wait_closed()
    assert not waiting.done()
    from taskloom.evals.channel.server import ControlServer

    control = ControlServer(world, port=port)
    await control.start()
    client = await waiting
    assert client.env_name == "world"
    await client.close()
    await control.stop()


async def test_nobody_there_is_told_with_address_and_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ChannelLost, match=rf"tcp://127.0.0.1:{port} was not ready in 0.05 s: Connection refused"):
        async with connect(Runtime(f"tcp://127.0.0.1:{port}", {"ready_timeout": 0.05})):
            pass


async def test_one_that_always_hangs_up_is_told() -> None:
    async def hang_up(peer: Scripted) -> None:
        await peer.read()

    async with scripted(hang_up) as runtime:
        with pytest.raises(ChannelLost, match=r"was not ready in 0.2 s: .*it hung up during hello"):
            async with connect(runtime, ready_timeout=0.2):
                pass


async def test_one_that_never_answers_is_told() -> None:
    async def silence(peer: Scripted) -> None:
        await asyncio.sleep(60)

    async with scripted(silence) as runtime:
        with pytest.raises(ChannelLost, match=r"was not ready in 0.05 s: no answer"):
            async with connect(runtime, ready_timeout=0.05):
                pass


@pytest.mark.parametrize("url", ["http://h:1", "tcp://h", "tcp://:5", "tcp://h:99999", "h", "", "tcp://h:x"])
def test_an_address_that_is_none_says_what_was_expected(url: str) -> None:
    with pytest.raises(ValueError, match="expected tcp://HOST:PORT"):
        connect(Runtime(url))


def test_addresses_may_leave_the_scheme_out() -> None:
    assert read_address("tcp://[::1]:5") == ("::1", 5)
    assert read_address("//h:5") == read_address("h:5") == ("h", 5)


@pytest.mark.parametrize("timeout", [0, -1, "5", True, float("nan"), float("inf")])
def test_a_timeout_that_is_none_says_what_was_expected(timeout: Any) -> None:
    with pytest.raises(ValueError, match="expected a number of seconds above 0"):
        connect(Runtime("tcp://h:1", {"ready_timeout": timeout}))


# --- environments that break ------------------------------------------------------------------------------------


async def wrong_hello(peer: Scripted) -> None:
    await peer.answer({"session_id": "s", "env": "none", "bindings": []})


async def garbage(peer: Scripted) -> None:
    await peer.read()
    await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def array(peer: Scripted) -> None:
    await peer.read()
    await peer.send(b"[1]\n")


async def other_id(peer: Scripted) -> None:
    request = await peer.read()
    await peer.send({"id": request["id"] + 1, "result": HELLO})


async def neither(peer: Scripted) -> None:
    request = await peer.read()
    await peer.send({"id": request["id"], "result": [1]})


async def refused_frame(peer: Scripted) -> None:
    await peer.read()
    await peer.send({"id": None, "error": {"code": -32000, "message": "too long for me"}})


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (wrong_hello, "its hello cannot be read"),
        (garbage, "does not speak the protocol: b'HTTP/1.1 400 Bad Request"),
        (array, "does not speak the protocol"),
        (other_id, "under another id, 2 for 1"),
        (neither, "neither a result nor an error"),
        (refused_frame, "refused the frame of hello: too long for me"),
    ],
)
async def test_an_environment_that_breaks_the_protocol_at_hello(script: Script, message: str) -> None:
    async with scripted(script) as runtime:
        with pytest.raises(ChannelLost, match=message):
            async with connect(runtime):
                pass


async def dies(peer: Scripted) -> None:
    await peer.read()


async def half_a_line(peer: Scripted) -> None:
    await peer.read()
    await peer.send(b'{"id":2,"result":{"prom')


async def flood(peer: Scripted) -> None:
    await peer.read()
    while True:
        await peer.send(b'{"id":99,"result":{}}\n' * 1000)


async def endless_line(peer: Scripted) -> None:
    await peer.read()
    while True:
        await peer.send(b"x" * 2**16)


PHASES = ("tasks.start", "tasks.grade")


async def call(client: client_module.Client, phase: str) -> Any:
    return await (client.start("add", {}) if phase == "tasks.start" else client.grade("x"))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (dies, "it hung up during {phase}"),
        (half_a_line, "it hung up during {phase}"),
        (flood, "under another id, 99 for"),
        (endless_line, "a line of more than"),
        (garbage, "does not speak the protocol"),
        (neither, "neither a result nor an error"),
        (other_id, "under another id"),
    ],
)
async def test_an_environment_that_breaks_at_a_phase(
    phase: str, script: Script, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "MAX_FRAME", 2**18)

    async def play(peer: Scripted) -> None:
        await peer.answer(HELLO)
        if phase == "tasks.grade":
            await peer.answer({"prompt": "x"})
        await script(peer)

    async with scripted(play) as runtime, connect(runtime) as client:
        if phase == "tasks.grade":
            await client.start("add", {})
        with pytest.raises(ChannelLost, match=message.format(phase=phase)) as first:
            await call(client, phase)
        with pytest.raises(ChannelLost) as second:
            await client.list_tasks()
        assert second.value is first.value
        await client.cancel()  # nothing to end, and no error


async def test_an_environment_that_speaks_unasked_is_cut_off() -> None:
    async def chatty(peer: Scripted) -> None:
        await peer.answer(HELLO)
        await peer.send({"id": 5, "result": {"more": "x" * 10**5}})
        await peer.read()

    lost: list[ChannelLost] = []
    async with scripted(chatty) as runtime, connect(runtime) as client:
        client.on_lost(lost.append)
        await until(lambda: lost)
        assert "spoke without being asked" in str(lost[0])


async def test_a_prompt_with_a_grade_in_advance_is_cut_off() -> None:
    async def eager(peer: Scripted) -> None:
        await peer.answer(HELLO)
        await peer.read()
        await peer.send({"id": 2, "result": {"prompt": "x"}}, {"id": 3, "result": {"score": 1.0}})
        await peer.read()

    async with scripted(eager) as runtime, connect(runtime) as client:
        await client.start("add", {})
        with pytest.raises(ChannelLost, match="without being asked"):
            await client.list_tasks()


async def test_what_is_too_long_or_no_json_never_goes_out(house: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connect(house.runtime) as client:
        await client.start("add", {"a": 1})
        with pytest.raises(Refused, match="object is no JSON"):
            await client.grade({"answer": object()})
        monkeypatch.setattr("taskloom.evals.channel.line.MAX_FRAME", 100)
        with pytest.raises(Refused, match=r"tasks.grade has 1.. bytes: a frame may have 100"):
            await client.grade("x" * 100)
        monkeypatch.undo()
        assert (await client.grade("3"))["score"] == 1.0


# --- callers that give up ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["slow_start", "slow_grade"])
async def test_a_cancelled_call_ends_the_task_over_there(house: Served, world: World, template: str) -> None:
    client = await connect(house.runtime).__aenter__()
    if template == "slow_grade":
        await client.start("slow_grade", {})
    work = asyncio.create_task(client.start(template, {}) if template == "slow_start" else client.grade("x"))
    await until(lambda: world.events)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    with pytest.raises(ChannelLost, match="closed from here"):
        await client.list_tasks()
    await client.cancel()  # waits until it has ended over there
    assert world.events[1:] == ["closed", "torn down"]
    await client.close()
    await until(lambda: not house.server._connections)
    assert not house.server._sessions._parked


async def test_a_cancelled_call_to_an_environment_that_hangs_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "CANCEL_PATIENCE", 0.05)
    gone = asyncio.Event()

    async def hang(peer: Scripted) -> None:
        await peer.answer(HELLO)
        while await peer.read():
            pass
        gone.set()

    async with scripted(hang) as runtime, connect(runtime) as client:
        work = asyncio.create_task(client.start("add", {}))
        await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await client.close()
        await gone.wait()


async def test_a_cancelled_connect_leaves_no_line_behind() -> None:
    gone = asyncio.Event()

    async def hang(peer: Scripted) -> None:
        while await peer.read():
            pass
        gone.set()

    async with scripted(hang) as runtime:
        work = asyncio.create_task(connect(runtime).__aenter__())
        await asyncio.sleep(0.02)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await gone.wait()


async def test_cancel_waits_only_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "CANCEL_PATIENCE", 0.02)

    async def deaf(peer: Scripted) -> None:
        await peer.answer(HELLO)
        await peer.answer({"prompt": "x"})
        await asyncio.sleep(60)

    async with scripted(deaf) as runtime, connect(runtime) as client:
        await client.start("add", {})
        await client.cancel()
        with pytest.raises(ChannelLost, match="closed from here"):
            await client.grade("x")


async def test_a_cancel_beside_a_running_call_ends_it(house: Served, world: World) -> None:
    async with connect(house.runtime) as client:
        await client.start("slow_grade", {})
        work = asyncio.create_task(client.grade("x"))
        await until(lambda: world.events)
        await client.cancel()
        assert world.events == ["grading", "closed", "torn down"]
        with pytest.raises(ChannelLost, match="closed from here"):
            await work


async def test_two_calls_at_once_are_a_mistake_of_the_caller(house: Served, world: World) -> None:
    async with connect(house.runtime) as client:
        first = asyncio.create_task(client.start("slow_start", {}))
        await until(lambda: world.events)
        with pytest.raises(RuntimeError, match="calls are serial"):
            await client.list_tasks()
        world.gate.set()
        assert await first == {"prompt": "x"}


# --- lines that are lost between prompt and grade ---------------------------------------------------------------


async def test_a_line_that_is_lost_between_prompt_and_grade_is_made_good(house: Served) -> None:
    lost: list[ChannelLost] = []
    async with connect(house.runtime) as client:
        client.on_lost(lost.append)
        await client.start("add", {"a": 1})
        (held,) = house.server._connections
        held.transport.abort()
        await until(lambda: lost)
        assert (await client.grade("3"))["score"] == 1.0


async def test_an_environment_that_is_gone_by_the_grade_is_told(world: World) -> None:
    async with served(world) as house:
        client = await connect(house.runtime).__aenter__()
        await client.start("add", {"a": 1})
    with pytest.raises(ChannelLost, match=r"it hung up|connection was lost.*cannot be reached again"):
        await client.grade("3")
    await client.close()


async def test_an_environment_that_was_restarted_does_not_know_the_session(world: World) -> None:
    from taskloom.evals.channel.server import ControlServer

    async with served(world) as house:
        client = await connect(house.runtime).__aenter__()
        await client.start("add", {"a": 1})
    fresh = ControlServer(world, port=house.port)
    await fresh.start()
    with pytest.raises(ChannelLost, match="cannot be resumed: unknown session"):
        await client.grade("3")
    await client.close()
    await fresh.stop()


async def test_signs_of_life_keep_a_line_and_notice_a_dead_one(
    house: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "HEARTBEAT_EVERY", 0.005)
    monkeypatch.setattr(client_module, "HEARTBEAT_PATIENCE", 0.02)
    async with connect(house.runtime) as client:
        await client.start("add", {"a": 1})
        await until(lambda: client._line._number > 5)
        assert (await client.grade("3"))["score"] == 1.0

    async def falls_silent(peer: Scripted) -> None:
        await peer.answer(HELLO)
        await asyncio.sleep(60)

    lost: list[ChannelLost] = []
    async with scripted(falls_silent) as runtime, connect(runtime) as client:
        client.on_lost(lost.append)
        await until(lambda: lost)
        assert "no sign of life" in str(lost[0])


async def test_an_environment_that_refuses_signs_of_life_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "HEARTBEAT_EVERY", 0.001)
    asked: list[str] = []

    async def refuse(peer: Scripted) -> None:
        await peer.answer(HELLO)
        request = await peer.read()
        asked.append(request["method"])
        await peer.send({"id": request["id"], "error": {"code": -32601, "message": "no"}})
        await peer.answer({"tasks": []})
        await peer.read()

    async with scripted(refuse) as runtime, connect(runtime) as client:
        await until(lambda: asked and not client._line.is_busy)
        assert await client.list_tasks() == []


def test_the_limits_are_the_written_ones() -> None:
    assert connection.MAX_FRAME == framing.MAX_FRAME == 16 * 2**20
    assert Environment("x").version == "0.0.1"

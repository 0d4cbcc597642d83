"""The server's side of the wire, frame by frame, as HUD 0.6.21 has it."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.unit.evals.channel.conftest import World
from tests.unit.evals.channel.peers import Served, until

from taskloom.evals.channel import connection, framing
from taskloom.evals.channel.client import connect


async def test_hello_tells_session_environment_and_bindings(house: Served) -> None:
    client = await house.client()
    told = await client.result("hello")
    assert told == {
        "session_id": told["session_id"],
        "env": {"name": "world", "version": "1.2"},
        "bindings": [],
    }
    assert told["session_id"].startswith("sess-") and len(told["session_id"]) == 13
    assert await client.result("hello", session_id=told["session_id"]) == told


async def test_a_run_from_hello_to_grade(house: Served, world: World) -> None:
    client = await house.client()
    assert await client.result("tasks.start", id="add", args={"a": "1"}) == {"prompt": "What is 1 + 2?"}
    assert await client.result("tasks.grade", answer="3") == {"score": 1.0}
    assert world.events == ["closed", "torn down"]
    assert await client.refusal("tasks.grade", answer="3") == (-32600, "no task in progress")


async def test_the_list_of_templates_has_their_schemas(house: Served) -> None:
    client = await house.client()
    listed = {entry["id"]: entry for entry in (await client.result("tasks.list"))["tasks"]}
    assert listed["add"] == {
        "id": "add",
        "description": "add two numbers",
        "args": {
            "type": "object",
            "properties": {
                "a": {"title": "A", "type": "integer"},
                "b": {"title": "B", "type": "integer", "default": 2},
            },
            "required": ["a"],
            "additionalProperties": False,
        },
    }


@pytest.mark.parametrize(
    ("method", "params", "code", "message"),
    [
        ("hello", {"session_id": 5}, -32602, "'session_id' must be a string"),
        ("hello", {"session_id": "sess-gone"}, -32600, "unknown session: 'sess-gone'"),
        ("hello", {"workspace_routes": {}}, -32602, "'workspace_routes' must be a list"),
        ("hello", {"connections": "x"}, -32602, "'connections' must be a list"),
        ("hello", {"workspace_routes": [{"capability": "shell", "host": "h", "port": 1}]}, -32000, "workspace"),
        ("tasks.start", {}, -32602, "'id' must be a string"),
        ("tasks.start", {"id": 3}, -32602, "'id' must be a string"),
        ("tasks.start", {"id": "add", "args": [1]}, -32602, "'args' must be an object"),
        ("tasks.start", {"id": "nothing"}, -32602, "unknown task: 'nothing'"),
        ("tasks.start", {"id": "add"}, -32000, "missing a"),
        ("tasks.start", {"id": "add", "args": {"a": 1, "c": 2}}, -32000, "unknown c"),
        ("tasks.start", {"id": "fails", "args": {"where": "start"}}, -32000, "no world today"),
        ("tunnel.open", {"capability": "x"}, -32601, "method not found: tunnel.open"),
        ("tasks.nothing", {}, -32601, "method not found: tasks.nothing"),
    ],
)
async def test_errors_have_their_codes(
    house: Served, method: str, params: dict[str, object], code: int, message: str
) -> None:
    client = await house.client()
    await client.result("hello")
    found = await client.refusal(method, **params)
    assert found[0] == code
    assert message in found[1]
    await client.result("hello")  # the session lives on


async def test_params_may_be_missing_or_empty_and_must_be_an_object_otherwise(house: Served) -> None:
    client = await house.client()
    for params in (b"", b',"params":null', b',"params":[]', b',"params":0', b',"params":""'):
        await client.send(b'{"id":1,"method":"tasks.list"' + params + b"}\n")
        assert "tasks" in (await client.read())["result"]
    await client.send({"id": 2, "method": "tasks.start", "params": [1]})
    assert (await client.read())["error"] == {
        "code": -32602,
        "message": "tasks.start: 'params' must be an object",
    }


async def test_ids_of_any_kind_come_back_and_notifications_are_never_answered(house: Served, world: World) -> None:
    client = await house.client()
    for id in ("a", 7, 1.5, 2**70, {"x": 1}, False):
        await client.send({"id": id, "method": "hello"})
        assert (await client.read())["id"] == id
    await client.send(
        {"method": "hello"}, {"method": "nothing"}, {"id": None, "method": "tasks.start", "params": {"id": "nope"}}
    )
    await client.send({"method": "tasks.start", "params": {"id": "add", "args": {"a": 1}}})
    assert await client.result("tasks.cancel") == {"cancelled": True}
    assert world.events[:1] in ([], ["closed"])


async def test_a_notification_starts_a_task_that_can_be_graded(house: Served) -> None:
    client = await house.client()
    await client.send({"method": "tasks.start", "params": {"id": "add", "args": {"a": 1}}})
    while True:  # the start may still run when the grade comes
        reply = await client.call("tasks.grade", answer="3")
        if "result" in reply:
            break
        assert reply["error"]["message"] == "tasks.grade: a task call is still running"
    assert reply["result"] == {"score": 1.0}


@pytest.mark.parametrize("garbage", [b"\n", b"[]\n", b"hello\n", b"\xff\xff\n", b"{\n", b"GET / HTTP/1.1\r\n\r\n"])
async def test_garbage_hangs_up_without_a_reply_and_the_server_lives_on(house: Served, garbage: bytes) -> None:
    fresh, used = await house.client(), await house.client()
    await used.result("hello")
    for client in (fresh, used):
        await client.send(garbage)
        assert await client.is_hung_up()
    assert await (await house.client()).result("hello")


async def test_half_lines_and_pipelined_frames_are_put_together(house: Served) -> None:
    client = await house.client()
    frames = b"".join(json.dumps({"id": n, "method": "hello"}).encode() + b"\n" for n in range(20))
    for place in range(0, len(frames), 37):
        await client.send(frames[place : place + 37])
        await asyncio.sleep(0)
    assert [(await client.read())["id"] for _ in range(20)] == list(range(20))


async def test_a_line_that_is_too_long_is_an_error_without_an_id_and_the_end(
    house: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "MAX_FRAME", 1000)
    client = await house.client()
    await client.send({"id": 1, "method": "hello"}, b"x" * 1001)
    assert (await client.read())["id"] == 1
    reply = await client.read()
    assert (reply["id"], reply["error"]["code"]) == (None, -32000)
    assert await client.is_hung_up()


async def test_a_prompt_that_is_too_long_is_an_error_and_its_task_is_gone(
    house: Served, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_FRAME", 1000)
    client = await house.client()
    code, message = await client.refusal("tasks.start", id="echo", args={"frame": "x" * 1000})
    assert code == -32000 and "a frame may have 1000" in message
    assert await client.refusal("tasks.grade", answer="") == (-32600, "no task in progress")
    await until(lambda: "torn down" in world.events)


async def test_a_prompt_that_is_no_json_is_an_error_and_its_task_is_gone(house: Served, world: World) -> None:
    @world.template()
    async def strange():
        yield {"prompt": "x", "extra": object()}

    client = await house.client()
    code, message = await client.refusal("tasks.start", id="strange")
    assert code == -32000 and "object is no JSON" in message
    assert await client.refusal("tasks.grade") == (-32600, "no task in progress")


async def test_while_a_call_runs_only_cancel_and_bye_are_heard(house: Served, world: World) -> None:
    client = await house.client()
    start = {"id": "s", "method": "tasks.start", "params": {"id": "slow_start"}}
    await client.send(start, {"id": "h", "method": "hello"}, {"id": "g", "method": "tasks.grade"}, start)
    for id, method in (("h", "hello"), ("g", "tasks.grade"), ("s", "tasks.start")):
        reply = await client.read()
        assert reply["id"] == id
        assert reply["error"] == {"code": -32600, "message": f"{method}: a task call is still running"}
    world.gate.set()
    assert await client.read() == {"jsonrpc": "2.0", "id": "s", "result": {"prompt": "x"}}


@pytest.mark.parametrize("template", ["slow_start", "slow_grade"])
@pytest.mark.parametrize("method", ["tasks.cancel", "bye"])
async def test_cancel_and_bye_interrupt_what_runs(house: Served, world: World, template: str, method: str) -> None:
    client = await house.client()
    await client.send({"id": 1, "method": "tasks.start", "params": {"id": template}})
    if template == "slow_grade":
        await client.read()
        await client.send({"id": 1, "method": "tasks.grade", "params": {}})
    await until(lambda: world.events)
    await client.send({"id": 2, "method": method}, {"id": 3, "method": "hello"})
    assert await client.read() == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": -32000, "message": f"{method} interrupted the task"},
    }
    assert world.events[1:] == ["closed", "torn down"]
    answer = {"goodbye": True} if method == "bye" else {"cancelled": True}
    assert await client.read() == {"jsonrpc": "2.0", "id": 2, "result": answer}
    if method == "bye":
        assert await client.is_hung_up()
    else:
        assert (await client.read())["id"] == 3  # frames behind a cancel wait for it


async def test_cancel_ends_a_suspended_task_and_answers_also_when_there_is_none(
    house: Served, world: World
) -> None:
    client = await house.client()
    assert await client.result("tasks.cancel") == {"cancelled": True}
    await client.result("tasks.start", id="add", args={"a": 1})
    assert await client.result("tasks.cancel") == {"cancelled": True}
    assert world.events == ["closed", "torn down"]
    assert await client.refusal("tasks.grade") == (-32600, "no task in progress")


async def test_a_new_start_first_tears_the_old_task_down(house: Served, world: World) -> None:
    client = await house.client()
    await client.result("tasks.start", id="add", args={"a": 1})
    assert await client.result("tasks.start", id="add", args={"a": 5}) == {"prompt": "What is 5 + 2?"}
    assert world.events == ["closed", "torn down"]
    assert await client.result("tasks.grade", answer="7") == {"score": 1.0}
    await client.result("tasks.start", id="add", args={"a": 1})
    await client.refusal("tasks.start", id="add", args={})  # also when it cannot begin
    assert await client.refusal("tasks.grade") == (-32600, "no task in progress")


async def test_a_failing_grade_says_why_and_ends_the_task(house: Served, world: World) -> None:
    client = await house.client()
    await client.result("tasks.start", id="fails", args={"where": "grade"})
    assert await client.refusal("tasks.grade") == (-32000, "no grade today")
    assert world.events == ["torn down"]
    assert await client.refusal("tasks.grade") == (-32600, "no task in progress")


async def test_a_client_that_does_not_read_is_not_read_from(
    house: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", house.port, limit=2**10)
    frame = json.dumps({"id": "x" * 1000, "method": "hello"}).encode() + b"\n"
    taken = 0
    try:
        async with asyncio.timeout(0.3):
            while taken < 200 * 2**20:
                writer.write(frame * 100)
                await writer.drain()
                taken += 100 * len(frame)
    except TimeoutError:
        pass
    (held,) = house.server._connections
    assert taken < 64 * 2**20  # what the sockets of both sides hold, not what the flood had
    assert held.transport.get_write_buffer_size() < 2 * connection.WRITE_BUFFER
    writer.transport.abort()
    assert await (await house.client()).result("hello")


async def test_many_connections_at_once_are_graded_each_by_its_own(house: Served) -> None:
    async def run(number: int) -> float:
        async with connect(house.runtime) as client:
            await client.start("add", {"a": number})
            return (await client.grade(str(number + 2)))["score"]

    assert await asyncio.gather(*(run(number) for number in range(300))) == [1.0] * 300
    await until(lambda: not house.server._connections)


async def test_stop_closes_suspended_parked_and_running_tasks(house: Served, world: World) -> None:
    parked, suspended, running = [await house.client() for _ in range(3)]
    for client in (parked, suspended):
        await client.result("tasks.start", id="add", args={"a": 1})
    await parked.hang_up()
    await running.send({"id": 1, "method": "tasks.start", "params": {"id": "slow_start"}})
    await until(lambda: "starting" in world.events)
    await house.server.stop()
    assert world.events.count("closed") == world.events.count("torn down") == 3
    assert await suspended.is_hung_up()
    with pytest.raises(OSError):
        await house.client()


async def test_stop_does_not_wait_for_ever_for_a_task_that_does_not_close(
    house: Served, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskloom.evals.channel.server.STOP_PATIENCE", 0.05)

    @world.template()
    async def stubborn():
        try:
            yield "go"
        finally:
            await world.gate.wait()

    client = await house.client()
    await client.result("tasks.start", id="stubborn")
    await house.server.stop()
    world.gate.set()

"""Tunnels over a real server's socket: who may listen and connect, and what becomes of the bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from tests.conftest import House
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from taskloom.domain.errors import Forbidden, NotFound
from taskloom.domain.execution import Execution
from taskloom.domain.queue import Machine
from taskloom.server.tunnels import door, service
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.messages import TUNNEL_MESSAGE


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for all: every test has a task of its own."""
    running = House(tmp_path_factory.mktemp("tunnels") / "house")
    yield running
    running.stop()


@pytest.fixture
def task(house: House) -> str:
    return house.client.call(op.CREATE_TASK, m.TaskCreate(name="environment", project="evals")).id


def socket(house: House, path: str, key: str = "", *, name: str = "127.0.0.1", origin: str = "") -> connect:
    told = {"Authorization": f"Bearer {key or house.key}"} | ({"Origin": origin} if origin else {})
    port = int(house.url.rpartition(":")[2])
    return connect(
        f"ws://{name}:{port}/api/tunnels/{path}",
        host="127.0.0.1",
        port=port,
        additional_headers=told,
        proxy=None,
        compression=None,
        max_size=None,
        ping_interval=None,
    )


@asynccontextmanager
async def crossing(house: House, task: str) -> AsyncIterator[tuple[ClientConnection, ClientConnection]]:
    """The two ends of a connection: who connected, who accepted."""
    async with socket(house, f"{task}/listen") as listener:
        connecting = asyncio.ensure_future(socket(house, f"{task}/connect").__aenter__())
        number = json.loads(await listener.recv())["dial"]
        async with socket(house, f"{task}/accept/{number}") as accepted:
            connected = await connecting
            async with connected:
                yield connected, accepted


async def refusal(attempt: connect) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused:
        async with attempt:
            pass
    return refused.value.response.status_code, json.loads(refused.value.response.body)["error"]["code"]


async def test_bytes_cross_both_ways_in_order_and_unchanged(house: House, task: str) -> None:
    async with crossing(house, task) as (client, environment):
        for piece in (b"hello\n", b"", b"\x00\xff", b"x" * TUNNEL_MESSAGE):
            await client.send(piece)
            assert await environment.recv() == piece
            await environment.send(piece)
            assert await client.recv() == piece


async def test_when_one_end_closes_the_other_has_all_that_was_sent_and_then_its_end(
    house: House, task: str
) -> None:
    async with crossing(house, task) as (client, environment):
        for number in range(100):
            await environment.send(b"%d" % number)
        await environment.close()
        assert [int(await client.recv()) for _ in range(100)] == list(range(100))
        with pytest.raises(ConnectionClosed):
            await client.recv()


async def test_a_side_that_does_not_read_slows_the_other_down(house: House, task: str) -> None:
    """What is on the way is bounded by the sockets' buffers, however much there is to send."""
    piece, count = b"x" * 2**18, 200
    async with crossing(house, task) as (client, environment):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for _ in range(count):
                await client.send(piece)
                sent += 1

        flooding = asyncio.create_task(flood())
        stood_still = -1
        while stood_still != sent:
            stood_still = sent
            await asyncio.sleep(0.3)
        assert 0 < sent < count
        for _ in range(count):
            assert len(await environment.recv()) == len(piece)
        await flooding


async def test_a_message_that_is_too_long_ends_the_connection(house: House, task: str) -> None:
    async with crossing(house, task) as (client, environment):
        await client.send(b"x" * (TUNNEL_MESSAGE + 1))
        with pytest.raises(ConnectionClosed):
            await environment.recv()


async def test_text_is_no_message_of_a_tunnel(house: House, task: str) -> None:
    async with crossing(house, task) as (client, environment):
        await client.send("text")
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == door.ONLY_BYTES
        with pytest.raises(ConnectionClosed):
            await environment.recv()


async def test_all_connections_end_with_the_listener(house: House, task: str) -> None:
    async with socket(house, f"{task}/listen") as listener:
        connecting = asyncio.ensure_future(socket(house, f"{task}/connect").__aenter__())
        number = json.loads(await listener.recv())["dial"]
        async with socket(house, f"{task}/accept/{number}") as accepted:
            connected = await connecting
            await listener.close()
            with pytest.raises(ConnectionClosed):
                await connected.recv()
            with pytest.raises(ConnectionClosed):
                await accepted.recv()
    assert not house.client.call(op.GET_TUNNEL, query=m.TunnelQuery(), task=task).listening


async def test_a_newer_listener_takes_the_place_of_an_older_one(house: House, task: str) -> None:
    async with socket(house, f"{task}/listen") as older, socket(house, f"{task}/listen") as newer:
        with pytest.raises(ConnectionClosed):
            await older.recv()
        connecting = asyncio.ensure_future(socket(house, f"{task}/connect").__aenter__())
        number = json.loads(await newer.recv())["dial"]
        async with socket(house, f"{task}/accept/{number}"):
            await (await connecting).close()


async def test_nobody_who_listens_is_told_at_once_and_who_connects_may_ask_until_somebody_does(
    house: House, task: str
) -> None:
    assert await refusal(socket(house, f"{task}/connect")) == (503, "unavailable")
    asking = asyncio.create_task(
        asyncio.to_thread(house.client.call, op.GET_TUNNEL, query=m.TunnelQuery(wait=30.0), task=task)
    )
    async with socket(house, f"{task}/listen"):
        assert (await asking).listening


async def test_a_listener_that_does_not_answer_is_not_waited_for_for_ever(
    house: House, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "ANSWER_SECONDS", 0.05)
    async with socket(house, f"{task}/listen"):
        assert await refusal(socket(house, f"{task}/connect")) == (503, "unavailable")


async def test_what_nobody_waits_for_cannot_be_accepted(house: House, task: str) -> None:
    async with socket(house, f"{task}/listen"):
        for number in ("1", "-1", "x", "9" * 40):
            assert await refusal(socket(house, f"{task}/accept/{number}")) == (404, "not_found")


async def test_connections_of_a_task_are_bounded(house: House, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_CONNECTIONS", 1)
    async with crossing(house, task):
        assert await refusal(socket(house, f"{task}/connect")) == (429, "too_many")


async def test_an_unknown_task_and_an_unknown_address_are_not_found(house: House) -> None:
    for path in (f"{'0' * 32}/listen", f"{'0' * 32}/connect", f"{'0' * 32}/accept/1", "a/b/c", "x"):
        assert await refusal(socket(house, path)) == (404, "not_found")
    with pytest.raises(NotFound):
        house.client.call(op.GET_TUNNEL, query=m.TunnelQuery(), task="0" * 32)


@pytest.mark.parametrize("path", ["listen", "connect", "accept/1"])
async def test_a_socket_is_opened_to_its_user_alone(house: House, task: str, path: str) -> None:
    viewer, stranger = house.make_key("viewer"), house.make_key("member", user="somebody else")
    place = f"{task}/{path}"
    assert await refusal(socket(house, place, "tl_x_y")) == (401, "unauthorized")
    assert await refusal(socket(house, place, viewer)) == (403, "forbidden")
    assert await refusal(socket(house, place, stranger)) == (403, "forbidden")
    assert await refusal(socket(house, place, name="evil.example")) == (403, "forbidden")
    assert await refusal(socket(house, place, origin="https://evil.example")) == (403, "forbidden")
    with pytest.raises(Forbidden):
        house.client_of(stranger).call(op.GET_TUNNEL, query=m.TunnelQuery(), task=task)


async def test_a_lease_listens_for_its_own_task_while_it_holds_it(house: House) -> None:
    client = house.client
    leases: list[m.Lease] = []
    client.call(
        op.REGISTER_WORKER,
        m.WorkerRegister(
            id="w", name="w", queues=("q",), slots=2, machine=Machine(host="here"), version="1", create_queues=True
        ),
    )
    for _ in range(2):
        body = m.TaskCreate(name="environment", project="evals", execution=Execution(run="true"))
        task = client.call(op.CREATE_TASK, body).id
        client.call(op.ENQUEUE_TASK, m.Enqueue(queue="q"), task=task)
        lease = client.call(op.CLAIM_TASK, m.Claim(worker="w", queues=("q",), wait=5.0)).lease
        assert lease is not None
        leases.append(lease)
    first, second = leases
    assert await refusal(socket(house, f"{first.task.id}/listen", second.key)) == (403, "forbidden")
    async with socket(house, f"{first.task.id}/listen", first.key) as listener:
        client.call(op.FINISH_LEASE, m.Finish(outcome="completed"), token=first.token)
        with pytest.raises(ConnectionClosed):  # the lease's key ended with it
            await listener.recv()


async def test_a_server_that_stops_ends_its_tunnels(house: House, task: str) -> None:
    async with crossing(house, task) as (client, environment):
        await asyncio.to_thread(house.stop)
        for end in (client, environment):
            with pytest.raises(ConnectionClosed):
                await end.recv()
    house.start()

"""Capabilities through the control port: bytes both ways, at the pace of the slower side."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from tests.unit.evals.channel.conftest import World
from tests.unit.evals.channel.peers import Served, until

from taskloom.evals import Capability
from taskloom.evals.channel.client import connect

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything back in capitals, when all was said."""
    writer.write((await reader.read()).upper())
    writer.write_eof()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak first, as SSH does."""
    writer.write(b"hello\n")
    await shout(reader, writer)


@asynccontextmanager
async def service(world: World, handler: Handler, **more: str) -> AsyncGenerator[Capability]:
    """A capability `raw` of the world behind a port of its own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    capability = Capability("raw", "echo/1", f"echo://me@127.0.0.1:{port}/deep?x=1", dict(more))
    world.add_capability(capability)
    yield capability
    server.close()


async def dial(capability: Capability) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(capability.url)
    return await asyncio.open_connection(parts.hostname, parts.port)


@pytest.mark.parametrize(("handler", "heard"), [(shout, b"ABC"), (greet, b"hello\nABC")])
async def test_bytes_go_through_and_each_side_may_end_first(
    house: Served, world: World, handler: Handler, heard: bytes
) -> None:
    async with service(world, handler), connect(house.runtime) as client:
        reader, writer = await dial(await client.binding("raw"))
        writer.write(b"abc")
        writer.write_eof()
        assert await reader.read() == heard
        writer.close()
        await until(lambda: len(house.server._connections) == 1)  # the tunnel's end is noticed


async def test_a_forwarded_address_keeps_user_path_and_query(house: Served, world: World) -> None:
    async with service(world, shout, password="secret") as native, connect(house.runtime) as client:
        (forwarded,) = client.bindings
        port = urlsplit(forwarded.url).port
        assert port != urlsplit(native.url).port
        assert forwarded.url == f"echo://me@127.0.0.1:{port}/deep?x=1"
        assert forwarded.params == native.params
        assert (
            await client.binding("raw")
            == await client.binding("echo/1")
            == await client.binding("echo")
            == forwarded
        )


async def test_a_reference_that_fits_none_or_several_says_what_there_is(house: Served, world: World) -> None:
    world.add_capability(Capability.cdp(url="ws://127.0.0.1"))
    world.add_capability(Capability.cdp(name="second", url="ws://127.0.0.1"))
    async with connect(house.runtime) as client:
        with pytest.raises(
            ValueError, match=r"no capability 'shell'; the environment offers: browser \(cdp/1.3\)"
        ):
            await client.binding("shell")
        with pytest.raises(ValueError, match=r"'cdp' is ambiguous: browser .*, second"):
            await client.binding("cdp")
        assert (await client.binding("second")).name == "second"


async def test_many_streams_run_side_by_side_with_a_task(house: Served, world: World) -> None:
    async def ask(capability: Capability, text: bytes) -> bytes:
        reader, writer = await dial(capability)
        writer.write(text)
        writer.write_eof()
        try:
            return await reader.read()
        finally:
            writer.close()

    async with service(world, shout), connect(house.runtime) as client:
        await client.start("add", {"a": 1})
        capability = await client.binding("raw")
        texts = [f"text {number}".encode() for number in range(40)]
        assert await asyncio.gather(*(ask(capability, text) for text in texts)) == [text.upper() for text in texts]
        assert (await client.grade("3"))["score"] == 1.0


async def test_megabytes_arrive_whole_and_a_slow_reader_slows_the_writer(house: Served, world: World) -> None:
    data = os.urandom(2**20) * 24

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(2) == b"go"
        writer.transport.set_write_buffer_limits(high=2**16)
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with service(world, pour), connect(house.runtime) as client:
        reader, writer = await dial(await client.binding("raw"))
        writer.write(b"go")
        await asyncio.sleep(0.05)  # time to run full, for a pipe that would not wait
        tunnel = next(one for one in house.server._connections if one.work is not None)
        assert tunnel.transport.get_write_buffer_size() < 2**20
        digest = hashlib.sha256()
        while piece := await reader.read(2**20):
            digest.update(piece)
        assert digest.digest() == hashlib.sha256(data).digest()
        writer.close()


async def test_what_comes_right_behind_the_preface_reaches_the_service(house: Served, world: World) -> None:
    async with service(world, shout):
        raw = await house.client()
        await raw.send({"id": "t", "method": "tunnel.open", "params": {"capability": "raw"}}, b"one\ntwo")
        assert await raw.read() == {"jsonrpc": "2.0", "id": "t", "result": {"capability": "raw"}}
        raw.writer.write_eof()
        assert await raw.reader.read() == b"ONE\nTWO"


async def test_a_notification_opens_a_stream_without_a_reply(house: Served, world: World) -> None:
    async with service(world, greet):
        raw = await house.client()
        await raw.send({"method": "tunnel.open", "params": {"capability": "raw"}})
        assert await raw.reader.readline() == b"hello\n"


async def test_a_tunnel_that_cannot_be_is_an_error_and_the_end(house: Served, world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    world.add_capability(Capability("away", "echo/1", f"echo://127.0.0.1:{closed}"))
    world.add_capability(Capability("portless", "echo/1", "echo://127.0.0.1"))
    for name, code, message in (
        (5, -32602, "'capability' must be a string"),
        ("portless", -32602, "no host:port"),
        ("nothing", -32000, "unknown capability 'nothing'; there are: away, portless"),
        ("away", -32000, "refused|failed"),
    ):
        raw = await house.client()
        await raw.send({"id": 1, "method": "tunnel.open", "params": {"capability": name}})
        error = (await raw.read())["error"]
        assert error["code"] == code
        assert any(part in error["message"] for part in message.split("|"))
        assert await raw.is_hung_up()


async def test_a_local_end_is_hung_up_when_its_tunnel_is_refused(house: Served, world: World) -> None:
    async with service(world, shout), connect(house.runtime) as client:
        capability = await client.binding("raw")
        world._capabilities.clear()
        reader, _ = await dial(capability)
        with pytest.raises(ConnectionError):
            assert await reader.read() == b"", "hung up"
            raise ConnectionResetError


async def test_closing_the_client_cuts_listeners_and_streams(house: Served, world: World) -> None:
    async with service(world, greet):
        client = await connect(house.runtime).__aenter__()
        capability = await client.binding("raw")
        reader, writer = await dial(capability)
        assert await reader.readline() == b"hello\n"
        await client.close()
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        with pytest.raises(OSError):
            await dial(capability)
        writer.close()
        await until(lambda: not house.server._connections)


async def test_stopping_the_server_cuts_streams(house: Served, world: World) -> None:
    async with service(world, greet), connect(house.runtime) as client:
        reader, writer = await dial(await client.binding("raw"))
        assert await reader.readline() == b"hello\n"
        await house.server.stop()
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()

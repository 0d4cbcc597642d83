"""Raw peers of the control channel: a client that writes bytes, a server that answers what a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from taskloom.evals import Environment, Runtime
from taskloom.evals.channel.server import ControlServer

HELLO: dict[str, Any] = {"session_id": "sess-1", "env": {"name": "fake", "version": "1"}, "bindings": []}
PATIENCE = 10.0  # seconds until a peer that says nothing fails the test


class RawClient:
    """Frames by hand. Its calls do not wait for one another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.number = 0

    async def send(self, *frames: Any) -> None:
        """Objects as frames, bytes as they are, all in one piece."""
        raw = [one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in frames]
        self.writer.write(b"".join(raw))
        await self.writer.drain()

    async def read(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            line = await self.reader.readline()
        assert line, "the server hung up"
        return json.loads(line)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The whole reply."""
        self.number += 1
        await self.send({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params})
        reply = await self.read()
        assert reply["id"] == self.number and reply["jsonrpc"] == "2.0"
        return reply

    async def result(self, method: str, **params: Any) -> dict[str, Any]:
        return (await self.call(method, **params))["result"]

    async def refusal(self, method: str, **params: Any) -> tuple[int, str]:
        error = (await self.call(method, **params))["error"]
        assert set(error) == {"code", "message"}
        return error["code"], error["message"]

    async def is_hung_up(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    async def hang_up(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


class Served:
    """An environment behind a real port."""

    def __init__(self, server: ControlServer) -> None:
        self.server = server
        self.port = server.port
        self.runtime = Runtime(f"tcp://127.0.0.1:{server.port}")
        self._clients: list[RawClient] = []

    async def client(self) -> RawClient:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**26)
        self._clients.append(RawClient(reader, writer))
        return self._clients[-1]

    async def close(self) -> None:
        for client in self._clients:
            await client.hang_up()
        await self.server.stop()


@asynccontextmanager
async def served(environment: Environment) -> AsyncGenerator[Served]:
    server = ControlServer(environment)
    await server.start()
    found = Served(server)
    try:
        yield found
    finally:
        await found.close()


async def until(holds: Callable[[], Any]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.001)


Script = Callable[["Scripted"], Awaitable[None]]


class Scripted:
    """The server's end of a connection, as a script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> dict[str, Any]:
        line = await self.reader.readline()
        return json.loads(line) if line else {}

    async def send(self, *frames: Any) -> None:
        raw = [one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in frames]
        self.writer.write(b"".join(raw))
        await self.writer.drain()

    async def answer(self, result: Any) -> dict[str, Any]:
        """Answer the next request properly; the request."""
        request = await self.read()
        await self.send({"jsonrpc": "2.0", "id": request.get("id"), "result": result})
        return request


@asynccontextmanager
async def scripted(script: Script) -> AsyncGenerator[Runtime]:
    """A server that says hello properly, if the script lets it, and then does what the script does, then hangs up."""
    ends: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ends.add(task)
        try:
            await script(Scripted(reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            ends.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Runtime(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", {"ready_timeout": 5.0})
    finally:
        server.close()
        for task in list(ends):
            task.cancel()
        await asyncio.gather(*ends, return_exceptions=True)

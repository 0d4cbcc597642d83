"""Both ends of a tunnel through the server: the process that lends what it serves, and whoever connects to it.

Every connection is a web socket of its own from either end (see wire.messages.tunnels); here it is a plain one on the
loopback interface. What one side does not read, the other does not get to send.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from taskloom.domain.errors import TaskloomError, Unavailable
from taskloom.evals.failures import InfrastructureFailure
from taskloom.wire.client import Address, read_fault
from taskloom.wire.messages import TUNNEL_MESSAGE, Dial

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

PIECE = 2**16  # bytes that are read at once
OPEN_SECONDS = 30.0  # that a web socket may take to open; the other end's answer is part of it
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds before listening again after the line broke
ALIVE_EVERY = 20.0  # seconds between two signs of life of a listener
log = logging.getLogger("taskloom.evals")


async def lend(address: Address, task: str, port: int, opened: Callable[[int], None]) -> None:
    """Listen for connections to the task, and join each with the local port; for ever, over lost lines.

    opened: called with the number of connections whenever it changes. Errors of `domain.errors` when the server refuses.
    """
    async with Bridges(opened) as bridges:
        pause = FIRST_PAUSE
        while True:
            try:
                async with _socket(address, task, "listen", alive=True) as line:
                    pause = FIRST_PAUSE
                    async for text in line:
                        number = msgspec.json.decode(text, type=Dial).dial
                        bridges.spawn(_accept(address, task, number, port))
            except (OSError, Unavailable) as error:
                log.warning("the server cannot be reached (%s): connections will come again later", error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


@asynccontextmanager
async def borrowed(address: Address, task: str) -> AsyncGenerator[int]:
    """A port on the loopback interface that leads to what the task's process lends."""
    async with Bridges() as bridges:

        def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            bridges.spawn(_connect(address, task, reader, writer))

        server = await asyncio.start_server(enter, "127.0.0.1", 0, limit=PIECE)
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()


@asynccontextmanager
async def held(address: Address, task: str) -> AsyncGenerator[None]:
    """One connection without a word, which tells the other end that somebody is there. InfrastructureFailure without."""
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(_socket(address, task, "connect"))
        except (OSError, TaskloomError) as error:
            raise InfrastructureFailure(f"task {task} cannot be reached through the server: {error}") from None
        yield


class Bridges:
    """Connections that run side by side; cut off at the end of the context."""

    def __init__(self, changed: Callable[[int], None] = lambda _: None) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._changed = changed

    async def __aenter__(self) -> Bridges:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._over)
        self._changed(len(self._running))

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed(len(self._running))
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("a connection through the server ended: %s", error)


async def _accept(address: Address, task: str, number: int, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=PIECE)
    try:
        async with _socket(address, task, f"accept/{number}") as line:
            await _join(line, reader, writer)
    finally:
        writer.close()


async def _connect(
    address: Address, task: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        async with _socket(address, task, "connect") as line:
            await _join(line, reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def _socket(
    address: Address, task: str, path: str, *, alive: bool = False
) -> AsyncGenerator[ClientConnection]:
    """An open web socket; what the server refuses it with comes as its error of `domain.errors`."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

    url = f"{address.url.replace('http', 'ws', 1)}/api/tunnels/{quote(task, safe='')}/{path}"
    opening = connect(
        url,
        additional_headers=address.headers(),
        user_agent_header=None,
        compression=None,
        proxy=None,
        max_size=TUNNEL_MESSAGE,
        open_timeout=OPEN_SECONDS,
        ping_interval=ALIVE_EVERY if alive else None,  # a side that does not read answers no pings
    )
    try:
        line = await opening
    except InvalidStatus as refused:
        response = refused.response
        kind = response.headers.get("Content-Type", "")
        raise read_fault(response.status_code, bytes(response.body or b""), kind) from None
    except InvalidHandshake as error:
        raise ConnectionError(f"no web socket at {url}: {error}") from None
    try:
        async with line:
            yield line
    except ConnectionClosed as error:
        raise ConnectionError(f"the web socket to {url} was cut: {error}") from None


async def _join(line: ClientConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either side ends; the other is then closed by whoever opened it."""
    pours = [asyncio.create_task(_pour_out(line, reader)), asyncio.create_task(_pour_in(line, writer))]
    try:
        await asyncio.wait(pours, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pour in pours:
            pour.cancel()
        await asyncio.gather(*pours, return_exceptions=True)


async def _pour_out(line: ClientConnection, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(PIECE):
        await line.send(data)


async def _pour_in(line: ClientConnection, writer: asyncio.StreamWriter) -> None:
    async for data in line:
        writer.write(data if isinstance(data, bytes) else data.encode())
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()

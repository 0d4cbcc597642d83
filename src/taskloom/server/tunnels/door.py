"""Tunnels as web sockets: listen, connect, accept, and the bytes in between.

A connection costs three: the listener's own, which stays, and one from either side for its bytes. Nothing is
kept here: one message is taken from an end when the one before has gone out to the other, so that a side that does not
read slows the other down. Whoever loses the key that it came with is cut off a moment later. What comes in
was checked as a call is (see binding.socket); errors before a socket is accepted are answered as HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
from starlette.types import Receive, Send

from taskloom.domain.errors import NotFound, Unavailable
from taskloom.server.call import Caller
from taskloom.server.tunnels.service import Crossing, Line, Listener, TunnelService
from taskloom.wire.messages import Dial

ANSWER_SECONDS = 20.0  # that a listener's process may take to accept a connection
LOOK_AT_KEY = 1.0  # seconds after which a revoked key is noticed
GONE, GOING_AWAY, ONLY_BYTES = 1000, 1001, 1003  # codes of a close

StillValid = Callable[[Caller], Awaitable[bool]]


class SocketLine:
    """A web socket that was accepted, or is about to be."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._open = False

    async def accept(self) -> None:
        await self._send({"type": "websocket.accept"})
        self._open = True

    async def receive(self) -> bytes | None:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return None
        data = message.get("bytes")
        if data is None:
            await self.close(ONLY_BYTES)
        return data

    async def send(self, data: bytes) -> None:
        await self._send({"type": "websocket.send", "bytes": data})

    async def tell(self, text: str) -> None:
        await self._send({"type": "websocket.send", "text": text})

    async def close(self, code: int = GONE) -> None:
        """Nothing before it was accepted: then the error answers."""
        with contextlib.suppress(OSError, RuntimeError):  # closed already, by either side
            if self._open:
                self._open = False
                await self._send({"type": "websocket.close", "code": code})


class TunnelDoor:
    """`still_valid`: whether a caller's key may be used on."""

    def __init__(self, tunnels: TunnelService, still_valid: StillValid) -> None:
        self._tunnels, self._still_valid = tunnels, still_valid

    async def __call__(self, caller: Caller, raw_path: str, receive: Receive, send: Send) -> None:
        line = SocketLine(receive, send)
        await receive()  # the wish to connect
        match raw_path.split("/")[1:]:
            case ["api", "tunnels", task, "listen"]:
                await self._listen(caller, task, line)
            case ["api", "tunnels", task, "connect"]:
                await self._connect(caller, task, line)
            case ["api", "tunnels", task, "accept", number]:
                await self._accept(caller, task, number, line)
            case _:
                raise NotFound("no such web socket; tunnels are at /api/tunnels/TASK/listen, accept and connect")

    async def _listen(self, caller: Caller, task: str, line: SocketLine) -> None:
        await self._tunnels.check_listener(caller, task)
        await line.accept()
        listener = self._tunnels.listen(task)
        try:
            await _first_of(
                _tell(listener, line), line.receive(), listener.gone.wait(), self._until_invalid(caller)
            )
        finally:
            self._tunnels.unlisten(listener)
            await line.close(GOING_AWAY)

    async def _connect(self, caller: Caller, task: str, line: SocketLine) -> None:
        await self._tunnels.check_caller(caller, task)
        listener, crossing = self._tunnels.begin(task)
        try:
            other = await _accepted(crossing, line)
            if other is None:
                raise Unavailable(f"the process of task {task} did not take the connection", retry_after=1)
            await line.accept()
            await _first_of(
                _pour(line, other), _pour(other, line), crossing.over.wait(), self._until_invalid(caller)
            )
        finally:
            self._tunnels.end(listener, crossing)
            await line.close()

    async def _accept(self, caller: Caller, task: str, number: str, line: SocketLine) -> None:
        await self._tunnels.check_listener(caller, task)
        crossing = self._tunnels.waiting(task, number)
        await line.accept()
        if not crossing.accepted.done():
            crossing.accepted.set_result(line)
            await crossing.over.wait()
        await line.close()

    async def _until_invalid(self, caller: Caller) -> None:
        while await self._still_valid(caller):
            await asyncio.sleep(LOOK_AT_KEY)


async def _tell(listener: Listener, line: SocketLine) -> None:
    while True:
        number = await listener.dials.get()
        await line.tell(msgspec.json.encode(Dial(dial=number)).decode())


async def _accepted(crossing: Crossing, line: SocketLine) -> Line | None:
    """The other end; None when it does not come in time, or when who waits for it has gone."""
    await _first_of(_settled(crossing), line.receive(), asyncio.sleep(ANSWER_SECONDS))
    return crossing.accepted.result() if crossing.accepted.done() else None


async def _settled(crossing: Crossing) -> None:
    await asyncio.wait([crossing.accepted])


async def _pour(source: Line, target: Line) -> None:
    while (data := await source.receive()) is not None:
        await target.send(data)


async def _first_of(*works: Coroutine[Any, Any, Any]) -> None:
    """Until one of them is over, for whatever reason; the others are cut off."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

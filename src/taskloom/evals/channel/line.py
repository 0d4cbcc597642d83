"""The client's line: one call at a time over one connection, and what broke it.

After the first fault `lost` holds it, and every call raises it. What comes unasked is such a fault, so that a peer
that floods fills no memory. Nothing here knows what the calls mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from taskloom.evals.channel.contract import MAX_FRAME, ChannelLost, Refused
from taskloom.evals.channel.framing import (
    FAILED,
    WRONG_PARAMS,
    LineBuffer,
    NotAFrame,
    Reply,
    as_object,
    read_reply,
    request_frame,
)


class Line(asyncio.Protocol):
    """`heard`: something came over it. `closed_by_peer`: it was hung up at the other end."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._buffer = LineBuffer()
        self._number = 0
        self._method = ""
        self._waiting: asyncio.Future[Reply] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._closed = False  # from here
        self._listeners: list[Callable[[ChannelLost], None]] = []
        self._drained: asyncio.Future[None] | None = None
        self.lost: ChannelLost | None = None
        self.heard = self.closed_by_peer = False

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """OSError when nobody listens."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(lambda: cls(f"{host}:{port}"), host, port))[1]

    @property
    def is_busy(self) -> bool:
        return self._waiting is not None

    async def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result. Refused for an error, ChannelLost for everything that is no answer to it."""
        if self.lost is not None:
            raise self.lost
        if self._waiting is not None:
            raise RuntimeError(f"{method}: a call of {self._method} is running; calls are serial")
        self._number += 1
        try:
            frame = request_frame(self._number, method, params)
        except TypeError as error:
            raise Refused(WRONG_PARAMS, f"{method}: what should be sent is no JSON: {error}") from None
        if len(frame) > MAX_FRAME + 1:
            raise Refused(FAILED, f"{method} has {len(frame) - 1} bytes: a frame may have {MAX_FRAME}")
        self._method = method
        waiting = self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(frame)
        try:
            reply = await waiting
        finally:
            self._waiting = None
        if (result := as_object(reply.result)) is not None:
            return result
        if (error := as_object(reply.error)) is not None:
            raise _refusal(error)
        raise self.lose(f"it answered {method} with neither a result nor an error")

    # --- the connection -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard = True
        for line in self._buffer.feed(data):
            self._receive(line)
        if self._buffer.overflowed:
            self.lose(f"it sent a line of more than {MAX_FRAME} bytes")

    def _receive(self, line: bytes) -> None:
        if self.lost is not None:
            return
        try:
            reply = read_reply(line)
        except NotAFrame as error:
            self.lose(f"it does not speak the protocol: {error}")
            return
        if self._leaving is not None:
            if reply.id == self._number:
                self._hang_up()
            return
        if self._waiting is None or self._waiting.done():
            self.lose(f"it spoke without being asked: {line[:120]!r}")
        elif reply.id == self._number:
            self._waiting.set_result(reply)
        elif reply.id is None and (error := as_object(reply.error)) is not None:
            self.lose(f"it refused the frame of {self._method}: {error.get('message')}")
        else:
            self.lose(f"it answered {self._method} under another id, {reply.id!r:.40} for {self._number}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed:
            self._note("it was closed from here")
            return
        self.closed_by_peer = self.lost is None
        during = f" during {self._method}" if self._waiting is not None else ""
        self._note(f"the connection was lost{during}: {exc}" if exc else f"it hung up{during}")

    # --- the end ------------------------------------------------------------------------------------------

    def lose(self, why: str) -> ChannelLost:
        """Cut the line; the reason, as the calls raise it."""
        self.transport.abort()
        return self._note(why)

    def _note(self, why: str) -> ChannelLost:
        if self.lost is not None:
            return self.lost
        self.lost = ChannelLost(f"the environment at {self._address}: {why}")
        if self._leaving is not None:
            self._leaving.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(self.lost)
        if not self._closed:
            for told in self._listeners:
                told(self.lost)
        self._listeners.clear()
        return self.lost

    def on_lost(self, told: Callable[[ChannelLost], None]) -> None:
        if self.lost is None:
            self._listeners.append(told)
        elif not self._closed:
            told(self.lost)

    def abandon(self, patience: float) -> None:
        """Have the task ended over there, then hang up, without anybody waiting for it."""
        self._closed = True
        if self.lost is not None or self._leaving is not None:
            return
        if patience <= 0:
            self.abort()
            return
        self._number += 1
        self.transport.write(request_frame(self._number, "tasks.cancel", {}))
        self._leaving = asyncio.get_running_loop().call_later(patience, self._hang_up)

    def _hang_up(self) -> None:
        self._closed = True
        self.transport.close()
        self._note("it was closed from here")

    async def close(self) -> None:
        """Hang up; after `abandon` when that is done."""
        if self._leaving is not None and self.lost is None:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        self._hang_up()

    def abort(self) -> None:
        """Cut it at once."""
        self._closed = True
        self.transport.abort()
        self._note("it was closed from here")


def _refusal(error: dict[str, Any]) -> Refused:
    code = error.get("code", FAILED)
    return Refused(code if isinstance(code, int) else FAILED, str(error.get("message", "")))

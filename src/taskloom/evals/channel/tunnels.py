"""Tunnels: a capability's bytes through the control port.

A connection whose first frame is `tunnel.open` becomes a stream to one capability. `Pipe` copies bytes both ways with
the pace of the slower side; `Forwards` opens, for a client, a listener on the loopback interface for each capability
that is asked for, so that nothing but the control port has to be reachable.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from urllib.parse import urlsplit

from taskloom.evals.capabilities import Capability
from taskloom.evals.channel.framing import LineBuffer, NotAFrame, read_reply, request_frame

DIAL_TIMEOUT = 10.0  # seconds until a capability, or the control port, takes a connection
log = logging.getLogger("taskloom.evals.channel")


class Pipe(asyncio.Protocol):
    """One end of a tunnel: what it hears goes out at the other end."""

    def __init__(self, lost: Callable[[], None] | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Pipe | None = None
        self._heard_all = False
        self._lost = lost

    def join(self, other: Pipe) -> None:
        self.other, other.other = other, self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """One side may be done while the other still speaks."""
        self._heard_all = True
        if self.other is None or self.other.transport is None or self.other.transport.is_closing():
            return False
        if self.other._heard_all:
            self.other.transport.close()
            return False
        if self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()
        if self._lost is not None:
            self._lost()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class Refusal(Exception):
    """The other side of the tunnel does not want it."""


class _Preface(asyncio.Protocol):
    """The client's side of a tunnel, up to the reply; `opened` becomes what was sent right behind it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines = LineBuffer()
        self.opened: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(request_frame(1, "tunnel.open", {"capability": self._name}))

    def data_received(self, data: bytes) -> None:
        head, found, rest = data.partition(b"\n")
        lines = self._lines.feed(head + found)
        if self.opened.done():
            return
        if self._lines.overflowed:
            self._fail("a line that is too long")
        elif lines:
            self._transport.pause_reading()
            self._read(lines[0], rest)

    def _read(self, line: bytes, rest: bytes) -> None:
        try:
            reply = read_reply(line)
        except NotAFrame as error:
            self._fail(str(error))
            return
        if isinstance(reply.result, dict):
            self.opened.set_result(rest)
        else:
            self._fail(str(reply.error))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self._fail("the line was closed")

    def _fail(self, why: str) -> None:
        self.opened.set_exception(Refusal(why))


class _Entrance(Pipe):
    """The local end: reads nothing until the tunnel stands."""

    def __init__(self, entered: Callable[[_Entrance], None]) -> None:
        super().__init__()
        self._entered = entered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._entered(self)


class Forwards:
    """The listeners of one client. `host`, `port`: the control port."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._known: dict[str, Capability] = {}
        self._sockets: list[socket.socket] = []
        self._work: set[asyncio.Task[None]] = set()
        self._ends: set[Pipe] = set()
        self._servers: list[asyncio.Server] = []

    def forwarded(self, capability: Capability) -> Capability:
        """With an address of its listener, which is opened when it is first asked for."""
        known = self._known.get(capability.name)
        if known is None:
            known = self._known[capability.name] = self._listen(capability)
        return known

    def _listen(self, capability: Capability) -> Capability:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listener.setblocking(False)
        self._sockets.append(listener)
        self._spawn(self._accept(listener, capability.name))
        parts = urlsplit(capability.url)
        user = parts.netloc.rpartition("@")[0]
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        netloc = f"{user}@{address}" if user else address
        return replace(capability, url=parts._replace(netloc=netloc).geturl())

    async def _accept(self, listener: socket.socket, name: str) -> None:
        def enter(entrance: _Entrance) -> None:
            self._spawn(self._open(entrance, name))

        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(lambda: _Entrance(enter), sock=listener))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _open(self, entrance: _Entrance, name: str) -> None:
        """Connect a local end with the capability, or hang up."""
        loop = asyncio.get_running_loop()
        local = entrance.transport
        transport: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                transport, preface = await loop.create_connection(lambda: _Preface(name), self._host, self._port)
                early = await preface.opened
        except (OSError, TimeoutError, Refusal) as error:
            log.warning("no tunnel to capability %r: %s", name, error or "no answer in time")
            _hang_up(transport, local)
            return
        except asyncio.CancelledError:
            _hang_up(transport, local)
            raise
        self._join(entrance, transport, early)

    def _join(self, entrance: _Entrance, transport: asyncio.Transport, early: bytes) -> None:
        exit = Pipe(lambda: self._ends.discard(exit))
        exit.transport = transport
        transport.set_protocol(exit)
        if entrance.transport is None or transport.is_closing():
            _hang_up(transport, entrance.transport)
            return
        entrance.join(exit)
        self._ends.add(exit)
        if early:
            entrance.transport.write(early)
        entrance.transport.resume_reading()
        transport.resume_reading()

    def close(self) -> None:
        """Close the listeners and cut what runs through them."""
        for task in list(self._work):
            task.cancel()
        for server in self._servers:
            server.close()
        for listener in self._sockets:
            listener.close()
        for end in list(self._ends):
            _hang_up(end.transport, end.other.transport if end.other is not None else None)


def _hang_up(*transports: asyncio.Transport | None) -> None:
    for transport in transports:
        if transport is not None:
            transport.abort()

"""A house on a socket: listen, say where, stop in time.

Order of a start: bind the socket (so that a taken port is told before anything is touched), open the house, take
requests, write the connection file, say ready. Order of a stop: take no new connections, end the streams, let
requests in flight finish for a bounded time, then close the databases. What was acknowledged is on the disk
before its answer leaves, so a stop that is cut short loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from taskloom.domain.errors import Conflict, ServerFault
from taskloom.server.app import House
from taskloom.server.settings import Clock, Settings
from taskloom.wire.connection import Connection, write_connection
from taskloom.wire.messages import TUNNEL_MESSAGE

MAX_HEAD = 64 * 1024  # bytes of a request before its body
HEAD_SECONDS = 20.0  # that a client may take for it
KEEP_ALIVE = 65  # seconds that an idle connection stays: longer than clients keep theirs
BACKLOG = 512
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Listener(uvicorn.Server):
    """One run of one house. `run` blocks; `stop` may come from any thread."""

    def __init__(self, settings: Settings, clock: Clock, ready: Callable[[str], None]) -> None:
        self._socket = _bind(settings)
        try:
            self.house = House(settings, clock)
        except BaseException:
            self._socket.close()
            raise
        self._settings, self._ready = settings, ready
        self.url = _url(settings.host, self._socket.getsockname()[1])
        super().__init__(
            uvicorn.Config(
                self.house,
                http=_BoundedHead,
                loop="asyncio",  # uvloop answers small requests with a fifth less CPU, for 2 MB more of memory
                ws=_Socket,
                ws_max_size=TUNNEL_MESSAGE,
                ws_ping_interval=None,  # whoever does not read does not answer pings either, and may be slow
                ws_per_message_deflate=False,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=int(settings.stop_within),
            )
        )

    def serve_for_ever(self) -> None:
        """Until `stop`, SIGTERM or Ctrl-C."""
        try:
            self.run(sockets=[self._socket])
        except SystemExit as error:  # the framework's way to say that starting the services failed
            self.house.close()
            raise ServerFault("the server could not start; what happened stands above") from error

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        key = await asyncio.to_thread(self.house.admin_key)
        await asyncio.to_thread(write_connection, self._settings.data, Connection(self.url, key))
        self._ready(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.house.bus.close()  # streams and long polls end now, else they would use up the whole time
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Both signals ask for an orderly end; a second Ctrl-C does not wait for the clients."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._asked) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and number == signal.SIGINT
        self.should_exit = True


class _BoundedHead(HttpToolsProtocol):
    """Refuses a request head that is too long or too slow: it would otherwise be kept in memory without end."""

    _head = 0
    _in_body = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._head += len(data)
        super().data_received(data)
        if not self._in_body and self._head > MAX_HEAD and not self.transport.is_closing():
            self.transport.write(_TOO_LONG)
            self.transport.close()

    def on_message_begin(self) -> None:
        self._head, self._in_body = 0, False
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head, self._in_body = 0, True
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._head, self._in_body = 0, False
        super().on_message_complete()

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Socket(WebSocketsSansIOProtocol):
    """Of uvicorn's the one that reads on only when what came before was taken. It takes a refusal for a handshake that
    the application forgot, and would log every one of them as an error.
    """

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named, connections send small answers at once instead of waiting for more to send.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(BACKLOG)
        return listening
    except OSError as error:
        listening.close()
        raise Conflict(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}", port=settings.port
        ) from error


def _url(host: str, port: int) -> str:
    """The address for programs on this machine: all interfaces are reached through the loopback one."""
    known = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a question, not a bind
    return f"http://[{known}]:{port}" if ":" in known else f"http://{known}:{port}"


def listen(settings: Settings, clock: Clock, ready: Callable[[str], None]) -> None:
    """Run a server to its end. Raises Conflict for a taken port, folder or a newer database."""
    Listener(settings, clock, ready).serve_for_ever()

"""A model's server on a real socket: it answers what a test has told it to, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int


@dataclass
class Reply:
    """body: an object, or bytes as they are. cut: close after that share of the bytes. hang: say nothing at all."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False
    drop: bool = False


class ModelServer:
    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.replies: deque[Reply | Callable[[Asked], Reply]] = deque()
        self.closed = asyncio.Event()
        self._connections = self.open = 0

    def will(self, *replies: Any) -> None:
        """Answer with these, one after the other; an object is a good answer."""
        self.replies.extend(one if isinstance(one, Reply) or callable(one) else Reply(one) for one in replies)

    async def gone(self) -> None:
        """Until nobody is connected any more."""
        while self.open:
            await self.closed.wait()
            self.closed.clear()

    async def __aenter__(self) -> ModelServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self.open += 1
        number = self._connections
        try:
            while await self._answer(reader, writer, number):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other side has gone, or the test is over
        finally:
            self.open -= 1
            writer.close()
            self.closed.set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        asked = Asked(first.split(" ")[1], headers, body, number)
        self.asked.append(asked)
        reply = self.replies.popleft()
        if callable(reply):
            reply = reply(asked)
        if reply.drop:
            return False
        if reply.hang:
            await reader.read(1)  # until the caller has had enough
            return False
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        start = (
            f"HTTP/1.1 {reply.status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        )
        writer.write(f"{start}{extra}\r\n".encode() + content[: len(content) // 2 if reply.cut else None])
        await writer.drain()
        return not reply.cut

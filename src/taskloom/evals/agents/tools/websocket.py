"""MCP over a web socket, which the `mcp` package is about to drop and which knows no headers there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

MAX_MESSAGE = 64 * 2**20  # bytes


@asynccontextmanager
async def open_websocket(url: str, headers: dict[str, str]) -> AsyncGenerator[Any]:
    """Streams of session messages to read from and to write to."""
    import anyio
    from mcp.shared.message import SessionMessage
    from mcp.types import JSONRPCMessage
    from pydantic import ValidationError
    from websockets.asyncio.client import connect
    from websockets.typing import Subprotocol

    to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    async with connect(
        url, subprotocols=[Subprotocol("mcp")], additional_headers=headers, max_size=MAX_MESSAGE, proxy=None
    ) as socket:

        async def read() -> None:
            async with to_session:
                async for text in socket:
                    try:
                        await to_session.send(SessionMessage(JSONRPCMessage.model_validate_json(text)))
                    except ValidationError as error:
                        await to_session.send(error)

        async def write() -> None:
            async with from_session:
                async for message in from_session:
                    await socket.send(message.message.model_dump_json(by_alias=True, exclude_none=True))

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(write)
            yield incoming, outgoing
            group.cancel_scope.cancel()

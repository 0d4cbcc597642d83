"""Tools of an MCP server, by the clients of the `mcp` package: streamable HTTP, SSE, web socket.

The connection lives in a task of its own, because those clients cancel whoever opened them when a line breaks; who
calls a tool meanwhile sees an `InfrastructureFailure`. Calls carry the id of the run's trace, as HUD's do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from taskloom.domain.evaluation import ToolResult
from taskloom.evals.agents.tools.tool import Tool, bound, tell
from taskloom.evals.capabilities import Capability
from taskloom.evals.failures import AgentFailure, InfrastructureFailure

if TYPE_CHECKING:
    import httpx
    from mcp import ClientSession
    from mcp.types import CallToolResult

TRACE_ID = "hud/trace-id"  # in `_meta` of a call
READ_TIMEOUT = 3600.0  # seconds without anything on an open stream; a call's own limit is the toolbox's
ANSWER_TIMEOUT = 30.0  # seconds for what is no tool call
MAX_TOOLS = 512  # of one server
CLOSE_PATIENCE = 5.0  # seconds for a farewell
PING_EVERY = 15.0  # seconds between two signs of life during a call
SETTLING = 1.0  # seconds that a broken line has to say why
CLOSED = -32000  # the code of a connection that is closed; servers use it for other things, too


@asynccontextmanager
async def open_mcp(capability: Capability, trace_id: str) -> AsyncGenerator[list[Tool]]:
    """InfrastructureFailure when the server cannot be reached or lists no tools."""
    try:
        import mcp  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise AgentFailure("tools over MCP need the package mcp: install taskloom[evals]") from None
    line = _Line(capability)
    await line.open()
    try:
        yield [_make_tool(line, capability, entry, trace_id) for entry in line.listed]
    finally:
        await line.close()


class _Line:
    """A session that a task holds open until it is told to close."""

    def __init__(self, capability: Capability) -> None:
        self.capability = capability
        self.listed: list[Any] = []
        self._ready: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()

    async def open(self) -> None:
        self._holder = asyncio.create_task(self._hold(), name=f"mcp {self.capability.name}")
        try:
            await asyncio.wait({self._holder, self._ready}, return_when=asyncio.FIRST_COMPLETED)
            if not self._ready.done():
                raise self._lost("cannot be reached")
        except BaseException:
            await self.close()
            raise

    async def _hold(self) -> None:
        from mcp import ClientSession

        async with AsyncExitStack() as stack:
            streams = await stack.enter_async_context(_connect(self.capability))
            session = ClientSession(streams[0], streams[1], read_timeout_seconds=timedelta(seconds=ANSWER_TIMEOUT))
            await stack.enter_async_context(session)
            await session.initialize()
            self.listed = await _list_tools(session)
            self._ready.set_result(session)
            await self._over.wait()

    async def call(self, name: str, arguments: dict[str, Any], trace_id: str) -> CallToolResult:
        """Exceptions of the server's are raised as they are; InfrastructureFailure when the line breaks."""
        import anyio
        from mcp.shared.exceptions import McpError

        session = self._ready.result()
        limit = timedelta(seconds=READ_TIMEOUT)
        meta = {TRACE_ID: trace_id} if trace_id else None
        calling = asyncio.create_task(session.call_tool(name, arguments, read_timeout_seconds=limit, meta=meta))
        try:
            if await self._wait(session, calling):
                return calling.result()
        except McpError as error:
            if error.error.code != CLOSED or error.error.message != "Connection closed":
                raise
            await asyncio.wait({self._holder}, timeout=SETTLING)  # it may say why
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            await asyncio.wait({self._holder}, timeout=SETTLING)
        finally:
            calling.cancel()
            await asyncio.wait({calling})
        raise self._lost("was lost")

    async def _wait(self, session: ClientSession, calling: asyncio.Task[Any]) -> bool:
        """Until the call ends, or (False) the line breaks. Over HTTP a server that dies meanwhile is noticed only by
        who speaks to it: so it is greeted now and then, and may be too busy to answer."""
        greeting: asyncio.Task[Any] | None = None
        try:
            while True:
                done, _ = await asyncio.wait(
                    {calling, self._holder}, timeout=PING_EVERY, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    return calling.done()
                if greeting is None or greeting.done():
                    greeting = asyncio.create_task(_greet(session))
        finally:
            if greeting is not None:
                greeting.cancel()
                await asyncio.wait({greeting})

    def _lost(self, what: str) -> InfrastructureFailure:
        done = self._holder.done() and not self._holder.cancelled()
        why = _reason(self._holder.exception() if done else None)
        return InfrastructureFailure(f"capability {self.capability.name!r}: the MCP server {what}{why}")

    async def close(self) -> None:
        """Never raises, but for its own cancellation; the holder is gone afterwards in any case."""
        self._over.set()
        try:
            await asyncio.wait({self._holder}, timeout=CLOSE_PATIENCE)
        finally:
            self._holder.cancel()
        await asyncio.wait({self._holder}, timeout=CLOSE_PATIENCE)
        if self._holder.done() and not self._holder.cancelled():
            self._holder.exception()  # seen: a broken line was told to whoever used it


async def _greet(session: ClientSession) -> None:
    with suppress(Exception):  # whether the line broke is the holder's to say
        await session.send_ping()


def _connect(capability: Capability) -> AbstractAsyncContextManager[Any]:
    token = capability.params.get("auth_token")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    scheme = urlsplit(capability.url).scheme
    match capability.params.get("transport") or ("websocket" if scheme in {"ws", "wss"} else "streamable-http"):
        case "websocket":
            from taskloom.evals.agents.tools.websocket import open_websocket

            return open_websocket(capability.url, headers)
        case "sse":
            from mcp.client.sse import sse_client

            return sse_client(
                capability.url, headers, sse_read_timeout=READ_TIMEOUT, httpx_client_factory=_make_client
            )
        case "streamable-http":
            return _open_streams(capability.url, headers)
        case other:
            raise InfrastructureFailure(
                f"capability {capability.name!r}: transport {other!r}: expected sse, streamable-http or websocket"
            )


@asynccontextmanager
async def _open_streams(url: str, headers: dict[str, str]) -> AsyncGenerator[Any]:
    import httpx
    from mcp.client.streamable_http import streamable_http_client

    timeout = httpx.Timeout(ANSWER_TIMEOUT, read=READ_TIMEOUT)
    async with (
        _make_client(headers, timeout) as client,
        streamable_http_client(url, http_client=client) as streams,
    ):
        yield streams


def _make_client(
    headers: dict[str, str] | None = None, timeout: httpx.Timeout | None = None, auth: httpx.Auth | None = None
) -> httpx.AsyncClient:
    """What is forwarded through the control port needs no proxy."""
    import httpx

    return httpx.AsyncClient(headers=headers, timeout=timeout, auth=auth, trust_env=False)


async def _list_tools(session: ClientSession) -> list[Any]:
    from mcp.types import PaginatedRequestParams

    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor) if cursor else None)
        found += page.tools
        cursor = page.nextCursor
        if not cursor or len(found) >= MAX_TOOLS:
            return found[:MAX_TOOLS]


def _make_tool(line: _Line, capability: Capability, entry: Any, trace_id: str) -> Tool:
    async def call(arguments: dict[str, Any]) -> ToolResult:
        from mcp.shared.exceptions import McpError

        try:
            result = await line.call(entry.name, arguments, trace_id)
        except McpError as error:
            return tell(str(error), is_error=True)
        except RuntimeError as error:  # the client found that the result is not what the server's own schema says
            return tell(str(error), is_error=True)
        blocks = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content]
        if not blocks and result.structuredContent is not None:
            blocks = [{"type": "text", "text": json.dumps(result.structuredContent, ensure_ascii=False)}]
        return bound(blocks, is_error=bool(result.isError))

    description = entry.description or getattr(entry, "title", None) or ""
    return Tool(entry.name, description, dict(entry.inputSchema), capability.name, call)


def _reason(error: BaseException | None) -> str:
    """The innermost first cause, in a few words."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return "" if error is None else f": {error}" if str(error) else f": {type(error).__name__}"

"""A real MCP server of the `mcp` package on a real socket, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from typing import Any

import uvicorn
from mcp.server.fastmcp import Context, FastMCP, Image
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from tests.unit.evals.agents.rooms import PICTURE


class ToolServer:
    """`calls`: names and trace ids as they came; `headers`: of the newest connection."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.meet = asyncio.Barrier(2)
        self.entered = asyncio.Event()
        self.mcp = FastMCP("tools")
        self._add_tools()

    def _add_tools(self) -> None:
        @self.mcp.tool()
        def add(a: int, b: int, context: Context) -> str:
            """Add two numbers."""
            meta = context.request_context.meta
            self.calls.append(("add", (meta.model_dump() if meta else {}).get("hud/trace-id")))
            return str(a + b)

        @self.mcp.tool()
        async def meeting(name: str) -> str:
            """Returns when two have come."""
            await self.meet.wait()
            return f"{name} met"

        @self.mcp.tool()
        async def forever() -> str:
            """Never returns."""
            self.entered.set()
            await asyncio.Event().wait()
            return ""

        @self.mcp.tool()
        def broken() -> str:
            """Raises."""
            raise RuntimeError("the disk is on fire")

        @self.mcp.tool()
        def picture() -> Image:
            """Gives an image."""
            import base64

            return Image(data=base64.b64decode(PICTURE), format="png")

        @self.mcp.tool()
        def flood() -> str:
            """Says much."""
            return "a" * 100_000 + "z" * 100_000

    async def _websocket(self, socket: Any) -> None:
        from mcp.server.websocket import websocket_server  # the package is about to drop it, and says so

        server = self.mcp._mcp_server
        async with websocket_server(socket.scope, socket.receive, socket.send) as (read, write):
            await server.run(read, write, server.create_initialization_options())


@contextlib.asynccontextmanager
async def serve_tools(server: ToolServer, transport: str) -> AsyncGenerator[str]:
    """The address. The server's connections are cut when the block ends."""
    if transport == "streamable-http":
        inner: Any = server.mcp.streamable_http_app()
    elif transport == "sse":
        inner = server.mcp.sse_app()
    else:
        inner = Starlette(routes=[WebSocketRoute("/ws", server._websocket)])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if "headers" in scope:
            server.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        await inner(scope, receive, send)

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=0)
    uvicorn_server = uvicorn.Server(config)
    uvicorn_server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    port = listener.getsockname()[1]
    task = asyncio.create_task(_serve(uvicorn_server, listener))
    while not uvicorn_server.started:
        await asyncio.sleep(0)
        assert not task.done()
    scheme, path = {"streamable-http": ("http", "/mcp"), "sse": ("http", "/sse"), "websocket": ("ws", "/ws")}[
        transport
    ]
    try:
        yield f"{scheme}://127.0.0.1:{port}{path}"
    finally:
        uvicorn_server.should_exit = uvicorn_server.force_exit = True
        await task


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await server.serve(sockets=[listener])

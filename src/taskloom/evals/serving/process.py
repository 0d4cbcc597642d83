"""Serve one environment: hooks, the port, the announcement, an orderly end.

`served` is the part that other programs use in their own process; `serve` is the whole of a serving process, which
ends at SIGTERM and SIGINT. The announcement is the line `HUD_SERVE_PORT=PORT` on standard output, for whoever
started the process. Source: HUD 0.6.21.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from taskloom.evals.channel.server import ControlServer
from taskloom.evals.environment.declaration import Environment

ANNOUNCEMENT = "HUD_SERVE_PORT="
PORT = 8765  # where an environment is served when nobody says otherwise
ENV_HOST, ENV_PORT = "TASKLOOM_SERVE_HOST", "TASKLOOM_SERVE_PORT"  # where whoever starts a container wants it


def announce_port(port: int) -> None:
    """Say where it listens, on a line of standard output."""
    sys.stdout.write(f"{ANNOUNCEMENT}{port}\n")
    sys.stdout.flush()


@asynccontextmanager
async def served(
    environment: Environment, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[ControlServer]:
    """An environment that is started and listens (`.port`); at the end its tasks are closed and its hooks have run."""
    await environment.start()
    try:
        server = ControlServer(environment, host, port)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
    finally:
        await environment.stop()


async def serve(
    environment: Environment,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    announce: Callable[[int], None] = announce_port,
) -> None:
    """Serve until SIGTERM, SIGINT or cancellation. OSError when the port cannot be had."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, ended.set)
    try:
        async with served(environment, host, port) as server:
            announce(server.port)
            await ended.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)

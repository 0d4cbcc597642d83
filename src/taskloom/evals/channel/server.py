"""The control channel's server: one environment on one port.

It runs no hooks: whoever serves an environment calls `environment.start()` before and `environment.stop()` after (see
`serving`). There is no authentication, as the protocol has none: bind beyond the loopback interface only where
everybody who can reach the port may run and grade tasks.
"""

from __future__ import annotations

import asyncio
import logging

from taskloom.evals.channel.connection import Connection
from taskloom.evals.channel.sessions import Sessions
from taskloom.evals.environment.declaration import Environment

BACKLOG = 1024  # connections that may wait for their turn to be accepted
STOP_PATIENCE = 10.0  # seconds that open tasks get to close at the end
log = logging.getLogger("taskloom.evals.channel")


class ControlServer:
    """`port` 0: any free one."""

    def __init__(self, environment: Environment, host: str = "127.0.0.1", port: int = 0) -> None:
        self.environment = environment
        self.host, self.port = host, port
        self._sessions = Sessions()
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; the port. OSError when it cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, self.host, self.port, backlog=BACKLOG)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self.port

    def _connection(self) -> Connection:
        connection = Connection(self.environment, self._sessions, self._connections.discard)
        self._connections.add(connection)
        return connection

    async def stop(self) -> None:
        """Accept nobody, hang up, close all open tasks; waits STOP_PATIENCE for their `finally`."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in list(self._connections):
            connection.hang_up()
        ends = [asyncio.ensure_future(task.stop()) for task in self._sessions.clear()]
        if ends:
            _, late = await asyncio.wait(ends, timeout=STOP_PATIENCE)
            for end in late:
                end.cancel()
            if late:
                log.warning("%d eval tasks did not close in %g s", len(late), STOP_PATIENCE)

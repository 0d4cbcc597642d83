"""A way into a workspace for tests: connections as an agent makes them, and commands in one line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncssh

from taskloom.evals.capabilities import Capability

PATIENCE = 60.0  # seconds that a command may take on a busy machine


def connect(capability: Capability, **options: Any) -> Any:
    """An asyncssh connection; `options` replace what the capability says."""
    address = urlsplit(capability.url)
    told: dict[str, Any] = {
        "username": capability.params["user"],
        "client_keys": [asyncssh.import_private_key(capability.params["client_key"])],
        "known_hosts": ([asyncssh.import_public_key(capability.params["host_pubkey"])], [], []),
        "config": None,
    }
    return asyncssh.connect(address.hostname or "", address.port or 0, **{**told, **options})


class Door:
    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self.connection = connection

    async def run(self, command: str, **options: Any) -> asyncssh.SSHCompletedProcess:
        return await self.connection.run(command, timeout=PATIENCE, **options)

    async def say(self, command: str) -> str:
        """What a command that must succeed says."""
        done = await self.run(command)
        assert done.exit_status == 0, done
        return str(done.stdout).strip()


@asynccontextmanager
async def opened(capability: Capability) -> AsyncIterator[Door]:
    async with connect(capability) as connection:
        yield Door(connection)

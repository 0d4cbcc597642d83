"""A small SSH server of the `asyncssh` package: commands in a folder, files by SFTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import asyncssh

from taskloom.evals import Capability

CONNECTIONS: list[asyncssh.SSHServerConnection] = []  # to be cut by a test
_KEYS: list[asyncssh.SSHKey] = []  # made once: the server's, the agent's, a stranger's


def keys() -> list[asyncssh.SSHKey]:
    if not _KEYS:
        _KEYS.extend(asyncssh.generate_private_key("ssh-ed25519") for _ in range(3))
    return _KEYS


@contextlib.asynccontextmanager
async def serve_shell(folder: Path, **params: Any) -> AsyncGenerator[Capability]:
    """The capability that leads to it; `params` over its own."""
    server_key, agent_key, _ = keys()

    async def handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
        child = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            process.command or "true",
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdout is not None and child.stderr is not None
        try:
            await asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
            process.exit(await child.wait())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()

    class Files(asyncssh.SFTPServer):
        def __init__(self, channel: asyncssh.SSHServerChannel) -> None:
            super().__init__(channel, chroot=str(folder))

    class Door(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            CONNECTIONS.append(conn)

    server = await asyncssh.create_server(
        Door,
        "127.0.0.1",
        0,
        server_host_keys=[server_key],
        authorized_client_keys=asyncssh.import_authorized_keys(agent_key.export_public_key().decode()),
        process_factory=handle,
        sftp_factory=Files,
        encoding=None,
    )
    told = {
        "user": "agent",
        "host_pubkey": server_key.export_public_key().decode(),
        "client_key": agent_key.export_private_key().decode(),
        **params,
    }
    try:
        yield Capability("shell", "ssh/2", f"ssh://127.0.0.1:{server.get_port()}", told)
    finally:
        server.close()
        await server.wait_closed()


async def _pump(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    while piece := await source.read(65536):
        sink.write(piece)
        await sink.drain()

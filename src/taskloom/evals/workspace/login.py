"""Who may enter a workspace: whoever has the key that was made when it was started. Nothing is forwarded."""

from __future__ import annotations

from typing import Protocol

import asyncssh

from taskloom.evals.workspace.sandbox import USER

KEY = "ssh-ed25519"
LOGIN_TIMEOUT = 30  # seconds until a connection has shown its key
KEEPALIVE = 30.0  # seconds of silence after which a connection is asked whether it is there


class Served(Protocol):
    """What is entered."""

    def join(self, connection: asyncssh.SSHServerConnection) -> bool: ...

    def leave(self, connection: asyncssh.SSHServerConnection) -> None: ...

    async def serve_process(self, process: asyncssh.SSHServerProcess[bytes]) -> None: ...

    def serve_files(self, channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer: ...


class _Door(asyncssh.SSHServer):
    """One connection, from knocking to leaving."""

    def __init__(self, served: Served, key: bytes) -> None:
        self._served, self._key = served, key
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        if self._served.join(conn):
            self._connection = conn
        else:
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._served.leave(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == USER and key.public_data == self._key


async def listen(served: Served) -> tuple[asyncssh.SSHAcceptor, str, str]:
    """Listen on the loopback interface; also the host's public key and the client's private one, as text."""
    host, client = _make_key(), _make_key()
    acceptor = await asyncssh.create_server(
        lambda: _Door(served, client.public_data),
        "127.0.0.1",
        0,
        server_host_keys=[host],
        process_factory=served.serve_process,
        sftp_factory=served.serve_files,
        allow_scp=False,
        encoding=None,
        line_editor=False,
        agent_forwarding=False,
        x11_forwarding=False,
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        login_timeout=LOGIN_TIMEOUT,
        keepalive_interval=KEEPALIVE,
    )
    return acceptor, host.export_public_key().decode().strip(), client.export_private_key().decode()


def _make_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key(KEY)  # pyright: ignore[reportUnknownMemberType]

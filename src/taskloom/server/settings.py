"""What the server can be told: built once from the command line and the settings, then passed in.

Every limit that a client can run into stands here with its default, so that the documents and `ServerInfo`
tell the same numbers. Nothing else in the server reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.wire.configuration import check_settings, setting
from taskloom.wire.worker_protocol import ENV_DATA, MAX_WAIT

Clock = Callable[[], float]
"""Seconds since the epoch, UTC. The server's own clock alone decides about leases."""

SERVER_FOLDER = "server"
KIB, MIB = 2**10, 2**20
POSTGRES = "postgresql"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """data         the folder that holds everything; the server's own files are in `server/` below it
    host, port     where it listens; port 0 takes a free one
    database_url   empty: SQLite files in the data folder; else a PostgreSQL address
    allowed_hosts  names besides the loopback ones that a request's Host header may have
    max_body       bytes of a request body that is a message
    max_blob       bytes of one uploaded blob; 0 as large as the disk
    sweep          seconds between two looks for expired leases
    agent_lease    seconds that an agent of another system may be silent about a task that it runs
    console_limit  bytes of console kept for one task
    wrong_keys     wrong API keys from one address within `wrong_keys_window` seconds before it has to wait
    revoke_within  seconds after which a revoked key is refused at the latest
    gateway_url, gateway_key  a service of models that speaks OpenAI's protocol, for HUD's clients
    stop_within    seconds that requests in flight have when the server is told to stop
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    database_url: str = ""
    allowed_hosts: tuple[str, ...] = ()
    max_body: int = 64 * MIB
    max_blob: int = 0
    sweep: float = 5.0
    agent_lease: float = 120.0
    max_wait: float = MAX_WAIT
    max_page: int = 1000
    console_limit: int = 256 * MIB
    wrong_keys: int = 30
    wrong_keys_window: float = 60.0
    revoke_within: float = 1.0
    stop_within: float = 8.0
    gateway_url: str = ""
    gateway_key: str = ""

    @property
    def folder(self) -> Path:
        """The server's own files: databases, blobs, lock."""
        return self.data / SERVER_FOLDER

    def database(self, name: str) -> str:
        """Address of one of the two databases, `main` or `telemetry`, as SQLAlchemy writes it."""
        return self.database_url or f"sqlite:///{self.folder / name}.db"

    @property
    def database_kind(self) -> str:
        return POSTGRES if self.database_url else "sqlite"

    def limits(self) -> dict[str, int]:
        """The numbers that clients are told by `server_info`."""
        return {
            "max_body": self.max_body,
            "max_blob": self.max_blob,
            "max_wait": int(self.max_wait),
            "max_page": self.max_page,
            "console_limit": self.console_limit,
        }


def read_settings(
    data: Path, host: str = "127.0.0.1", port: int = 8080, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Settings of a server that is about to start; raises BadInput for what could never work."""
    data = data.expanduser().absolute()
    environ = {**environ, ENV_DATA: str(data)}  # its settings file lies there, too
    check_settings(environ)
    if not 0 <= port <= 65535:
        raise BadInput(f"port {port}: expected 0 to 65535")
    return Settings(
        data=data,
        host=host,
        port=port,
        database_url=_postgres(setting("server.database_url", environ)),
        allowed_hosts=tuple(host.lower() for host in setting("server.allowed_hosts", environ)),
        gateway_url=_gateway(setting("evals.gateway_url", environ)),
        gateway_key=setting("evals.gateway_key", environ),
    )


def _gateway(url: str) -> str:
    if url and urlsplit(url).scheme not in {"http", "https"}:
        raise BadInput(
            "evals.gateway_url (TASKLOOM_EVAL_GATEWAY_URL): expected an address such as https://host/v1"
        )
    return url


def _postgres(url: str) -> str:
    """`postgres://` and `postgresql://` both mean PostgreSQL through psycopg 3."""
    if not url:
        return ""
    scheme, found, rest = url.partition("://")
    if not found or scheme not in {"postgres", POSTGRES, f"{POSTGRES}+psycopg"}:
        raise BadInput(
            "server.database_url (TASKLOOM_DATABASE_URL): expected an address such as postgresql://user@host/database"
        )
    return f"{POSTGRES}+psycopg://{rest}"

"""How a program finds its server: environment variables, or the file that the server wrote on this machine.

Order: `TASKLOOM_URL` with `TASKLOOM_API_KEY`; else `connection.json` in the data folder (`TASKLOOM_DATA`,
by default `~/.taskloom`), which a server writes with mode 0600 when it starts. The file's key is sent to the
file's own address only, so that a `TASKLOOM_URL` that points elsewhere never learns it. Neither: no server, and
journals wait.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.wire.client import Address
from taskloom.wire.worker_protocol import ENV_API_KEY, ENV_DATA, ENV_URL

CONNECTION_FILE = "connection.json"


class Connection(msgspec.Struct, frozen=True):
    """The file's content: where the server listens and the administrator's key."""

    url: str
    api_key: str


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds everything Taskloom keeps on this machine; not created here."""
    chosen = environ.get(ENV_DATA, "")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".taskloom"


def find_address(environ: Mapping[str, str] = os.environ) -> Address | None:
    """The server to talk to, or None. Raises BadInput for a URL that is not http or https."""
    url = environ.get(ENV_URL, "").rstrip("/")
    key = environ.get(ENV_API_KEY, "")
    if not url or not key:
        written = read_connection(data_folder(environ))
        if written is not None:
            url = url or written.url
            if url == written.url:
                key = key or written.api_key
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"{ENV_URL} is {url!r}: expected an address such as http://127.0.0.1:8080")
    return Address(url, key)


def read_connection(folder: Path) -> Connection | None:
    try:
        return msgspec.json.decode((folder / CONNECTION_FILE).read_bytes(), type=Connection)
    except (OSError, msgspec.DecodeError):
        return None


def write_connection(folder: Path, connection: Connection) -> Path:
    """Whole or not at all, readable by its owner only."""
    path = folder / CONNECTION_FILE
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(connection))
    fresh.replace(path)
    return path

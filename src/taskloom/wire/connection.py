"""How a program finds its server: environment variables, the settings file, or the file that the server wrote here.

Order: `TASKLOOM_URL` with `TASKLOOM_API_KEY`; else `url` and `api_key` of the settings file; else `connection.json`
in the data folder, which a server writes with mode 0600 when it starts. A file's key is sent to that file's own
address only, so that a `TASKLOOM_URL` that points elsewhere never learns it. None: no server, and journals wait.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.wire.client import Address
from taskloom.wire.configuration import data_folder, find, written_setting
from taskloom.wire.worker_protocol import ENV_API_KEY, ENV_URL

CONNECTION_FILE = "connection.json"
KEY = "tl_"  # begins every API key; the rest is `<access>_<secret>`


class Connection(msgspec.Struct, frozen=True):
    """The file's content: where the server listens and the administrator's key."""

    url: str
    api_key: str


def find_address(environ: Mapping[str, str] = os.environ) -> Address | None:
    """The server to talk to, or None. Raises BadInput for a URL that is not http or https."""
    told = [(environ.get(ENV_URL, ""), ""), (written_setting("url", environ), written_setting("api_key", environ))]
    key = environ.get(ENV_API_KEY, "")
    url = next((url.rstrip("/") for url, _ in told if url), "")
    if not url or not key:
        written = read_connection(data_folder(environ))
        if written is not None:
            told.append((written.url, written.api_key))
            url = url or written.url
        key = key or next((theirs for place, theirs in told if theirs and place.rstrip("/") == url), "")
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise BadInput(
            f"{find('url', environ).source}: url is {url!r}: expected one such as http://127.0.0.1:8080"
        )
    return Address(url, key)


def agent_address(environ: Mapping[str, str]) -> Address | None:
    """The server of an agent of another system (ClearML's), as its child finds it: variables, else the file of
    settings that the agent wrote for it. Whether it is one of ours is not known here.
    """
    settings = _agent_settings(environ.get("CLEARML_CONFIG_FILE", ""))
    words = settings.credentials
    url = environ.get("CLEARML_API_HOST") or settings.api_server
    access = environ.get("CLEARML_API_ACCESS_KEY") or words.access_key
    secret = environ.get("CLEARML_API_SECRET_KEY") or words.secret_key
    if not url.startswith(("http://", "https://")) or not secret:
        return None
    return Address(
        url.rstrip("/"), secret if secret.startswith(KEY) else f"{KEY}{access.removeprefix(KEY)}_{secret}"
    )


class _Credentials(msgspec.Struct, frozen=True):
    access_key: str = ""
    secret_key: str = ""


class _AgentApi(msgspec.Struct, frozen=True):
    api_server: str = ""
    credentials: _Credentials = _Credentials()


class _AgentSettings(msgspec.Struct, frozen=True):
    api: _AgentApi = _AgentApi()


def _agent_settings(path: str) -> _AgentApi:
    """The agent writes JSON; a file that a person wrote may be no JSON, and says nothing here."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=_AgentSettings).api if path else _AgentApi()
    except (OSError, msgspec.DecodeError):
        return _AgentApi()


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

"""The control channel as a run uses it; what goes over the wire stands in `framing`, `client` and `server`.

One connection is one session, which holds at most one suspended eval task: ORDER  start -> (the agent acts) ->
grade or cancel -> close. Calls are serial. `close` without a grade leaves the task parked on the server, under
`session_id`, where a later connection may resume it; `cancel` ends it. `abort` cuts the line at once.
ERRORS  `Refused` when the environment answered with an error (its JSON-RPC code and message), `ChannelLost` when the
line broke, the answer was none of ours, or nothing came in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from taskloom.evals.capabilities import Capability
from taskloom.evals.failures import InfrastructureFailure

READY_TIMEOUT = 240.0  # seconds that an environment may take until it answers the first hello
MAX_FRAME = 16 * 2**20  # bytes of one JSON line, either way


class ChannelLost(InfrastructureFailure):
    """The line to the environment is broken, or what comes over it is not the protocol."""


class Refused(Exception):
    """The environment answered with an error. `code`: JSON-RPC's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def read_address(url: str) -> tuple[str, int]:
    """Host and port of `tcp://HOST:PORT`; ValueError for another form."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in ("", "tcp") or not host or not port:
        raise ValueError(f"runtime address {url!r}: expected tcp://HOST:PORT")
    return host, port


class Control(Protocol):
    """An open control session."""

    session_id: str
    env_name: str
    env_version: str

    @property
    def bindings(self) -> Sequence[Capability]:
        """The capabilities of the manifest, with addresses that can be dialled from here: each is forwarded through
        the control port, by a listener on the loopback interface that opens when it is first asked for."""
        ...

    async def binding(self, reference: str) -> Capability:
        """The one capability of that name, protocol or protocol family, forwarded; ValueError when none or several."""
        ...

    async def list_tasks(self) -> list[dict[str, Any]]: ...

    async def start(self, template: str, args: dict[str, Any]) -> dict[str, Any]:
        """The prompt's frame: `prompt` and what else the template yielded with it."""
        ...

    async def grade(self, answer: Any) -> dict[str, Any]:
        """The grade's frame, with a finite `score`."""
        ...

    async def cancel(self) -> None: ...

    async def close(self) -> None: ...

    def abort(self) -> None: ...

"""A client that does no input or output: it builds calls and reads answers.

`send` holds the two senders that put it on a network. Errors come back as the server's own classes of
`domain.errors`, so that a caller catches `NotFound` and never looks at a status code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from taskloom.domain.errors import BY_CODE, ServerFault, TaskloomError, Unavailable
from taskloom.wire.messages import Fault
from taskloom.wire.operations import Operation

MSGPACK = "application/msgpack"
JSON = "application/json"
Reply = TypeVar("Reply")

_encoder = msgspec.msgpack.Encoder()


@dataclass(frozen=True)
class HttpCall:
    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    content: bytes | None = None


@dataclass(frozen=True)
class Address:
    """Where the server is and who asks: `http://127.0.0.1:8080` (no slash at the end) and an API key."""

    url: str
    api_key: str = ""

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def task(self, task_id: str) -> str:
        """Where one task is to be found; the one place to change when a page is served there."""
        return f"{self.url}/api/tasks/{task_id}"


def build_call(
    address: Address,
    operation: Operation[Any, Any],
    body: Any = None,
    *,
    query: Any = None,
    **path: str,
) -> HttpCall:
    """The HTTP request for an operation; path values are quoted, so that no name can reach another route."""
    place = operation.path
    for name, value in path.items():
        for hole in (f"{{{name}}}", f"{{{name}:path}}"):
            place = place.replace(hole, quote(value, safe=""))
    if "{" in place:
        raise ValueError(f"{operation.name}: the path {operation.path} needs more than {sorted(path)}")
    if query is not None:
        flat = {k: _plain(v) for k, v in msgspec.to_builtins(query).items() if v is not None}
        place += f"?{urlencode(flat)}" if flat else ""
    headers = {"Accept": MSGPACK, **address.headers()}
    content = None
    if operation.body is not None:
        headers["Content-Type"] = MSGPACK
        content = _encoder.encode(body)
    return HttpCall(operation.method, address.url + place, headers, content)


def read_answer(
    operation: Operation[Any, Reply], status: int, content: bytes, content_type: str, retry_after: str = ""
) -> Reply:
    """The typed answer, or the error that the server told, raised."""
    if status >= 400:
        raise read_fault(status, content, content_type, retry_after)
    try:
        if content_type.startswith(MSGPACK):
            return msgspec.msgpack.decode(content, type=operation.answer)
        return msgspec.json.decode(content, type=operation.answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServerFault(f"{operation.name}: the answer is not what this version expects: {error}") from error


def read_fault(status: int, content: bytes, content_type: str, retry_after: str = "") -> TaskloomError:
    """The server's error as its class; an answer that is not ours (a proxy's page) becomes 503 or 500."""
    try:
        fault = (
            msgspec.msgpack.decode(content, type=Fault)
            if content_type.startswith(MSGPACK)
            else msgspec.json.decode(content, type=Fault)
        )
    except (msgspec.DecodeError, UnicodeDecodeError):
        kind = Unavailable if status in {429, 502, 503, 504} else ServerFault
        return kind(f"the server answered {status} without a message", status=status)
    details = dict(fault.error.details)
    if retry_after:
        details["retry_after"] = retry_after
    return BY_CODE.get(fault.error.code, ServerFault)(fault.error.message, **details)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)

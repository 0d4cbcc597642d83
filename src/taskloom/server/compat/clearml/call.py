"""A ClearML call as a handler sees it, and what handlers are made of.

Every module of this room that answers calls has one function `endpoints(rooms) -> Endpoints` with an entry a
call name (`tasks.get_all`). A handler takes a `ClearMLCall` and gives the dictionary that becomes `data` of the
answer. It raises errors of `domain.errors`, or a `Refusal` where clients tell subcodes apart; never anything for
a field that it does not know. The readers below check the types of fields that it does know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from taskloom.server.accounts.service import AccountService
from taskloom.server.artifacts.service import ArtifactService
from taskloom.server.call import Caller
from taskloom.server.compat.clearml.errors import Refusal
from taskloom.server.metrics.service import MetricsService
from taskloom.server.projects.service import ProjectService
from taskloom.server.queues.service import QueueService
from taskloom.server.settings import Clock, Settings
from taskloom.server.tasks.service import TaskService
from taskloom.wire.messages import Role

FILES = "/files"
"""Where the file server's forms are served; the client is told `<origin>/files` as its files host."""


@dataclass(frozen=True)
class Rooms:
    """The services that calls are translated to."""

    accounts: AccountService
    projects: ProjectService
    metrics: MetricsService
    artifacts: ArtifactService
    tasks: TaskService
    queues: QueueService
    settings: Settings
    clock: Clock


@dataclass(frozen=True)
class ClearMLCall:
    """`body` holds the fields of the JSON body and of the query string (texts); `raw` the undecoded body of a
    call that takes lines. `origin` is this server as the client reached it, such as `http://127.0.0.1:8080`.
    """

    caller: Caller
    name: str
    version: str
    body: dict[str, Any]
    raw: bytes
    origin: str
    worker: str  # header X-ClearML-Worker, as sent
    client: str  # header X-ClearML-Client

    @property
    def files(self) -> str:
        return f"{self.origin}{FILES}"


Data = Mapping[str, Any]
Respond = Callable[[ClearMLCall], Awaitable[Data]]


@dataclass(frozen=True)
class Endpoint:
    """`role` is what the key must have at least. `lines`: the body is not decoded, see `raw`."""

    respond: Respond
    role: Role = "member"
    lines: bool = False


Endpoints = Mapping[str, Endpoint]


def reads(respond: Respond) -> Endpoint:
    """An endpoint that changes nothing: viewers may call it."""
    return Endpoint(respond, "viewer")


# --- fields of a body -------------------------------------------------------------------------------------


def text(body: Data, name: str, default: str = "") -> str:
    """A text; None counts as missing; numbers are taken for their text, as ClearML does."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise _wrong(name, value, "a text")


def needed(body: Data, name: str) -> str:
    """A text that has to be there."""
    value = text(body, name)
    if not value:
        raise Refusal(f"missing field {name!r}", 400, 11)
    return value


def flag(body: Data, name: str, default: bool = False) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return bool(value)
    if isinstance(value, str) and value.lower() in {"true", "false", "1", "0", ""}:
        return value.lower() in {"true", "1"}
    raise _wrong(name, value, "true or false")


def number(body: Data, name: str, default: int, low: int, high: int) -> int:
    """A whole number, held between `low` and `high`."""
    value = body.get(name)
    if value is None:
        return default
    try:
        found = int(value)
    except (TypeError, ValueError, OverflowError):
        raise _wrong(name, value, "a whole number") from None
    return min(max(found, low), high)


def texts(body: Data, name: str) -> list[str]:
    """A list of texts; a single text counts as a list of one; None entries stay out."""
    value: Any = body.get(name)
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if all(item is None or isinstance(item, str) for item in items):
            return [item for item in items if item is not None]
    raise _wrong(name, cast(Any, value), "a list of texts")


def table(body: Data, name: str) -> dict[str, Any]:
    """A dictionary with texts as keys; None counts as empty."""
    value = body.get(name)
    if value is None:
        return {}
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise _wrong(name, value, "an object")


def tables(body: Data, name: str) -> list[dict[str, Any]]:
    """A list of dictionaries."""
    value = body.get(name)
    if value is None:
        return []
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if all(isinstance(item, dict) for item in items):
            return cast("list[dict[str, Any]]", items)
    raise _wrong(name, cast(Any, value), "a list of objects")


def _wrong(name: str, value: Any, expected: str) -> Refusal:
    return Refusal(f"field {name!r}: {str(value)[:80]!a} is not {expected}", 400, 12)

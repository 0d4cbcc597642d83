"""A HUD client's call as its handlers see it, and how its words become ours: ids, pages, bodies."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import Request

from taskloom.domain.errors import BadInput, NotFound
from taskloom.server.accounts.service import AccountService
from taskloom.server.call import Caller
from taskloom.server.evals.service import EvalService
from taskloom.server.projects.service import ProjectService
from taskloom.server.queues.service import QueueService
from taskloom.server.settings import Clock, Settings
from taskloom.server.tasks.service import TaskService
from taskloom.server.tunnels.service import TunnelService
from taskloom.wire.messages import Role

T = TypeVar("T")

_LONG = re.compile(rb"[0-9]{19}")  # digits that may be of a whole number of more than 64 bits
MAX_PAGE = 500  # entries in one answer; what asks for more gets that many


@dataclass(frozen=True)
class Rooms:
    """What handlers reach into."""

    accounts: AccountService
    projects: ProjectService
    tasks: TaskService
    evals: EvalService
    queues: QueueService
    tunnels: TunnelService
    settings: Settings
    clock: Clock


@dataclass(frozen=True)
class HudCall:
    """`path`: the holes of the route, decoded. `raw`: the body's bytes, read and limited."""

    caller: Caller
    path: Mapping[str, str]
    query: Mapping[str, str]
    raw: bytes
    request: Request

    def body(self, kind: type[T]) -> T:
        """The body as a value; BadInput that says what was expected."""
        try:
            if _LONG.search(self.raw):
                _check_numbers(msgspec.json.decode(self.raw))
            return msgspec.json.decode(self.raw or b"{}", type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
            text = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:300]
            raise BadInput(f"the body is not what was expected: {text}") from None

    def id(self, name: str, what: str) -> str:
        """An id of the path as ours; NotFound for what can be no id."""
        return read_id(self.path[name], what)

    def page(self) -> tuple[int, int]:
        """limit and offset."""
        limit, offset = (self._whole(name, default) for name, default in (("limit", 20), ("offset", 0)))
        return max(1, min(limit, MAX_PAGE)), offset

    def _whole(self, name: str, default: int) -> int:
        text = self.query.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise BadInput(f"{name} {text[:40]!r}: expected a whole number from 0 on")
        return int(text)


Answer = Callable[[HudCall], Awaitable[Any]]


@dataclass(frozen=True)
class Endpoint:
    """`path` below the door's prefix, with `{name}` for one segment. `status`: of an answer that is no Response."""

    method: str
    path: str
    role: Role
    answer: Answer
    status: int = 200
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        holes = re.sub(r"\{([a-z_]+)\}", r"(?P<\1>[^/]+)", self.path)
        object.__setattr__(self, "pattern", re.compile(holes))


def _check_numbers(value: Any) -> None:
    """BadInput for a whole number that no database holds."""
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(cast("dict[str, Any]", one).values())
        elif isinstance(one, list):
            waiting.extend(cast("list[Any]", one))
        elif isinstance(one, int) and not -(2**63) <= one < 2**63:
            raise BadInput(f"{str(one)[:40]}: expected a number of at most 64 bits")


def read_id(text: str, what: str) -> str:
    """32 hexadecimal digits, from these or from a dashed UUID; NotFound for anything else."""
    try:
        return uuid.UUID(text).hex
    except ValueError:
        raise NotFound(f"no {what} {text[:80]!r}: expected 32 hexadecimal digits or a UUID") from None


def tell_id(ours: str) -> str:
    """As a UUID; an id of ours that is none always becomes the same one."""
    try:
        return str(uuid.UUID(ours))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"taskloom:{ours}"))


def tell_time(seconds: float) -> str | None:
    """ISO 8601; None for a time that was not told."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z") if seconds else None


def read_time(text: Any) -> float:
    """Seconds since the epoch of an ISO 8601 time; 0 for what is none."""
    try:
        return max(0.0, datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()) if text else 0.0
    except (ValueError, OverflowError):
        return 0.0

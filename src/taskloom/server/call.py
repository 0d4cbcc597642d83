"""A call as a handler sees it: who asks, what for, already checked and decoded.

The app reads the request by its operation's declaration (key, role, path, query, body) and hands it over as one
`Call`; what a handler returns is encoded in the form that the caller asked for. Each feature's `routes` module
has one function `handlers(...) -> Handlers` with an entry per operation of that feature in `wire.operations`.
A handler of raw bytes reads `call.request.stream()` and may return a Starlette `Response`. Errors of
`domain.errors` are raised, never returned. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskloom.wire.messages import Role

if TYPE_CHECKING:
    from starlette.requests import Request

RANK: dict[Role, int] = {"viewer": 0, "member": 1, "admin": 2}


@dataclass(frozen=True)
class Caller:
    """Who asks. `user` is the name; `key` the access part of the key; `lease` the attempt it was made for."""

    user: str
    user_id: str
    role: Role
    key: str
    lease: str = ""

    def may(self, role: Role) -> bool:
        return RANK[self.role] >= RANK[role]


@dataclass(frozen=True)
class Call:
    """`query` and `body` are structs of the operation's declared types (None when it declares none)."""

    caller: Caller
    path: Mapping[str, str]
    query: Any
    body: Any
    request: Request


Handler = Callable[[Call], Awaitable[Any]]
Handlers = Mapping[str, Handler]

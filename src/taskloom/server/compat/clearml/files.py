"""The file server's forms. To come."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from taskloom.domain.errors import NotFound
from taskloom.server.call import Caller
from taskloom.server.compat.clearml.call import Rooms


async def answer(rooms: Rooms, caller: Caller, request: Request, path: str, origin: str) -> Response:
    raise NotFound(f"no file {path[:80]!r}")

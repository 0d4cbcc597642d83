"""The door for HUD's client and command: everything below `/hud`.

A guest of the binding: Host and Origin are checked before. Here the order is: the key, whether the call is served, its
role, its body. Every answer is JSON, every error `{"detail": text}`, as HUD's client shows it; what is not served is a 404
that says so.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from taskloom.domain.errors import BadInput, Forbidden, NotFound, TaskloomError, Unauthorized
from taskloom.server.call import Caller
from taskloom.server.compat.hud.call import Endpoint, HudCall, Rooms
from taskloom.server.compat.hud.closing import Closer
from taskloom.server.compat.hud.reporting import Reporter
from taskloom.server.foreign import read_limited, recognised

JSON = "application/json"
PREFIX = "/hud"
MAX_VALUE = 1024  # characters of a part of the address


class Door:
    """See `server.foreign`."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._reporter = Reporter(rooms.tasks, rooms.evals, rooms.clock)
        self.closer = Closer(rooms, self._reporter)

    @cached_property
    def _endpoints(self) -> list[Endpoint]:
        """Loaded by the first call: a server that nobody asks in HUD's words pays nothing for knowing them."""
        from taskloom.server.compat.hud.serving import every_endpoint

        return every_endpoint(self._rooms, self._reporter)

    def wants(self, raw_path: str) -> bool:
        return raw_path == PREFIX or raw_path.startswith(f"{PREFIX}/")

    async def answer(self, request: Request) -> Response:
        try:
            return await self._answered(request)
        except ClientDisconnect:
            raise
        except Exception as error:
            return _refused(recognised(error, request))

    async def _answered(self, request: Request) -> Response:
        caller = await self._who(request)
        raw_path = request.scope["raw_path"].decode("ascii", "replace").removeprefix(PREFIX)
        endpoint, path = self._find(request.method, raw_path)
        if not caller.may(endpoint.role):
            raise Forbidden(f"this needs a key of role {endpoint.role}; yours is of role {caller.role}")
        raw = b"" if request.method == "GET" else await read_limited(request, self._rooms.settings.max_body)
        answer = await endpoint.answer(HudCall(caller, path, _query(request), raw, request))
        return answer if isinstance(answer, Response) else _json(answer, endpoint.status)

    async def _who(self, request: Request) -> Caller:
        """Of a key of ours, as HUD's client and the clients of model providers send one."""
        scheme, _, word = request.headers.get("authorization", "").partition(" ")
        key = word.strip() if scheme.lower() == "bearer" else ""
        if not key:
            raise Unauthorized("an API key is needed: set HUD_API_KEY to a key of this Taskloom server")
        return await self._rooms.accounts.authenticate(key, request.client.host if request.client else "")

    def _find(self, method: str, raw_path: str) -> tuple[Endpoint, dict[str, str]]:
        for endpoint in self._endpoints:
            found = endpoint.pattern.fullmatch(raw_path) if endpoint.method == method else None
            if found is not None:
                return endpoint, {name: _part(text) for name, text in found.groupdict().items()}
        raise NotFound(f"{method[:20]} {raw_path[:200]} is not served by Taskloom; see its page docs/hud.md")


def _part(raw: str) -> str:
    try:
        text = unquote(raw, errors="strict")
    except UnicodeError:
        raise BadInput("the address is not UTF-8") from None
    if len(text) > MAX_VALUE or any(ord(character) < 32 for character in text):
        raise BadInput(f"a part of the address holds control characters or is over {MAX_VALUE} long")
    return text


def _query(request: Request) -> dict[str, str]:
    try:
        text = request.scope["query_string"].decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise BadInput("the query string cannot be read") from None
    return {name: value.replace("\0", "") for name, value in pairs}


def _json(answer: Any, status: int) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type=JSON)


def _refused(error: TaskloomError) -> Response:
    response = _json({"detail": error.message}, error.http_status)
    if "retry_after" in error.details:
        response.headers["retry-after"] = str(error.details["retry_after"])
    return response

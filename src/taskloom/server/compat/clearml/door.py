"""The door for ClearML's clients: their addresses, their envelope, their errors.

Every request whose address no operation of ours has comes here when it looks like a ClearML call: an optional
`/api`, an optional version, then `service.action`; or like a file, below `/files`. Order of the checks: who asks,
whether the call is served, its role, its body. Each answer, errors too, has ClearML's envelope, and its HTTP
status equals its code. A call that is not served is told by its name, and counted.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from taskloom.domain.errors import BadInput, Forbidden, TaskloomError, Unauthorized
from taskloom.server.call import Caller
from taskloom.server.compat.clearml import auth, bodies
from taskloom.server.compat.clearml.call import FILES, ClearMLCall, Endpoint, Endpoints, Rooms
from taskloom.server.compat.clearml.errors import NO_CREDENTIALS, WRONG_CREDENTIALS, Refusal, told
from taskloom.server.compat.clearml.tokens import API_VERSION, Tokens
from taskloom.server.compat.clearml.unserved import Unserved
from taskloom.server.foreign import read_limited, recognised

JSON = "application/json"
_CALL = re.compile(
    r"(?:/api)?(?:/v(?P<version>[0-9]{1,3}(?:\.[0-9]{1,3})?))?/(?P<name>[a-z][a-z_]{1,40}\.[a-z][a-z0-9_]{1,60})/?"
)
_TYPES = frozenset({"", JSON, "application/json-lines"})


class Door:
    """See `server.foreign`: one of the guests of the binding."""

    def __init__(self, rooms: Rooms, tokens: Tokens, unserved: Unserved) -> None:
        self._rooms, self._tokens, self._unserved = rooms, tokens, unserved

    @cached_property
    def endpoints(self) -> Endpoints:
        """Loaded by the first call: a server that nobody asks in ClearML's words pays nothing for knowing them."""
        from taskloom.server.compat.clearml.serving import every_endpoint

        return every_endpoint(self._rooms, self._tokens)

    def wants(self, raw_path: str) -> bool:
        return raw_path == FILES or raw_path.startswith(f"{FILES}/") or _CALL.fullmatch(raw_path) is not None

    async def answer(self, request: Request) -> Response:
        response = await self._answered(request)
        # ClearML's clients fork a reporter that goes on with the idle connections of its parent: on one that is
        # kept open, both would read each other's answers.
        response.headers["connection"] = "close"
        return response

    async def _answered(self, request: Request) -> Response:
        raw_path = request.scope["raw_path"].decode("ascii", "replace")
        found = _CALL.fullmatch(raw_path)
        if found is None:
            return await self._file(request, raw_path)
        name, version = found["name"], found["version"] or API_VERSION
        try:
            data = await self._called(request, name, version)
            return _envelope(name, version, 200, 0, "OK", data)
        except ClientDisconnect:
            raise
        except Exception as error:
            return _refused(name, version, recognised(error, request))

    # --- calls ------------------------------------------------------------------------------------------

    async def _called(self, request: Request, name: str, version: str) -> Any:
        caller = await self._who(request)
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            await self._unserved.count(name, request.headers.get("x-clearml-client", ""))
            raise Refusal(f"Taskloom does not serve the call {name} (version {version})", 404)
        if not caller.may(endpoint.role):
            raise Forbidden(f"{name} needs a key of role {endpoint.role}; this one is of role {caller.role}")
        call = await self._read(request, endpoint, caller, name, version)
        return await endpoint.respond(call)

    async def _who(self, request: Request) -> Caller:
        """The caller of a token; also of a key itself, as our own clients send it."""
        scheme, _, word = request.headers.get("authorization", "").partition(" ")
        word = word.strip()
        if scheme.lower() == "basic":
            return await self._accounts_key(*_basic(word), request)
        if scheme.lower() != "bearer" or not word:
            raise Refusal("no credentials: log in with an access key and a secret key", 401, NO_CREDENTIALS)
        if word.count(".") != 2:
            return await self._rooms.accounts.authenticate(word, _address(request))
        return await self._rooms.accounts.caller_of(self._tokens.key_of(word))

    async def _accounts_key(self, access: str, secret: str, request: Request) -> Caller:
        try:
            return await self._rooms.accounts.authenticate(auth.whole_key(access, secret), _address(request))
        except Unauthorized as error:
            raise Refusal(error.message, 401, WRONG_CREDENTIALS) from None

    async def _read(
        self, request: Request, endpoint: Endpoint, caller: Caller, name: str, version: str
    ) -> ClearMLCall:
        headers = request.headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        limit = self._rooms.settings.max_body
        raw = await read_limited(request, limit)
        raw = bodies.unpacked(raw, headers.get("content-encoding", ""), limit)
        body: dict[str, Any] = {}
        if not endpoint.lines:
            if kind not in _TYPES and raw:
                raise BadInput(f"content type {kind[:80]!r}: expected {JSON}")
            body = bodies.fields(raw)
        body.update(_query(request))
        return ClearMLCall(
            caller=caller,
            name=name,
            version=version,
            body=body,
            raw=raw if endpoint.lines else b"",
            origin=_origin(request),
            worker=headers.get("x-clearml-worker", headers.get("x-trains-worker", ""))[:256],
            client=headers.get("x-clearml-client", headers.get("x-trains-client", ""))[:256],
        )

    # --- files ------------------------------------------------------------------------------------------

    async def _file(self, request: Request, raw_path: str) -> Response:
        from taskloom.server.compat.clearml import files

        name = "files" + raw_path.removeprefix(FILES)[:80]
        try:
            caller = await self._who(request)
            return await files.answer(self._rooms, caller, request, raw_path.removeprefix(FILES), _origin(request))
        except ClientDisconnect:
            raise
        except Exception as error:
            return _refused(name, API_VERSION, recognised(error, request))


def _basic(word: str) -> tuple[str, str]:
    try:
        access, colon, secret = base64.b64decode(word, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = access = secret = ""
    if not colon:
        raise Refusal("the credentials cannot be read: expected Basic with ACCESS:SECRET", 401, WRONG_CREDENTIALS)
    return access, secret


def _query(request: Request) -> dict[str, Any]:
    """Fields of the query string; ClearML takes them for fields of the body."""
    pairs = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return {name: value for name, value in pairs if not any("\ud800" <= c <= "\udfff" for c in name + value)}


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers.get('host', '')}"


def _envelope(name: str, version: str, code: int, subcode: int, message: str, data: Any) -> Response:
    number = uuid.uuid4().hex
    meta = {
        "id": number,
        "trx": number,
        "endpoint": {"name": name, "requested_version": version, "actual_version": API_VERSION},
        "result_code": code,
        "result_subcode": subcode,
        "result_msg": message,
        "error_stack": None,
        "error_data": {},
    }
    body = msgspec.json.encode({"meta": meta, "data": data}, enc_hook=str)
    return Response(body, code, media_type=JSON)


def _refused(name: str, version: str, error: TaskloomError) -> Response:
    code, subcode = told(error)
    response = _envelope(name, version, code, subcode, error.message, {})
    if "retry_after" in error.details:
        response.headers["retry-after"] = str(error.details["retry_after"])
    return response

"""HTTP on one side, operations on the other: the outermost layer of the server.

Every request goes through here and meets the same checks in the same order: Host, Origin, route, key and role,
path, query, body. A handler only sees calls that passed. Errors leave as the one JSON shape (`Fault`); what
nobody foresaw is logged under an id and told as `server_fault` without its insides. An address that no operation
has may be a guest's (other systems' clients, see foreign), after the checks of Host and Origin. Routes match the raw path
segment by segment before anything is decoded, so that no quoted slash can reach another route.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from taskloom.domain.errors import (
    BadInput,
    Forbidden,
    NotFound,
    ServerFault,
    TaskloomError,
    TooLarge,
    Unauthorized,
)
from taskloom.server.call import Call, Caller, Handler, Handlers
from taskloom.server.foreign import Guest, read_limited, recognised
from taskloom.server.settings import Settings
from taskloom.wire.client import JSON, MSGPACK
from taskloom.wire.messages import Fault, FaultBody
from taskloom.wire.operations import Operation

log = logging.getLogger("taskloom.server")

Authenticate = Callable[[str, str], Awaitable[Caller]]
SocketDoor = Callable[[Caller, str, Receive, Send], Awaitable[None]]
NOBODY = Caller("", "", "viewer", "")
READING = frozenset({"GET", "HEAD"})
MAX_PATH_VALUE = 1024
MAX_QUERY_FIELDS = 200
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError)


class WrongMethod(TaskloomError):
    """Only HTTP knows methods, so this error is not one of the domain."""

    code = "method_not_allowed"
    http_status = 405


class WrongType(TaskloomError):
    code = "unsupported_media_type"
    http_status = 415


@dataclass
class Bound:
    """An operation with its handler and the decoders of its body."""

    operation: Operation[Any, Any]
    handler: Handler
    json: msgspec.json.Decoder[Any] | None = None
    msgpack: msgspec.msgpack.Decoder[Any] | None = None

    def __post_init__(self) -> None:
        if self.operation.body is not None:
            self.json = msgspec.json.Decoder(self.operation.body)
            self.msgpack = msgspec.msgpack.Decoder(self.operation.body)


@dataclass
class _Node:
    """One segment of the routes. `hole` is a `{name}`; `rest` a `{name:path}` that takes all that follows."""

    children: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    hole: _Node | None = None
    rest: _Node | None = None
    bound: dict[str, tuple[Bound, tuple[str, ...]]] = field(
        default_factory=dict[str, tuple[Bound, tuple[str, ...]]]
    )


class Routes:
    """The operations' paths as a tree. Two operations may share a path with different methods."""

    def __init__(self, bound: list[Bound]) -> None:
        self._root = _Node()
        for one in bound:
            self._add(one)

    def _add(self, bound: Bound) -> None:
        node, names = self._root, list[str]()
        for segment in bound.operation.path.strip("/").split("/"):
            if segment.startswith("{"):
                name = segment.strip("{}")
                names.append(name.removesuffix(":path"))
                if name.endswith(":path"):
                    node.rest = node = node.rest or _Node()
                else:
                    node.hole = node = node.hole or _Node()
            else:
                node = node.children.setdefault(segment, _Node())
        if bound.operation.method in node.bound:
            raise ServerFault(f"{bound.operation.name}: the route is taken")
        node.bound[bound.operation.method] = bound, tuple(names)

    def find(self, method: str, raw_path: str) -> tuple[Bound, dict[str, str]]:
        """The operation and its path values, decoded; NotFound or WrongMethod."""
        segments = raw_path.split("/")[1:]
        found = self._walk(self._root, segments, [])
        if found is None:
            raise NotFound("no such address; the API is described at /api/openapi.json")
        node, raw = found
        wanted = "GET" if method == "HEAD" and "HEAD" not in node.bound else method
        if wanted not in node.bound:
            allowed = sorted(node.bound)
            raise WrongMethod(
                f"{method[:20]} is not possible here; expected {' or '.join(allowed)}", allow=allowed
            )
        bound, names = node.bound[wanted]
        return bound, dict(zip(names, map(_path_value, raw), strict=True))

    def _walk(self, node: _Node, segments: list[str], values: list[str]) -> tuple[_Node, list[str]] | None:
        if not segments:
            return (node, values) if node.bound else None
        first, others = segments[0], segments[1:]
        child = node.children.get(first)
        found = None if child is None else self._walk(child, others, values)
        if found is None and node.hole is not None and first:
            found = self._walk(node.hole, others, [*values, first])
        if found is None and node.rest is not None and first:
            found = node.rest, [*values, "/".join(segments)]
        return found


class Binding:
    """The ASGI application for HTTP requests."""

    def __init__(
        self,
        operations: Mapping[str, Operation[Any, Any]],
        handlers: Handlers,
        authenticate: Authenticate,
        settings: Settings,
        guests: Sequence[Guest] = (),
    ) -> None:
        unknown = sorted(handlers.keys() - operations.keys())
        if unknown:
            raise ServerFault(f"handlers without an operation: {', '.join(unknown)}")
        self._routes = Routes([Bound(operations[name], handler) for name, handler in handlers.items()])
        self._authenticate = authenticate
        self._settings, self._guests = settings, guests
        self._hosts = _Hosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _add_security_headers(message)
            await send(message)

        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except Exception as error:
            response = _fault_response(recognised(error, request), request)
        try:
            await response(scope, receive, send_guarded)
        except ClientDisconnect:
            return
        except Exception as error:
            told = recognised(error, request)
            if started:  # too late for another status: the broken connection tells the client
                raise ConnectionAbortedError(told.message) from error
            await _fault_response(told, request)(scope, receive, send_guarded)

    async def socket(self, scope: Scope, receive: Receive, send: Send, door: SocketDoor) -> None:
        """A web socket: the checks of a call that writes, then the door, which raises until it has accepted it."""
        connection = HTTPConnection(scope)
        try:
            self._hosts.check(connection.headers)
            _check_origin(connection.headers)
            caller = await self._who(connection)
            if not caller.may("member"):
                raise Forbidden(
                    f"a key of role member is needed; this one is of role {caller.role}", role=caller.role
                )
            await door(caller, scope["raw_path"].decode("ascii", "replace"), receive, send)
        except Exception as error:
            told = recognised(error, connection)
            with contextlib.suppress(OSError, RuntimeError):  # gone, or accepted: the broken line tells the client
                await _fault_response(told, connection)(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        headers = request.headers
        self._hosts.check(headers)
        if request.method not in READING:
            _check_origin(headers)
        raw_path = request.scope["raw_path"].decode("ascii", "replace")
        try:
            bound, path = self._routes.find(request.method, raw_path)
        except NotFound:
            for guest in self._guests:
                if guest.wants(raw_path):
                    return await guest.answer(request)
            raise
        operation = bound.operation
        caller = NOBODY if operation.role is None else await self._who(request)
        if operation.role is not None and not caller.may(operation.role):
            raise Forbidden(
                f"{operation.name} needs a key of role {operation.role}; this one is of role {caller.role}",
                role=caller.role,
            )
        query = _query(request, operation)
        body = None if operation.body is None else await self._body(request, bound)
        answer = await bound.handler(Call(caller, path, query, body, request))
        if isinstance(answer, Response):
            return answer
        return _encoded(answer, request)

    async def _who(self, request: HTTPConnection) -> Caller:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthorized("an API key is needed: send it as 'Authorization: Bearer KEY'")
        return await self._authenticate(key.strip(), request.client.host if request.client else "")

    async def _body(self, request: Request, bound: Bound) -> Any:
        content = await read_limited(request, self._settings.max_body)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise WrongType("compressed bodies are not read; send it plain")
        if not content and not kind:
            content, kind = b"{}", JSON
        decoder = (
            bound.json if kind == JSON else bound.msgpack if kind in {MSGPACK, "application/x-msgpack"} else None
        )
        if decoder is None:
            raise WrongType(f"content type {kind[:80]!r}: expected {JSON} or {MSGPACK}")
        try:
            return decoder.decode(content)
        except _DECODE_ERRORS as error:
            raise BadInput(f"{bound.operation.name}: the body is not what was expected: {_short(error)}") from None


def _query(request: Request, operation: Operation[Any, Any]) -> Any:
    """The query string as the operation's struct; fields it does not know are refused, too."""
    try:
        text = request.scope["query_string"].decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise BadInput(f"the query string cannot be read: {_short(error)}") from None
    if operation.query is None:
        if pairs:
            raise BadInput(f"{operation.name} takes no query string, got {pairs[0][0][:80]!r}")
        return None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise BadInput(f"query string: {name[:80]!r} stands there twice")
        if "\0" in value:
            raise BadInput(f"query string: {name[:80]!r} holds the character NUL")
        values[name] = value
    try:
        return msgspec.convert(values, operation.query, strict=False)
    except _DECODE_ERRORS as error:
        raise BadInput(f"query string of {operation.name}: {_short(error)}") from None


def _path_value(raw: str) -> str:
    try:
        value = unquote(raw, errors="strict")
    except UnicodeError:
        raise BadInput("the address is not UTF-8") from None
    if len(value) > MAX_PATH_VALUE or not value or any(ord(character) < 32 for character in value):
        raise BadInput(
            f"a part of the address is empty, holds control characters or is over {MAX_PATH_VALUE} long"
        )
    return value


# --- who may knock ----------------------------------------------------------------------------------------


class _Hosts:
    """The names under which a browser may reach this server.

    A page on the internet can point its own name at a loopback address; then the browser sends that name, and
    it is refused here. An address in digits cannot be pointed elsewhere, so a server that listens beyond this
    machine answers to those.
    """

    def __init__(self, settings: Settings) -> None:
        self._names = {"localhost", *settings.allowed_hosts}
        self._digits = not _is_loopback(settings.host)
        if _address(settings.host) is None:
            self._names.add(settings.host.lower())
        if self._digits:
            self._names |= {socket.gethostname().lower()}

    def check(self, headers: Headers) -> None:
        told = headers.getlist("host")
        if len(told) != 1:
            raise BadInput("expected one Host header")
        name = _host_name(told[0])
        if name in self._names or _is_loopback(name) or (self._digits and _address(name) is not None):
            return
        raise Forbidden(f"this server does not answer to the name {name[:80]!r}; see TASKLOOM_ALLOWED_HOSTS")


def _host_name(text: str) -> str:
    text = text.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    name, colon, port = text.rpartition(":")
    return name if colon and port.isdigit() else text


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_loopback(name: str) -> bool:
    address = _address(name)
    return name == "localhost" if address is None else address.is_loopback


def _check_origin(headers: Headers) -> None:
    """A browser says where a write comes from: only pages of this very server may send one."""
    origin = headers.get("origin")
    if origin is not None and origin not in {f"{scheme}://{headers['host']}" for scheme in ("http", "https")}:
        raise Forbidden(f"writes from the origin {origin[:80]!r} are refused")
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Forbidden("writes from other sites are refused")


# --- answers ----------------------------------------------------------------------------------------------


def _encoded(answer: Any, request: Request) -> Response:
    if MSGPACK in request.headers.get("accept", ""):
        return Response(msgspec.msgpack.encode(answer), media_type=MSGPACK)
    return Response(msgspec.json.encode(answer), media_type=JSON)


def _fault_response(error: TaskloomError, request: HTTPConnection) -> Response:
    fault = Fault(error=FaultBody(code=error.code, message=error.message, details=error.details))
    headers: dict[str, str] = {}
    if "retry_after" in error.details:
        headers["retry-after"] = str(error.details["retry_after"])
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, WrongMethod):
        headers["allow"] = ", ".join(error.details["allow"])
    if isinstance(error, TooLarge):
        headers["connection"] = "close"  # the rest of the body is not waited for
    packed = MSGPACK in request.headers.get("accept", "")
    encode = msgspec.msgpack.encode if packed else msgspec.json.encode
    return Response(encode(fault, enc_hook=str), error.http_status, headers, MSGPACK if packed else JSON)


def _add_security_headers(message: Message) -> None:
    headers = cast("list[tuple[bytes, bytes]]", list(message["headers"]))
    present = {name.lower() for name, _ in headers}
    for name, value in SECURITY_HEADERS.items():
        if name.encode() not in present:
            headers.append((name.encode(), value.encode()))
    message["headers"] = headers


def _short(error: BaseException) -> str:
    return str(error)[:400] if not isinstance(error, RecursionError) else "nested too deeply"

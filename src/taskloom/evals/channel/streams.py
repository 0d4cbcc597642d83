"""The server's side of a capability's tunnel: dial the service, answer once, then pass bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from taskloom.evals.channel.framing import FAILED, WRONG_PARAMS, Request, as_object, error_frame, result_frame
from taskloom.evals.channel.tunnels import DIAL_TIMEOUT, Pipe
from taskloom.evals.environment.declaration import Environment

log = logging.getLogger("taskloom.evals.channel")


class _Unwanted(Exception):
    """What was asked for cannot be had; `code` is JSON-RPC's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


async def open_stream(
    environment: Environment,
    transport: asyncio.Transport,
    request: Request,
    early: bytes,
    lost: Callable[[], None],
) -> None:
    """Turn a connection into a stream. `early`: bytes that came right behind the request. `lost`: called at its end."""
    try:
        name, host, port = _find(environment, request)
        service = await _dial(name, host, port)
    except _Unwanted as error:
        log.info("no tunnel: %s", error)
        if request.id is not None:
            transport.write(error_frame(request.id, error.code, str(error)))
        transport.close()
        return
    if transport.is_closing() or service.transport is None:
        transport.abort()
        if service.transport is not None:
            service.transport.abort()
        return
    if request.id is not None:
        transport.write(result_frame(request.id, {"capability": name}))
    pipe = Pipe(lost)
    pipe.transport = transport
    pipe.join(service)
    transport.set_protocol(pipe)
    service.transport.resume_reading()
    if early:
        service.transport.write(early)
    transport.resume_reading()


def _find(environment: Environment, request: Request) -> tuple[str, str, int]:
    name = (as_object(request.params) or {}).get("capability")
    if not isinstance(name, str):
        raise _Unwanted(WRONG_PARAMS, "tunnel.open: 'capability' must be a string")
    try:
        address = urlsplit(environment.capability(name).url)
        host, port = address.hostname, address.port
    except KeyError as error:
        raise _Unwanted(FAILED, str(error.args[0])) from None
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise _Unwanted(WRONG_PARAMS, f"capability {name!r} has no host:port to tunnel to")
    return name, host, port


class _Service(Pipe):
    """The service's end, which is heard when the tunnel stands."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is not None:
            self.transport.pause_reading()


async def _dial(name: str, host: str, port: int) -> Pipe:
    try:
        async with asyncio.timeout(DIAL_TIMEOUT):
            return (await asyncio.get_running_loop().create_connection(_Service, host, port))[1]
    except TimeoutError:
        raise _Unwanted(FAILED, f"capability {name!r} did not answer at {host}:{port} in time") from None
    except OSError as error:
        raise _Unwanted(FAILED, f"capability {name!r} is not to be had at {host}:{port}: {error}") from None

"""What the door of another system's clients shares with ours: reading a body, recognising an error.

A `Guest` of the binding answers requests whose address no operation of ours has. Host and Origin are checked
before it is asked; key, role, body and the form of errors are its own business.
"""

from __future__ import annotations

import errno
import logging
import uuid
from typing import Protocol

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from taskloom.domain.errors import ServerFault, StorageFull, TaskloomError, TooLarge

log = logging.getLogger("taskloom.server")


class Guest(Protocol):
    def wants(self, raw_path: str) -> bool: ...

    async def answer(self, request: Request) -> Response: ...


async def read_limited(request: Request, limit: int) -> bytes:
    """The whole body; TooLarge as soon as it is known to be over the limit."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and len(told) < 20 and int(told) > limit:
        raise TooLarge(f"the body has {told} bytes; expected at most {limit}", limit=limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body has more than {limit} bytes", limit=limit)
        chunks.append(chunk)
    return b"".join(chunks)


def recognised(error: Exception, request: HTTPConnection) -> TaskloomError:
    """The error as a client is told it; what nobody foresaw is logged under an id, without its insides."""
    if isinstance(error, TaskloomError):
        return error
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull("the server's disk is full; nothing was stored, what is stored can still be read")
    number = uuid.uuid4().hex[:12]
    where = ascii(request.scope.get("path", ""))[:200]
    log.error("fault %s in %s %s", number, request.scope.get("method", "a socket to"), where, exc_info=error)
    return ServerFault(f"the server met a fault of its own; its log has it as {number}", id=number)

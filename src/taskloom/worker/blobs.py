"""Bytes from the server by their digest: whole, checked, told while they come, waited for while the server is away.

A server that restarts costs a task nothing but time: who wants the bytes goes on asking, and what cuts the attempt
short (an abort, a lost lease) ends that, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from taskloom.domain.errors import DigestMismatch, ServerAway
from taskloom.wire.client import build_call, read_fault
from taskloom.wire.operations import GET_BLOB
from taskloom.wire.send import AsyncClient, away

PIECE = 1 << 20
SAY_SECONDS = 5.0
AGAIN_FIRST, AGAIN_LAST = 0.5, 15.0


async def fetch_blob(
    client: AsyncClient, digest: str, target: Path, say: Callable[[str], None], what: str, size: int = 0
) -> None:
    """The bytes into the file `target`. `what` names them to people, `size` is told along when it is known.

    Raises DigestMismatch for other bytes than those that were stored, else what the server said; OSError of the disk.
    """
    pause = AGAIN_FIRST
    while True:
        try:
            await _fetch(client, digest, target, lambda here: say(_progress(here, size, what)))
            return
        except ServerAway as error:
            say(f"taskloom: trying again: {error.message}")
        await asyncio.sleep(pause)
        pause = min(pause * 2, AGAIN_LAST)


async def _fetch(client: AsyncClient, digest: str, target: Path, came: Callable[[int], None]) -> None:
    import httpx

    call = build_call(client.address, GET_BLOB, digest=digest)
    hashed, said = hashlib.sha256(), time.monotonic()
    try:
        async with client.http.stream(call.method, call.url, headers=call.headers) as response:
            if response.status_code != 200:
                kind = response.headers.get("Content-Type", "")
                raise read_fault(response.status_code, await response.aread(), kind)
            with target.open("wb") as file:
                async for piece in response.aiter_bytes(PIECE):
                    file.write(piece)
                    hashed.update(piece)
                    if time.monotonic() - said > SAY_SECONDS:
                        said = time.monotonic()
                        came(file.tell())
    except httpx.TransportError as error:
        raise away(call, error) from error
    if hashed.hexdigest() != digest:
        raise DigestMismatch(f"the bytes that came are {hashed.hexdigest()[:12]}, expected {digest[:12]}")


def _progress(here: int, size: int, what: str) -> str:
    return f"taskloom: {here}{f' of {size}' if size else ''} bytes of {what} are here"

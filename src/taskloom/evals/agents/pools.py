"""Connections of one agent to its provider: kept for each event loop, closed when the loop ends.

The pool of httpx looks at every connection for every request, so that many in one pool cost more than what they carry:
here they stand in several small ones, of which as many are filled as are needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT = 10.0  # seconds
EACH = 8  # connections of one pool
MAX_POOLS = 32  # of one agent in one event loop: 256 connections
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class Pools:
    """url: the provider's. timeout: seconds without a byte."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url, self._timeout = url, timeout
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop] = WeakKeyDictionary()

    def __len__(self) -> int:
        """Event loops that have connections here."""
        return len(self._loops)

    async def here(self) -> _OfLoop:
        """This event loop's; asyncio closes the generators that a loop has begun when it ends, and these with them."""
        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        if known is None:
            known = self._loops[loop] = _OfLoop(self._url, self._timeout)
            known.keeper = self._keep(loop, known)
            await anext(known.keeper)
        return known

    async def _keep(self, loop: asyncio.AbstractEventLoop, held: _OfLoop) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._loops.pop(loop, None)
            await held.close()

    async def close(self) -> None:
        """Those of this event loop."""
        known = self._loops.get(asyncio.get_running_loop())
        if known is not None and known.keeper is not None:
            await known.keeper.aclose()


class _OfLoop:
    def __init__(self, url: str, timeout: float) -> None:
        self._url, self._timeout = url, timeout
        self._clients: list[httpx.AsyncClient] = []
        self._busy: list[int] = []
        self._tls: Any = None
        self.keeper: AsyncGenerator[None] | None = None

    @contextmanager
    def borrow(self) -> Generator[httpx.AsyncClient]:
        """The first client that has room; a new one when none has; the least busy one when there are enough."""
        number = next((n for n, busy in enumerate(self._busy) if busy < EACH), None)
        if number is None and len(self._clients) < MAX_POOLS:
            self._clients.append(self._make())
            self._busy.append(0)
            number = len(self._clients) - 1
        elif number is None:
            number = self._busy.index(min(self._busy))
        self._busy[number] += 1
        try:
            yield self._clients[number]
        finally:
            self._busy[number] -= 1

    def _make(self) -> httpx.AsyncClient:
        import ssl

        import httpx

        parts = urlsplit(self._url)
        if self._tls is None:  # costs 30 ms: only for https, and once
            self._tls = ssl.create_default_context() if parts.scheme == "https" else False
        return httpx.AsyncClient(
            timeout=httpx.Timeout(self._timeout, connect=min(CONNECT_TIMEOUT, self._timeout), pool=None),
            limits=httpx.Limits(max_connections=EACH, max_keepalive_connections=EACH),
            verify=self._tls,
            trust_env=parts.hostname not in LOOPBACK,  # a proxy is of no use on this machine
        )

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()

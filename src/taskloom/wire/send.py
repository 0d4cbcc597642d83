"""Two thin senders for `wire.client`: `Client` for threads, `AsyncClient` for async code.

They add a connection and nothing else: no retries (the caller knows what may be repeated), no state. httpx is
imported when the first call is made, because a training script that never calls must not pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from taskloom.domain.errors import ServerAway
from taskloom.wire.client import Address, HttpCall, build_call, read_answer
from taskloom.wire.operations import Operation

if TYPE_CHECKING:
    import httpx

Body = TypeVar("Body")
Reply = TypeVar("Reply")

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 60.0  # above the longest wait that the server grants (30 s)


class Client:
    """Calls from ordinary code. Safe to share between threads; not across a fork (make a new one)."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http: httpx.Client | None = None

    @property
    def http(self) -> httpx.Client:
        """The connection pool, for streams of bytes that are not messages."""
        if self._http is None:
            import httpx

            self._http = httpx.Client(timeout=_timeout(), verify=_verify(self.address.url), trust_env=False)
        return self._http

    def call(
        self, operation: Operation[Body, Reply], body: Body | None = None, *, query: Any = None, **path: str
    ) -> Reply:
        """Raises an error of `domain.errors`; `ServerAway` when nobody answered."""
        import httpx

        request = build_call(self.address, operation, body, query=query, **path)
        try:
            response = self.http.request(
                request.method, request.url, headers=request.headers, content=request.content
            )
        except httpx.TransportError as error:
            raise away(request, error) from error
        return read_answer(
            operation,
            response.status_code,
            response.content,
            response.headers.get("Content-Type", ""),
            response.headers.get("Retry-After", ""),
        )

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None


class AsyncClient:
    """The same calls for async code."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http: httpx.AsyncClient | None = None

    @property
    def http(self) -> httpx.AsyncClient:
        if self._http is None:
            import httpx

            self._http = httpx.AsyncClient(timeout=_timeout(), verify=_verify(self.address.url), trust_env=False)
        return self._http

    async def call(
        self, operation: Operation[Body, Reply], body: Body | None = None, *, query: Any = None, **path: str
    ) -> Reply:
        import httpx

        request = build_call(self.address, operation, body, query=query, **path)
        try:
            response = await self.http.request(
                request.method, request.url, headers=request.headers, content=request.content
            )
        except httpx.TransportError as error:
            raise away(request, error) from error
        return read_answer(
            operation,
            response.status_code,
            response.content,
            response.headers.get("Content-Type", ""),
            response.headers.get("Retry-After", ""),
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None


def away(request: HttpCall, error: Exception) -> ServerAway:
    reason = str(error) or type(error).__name__
    return ServerAway(f"no answer from {request.url.split('?')[0]}: {reason}")


def _timeout() -> Any:
    import httpx

    return httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)


def _verify(url: str) -> Any:
    """A TLS context costs 30 ms to build: only for https."""
    if not url.startswith("https:"):
        return False
    import ssl

    return ssl.create_default_context()

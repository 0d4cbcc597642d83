"""The shipper's own sender for `wire.client`: Python's http.client, one connection kept open.

It exists beside `wire.send` for one reason: a shipper runs beside every script, and httpx costs it ten times
the start-up that this costs. No retries here; the caller knows what may be repeated.
"""

from __future__ import annotations

import contextlib
import http.client
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from taskloom.domain.errors import ServerAway
from taskloom.wire.client import Address, HttpCall, build_call, read_answer
from taskloom.wire.messages import BlobStatus
from taskloom.wire.operations import BLOB_STATUS, PUT_BLOB, Operation

Body = TypeVar("Body")
Reply = TypeVar("Reply")

TIMEOUT = 30.0
BLOCK = 1 << 20
SMALL = 64 << 10


class Post:
    """Calls to one server. Not safe between threads."""

    def __init__(self, address: Address, timeout: float = TIMEOUT) -> None:
        self.address = address
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def call(
        self, operation: Operation[Body, Reply], body: Body | None = None, *, query: Any = None, **path: str
    ) -> Reply:
        """Raises an error of `domain.errors`; `ServerAway` when nobody answered."""
        request = build_call(self.address, operation, body, query=query, **path)
        return self._exchange(operation, request, request.content)

    def put_file(self, path: Path, digest: str, progress: Callable[[int], None] | None = None) -> BlobStatus:
        """Bring a file's bytes to the server, from where an earlier upload was cut; returns when it is whole."""
        size = path.stat().st_size
        start = 0
        if size > SMALL:  # less is sent sooner than asked about
            status = self.call(BLOB_STATUS, digest=digest)
            if status.complete:
                return status
            start = status.received if status.received < size else 0
        with path.open("rb") as file:
            file.seek(start)
            if start and progress is not None:
                progress(start)
            request = build_call(self.address, PUT_BLOB, digest=digest)
            request.headers["Content-Type"] = "application/octet-stream"
            request.headers["Content-Length"] = str(size - start)
            if start:
                request.headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            return self._exchange(PUT_BLOB, request, CountedFile(file, progress))

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None

    def _exchange(self, operation: Operation[Any, Reply], request: HttpCall, content: Any) -> Reply:
        parts = urlsplit(request.url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        for attempt in (0, 1):
            kept = self._connection is not None
            connection = self._connection or self._connect(parts.scheme, parts.netloc)
            self._connection = connection
            try:
                connection.request(request.method, target, body=content, headers=request.headers)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if kept and attempt == 0 and isinstance(content, bytes | None):
                    continue  # the server had closed the connection that was kept: not a failure yet
                reason = str(error) or type(error).__name__
                raise ServerAway(f"no answer from {request.url.split('?')[0]}: {reason}") from error
            if response.will_close:
                self.close()
            kind = response.headers.get("Content-Type", "")
            return read_answer(operation, response.status, answer, kind, response.headers.get("Retry-After", ""))
        raise AssertionError("the second attempt uses a fresh connection and returns or raises")

    def _connect(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        if scheme == "https":
            return http.client.HTTPSConnection(netloc, timeout=self._timeout, blocksize=BLOCK)
        return http.client.HTTPConnection(netloc, timeout=self._timeout, blocksize=BLOCK)


class CountedFile:
    """A file that tells how many bytes have been read from it."""

    def __init__(self, file: IO[bytes], progress: Callable[[int], None] | None) -> None:
        self._file = file
        self._progress = progress

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count)
        if self._progress is not None:
            self._progress(len(data))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()


def file_size(path: Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - one call, no object
    except OSError:
        return 0

"""The life of bytes: received, complete, named by somebody, deleted when nobody names them any more.

Bytes are complete when a row of `blobs` says so. A row appears after its file and goes before it, and both ends
happen under one lock here, so that a row always has its file: an upload that becomes complete while the same
bytes are being deleted comes before or after. What was uploaded and never named goes after a day.
Names are the service's business; here nothing knows what bytes are for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, BinaryIO

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from taskloom.domain.artifact import check_digest
from taskloom.domain.errors import BadInput, NotFound, TaskloomError, TooLarge
from taskloom.server.artifacts import store
from taskloom.server.blobs import PIECE, Blobs, Upload
from taskloom.server.db import Database
from taskloom.server.settings import Clock, Settings
from taskloom.wire.messages import BlobStatus

log = logging.getLogger("taskloom.server.artifacts")

DAY = 86_400.0
UNNAMED_FOR = DAY  # seconds that complete bytes may wait for a name, and a cut upload for its rest
SWEEP = 600.0  # seconds between two looks for bytes without a name
AT_ONCE = 500  # digests forgotten in one transaction


@dataclass(frozen=True)
class Part:
    """Which bytes of the whole an upload brings: `first` up to `last`, both included, of `size`."""

    first: int
    last: int
    size: int


class Holdings:
    """The bytes that the server holds. `start` begins the sweeps: at once, then regularly."""

    def __init__(self, db: Database, blobs: Blobs, clock: Clock, settings: Settings) -> None:
        self._db, self._blobs, self._clock, self._settings = db, blobs, clock, settings
        self._placing = asyncio.Lock()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_for_ever())

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    async def blob_status(self, digest: str) -> BlobStatus:
        """Asking for complete bytes keeps them for a day, because who asks is about to name them."""
        check_digest(digest)
        size = await self._db.read(lambda tx: store.size_of(tx, digest))
        if size is not None and await self._keep(digest):
            return BlobStatus(digest=digest, complete=True, size=size, received=size)
        received = await asyncio.to_thread(self._blobs.received, digest)
        return BlobStatus(digest=digest, complete=False, received=received)

    async def put_blob(
        self, digest: str, part: Part | None, length: int | None, body: AsyncIterator[bytes]
    ) -> BlobStatus:
        """Take an upload, whole (`length` bytes if that is known) or a part of it.

        When the sender vanishes (`body` raises), what came is kept and can be gone on with.
        """
        check_digest(digest)
        first, last, total = self._announced(part, length)
        status = await self.blob_status(digest)
        if status.complete:
            async for _ in body:
                pass
            return status
        upload = await self._begin(digest, first, total or 0)
        try:
            await self._receive(upload, body, last + 1 if total is not None else None)
        except TaskloomError:
            raise
        except BaseException:
            await asyncio.shield(asyncio.to_thread(upload.leave))
            raise
        if total is not None and upload.received < total:
            await asyncio.to_thread(upload.leave)
            return BlobStatus(digest=digest, complete=False, size=total, received=upload.received)
        return await asyncio.shield(self._complete(upload))

    async def _begin(self, digest: str, first: int, total: int) -> Upload:
        return await self._begun(asyncio.create_task(asyncio.to_thread(self._blobs.begin, digest, first, total)))

    async def _begun(self, beginning: asyncio.Task[Upload]) -> Upload:
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:  # the thread goes on; what it opens is closed again
            beginning.add_done_callback(lambda done: done.exception() or done.result().leave())
            raise

    async def gather(self, length: int) -> Gathering:
        """Take bytes whose digest nobody knows yet; `length` at most are expected, 0: not known."""
        self._announced(None, length or None)
        limit = self._settings.max_blob or 2**62
        beginning = asyncio.create_task(asyncio.to_thread(self._blobs.gather, length))
        return Gathering(await self._begun(beginning), limit, self._complete)

    async def open_blob(self, digest: str) -> tuple[BinaryIO, int]:
        """Complete bytes and how many they are; deleting them meanwhile does not disturb the reader."""
        check_digest(digest)
        size = await self._db.read(lambda tx: store.size_of(tx, digest))
        if size is None:
            raise NotFound(f"no bytes with the digest {digest}")
        return await asyncio.to_thread(self._blobs.open, digest), size

    async def delete_unnamed_bytes(self) -> None:
        """Delete the bytes that lost their last name, and those that waited a day for their first."""
        while True:
            async with self._placing:
                before = self._clock() - UNNAMED_FOR
                gone = await self._db.write(lambda tx, b=before: store.drop_unnamed(tx, b, AT_ONCE))
                for digest in gone:
                    await asyncio.to_thread(self._blobs.delete, digest)
            if len(gone) < AT_ONCE:
                return

    def _announced(self, part: Part | None, length: int | None) -> tuple[int, int, int | None]:
        """First and last byte, and the size of the whole if it is known."""
        if part is None:
            first, last, total = 0, -1 if length is None else length - 1, length
        else:
            first, last, total = part.first, part.last, part.size
            if not 0 <= first <= last < total:
                raise BadInput(f"Content-Range: bytes {first}-{last}/{total} is no part of a whole")
            if length is not None and length != last - first + 1:
                raise BadInput(f"Content-Range announces {last - first + 1} bytes, Content-Length {length}")
        if self._settings.max_blob and (total or 0) > self._settings.max_blob:
            raise TooLarge(f"{total} bytes; expected at most {self._settings.max_blob}")
        return first, last, total

    async def _receive(self, upload: Upload, body: AsyncIterator[bytes], end: int | None) -> None:
        """Write what comes, one piece behind: a thread hashes and writes while the next piece arrives."""
        limit = self._settings.max_blob or 2**62
        writing: asyncio.Task[None] | None = None
        piece = bytearray()
        came = upload.received
        try:
            async for chunk in body:
                came += len(chunk)
                if came > (limit if end is None else end):
                    raise _Over
                piece += chunk
                if len(piece) >= PIECE:
                    writing = await _next(writing, upload, piece)
                    piece = bytearray()
            await _written(await _next(writing, upload, piece))
        except _Over:
            await _written(writing)
            await asyncio.to_thread(upload.drop)
            if end is None or end > limit:
                raise TooLarge(f"over {limit} bytes; nothing was kept") from None
            raise BadInput("more bytes came than were announced; nothing was kept") from None
        except TaskloomError:
            raise
        except BaseException:  # the sender is gone, or the server stops: what came is kept
            await _written(await _next(writing, upload, piece))
            raise

    async def _complete(self, upload: Upload) -> BlobStatus:
        await asyncio.to_thread(upload.seal)
        digest, size = upload.digest, upload.received
        async with self._placing:
            try:
                await asyncio.to_thread(upload.place)
            except BaseException:
                await asyncio.to_thread(upload.drop)
                raise
            now = self._clock()
            await self._db.write(lambda tx: store.put_blob(tx, digest, size, now))
        return BlobStatus(digest=digest, complete=True, size=size, received=size)

    async def _keep(self, digest: str) -> bool:
        """Begin its day anew; False when it was deleted at the same moment."""
        now = self._clock()

        def work(tx: Connection) -> bool:
            store.touch_blob(tx, digest, now)
            return store.size_of(tx, digest) is not None

        return await self._db.write(work)

    async def _sweep_for_ever(self) -> None:
        """Names are lost in other features' transactions, too (an artifact that was replaced): look regularly."""
        files = 0.0
        while True:
            try:
                await self.delete_unnamed_bytes()
                if self._clock() - files >= DAY:
                    await self._sweep_files()
                    files = self._clock()
            except (TaskloomError, SQLAlchemyError, OSError) as error:  # the next time tries again
                log.warning("unnamed bytes were not swept: %s", error)
            await asyncio.sleep(SWEEP)

    async def _sweep_files(self) -> None:
        """Files that a crash left without a row, and partials that nobody goes on with."""
        before = self._clock() - UNNAMED_FOR
        await asyncio.to_thread(self._blobs.forget, before)
        old = await asyncio.to_thread(lambda: [d for d, stored in self._blobs.stored() if stored < before])
        for at in range(0, len(old), AT_ONCE):
            some = old[at : at + AT_ONCE]
            async with self._placing:
                complete = await self._db.read(lambda tx, s=some: store.known(tx, s))
                for digest in some:
                    if digest not in complete:
                        await asyncio.to_thread(self._blobs.delete, digest)


class Gathering:
    """Bytes that come in pieces, hashed on the way; complete when `keep` returned, gone after `drop`.

    Like an upload, one piece behind: a thread hashes and writes while the next piece arrives.
    """

    def __init__(
        self, upload: Upload, limit: int, complete: Callable[[Upload], Coroutine[Any, Any, BlobStatus]]
    ) -> None:
        self._upload, self._limit, self._complete = upload, limit, complete
        self._writing: asyncio.Task[None] | None = None
        self._piece = bytearray()
        self._came = 0

    async def write(self, chunk: bytes | memoryview) -> None:
        self._came += len(chunk)
        if self._came > self._limit:
            raise TooLarge(f"more than {self._limit} bytes; such a file is not taken")
        self._piece += chunk
        if len(self._piece) >= PIECE:
            self._writing = await _next(self._writing, self._upload, self._piece)
            self._piece = bytearray()

    async def keep(self) -> BlobStatus:
        await _written(await _next(self._writing, self._upload, self._piece))
        return await asyncio.shield(self._complete(self._upload))

    async def drop(self) -> None:
        """Also after `keep` failed, and when a thread still writes."""
        if self._writing is not None:
            await asyncio.shield(asyncio.wait([self._writing]))
        await asyncio.shield(asyncio.to_thread(self._upload.drop))


class _Over(Exception):
    """More came than may come."""


async def _next(writing: asyncio.Task[None] | None, upload: Upload, piece: bytearray) -> asyncio.Task[None]:
    """Begin to write a piece as soon as the one before is written."""
    await _written(writing)
    return asyncio.create_task(asyncio.to_thread(upload.write, piece))


async def _written(writing: asyncio.Task[None] | None) -> None:
    """Wait for a thread that a cancelled request would otherwise leave behind with the open file."""
    if writing is not None:
        await asyncio.shield(writing)

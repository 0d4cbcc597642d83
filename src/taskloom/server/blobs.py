"""Bytes by their SHA-256: streamed in, checked, then visible as a whole or not at all.

`Blobs` is the seam; `FileBlobs` keeps `<folder>/ab/<digest>` on this machine, and `<folder>/partial/<digest>`
while an upload is under way. A digest is the only thing that becomes a path, and it is checked. Which digests
are complete and who names them is the artifacts' business; here nothing knows of tasks or requests.

An upload, in this order, each step callable from any thread but one at a time:
    begin(digest, first, total)   the partial from byte `first` on; 0 begins anew
    write(piece) ...              hashed and written
    leave()                       the sender is gone: what came stays and can be gone on with
    seal()                        all has come: checked, on the disk, still not visible
    place()                       visible; an older copy of the same bytes is replaced
    drop()                        forget it
`gather(total)` begins one whose digest is not known before: `digest` tells it when it is sealed, and what a
sender leaves behind is dropped.
Two uploads of one digest never disturb each other: the second writes a partial of its own, which cannot be
continued later; whoever is ready first is visible first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from taskloom.domain.artifact import check_digest
from taskloom.domain.errors import Conflict, DigestMismatch, NotFound, StorageFull

PIECE = 2**20  # bytes of one read or write
RESERVE = 64 * 2**20  # bytes of the disk that uploads leave to the databases
PARTIAL = "partial"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Upload(Protocol):
    """One upload under way. `received` counts what of the whole is here, from byte 0 on."""

    received: int
    digest: str

    def write(self, piece: bytes | bytearray | memoryview) -> None: ...

    def leave(self) -> None: ...

    def seal(self) -> None: ...

    def place(self) -> None: ...

    def drop(self) -> None: ...


class Blobs(Protocol):
    """Where bytes are kept.

    received   how many bytes of a cut upload can be gone on with; 0: none
    begin      Conflict when `first` is not what is here, or another upload goes on; StorageFull
    gather     an upload of whatever comes; `total` bytes at most are expected, 0: nobody knows; StorageFull
    open       whole stored bytes, to be read from wherever; NotFound
    delete     no error when it is not there; readers that have it open read on
    stored     (digest, time of storing) of everything visible
    forget     drop partials that nobody wrote to since `before`
    """

    def received(self, digest: str) -> int: ...

    def begin(self, digest: str, first: int, total: int) -> Upload: ...

    def gather(self, total: int) -> Upload: ...

    def open(self, digest: str) -> BinaryIO: ...

    def delete(self, digest: str) -> None: ...

    def stored(self) -> Iterator[tuple[str, float]]: ...

    def forget(self, before: float) -> None: ...


class FileBlobs:
    """Files in a folder, which is made when it is missing. One process uses it at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder / PARTIAL
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._partial.mkdir(mode=0o700, exist_ok=True)
        self._lock = threading.Lock()
        self._busy: set[Path] = set()

    def received(self, digest: str) -> int:
        try:
            return (self._partial / check_digest(digest)).stat().st_size
        except FileNotFoundError:
            return 0

    def begin(self, digest: str, first: int, total: int) -> FileUpload:
        path = self._reserve(digest, first)
        try:
            self._room(total - first)
            return FileUpload(path, self._path, digest, first, lambda: self._release(path))
        except BaseException:
            self._release(path)
            raise

    def gather(self, total: int) -> FileUpload:
        path = self._partial / f"new.{uuid.uuid4().hex}"
        with self._lock:
            self._busy.add(path)
        try:
            self._room(total)
            return FileUpload(path, self._path, "", 0, lambda: self._release(path))
        except BaseException:
            self._release(path)
            raise

    def open(self, digest: str) -> BinaryIO:
        try:
            return self._path(digest).open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"no bytes with the digest {digest}") from None

    def delete(self, digest: str) -> None:
        self._path(digest).unlink(missing_ok=True)

    def stored(self) -> Iterator[tuple[str, float]]:
        for folder in sorted(self._folder.glob("[0-9a-f][0-9a-f]")):
            for path in folder.iterdir():
                with suppress(FileNotFoundError):
                    yield path.name, path.stat().st_mtime

    def forget(self, before: float) -> None:
        for path in self._partial.iterdir():
            with self._lock, suppress(FileNotFoundError):
                if path not in self._busy and path.stat().st_mtime < before:
                    path.unlink()

    def _path(self, digest: str) -> Path:
        return self._folder / check_digest(digest)[:2] / digest

    def _reserve(self, digest: str, first: int) -> Path:
        path = self._partial / check_digest(digest)
        with self._lock:
            if path in self._busy:
                if first:
                    raise Conflict(f"another upload of {digest} is under way; try again", retry_after=1)
                path = path.with_name(f"{digest}.{uuid.uuid4().hex}")
            self._busy.add(path)
        return path

    def _release(self, path: Path) -> None:
        with self._lock:
            self._busy.discard(path)

    def _room(self, size: int) -> None:
        """Refuse what cannot end well before it takes the disk that the databases need."""
        free = shutil.disk_usage(self._folder).free
        if size > 0 and size + RESERVE > free:
            raise StorageFull(
                f"the server's disk has {free} bytes left; {size} and a reserve are needed", free=free
            )


class FileUpload:
    """See the module. A partial with a name of its own (a second upload of one digest) is not kept."""

    def __init__(
        self, path: Path, place_of: Callable[[str], Path], digest: str, first: int, release: Callable[[], None]
    ) -> None:
        self._path, self._place_of, self.digest, self._release = path, place_of, digest, release
        self._hash = hashlib.sha256()
        self._ended = False
        self.received = 0
        self._file = path.open("r+b" if first and path.exists() else "w+b", buffering=0)
        path.chmod(0o600)
        try:
            while piece := self._file.read(PIECE):
                self._hash.update(piece)
                self.received += len(piece)
            if first != self.received:
                raise Conflict(
                    f"{first} bytes were to be here already, {self.received} are; send from there on",
                    received=self.received,
                )
        except BaseException:
            self._file.close()
            if not self.received:
                path.unlink(missing_ok=True)
            raise

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        view = memoryview(piece)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self.drop()
            if error.errno in _FULL:
                raise StorageFull("the server's disk is full; nothing of the upload was kept") from error
            raise
        self._hash.update(piece)
        self.received += len(piece)

    def leave(self) -> None:
        if self._file.closed:
            return
        if self._path.name != self.digest or not self.received:
            self.drop()
            return
        self._file.close()
        self._end()

    def seal(self) -> None:
        found = self._hash.hexdigest()
        if found != self.digest and self.digest:
            self.drop()
            raise DigestMismatch(
                f"the bytes have the SHA-256 {found}, announced was {self.digest}; nothing was kept", found=found
            )
        self.digest = found
        try:
            os.fsync(self._file.fileno())
        except OSError as error:  # what an fsync refused once cannot be trusted any more
            self.drop()
            if error.errno in _FULL:
                raise StorageFull("the server's disk is full; nothing of the upload was kept") from error
            raise
        self._file.close()

    def place(self) -> None:
        target = self._place_of(self.digest)
        folder = target.parent
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync(folder.parent)
        self._path.replace(target)
        _sync(folder)
        self._end()

    def drop(self) -> None:
        self._file.close()
        if not self._ended:
            self._path.unlink(missing_ok=True)
        self._end()

    def _end(self) -> None:
        """Once: afterwards the partial's name may belong to another upload."""
        if not self._ended:
            self._ended = True
            self._release()


def _sync(folder: Path) -> None:
    """A rename is on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

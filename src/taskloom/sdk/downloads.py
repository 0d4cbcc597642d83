"""Bytes by their digest, from a cache on this machine or from the server.

The cache is shared by all processes of the machine and bounded: the longest unused go first. A download that
was cut goes on where it stopped; nobody sees a file before its SHA-256 is right. One process downloads, the
others wait for it. A cached file that somebody changed is noticed by its time of change and fetched again.

    <cache>/locks/<2 digits>      held while something that begins so is fetched or removed
    <cache>/<digest>/bytes        whole and checked
                     part         what has come so far
                     files/NAME   the same file under the name that a user sees
                     unpacked/    a folder that was stored as a zip file
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from taskloom.domain.artifact import check_digest
from taskloom.domain.errors import BadInput, DigestMismatch, NotFound, ServerAway, Unavailable
from taskloom.sdk.archives import PIECE, unpack
from taskloom.wire.client import build_call, read_fault
from taskloom.wire.operations import GET_BLOB

if TYPE_CHECKING:
    from taskloom.wire.send import Client

CACHE_BYTES = 10 << 30
ATTEMPTS = 6
_UNTOUCHED = 1_000_000_000  # seconds: the time of change of a cached file that nobody changed


class Cache:
    """Files by digest below `folder`, at most about `limit` bytes of them (one file may be larger)."""

    def __init__(self, folder: Path, limit: int = CACHE_BYTES) -> None:
        self._folder = folder
        self._limit = limit

    def fetch(
        self,
        client: Callable[[], Client],
        digest: str,
        *,
        size: int = 0,
        filename: str = "",
        force: bool = False,
        unpacked: bool = False,
    ) -> Path:
        """Path of the file under `filename`, or of the folder that it was packed from.

        size: bytes that are expected, 0 when not known. force: download even what is there. Raises an error of
        `domain.errors`, or OSError when the disk does not take it.
        """
        place = self._folder / check_digest(digest)
        with self._locked(digest):
            if force and place.exists():
                shutil.rmtree(place)
            place.mkdir(parents=True, exist_ok=True)
            if not _is_whole(place / "bytes", size):
                for stale in ("files", "unpacked"):
                    shutil.rmtree(place / stale, ignore_errors=True)
                (place / "bytes").unlink(missing_ok=True)
                self._make_room(size, digest)
                _download(client, digest, size, place / "part")
                os.utime(place / "part", (_UNTOUCHED, _UNTOUCHED))
                (place / "part").replace(place / "bytes")
            os.utime(place)  # used now
            return _unpacked(place) if unpacked else _named(place, filename)

    @contextlib.contextmanager
    def _locked(self, digest: str, *, wait: bool = True) -> Generator[bool]:
        """Hold what begins like `digest`; yields False when it is held elsewhere and `wait` is not wanted."""
        locks = self._folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(locks / digest[:2], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def _make_room(self, needed: int, digest: str) -> None:
        """Remove the longest unused until `needed` more bytes fit. What another process fetches is left."""
        entries = [entry for entry in self._folder.iterdir() if entry.name not in {"locks", digest}]
        sizes = {entry: _size_of(entry) for entry in entries}
        used = sum(sizes.values())
        for entry in sorted(entries, key=_last_use):
            if used + needed <= self._limit:
                return
            held = entry.name[:2] == digest[:2]
            with contextlib.nullcontext(True) if held else self._locked(entry.name, wait=False) as free:
                if free:
                    shutil.rmtree(entry, ignore_errors=True)
                    used -= sizes[entry]


def local_path(uri: str, what: str) -> Path:
    """The file or folder that an address on this machine names; the only addresses that are followed here."""
    if not uri:
        raise NotFound(f"{what} has no bytes")
    parts = urlsplit(uri)
    if parts.scheme not in {"", "file"}:
        raise BadInput(
            f"{what} is kept at {uri}, which Taskloom does not fetch: get it with the tools of its storage"
        )
    path = Path(unquote(parts.path) if parts.scheme else uri)
    if not path.exists():
        raise NotFound(f"{what} is kept at {path}, which is not on this machine")
    return path


def _is_whole(path: Path, size: int) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_mtime == _UNTOUCHED and size in {0, found.st_size}


def _named(place: Path, filename: str) -> Path:
    """The file under a safe form of the name that its maker gave it."""
    name = PurePosixPath(filename.replace("\\", "/").replace("\0", "")).name
    name = _fitting(name) if name not in {"", "..", "."} else "artifact"
    path = place / "files" / name
    path.parent.mkdir(exist_ok=True)
    if path.exists() and path.samefile(place / "bytes"):
        return path
    fresh = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        os.link(place / "bytes", fresh)
    except OSError:  # a file system without links
        shutil.copy2(place / "bytes", fresh)
    fresh.replace(path)
    return path


def _fitting(name: str) -> str:
    """Its last 200 bytes: the extension is at the end, and systems take 255."""
    return name.encode("utf-8", "replace")[-200:].decode(errors="ignore")


def _unpacked(place: Path) -> Path:
    folder = place / "unpacked"
    if folder.is_dir():
        return folder
    fresh = place / f".{uuid.uuid4().hex}.tmp"
    fresh.mkdir()
    try:
        unpack(place / "bytes", fresh)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _size_of(entry: Path) -> int:
    """Bytes on the disk below an entry; the same file under two names counts once."""
    seen: dict[int, int] = {}
    for folder, _, names in os.walk(entry):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))  # noqa: PTH118
            except OSError:
                continue
            seen[status.st_ino] = status.st_size
    return sum(seen.values())


def _last_use(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except OSError:
        return 0.0


# --- from the server ---------------------------------------------------------------------------------------


def _download(client: Callable[[], Client], digest: str, size: int, part: Path) -> None:
    """Fill `part` until its digest is right. A broken connection is taken up again, a few times."""
    for attempt in range(ATTEMPTS):
        try:
            found = _go_on(client(), digest, size, part)
        except (ServerAway, Unavailable):
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.1 * 2**attempt)
            continue
        if found == digest:
            return
        part.unlink(missing_ok=True)
    raise DigestMismatch(f"the bytes that came for {digest} are not those that were stored", digest=digest)


def _go_on(client: Client, digest: str, size: int, part: Path) -> str:
    """Ask for what is missing; the digest of everything that is there then."""
    import httpx

    hashed = hashlib.sha256()
    with part.open("ab+") as file:
        file.seek(0)
        while piece := file.read(PIECE):
            hashed.update(piece)
        have = file.tell()
        if have and have == size:
            return hashed.hexdigest()
        call = build_call(client.address, GET_BLOB, digest=digest)
        headers = {**call.headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with client.http.stream("GET", call.url, headers=headers) as answer:
                if answer.status_code == 416:
                    file.truncate(0)
                    return ""  # more is here than there: begin again
                if answer.status_code >= 400:
                    raise _fault(answer)
                if answer.status_code != 206 and have:
                    file.truncate(0)
                    hashed = hashlib.sha256()
                for piece in answer.iter_raw():
                    file.write(piece)
                    hashed.update(piece)
        except httpx.TransportError as error:
            raise ServerAway(
                f"the download of {digest[:12]} broke off: {error or type(error).__name__}"
            ) from error
    return hashed.hexdigest()


def _fault(answer: Any) -> Exception:
    content: bytes = answer.read()
    headers = answer.headers
    return read_fault(answer.status_code, content, headers.get("Content-Type", ""), headers.get("Retry-After", ""))

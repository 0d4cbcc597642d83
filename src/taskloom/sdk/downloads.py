"""Bytes from wherever they are kept, through a cache on this machine.

The cache is shared by all processes of the machine and bounded (`sdk.cache_bytes`): the longest unused go first. A
download that was cut goes on where it stopped; nobody sees a file before its SHA-256 is right. One process downloads,
the others wait for it. A cached file that somebody changed is noticed and fetched again: small ones are read through
at every use, large ones when the system says that they changed, and once a week. Where bytes come from is the business
of `sources`.

    <cache>/locks/<2 digits>      held while something that begins so is fetched or removed
    <cache>/<key>/bytes           whole and checked; the key is the SHA-256, or that of an address without one
                  checked         what was found when they were checked last
                  part            what has come so far
                  files/NAME      the same file under the name that a user sees
                  unpacked/       a folder that was stored as a zip file
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
from typing import TYPE_CHECKING

import msgspec

from taskloom.domain.errors import (
    DigestMismatch,
    NotFound,
    ServerAway,
    TaskloomError,
    Unavailable,
)
from taskloom.sdk.sources import Source, at_server, at_uri, from_file, path_of
from taskloom.wire.archives import PIECE, unpack
from taskloom.wire.configuration import setting

if TYPE_CHECKING:
    from taskloom.wire.send import Client

ATTEMPTS = 6
SMALL = 64 << 20  # bytes of a cached file that is read through at every use
TRUSTED_FOR = 7 * 86_400.0  # seconds that a larger one, which the system says nobody changed, is taken as it is


class Wanted(msgspec.Struct, frozen=True):
    """What an artifact or model says of its bytes; `what` names it in errors."""

    what: str
    digest: str = ""
    uri: str = ""
    fingerprint: str = ""
    size: int = 0
    filename: str = ""


def fetch(
    wanted: Wanted,
    client: Callable[[], Client],
    cache: Path,
    *,
    spool: Path | None = None,
    force: bool = False,
    unpacked: bool = False,
) -> Path:
    """A local path of the bytes: a file under its name, or with `unpacked` the folder that it was packed from.

    What lies on this machine is given where it lies, when its fingerprint is right. spool: where the live task's
    bytes wait for their upload. Raises an error of `domain.errors`, or OSError when the disk does not take them.
    """
    known = wanted.digest or wanted.fingerprint
    keeper = Cache(cache)
    if known and spool is not None and (spool / known).is_file():
        with contextlib.suppress(NotFound, OSError, DigestMismatch):  # sent and removed meanwhile
            return keeper.fetch(from_file(spool / known, known), wanted, force=force, unpacked=unpacked)
    if wanted.digest:
        return keeper.fetch(at_server(client, wanted.digest), wanted, force=force, unpacked=unpacked)
    try:
        return _elsewhere(wanted, client, keeper, force, unpacked)
    except (TaskloomError, OSError) as error:
        if not wanted.fingerprint or isinstance(error, DigestMismatch):
            raise
        try:  # a destination that refused left them on the Taskloom server
            source = at_server(client, wanted.fingerprint)
            return keeper.fetch(source, wanted, force=force, unpacked=unpacked)
        except (TaskloomError, OSError):
            raise error from None


def _elsewhere(wanted: Wanted, client: Callable[[], Client], keeper: Cache, force: bool, unpacked: bool) -> Path:
    if not wanted.uri:
        raise NotFound(f"{wanted.what} has no bytes")
    path = path_of(wanted.uri)
    if path is None:
        limit = max(keeper.limit, wanted.size)
        source = at_uri(wanted.uri, wanted.fingerprint, client, wanted.what, limit)
        return keeper.fetch(source, wanted, force=force, unpacked=unpacked)
    if not path.exists():
        raise NotFound(f"{wanted.what} is kept at {path}, which is not on this machine")
    if path.is_dir():
        return path
    if unpacked:
        return keeper.fetch(from_file(path, wanted.fingerprint), wanted, force=force, unpacked=True)
    if wanted.fingerprint and _digest_of(path) != wanted.fingerprint:
        raise DigestMismatch(f"{wanted.what}: the file {path} was changed since it was recorded")
    return path


class _Checked(msgspec.Struct, frozen=True):
    """What the system said of a cached file when its digest was right."""

    digest: str
    size: int
    changed: int
    inode: int
    when: float


class Cache:
    """Files below `folder`, at most about `limit` bytes of them (one file may be larger)."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self._folder = folder
        self.limit: int = setting("sdk.cache_bytes") if limit is None else limit

    def fetch(self, source: Source, wanted: Wanted, *, force: bool = False, unpacked: bool = False) -> Path:
        """Path of the file under its name, or of the folder that it was packed from. force: also what is there."""
        place = self._folder / source.key
        with self._locked(source.key):
            if force and place.exists():
                shutil.rmtree(place)
            place.mkdir(parents=True, exist_ok=True)
            if not _is_whole(place, source.digest):
                for stale in ("files", "unpacked"):
                    shutil.rmtree(place / stale, ignore_errors=True)
                (place / "bytes").unlink(missing_ok=True)
                self._make_room(wanted.size, source.key)
                digest = _download(source, wanted.size, place / "part")
                (place / "part").replace(place / "bytes")
                _remember(place, digest)
            os.utime(place)  # used now
            return _unpacked(place) if unpacked else _named(place, wanted.filename)

    @contextlib.contextmanager
    def _locked(self, key: str, *, wait: bool = True) -> Generator[bool]:
        """Hold what begins like `key`; yields False when it is held elsewhere and `wait` is not wanted."""
        locks = self._folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(locks / key[:2], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def _make_room(self, needed: int, key: str) -> None:
        """Remove the longest unused until `needed` more bytes fit. What another process fetches is left."""
        entries = [entry for entry in self._folder.iterdir() if entry.name not in {"locks", key}]
        sizes = {entry: _size_of(entry) for entry in entries}
        used = sum(sizes.values())
        for entry in sorted(entries, key=_last_use):
            if used + needed <= self.limit:
                return
            held = entry.name[:2] == key[:2]
            with contextlib.nullcontext(True) if held else self._locked(entry.name, wait=False) as free:
                if free:
                    shutil.rmtree(entry, ignore_errors=True)
                    used -= sizes[entry]


def _is_whole(place: Path, digest: str) -> bool:
    """Whether the bytes are there and are those that came."""
    known = _checked(place)
    if known is None and not digest:
        return False
    right = digest or (known.digest if known is not None else "")
    try:
        status = (place / "bytes").stat()
        same = known is not None and known.digest == right and _state(status) == _state_of(known)
        if known is not None and same and status.st_size > SMALL and time.time() - known.when < TRUSTED_FOR:
            return True
        if _digest_of(place / "bytes") != right:
            return False
    except OSError:
        return False
    if not same or status.st_size > SMALL:
        _remember(place, right)
    return True


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_ctime_ns, status.st_ino


def _state_of(known: _Checked) -> tuple[int, int, int]:
    return known.size, known.changed, known.inode


def _checked(place: Path) -> _Checked | None:
    try:
        return msgspec.json.decode((place / "checked").read_bytes(), type=_Checked)
    except (OSError, msgspec.DecodeError):
        return None


def _remember(place: Path, digest: str) -> None:
    size, changed, inode = _state((place / "bytes").stat())
    (place / "checked").write_bytes(msgspec.json.encode(_Checked(digest, size, changed, inode, time.time())))


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named(place: Path, filename: str) -> Path:
    """The file under a safe form of the name that its maker gave it."""
    name = PurePosixPath(filename.replace("\\", "/").replace("\0", "")).name
    name = _fitting(name) if name not in {"", "..", "."} else "artifact"
    path = place / "files" / name
    path.parent.mkdir(exist_ok=True)
    if path.exists() and path.samefile(place / "bytes"):
        return path
    known = _checked(place)
    fresh = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        os.link(place / "bytes", fresh)
    except OSError:  # a file system without links
        shutil.copy2(place / "bytes", fresh)
    fresh.replace(path)
    if known is not None:
        _remember(place, known.digest)  # another name is a change, too, as the system tells it
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


# --- a download --------------------------------------------------------------------------------------------


def _download(source: Source, size: int, part: Path) -> str:
    """Fill `part` until its digest is right. A broken connection is taken up again, a few times."""
    for attempt in range(ATTEMPTS):
        try:
            found = _go_on(source, size, part)
        except (ServerAway, Unavailable):
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.1 * 2**attempt)
            continue
        if found == (source.digest or found):
            return found
        part.unlink(missing_ok=True)
        if attempt and source.elsewhere:
            break  # once more was enough: somebody else wrote there
    raise DigestMismatch(f"the bytes that came from {source.name} are not those that were stored")


def _go_on(source: Source, size: int, part: Path) -> str:
    """Ask for what is missing; the digest of everything that is there then."""
    hashed = hashlib.sha256()
    with part.open("ab+") as file:
        file.seek(0)
        while piece := file.read(PIECE):
            hashed.update(piece)
        have = file.tell()
        if have and have == size and source.digest:
            return hashed.hexdigest()
        for first, piece in source.read(have):
            if first != file.tell():  # it began elsewhere than it was asked to
                file.truncate(0)
                file.seek(0)
                hashed = hashlib.sha256()
            file.write(piece)
            hashed.update(piece)
    return hashed.hexdigest()

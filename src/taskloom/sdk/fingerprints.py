"""What lies at a path, and its fingerprint: by their bytes weights are known again wherever they lie.

    file        the SHA-256 of its bytes
    folder      the SHA-256 of the lines `DIGEST  PATH` of its files, sorted by path, each ended by a newline
    ckpt-1      that is no file, but the beginning of `ckpt-1.index` and the like: as a folder that holds those

Files are read by a thread while the script goes on. What changed while it was read has no fingerprint.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

PIECE = 1 << 20
LINGER = 10.0  # seconds that the thread stays for the next file: to start one costs the script milliseconds
LAST_WORD = 0.5  # seconds that the thread has to notice that it shall stop

State = tuple[tuple[str, int, int, int], ...]
"""Name, size, time of change and inode of every file: the same state is taken for the same bytes."""


@dataclass(frozen=True)
class Lying:
    """Files as they lay at a path when somebody looked. Of a single file the one member has its name.

    flat: of a folder, only the files that lie directly in it were looked at.
    """

    path: Path
    single: bool
    members: tuple[tuple[str, Path], ...]
    state: State
    flat: bool = False

    @property
    def size(self) -> int:
        return sum(size for _, size, _, _ in self.state)


def look_at(path: Path, flat: bool = False) -> Lying | None:
    """None when nothing that has bytes lies there. flat: of a folder, only the files directly in it."""
    try:
        if path.is_file():
            return _seen(path, True, [(path.name, path)])
        if path.is_dir():
            from taskloom.wire.archives import direct_members, folder_members

            members = [
                (name, file)
                for name, file in (direct_members(path) if flat else folder_members(path))
                if not name.endswith("/")
            ]
        else:
            start = f"{path.name}."
            members = sorted(
                (f.name, f) for f in path.parent.iterdir() if f.name.startswith(start) and f.is_file()
            )
        return replace(_seen(path, False, members), flat=flat) if members else None
    except OSError:
        return None


def listed(path: Path, files: Sequence[tuple[str, Path]]) -> Lying:
    """Files that were named one by one, as if they lay in a folder `path`."""
    return _seen(path, False, list(files))


def fingerprint(lying: Lying, stop: Callable[[], bool] = lambda: False) -> str:
    """'' when it cannot be read, when it changed meanwhile, or when `stop` said so."""
    try:
        digests = [(name, digest_of(path, stop)) for name, path in lying.members]
    except OSError:
        return ""
    if not all(digest for _, digest in digests) or _changed(lying):
        return ""
    if lying.single:
        return digests[0][1]
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def _seen(path: Path, single: bool, members: list[tuple[str, Path]]) -> Lying:
    state: list[tuple[str, int, int, int]] = []
    for name, file in members:
        status = file.stat()
        state.append((name, status.st_size, status.st_mtime_ns, status.st_ino))
    return Lying(path, single, tuple(members), tuple(state))


def _changed(lying: Lying) -> bool:
    try:
        return _seen(lying.path, lying.single, list(lying.members)).state != lying.state
    except OSError:
        return True


def digest_of(path: Path, stop: Callable[[], bool] = lambda: False) -> str:
    """The SHA-256 of a file; '' when `stop` said so."""
    hashed = hashlib.sha256()
    piece = memoryview(bytearray(PIECE))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            if stop():
                return ""
            hashed.update(piece[:count])
    return hashed.hexdigest()


@dataclass(frozen=True)
class _Wish:
    lying: Lying
    then: Callable[[str], None]


class Prints:
    """A thread that makes fingerprints, one after the other; it goes when there was nothing to read for a while.

    Of wishes with the same key only the newest counts: what was overwritten meanwhile is not read. Every other wish
    is answered, by the thread or by `finish`, with '' when there is no fingerprint.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wishes: dict[Hashable, _Wish] = {}
        self._thread: threading.Thread | None = None
        self._busy = False  # whether something is still to be read or answered
        self._over = False
        self._pid = os.getpid()

    def ask(self, key: Hashable, lying: Lying, then: Callable[[str], None]) -> None:
        """`then` is called in the thread and must raise nothing."""
        if self._pid != os.getpid():
            self.__init__()  # forked: the thread and its wishes stayed with the parent
        with self._changed:
            self._wishes[key] = _Wish(lying, then)
            self._busy = True
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="taskloom-fingerprints", daemon=True)
                self._thread.start()

    def wait(self, timeout: float) -> None:
        """Until all that were asked for are made; no longer than `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, timeout)

    def finish(self, timeout: float) -> None:
        """Wait until all are made; what is not within `timeout` seconds is answered with ''."""
        if self._pid != os.getpid():
            return
        end = time.monotonic() + timeout
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, max(end - time.monotonic(), 0.0))
            self._over = True
            left = list(self._wishes.values())
            self._wishes.clear()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._thread is None, LAST_WORD)
        for wish in left:
            wish.then("")

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._wishes:
                    self._busy = False
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._over or self._wishes, LINGER)
                if not self._wishes:
                    self._thread = None
                    self._changed.notify_all()
                    return
                key = next(iter(self._wishes))
                wish = self._wishes.pop(key)
            wish.then(fingerprint(wish.lying, lambda: self._over))

"""The writer: what a call returned from is on this machine, whatever happens to the process next.

A scalar is 32 bytes stored into a mapped file: no system call, no lock of the interpreter given away, and
`kill -9` loses nothing because the kernel owns the page. Everything else is one `write` that appends. A full
disk never reaches the caller: what does not fit is held in a bounded memory and tried again. Who ships it,
and when, is the shipper's business.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import mmap
import os
import socket
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from taskloom.domain.errors import TooLarge
from taskloom.journal import layout
from taskloom.journal.layout import LENGTH, ROW, ROW_BYTES, SEGMENT_BYTES, Meta, Role, Stream
from taskloom.wire.records import (
    ArtifactRemoved,
    ArtifactStored,
    ArtifactUsed,
    ModelStored,
    ModelUsed,
    Record,
    Sampled,
    SeriesNamed,
)

PREPARE_AT = SEGMENT_BYTES * 3 // 4  # the next segment is allocated this early, so that a full disk shows early
HOLD_ROWS = 32_768
HOLD_BYTES = 4 << 20
MAX_SERIES = 100_000  # distinct (title, series) of one writer: each costs memory for ever
RETRY_SECONDS = 1.0
NOWHERE = -1  # a limit that every offset has passed: all rows take the slow road

# Records that name files go into journals beside: their order among themselves matters, and they wait for uploads.
_BESIDE: dict[type, str] = {
    **dict.fromkeys((ArtifactStored, ArtifactRemoved, ModelStored, ModelUsed, ArtifactUsed), "files"),
    Sampled: "samples",
}

_encoder = msgspec.msgpack.Encoder()
_pack_into = ROW.pack_into


def say(text: str) -> None:
    """The default way to tell a person; under `python -x` without a standard error it is silent."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"taskloom: {text}\n")


class Writer:
    """One process's journal of one task. Safe between threads, in signal handlers, and across a fork
    when `become_child` is called in the new process.

    `numbers` maps (title, series) to the number its rows carry; look there first, then call `name_series`.
    """

    def __init__(self, task_folder: Path, meta: Meta, tell: Callable[[str], None] = say) -> None:
        self.task_folder = task_folder
        self.numbers: dict[tuple[str, str], int] = {}
        self._tell = tell
        self._start(meta)

    @classmethod
    def create(
        cls,
        root: Path,
        task_id: str,
        *,
        role: Role,
        lease: str = "",
        offline: bool = False,
        iteration_offset: int = 0,
        name: str = "",
        project: str = "",
        tell: Callable[[str], None] = say,
    ) -> Writer:
        """A new writer of the task below `root`, which is `<data>/journal`; OSError when it cannot be made."""
        meta = Meta(
            task=task_id,
            writer=uuid.uuid4().hex,
            role=role,
            pid=os.getpid(),
            host=socket.gethostname(),
            lease=lease,
            offline=offline,
            iteration_offset=iteration_offset,
            name=name,
            project=project,
            created=time.time(),
        )
        writer = cls(root / task_id, meta, tell)
        writer.open()
        return writer

    def _start(self, meta: Meta) -> None:
        # An RLock, and every place claimed before it is filled: a signal handler may report, too.
        self._lock = threading.RLock()
        self.meta = meta
        self.folder = self.task_folder / meta.writer
        self.closed = False
        self.records = 0
        self.lost = 0
        self._lock_fd = self._events_fd = -1
        self._map: mmap.mmap | None = None
        self._next: mmap.mmap | None = None
        self._segment = -1
        self._offset = 0
        self._limit = NOWHERE
        self._series = itertools.count()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._held_rows: list[tuple[int, float, float, int]] = []
        self._retry_at = 0.0
        self._settling = False
        self._told: set[str] = set()
        self._beside: dict[str, Writer] = {}

    def open(self) -> None:
        """Make the folder and its files, lock first: a folder with a meta file has had a living writer."""
        with self._lock:
            if self._events_fd >= 0:
                return
            _make_folder(self.folder)
            self._lock_fd = os.open(self.folder / layout.LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            layout.write_whole(self.folder / layout.META_FILE, self.meta)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._events_fd = os.open(self.folder / layout.EVENTS_FILE, flags, 0o600)

    def become_child(self) -> None:
        """In a forked process: leave the parent's files alone and become a writer of one's own.

        Nothing is made on the disk until the child records something; most never do. The inherited lock is
        closed at once, or the parent would seem alive as long as its children are.
        """
        for journal in self.journals:
            for descriptor in (journal._lock_fd, journal._events_fd):
                if descriptor >= 0:
                    os.close(descriptor)
        self.numbers.clear()
        changes = {"writer": uuid.uuid4().hex, "role": "child", "pid": os.getpid(), "created": time.time()}
        self._start(msgspec.structs.replace(self.meta, **changes))

    @property
    def lock(self) -> int:
        """The descriptor that says that the writer lives; a process that inherits it keeps the writer alive."""
        return self._lock_fd

    @property
    def journals(self) -> list[Writer]:
        """This one and those beside it."""
        return [self, *self._beside.values()]

    # --- scalars ------------------------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        """How many scalar rows are in the journal."""
        return max(self._segment, 0) * layout.SEGMENT_ROWS + self._offset // ROW_BYTES if self._segment >= 0 else 0

    def name_series(self, title: str, series: str) -> int:
        """The number for a series that `numbers` does not hold yet; raises TooLarge past MAX_SERIES."""
        with self._lock:
            number = self.numbers.get((title, series))
            if number is None:
                if len(self.numbers) >= MAX_SERIES:
                    raise TooLarge(
                        f"more than {MAX_SERIES} series in one task; {title!r} / {series!r} is not recorded"
                    )
                number = next(self._series)
                self._append(_framed(SeriesNamed(number=number, title=title, series=series)), keep=True)
                self.numbers[title, series] = number
            return number

    def scalar(self, number: int, iteration: int, value: float, now: float) -> None:
        """One row; `iteration` an int, `value` a float, checked by the caller. struct.error past 64 bits."""
        with self._lock:
            offset = self._offset
            if offset >= self._limit:
                self._slow_rows([(iteration, value, now, number + 1)])
                return
            self._offset = offset + ROW_BYTES
            try:
                _pack_into(self._map, offset, iteration, value, now, number + 1)  # pyright: ignore[reportArgumentType]
            except struct.error:
                self._offset = offset  # nothing was stored, and nobody could claim a place meanwhile
                raise

    def scalars(self, pairs: Sequence[tuple[int, float]], iteration: int, now: float) -> None:
        """Rows of many series, (number, value), at one iteration, under one lock."""
        with self._lock:
            offset = self._offset
            end = offset + ROW_BYTES * len(pairs)
            if end > self._limit:
                self._slow_rows([(iteration, value, now, number + 1) for number, value in pairs])
                return
            start, target = offset, self._map
            self._offset = end
            try:
                for number, value in pairs:
                    _pack_into(target, offset, iteration, value, now, number + 1)  # pyright: ignore[reportArgumentType]
                    offset += ROW_BYTES
            except struct.error:
                self._offset = start  # the first row was refused, since all have the same iteration
                raise

    def _slow_rows(self, rows: list[tuple[int, float, float, int]]) -> None:
        """A segment ends or begins, or the disk is full."""
        for row in rows:
            ROW.pack(*row)  # a number that does not fit is the caller's fault, before anything is held
        if self.closed:
            self.lost += len(rows)
            self._tell_once("closed", "values reported after the task was closed are not recorded")
            return
        self._held_rows += rows
        self._settle()
        if len(self._held_rows) > HOLD_ROWS:
            self.lost += len(self._held_rows) - HOLD_ROWS
            del self._held_rows[HOLD_ROWS:]

    # --- records ------------------------------------------------------------------------------------------

    def record(self, record: Record) -> None:
        """Append one record; raises TooLarge for one that no server would take, nothing else."""
        data = _framed(record)
        kind = _BESIDE.get(type(record))
        with self._lock:
            if kind is not None and not self.meta.beside and not self.closed:
                self._journal_beside(kind).record(record)
                return
            if self.closed:
                self.lost += 1
                self._tell_once("closed", "what is recorded after the task was closed is lost")
                return
            self._append(data)

    def _journal_beside(self, kind: str) -> Writer:
        if kind not in self._beside:
            changes = {"writer": uuid.uuid4().hex, "role": "child", "created": time.time()}
            meta = msgspec.structs.replace(self.meta, beside=self.meta.writer, **changes)
            self._beside[kind] = Writer(self.task_folder, meta, self._tell)
        return self._beside[kind]

    def stream_path(self, stream: Stream) -> Path:
        """The file that takes the raw bytes of a console stream; open it for appending."""
        self.open()
        return self.folder / stream

    def close(self) -> None:
        """Release the lock: the writer is gone. Everything stays on the disk for the shipper."""
        with self._lock:
            if self.closed:
                return
            for journal in self._beside.values():
                journal.close()
            if self._held or self._held_rows:
                self._retry_at = 0.0
                self._settle()
            self.lost += len(self._held) + len(self._held_rows)
            self.closed = True
            self._limit = NOWHERE
            if self.lost:
                self._tell_once("lost", f"{self.lost} records of this run could not be written and are lost")
            for descriptor in (self._events_fd, self._lock_fd):
                if descriptor >= 0:
                    os.close(descriptor)
            self._events_fd = self._lock_fd = -1
            self._map = self._next = None

    def _append(self, data: bytes, *, keep: bool = False) -> None:
        """Behind what is held, if anything is; `keep`: whatever it costs, since rows will name it."""
        if not self._held and time.monotonic() >= self._retry_at:
            try:
                self.open()
                _append_whole(self._events_fd, data)
            except OSError as error:
                self._stall(error)
            else:
                self.records += 1
                return
        if keep or self._held_bytes + len(data) <= HOLD_BYTES:
            self._held.append(data)
            self._held_bytes += len(data)
        else:
            self.lost += 1
        self._settle()

    # --- a full disk, and segments ------------------------------------------------------------------------

    def _settle(self) -> None:
        """Write what is held, records before rows; stop quietly at the first thing that does not fit.

        A signal handler that reports in the middle of it only adds to what is held.
        """
        if self._settling or time.monotonic() < self._retry_at:
            return
        self._settling = True
        try:
            self.open()
            while self._held:
                _append_whole(self._events_fd, self._held[0])
                self._held_bytes -= len(self._held.pop(0))
                self.records += 1
            self._limit = self._room()
            while self._held_rows:
                if self._offset >= self._limit:
                    self._limit = self._room()
                row = self._held_rows.pop(0)
                offset = self._offset
                self._offset = offset + ROW_BYTES
                _pack_into(self._map, offset, *row)  # pyright: ignore[reportArgumentType]
        except OSError as error:
            self._stall(error)
        else:
            if "full" in self._told:
                self._told.discard("full")
                self._tell(f"the journal at {self.folder} is being written again")
        finally:
            self._settling = False

    def _room(self) -> int:
        """Up to which offset of the current segment rows may be stored; moves to the next segment."""
        if self._map is None or self._offset >= SEGMENT_BYTES:
            fresh = self._next or _allocate(self.folder / layout.segment_name(self._segment + 1))
            self._next = None
            self._map = fresh
            self._segment, self._offset = self._segment + 1, 0
        elif self._offset >= PREPARE_AT and self._next is None:
            try:
                self._next = _allocate(self.folder / layout.segment_name(self._segment + 1))
            except OSError as error:
                self._warn_full(
                    error
                )  # there is room for a while; the next segment is asked for again at its turn
        return PREPARE_AT if self._offset < PREPARE_AT else SEGMENT_BYTES

    def _stall(self, error: OSError) -> None:
        self._limit = NOWHERE
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self._warn_full(error)

    def _warn_full(self, error: OSError) -> None:
        self._tell_once(
            "full",
            f"cannot write the journal at {self.folder}: {error.strerror or error}; the script goes on, "
            "the last values are kept in memory and writing is tried again",
        )

    def _tell_once(self, topic: str, text: str) -> None:
        if topic not in self._told:
            self._told.add(topic)
            self._tell(text)


def _framed(record: Record) -> bytes:
    data = _encoder.encode(record)
    if len(data) > layout.MAX_RECORD:
        raise TooLarge(
            f"a record of {len(data)} bytes ({type(record).__name__}); at most {layout.MAX_RECORD} are possible"
        )
    return LENGTH.pack(len(data)) + data


def _append_whole(descriptor: int, data: bytes) -> None:
    """All of it or, when the disk is full, nothing of it: half a record is taken back."""
    written = os.write(descriptor, data)
    while written < len(data):
        try:
            written += os.write(descriptor, data[written:])
        except OSError:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise


def _make_folder(folder: Path) -> None:
    """A shipper may remove the task's empty folder between the two calls: then once more."""
    for _ in range(100):
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            return
        except FileNotFoundError:
            continue
        return
    raise OSError(f"cannot make the folder {folder}")


def _allocate(path: Path) -> mmap.mmap:
    """A zeroed, mapped segment with its blocks reserved: a full disk is an OSError here and not a SIGBUS later."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if sys.platform == "linux":
            os.posix_fallocate(descriptor, 0, SEGMENT_BYTES)
        else:
            _append_whole(descriptor, bytes(SEGMENT_BYTES - os.fstat(descriptor).st_size))
        return mmap.mmap(descriptor, SEGMENT_BYTES, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(descriptor)

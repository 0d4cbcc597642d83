"""The reader: what a writer has committed so far, from any position on, while it still writes.

It opens a file only for the time of a call, so that any number of journals can be watched; it never waits
and never changes anything. A torn tail (half a record of a killed process) is not there for it.
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path

import msgspec

from taskloom.journal import layout
from taskloom.journal.layout import LENGTH, ROW_BYTES, SEGMENT_ROWS, Stream
from taskloom.wire.messages import ScalarColumns
from taskloom.wire.records import Ended, Opened, Record

_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_WORDS = ROW_BYTES // 8


class Reader:
    """One writer's folder. Remembers where records begin, so that reading on costs only what is new."""

    def __init__(self, folder: Path) -> None:
        meta = layout.read_meta(folder)
        if meta is None:
            raise FileNotFoundError(f"{folder} is not the folder of a journal's writer")
        self.folder = folder
        self.meta = meta
        self._offsets = [0]  # byte offset of every record found so far, and of the end
        self._rows = 0

    def alive(self) -> bool:
        """Whether the writer's process holds its lock."""
        return layout.is_locked(self.folder / layout.LOCK_FILE)

    # --- records ------------------------------------------------------------------------------------------

    def record_count(self) -> int:
        """Whole records in the events file."""
        self._scan()
        return len(self._offsets) - 1

    def records_end(self) -> int:
        """Byte offset behind the last whole record; what follows is torn."""
        self._scan()
        return self._offsets[-1]

    def records(self, start: int, max_bytes: int = 1 << 62) -> list[Record]:
        """Records from number `start` on: at least one when there is one, then as many as the bytes allow."""
        self._scan()
        last = start
        while last < len(self._offsets) - 1 and (
            last == start or self._offsets[last + 1] - self._offsets[start] <= max_bytes
        ):
            last += 1
        if last <= start:
            return []
        data = _read(
            self.folder / layout.EVENTS_FILE, self._offsets[start], self._offsets[last] - self._offsets[start]
        )
        base = self._offsets[start]
        if len(data) < self._offsets[last] - base:
            return []  # the folder was removed meanwhile
        return [
            _decoder.decode(data[self._offsets[n] - base + LENGTH.size : self._offsets[n + 1] - base])
            for n in range(start, last)
        ]

    def first(self) -> Record | None:
        found = self.records(0, 0)
        return found[0] if found else None

    def opened(self) -> bool:
        return isinstance(self.first(), Opened)

    def first_mode(self) -> str:
        """How the run that this writer is of began; '' for one that has not said it."""
        found = self.first()
        return found.mode if isinstance(found, Opened) else ""

    def ended(self) -> bool:
        """Whether the writer has said how it ended. Another record may follow it: a task may be resumed."""
        return any(isinstance(record, Ended) for record in self.records(max(self.record_count() - 8, 0)))

    def _scan(self) -> None:
        position = self._offsets[-1]
        path = self.folder / layout.EVENTS_FILE
        while data := _read(path, position, 1 << 20):
            inside = 0
            while inside + LENGTH.size <= len(data):
                (length,) = LENGTH.unpack_from(data, inside)
                if length == 0 or length > layout.MAX_RECORD:
                    return  # not a record: a disk that lost its power may leave zeros
                if inside + LENGTH.size + length > len(data):
                    break
                inside += LENGTH.size + length
                self._offsets.append(position + inside)
            if inside == 0:  # torn, or longer than what was read: look once with a whole record's room
                if len(data) < 1 << 20 or not self._scan_long(path, position):
                    return
                inside = self._offsets[-1] - position
            position += inside

    def _scan_long(self, path: Path, position: int) -> bool:
        size = path.stat().st_size
        (length,) = LENGTH.unpack(_read(path, position, LENGTH.size))
        if position + LENGTH.size + length > size:
            return False
        self._offsets.append(position + LENGTH.size + length)
        return True

    # --- scalars ------------------------------------------------------------------------------------------

    def row_count(self) -> int:
        """Committed rows. Rows are committed in order, so the first one that is not ends the search."""
        while True:
            segment, inside = divmod(self._rows, SEGMENT_ROWS)
            low, high = inside, SEGMENT_ROWS
            try:
                descriptor = os.open(self.folder / layout.segment_name(segment), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return self._rows
            try:
                if _committed(descriptor, low):
                    while low < high:  # the first row that is not committed lies in low..high
                        middle = (low + high) // 2
                        low, high = (middle + 1, high) if _committed(descriptor, middle) else (low, middle)
            finally:
                os.close(descriptor)
            self._rows = segment * SEGMENT_ROWS + low
            if low < SEGMENT_ROWS:
                return self._rows

    def columns(self, start: int, limit: int) -> ScalarColumns | None:
        """Rows from number `start` on, at most `limit`, as columns; None when there is none."""
        stop = min(self.row_count(), start + limit)
        if stop <= start:
            return None
        data = self._row_bytes(start, stop)
        words = memoryview(data).cast("Q")
        return ScalarColumns(
            start=start,
            series=array("I", [word - 1 for word in words[_WORDS - 1 :: _WORDS]]).tobytes(),
            iteration=words[0::_WORDS].tobytes(),
            value=words[1::_WORDS].tobytes(),
            time=words[2::_WORDS].tobytes(),
        )

    def rows(self, start: int = 0) -> list[tuple[int, int, float, float]]:
        """(series number, iteration, value, time) of every row from `start` on; for tests and small journals."""
        data = self._row_bytes(start, self.row_count())
        return [(n - 1, i, v, t) for i, v, t, n in layout.ROW.iter_unpack(data)]

    def _row_bytes(self, start: int, stop: int) -> bytes:
        pieces: list[bytes] = []
        while start < stop:
            segment, inside = divmod(start, SEGMENT_ROWS)
            count = min(stop - start, SEGMENT_ROWS - inside)
            path = self.folder / layout.segment_name(segment)
            pieces.append(_read(path, inside * ROW_BYTES, count * ROW_BYTES))
            start += count
        return b"".join(pieces)

    # --- console ------------------------------------------------------------------------------------------

    def console_size(self, stream: Stream) -> int:
        try:
            return (self.folder / stream).stat().st_size
        except OSError:
            return 0

    def console(self, stream: Stream, start: int, limit: int) -> bytes:
        return _read(self.folder / stream, start, limit)


def _committed(descriptor: int, row: int) -> bool:
    return os.pread(descriptor, 8, row * ROW_BYTES + ROW_BYTES - 8) not in {b"", bytes(8)}


def _read(path: Path, start: int, count: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(descriptor, count, start)
    finally:
        os.close(descriptor)

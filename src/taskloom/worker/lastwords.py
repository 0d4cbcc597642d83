"""How the script itself says that it ended: the `Ended` record of its journal.

The end of an attempt is the worker's to tell, and the exit code decides. But a script that marked its task as
failed and then left with 0, or that was interrupted and left with 1, knows better. Journals that are delivered
are removed at once, so the files are kept open from the moment they are seen: an open file can be read on.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from taskloom.journal import layout
from taskloom.providers.contract import Exit
from taskloom.wire.records import Ended, EndStatus, Record
from taskloom.worker.steps import describe

_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_MAX_END = 1 << 20


class LastWords:
    def __init__(self, journal: Path, own_writer: Path) -> None:
        self._journal = journal
        self._own = own_writer
        self._open: dict[Path, int] = {}

    def look(self) -> None:
        """Open the journals of scripts that came since the last look."""
        for folder in layout.writer_folders(self._journal):
            meta = layout.read_meta(folder)
            if folder == self._own or folder in self._open or meta is None or meta.role != "main":
                continue
            with contextlib.suppress(OSError):
                self._open[folder] = os.open(folder / layout.EVENTS_FILE, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def ended(self) -> Ended | None:
        """The latest word, if there is one."""
        self.look()
        found = [word for descriptor in self._open.values() if (word := _last(descriptor)) is not None]
        return max(found, key=lambda word: word.time, default=None)


def outcome(end: Exit, word: Ended | None) -> tuple[EndStatus, str]:
    """How the attempt ended, and why; an empty reason leaves the one that the script gave."""
    well = end.code == 0
    if word is None or (word.status == "completed" and not well):
        return ("completed", "") if well else ("failed", describe(end))
    return word.status, "" if word.reason or word.status == "completed" else describe(end)


def _last(descriptor: int) -> Ended | None:
    """The last record of the file, when it is an Ended one."""
    position, last, length = 0, 0, 0
    while len(head := os.pread(descriptor, layout.LENGTH.size, position)) == layout.LENGTH.size:
        (size,) = layout.LENGTH.unpack(head)
        last, length = position + layout.LENGTH.size, size
        position = last + size
    if not 0 < length <= _MAX_END:
        return None
    try:
        record = _decoder.decode(os.pread(descriptor, length, last))
    except msgspec.DecodeError:
        return None
    return record if isinstance(record, Ended) else None

"""How the script itself says that it ended: the `Ended` record of its journal.

The end of an attempt is the worker's to tell, and the exit code decides. But a script that marked its task as
failed and then left with 0, or that was interrupted and left with 1, knows better. Its journal stays until the worker
has read it, delivered or not (`layout.HELD_FILE`), also when it is another process of the worker that comes to read.
"""

from __future__ import annotations

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
    """The follower that reads the journals of the attempt's scripts; `journal`: the folder of the task's journals."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal

    def look(self) -> None:
        pass

    def end(self, exit: Exit) -> Ended | None:
        """The latest word of a main writer."""
        found: list[Ended] = []
        for folder in layout.writer_folders(self._journal):
            meta = layout.read_meta(folder)
            if meta is not None and meta.role == "main" and (word := _last(folder)) is not None:
                found.append(word)
        return max(found, key=lambda word: word.time, default=None)

    def close(self) -> None:
        pass


def outcome(end: Exit, word: Ended | None) -> tuple[EndStatus, str]:
    """How the attempt ended, and why; an empty reason leaves the one that the script gave."""
    well = end.code == 0
    if word is None or (word.status == "completed" and not well):
        return ("completed", "") if well else ("failed", describe(end))
    return word.status, "" if word.reason or word.status == "completed" else describe(end)


def _last(folder: Path) -> Ended | None:
    """The last record of a writer, when it is an Ended one."""
    try:
        descriptor = os.open(folder / layout.EVENTS_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _last_record(descriptor)
    finally:
        os.close(descriptor)


def _last_record(descriptor: int) -> Ended | None:
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

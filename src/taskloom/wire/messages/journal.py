"""A writer's journal on its way: batches and the marks of what has arrived."""

from __future__ import annotations

from typing import Literal

import msgspec

from taskloom.wire.messages.base import Answer, Request
from taskloom.wire.records import Record


class ScalarColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Consecutive scalar rows of one writer, in columns of little-endian numbers.

    `start` is the row number of the first. series: uint32 numbers given by `SeriesNamed`; iteration: int64;
    value: float64; time: float64 epoch seconds. All four hold the same count of rows.
    """

    start: int
    series: bytes
    iteration: bytes
    value: bytes
    time: bytes


class ConsoleBytes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Consecutive bytes of one console stream (stdout, stderr or report) from byte `start` on.

    They are raw; the server decodes UTF-8 with replacement when it shows them. `time`: when they were read.
    """

    stream: Literal["stdout", "stderr", "report"]
    start: int
    data: bytes
    time: float


class JournalBatch(Request, frozen=True, kw_only=True):
    """What one writer has for one task since the server's marks. Applied whole or not at all, and once.

    `events_start` is the number of the first record in `events`. What lies before the server's marks is
    skipped, so a batch may be sent again, longer or shorter. A gap (start above the mark) is a 409 that
    tells the marks. `lease` is the token of the attempt that the writer ran under, empty for scripts that a
    person started. `iteration_offset` is added to every iteration (imported offline sessions).
    """

    writer: str
    lease: str = ""
    iteration_offset: int = 0
    events_start: int = 0
    events: list[Record] = []
    scalars: ScalarColumns | None = None
    console: list[ConsoleBytes] = []


class JournalMarks(Answer, frozen=True, kw_only=True):
    """How far the server has this writer's streams on its disk: records, rows, bytes of each console stream.

    `stop`: the task was aborted (or is gone); the script should be told to end.
    """

    events: int = 0
    rows: int = 0
    console: dict[str, int] = {}
    stop: bool = False

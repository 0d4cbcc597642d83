"""Secrets do not leave the machine: what equals one becomes stars of the same length, in whatever is shipped.

The worker writes the values into the task's folder, readable by its own user only, before anything is written there;
whoever ships the journal, also one that goes on alone or comes later, finds them. The length stays, so that
positions in a stream keep their meaning and an offset is an offset whoever reads the file.

    masks = read_masks(task_folder)
    data = masks.cut(read, start, limit, final=False)

A value may lie across the border of two pieces. So a piece is looked at with as much before and behind it as the
longest value has, and the end of a stream that still grows is held back as long as it could be the beginning of
one. Nothing of this is done, and nothing more is read, when a task has no secrets. What is looked for: every line
of a value that has at least `SHORTEST` characters; shorter ones would hide half of all words. Besides their own
form, as a URL, JSON and base64 write them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, quote_plus

import msgspec

from taskloom.domain.evaluation import EvalJob, EvalRun, Step, TaskCall
from taskloom.journal import layout
from taskloom.wire.records import Edited, Ended, JobStored, Plotted, Record, RunStored, StepsTaken

SHORTEST = 4  # characters
SHORTEST_CODED = 8  # bytes of a form that is not the value's own: fewer would meet by chance
QUIET = 1.0  # seconds without a write, after which the end of a dead writer's stream is its end
STAR = b"*"

# Ids and words of ours: a secret that happens to be a part of one may not break it.
_KEPT: dict[type, frozenset[str]] = {
    EvalJob: frozenset({"id", "trained_by", "fingerprints"}),
    EvalRun: frozenset({"id", "job", "task", "group", "status", "boundary", "stop_reason"}),
    Step: frozenset({"source"}),
    StepsTaken: frozenset({"run", "job"}),
    TaskCall: frozenset({"phase"}),
}

_Read = Callable[[int, int], bytes]


def write_masks(task_folder: Path, values: Iterable[str]) -> None:
    """Values that the journals below this folder are shipped without; call it before they are begun."""
    lines = sorted({line for value in values for line in _lines(value)})
    path = task_folder / layout.MASKS_FILE
    if not lines:
        path.unlink(missing_ok=True)
        return
    task_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(lines))
    fresh.replace(path)


def read_masks(task_folder: Path) -> Masks | None:
    """None when the task has no secrets. A file that cannot be read is an error: without it nothing may be shipped."""
    try:
        data = (task_folder / layout.MASKS_FILE).read_bytes()
    except FileNotFoundError:
        return None
    return Masks(msgspec.json.decode(data, type=list[str]))


class Masks:
    """What is looked for, in bytes."""

    def __init__(self, values: Iterable[str]) -> None:
        found = {form for value in values for line in _lines(value) for form in _forms(line)}
        self._forms = sorted(found, key=lambda form: (-len(form), form))
        self._longest = len(self._forms[0]) if self._forms else 0
        self._begins = {form[:1] for form in self._forms}

    def hide(self, text: str) -> str:
        """A text that is told at once, such as a reason."""
        data = text.encode("utf-8", "surrogatepass")
        return self._masked(data).decode("utf-8", "surrogatepass")

    def cut(self, read: _Read, start: int, limit: int, *, final: bool) -> bytes:
        """The bytes of a stream from `start` on, at most `limit`, without secrets.

        `read(start, count)` gives what is there. final: nothing will be added to it. Wherever a stream is cut, the
        pieces put together are the whole stream without secrets.
        """
        if not self._longest:
            return read(start, limit)
        reach = self._longest - 1
        first = max(start - reach, 0)
        wanted = start - first + limit + reach
        window = read(first, wanted)
        end = min(start - first + limit, len(window))
        if len(window) < wanted and not final:
            end = min(end, len(window) - self._begun(window))
        return self._masked(window)[start - first : max(end, 0)]

    def record(self, record: Record) -> Record:
        """What a script tells of itself may quote a secret, too: an edit, its last words, a plot's texts, a trace."""
        if isinstance(record, JobStored | RunStored | StepsTaken):
            return cast(Record, self._evaluated(record))
        if not isinstance(record, Edited | Ended | Plotted):
            return record
        told = self._walk(msgspec.to_builtins(record))
        with contextlib.suppress(msgspec.ValidationError):  # a secret that is a word of ours, such as a status
            return msgspec.convert(told, type(record))
        return record

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, dict):
            pairs = cast("dict[Any, Any]", value)
            return {key: each if key == "record" else self._walk(each) for key, each in pairs.items()}
        if isinstance(value, list | tuple):
            return [self._walk(each) for each in cast("list[Any]", value)]
        return value

    def _evaluated(self, value: Any) -> Any:
        """Every text of a job, a run or its steps, keys too; what is a word or an id of ours stays."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, bytes):
            return self._masked(value)
        if isinstance(value, msgspec.Struct):
            kept = _KEPT.get(type(value), frozenset())
            fields = [name for name in value.__struct_fields__ if name not in kept]
            return msgspec.structs.replace(value, **{n: self._evaluated(getattr(value, n)) for n in fields})
        if isinstance(value, dict):
            pairs = cast("dict[Any, Any]", value)
            return {self._evaluated(key): self._evaluated(each) for key, each in pairs.items()}
        if isinstance(value, list):
            return [self._evaluated(each) for each in cast("list[Any]", value)]
        if isinstance(value, tuple):
            return tuple(self._evaluated(each) for each in cast("tuple[Any, ...]", value))
        return value

    def _masked(self, data: bytes) -> bytes:
        """Every occurrence, those that overlap one another, too: so all are found before any is hidden."""
        spans: list[tuple[int, int]] = []
        for form in self._forms:
            at = data.find(form)
            while at >= 0:
                spans.append((at, at + len(form)))
                at = data.find(form, at + 1)
        if not spans:
            return data
        hidden = bytearray(data)
        for first, last in spans:
            hidden[first:last] = STAR * (last - first)
        return bytes(hidden)

    def _begun(self, data: bytes) -> int:
        """How many bytes at the end could be the beginning of something that is looked for."""
        for at in range(max(len(data) - self._longest + 1, 0), len(data)):
            if data[at : at + 1] in self._begins:
                rest = data[at:]
                if any(len(form) > len(rest) and form.startswith(rest) for form in self._forms):
                    return len(rest)
        return 0


def is_final(path: Path) -> bool:
    """Whether a stream whose writer is dead has its end: what a killed program's children still write comes soon."""
    try:
        return time.time() - path.stat().st_mtime > QUIET
    except OSError:
        return True


def _lines(value: str) -> list[str]:
    return [line for line in value.splitlines() if len(line) >= SHORTEST and not line.isspace()]


def _forms(line: str) -> set[bytes]:
    """The line in UTF-8, and as others write it."""
    plain = line.encode("utf-8", "surrogatepass")
    coded = {quote(plain, safe="").encode(), quote_plus(plain).encode(), json.dumps(line)[1:-1].encode()}
    coded.add(json.dumps(line, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass"))
    for before in range(3):  # where in a group of three bytes it begins
        first, last = (before * 8 + 5) // 6, (before + len(plain)) * 8 // 6  # characters that it alone decides
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            coded.add(encode(bytes(before) + plain)[first:last])
    return {plain, *(form for form in coded if len(form) >= SHORTEST_CODED)}

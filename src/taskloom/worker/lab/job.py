"""A job of the `lab` package, followed while its script runs, told in the words of the task.

    progress            ->  the task's progress
    metrics.jsonl       ->  scalars; title and series are parted at the first slash
    lab.log             ->  lines of the report stream
    files handed over   ->  artifacts and models, see `outputs`
    score               ->  single values, and the whole of it in the task's runtime
    finish, error       ->  a word about the end; the exit code wins where it says failed

The package rewrites `index.json` at every call, without a lock: several processes lose one another's words, and half a
file is normal. So the two files that it only appends to are the truth; `index.json` is read with that in mind, for
what stands nowhere else, and never written after the start. What was told is marked on the disk, so that a worker
that begins again goes on behind it. Reading and packing is done in a thread: `look` never waits.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from taskloom.domain.errors import TaskloomError
from taskloom.domain.metrics import MAX_ITERATION, MIN_ITERATION, SINGLE_VALUE, SINGLE_VALUE_TITLE
from taskloom.domain.task import TaskEdit
from taskloom.journal import layout as journal_layout
from taskloom.journal.writer import Writer
from taskloom.providers.contract import Exit
from taskloom.wire.messages import Lease
from taskloom.wire.records import Edited, Ended
from taskloom.worker.lab.layout import FOLDER, INDEX, KEPT, METRICS, Places, make_places
from taskloom.worker.lab.outputs import Keeper, Output, outputs
from taskloom.worker.lab.tail import read_lines, read_whole

MARKS_FILE = "marks.json"
MAX_INDEX = 32 << 20
MAX_NAME = 1024  # characters of a title or series
LISTS = ("artifacts", "checkpoints", "models", "generated_datasets", "eval_results")
ANSWERED = {"COMPLETE", "FAILED"}  # the states that `finish` and `error` leave


class Marks(msgspec.Struct, kw_only=True):
    """How far it was told: bytes of the two files, rows with metrics, outputs by key with their state."""

    experiment: str
    job: str
    project: str
    checkpoints: str = ""
    metrics: int = 0
    log: int = 0
    rows: int = 0
    stored: dict[str, str] = {}
    scored: bool = False


class LabJob:
    """`prepare` before the script begins, `adopt` after the worker began again; then as a follower of the program."""

    def __init__(self, places: Places, marks: Marks, writer: Writer) -> None:
        self._places, self._marks, self._writer = places, marks, writer
        kept = [Path(marks.checkpoints).resolve()] if marks.checkpoints else []
        self._roots = (places.root.resolve(), *kept)
        self._keeper = Keeper(writer, marks.job, marks.project, self._roots)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lab")
        self._looking: Future[None] | None = None
        self._index: tuple[int, int] | None = None
        self._seen: dict[str, str] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    @classmethod
    def prepare(cls, folder: Path, lease: Lease, writer: Writer, checkpoints: Path | None = None) -> LabJob:
        """`checkpoints`: the folder that outlives the attempt, when there is one. Raises OSError for a full disk."""
        places = make_places(folder, lease, checkpoints)
        kept = str(checkpoints) if checkpoints else ""
        marks = Marks(experiment=places.experiment, job=places.job, project=lease.task.project, checkpoints=kept)
        job = cls(places, marks, writer)
        job._write_marks()
        return job

    @classmethod
    def adopt(cls, folder: Path, writer: Writer) -> LabJob | None:
        """The job of an attempt that runs already; None when it has none."""
        try:
            marks = msgspec.json.decode((folder / FOLDER / MARKS_FILE).read_bytes(), type=Marks)
        except (OSError, msgspec.DecodeError):
            return None
        return cls(Places(folder / FOLDER, marks.experiment, marks.job), marks, writer)

    @property
    def variables(self) -> dict[str, str]:
        """What the script has to find in its environment."""
        return self._places.variables()

    # --- as a follower ----------------------------------------------------------------------------------

    def look(self) -> None:
        """Tell what is new, in the background; a look that is still going on is left alone."""
        if self._looking is None or self._looking.done():
            self._looking = self._thread.submit(self._follow)

    def end(self, exit: Exit) -> Ended | None:
        """Everything that is left, then how the script says that it ended. May take as long as files are large."""
        self._thread.submit(self._follow, last=True).result()
        if self._marks.checkpoints:
            with contextlib.suppress(OSError):  # no checkpoints: nothing of ours to keep for the next attempt
                (Path(self._marks.checkpoints) / KEPT).rmdir()
        word = self._word(exit)
        if word is not None:
            self._writer.record(word)
        return word

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    # --- following --------------------------------------------------------------------------------------

    def _follow(self, *, last: bool = False) -> None:
        before = msgspec.json.encode(self._marks)
        self._tell_metrics(last=last)
        self._tell_log(last=last)
        if (
            msgspec.json.encode(self._marks) != before
        ):  # now: packing what was stored takes longer than all of this
            self._write_marks()
            before = msgspec.json.encode(self._marks)
        index = self._read_index(again=last)
        if index is not None:
            self._tell_score(index)
        self._tell_outputs(index, last=last)
        if msgspec.json.encode(self._marks) != before:
            self._write_marks()

    def _tell_metrics(self, *, last: bool) -> None:
        progress: float | None = None
        while True:
            path = self._places.folder / METRICS
            lines, self._marks.metrics = read_lines(path, self._roots, self._marks.metrics, last=last)
            if not lines:
                break
            for line in lines:
                row = _object(line)
                told = _number(row.get("progress"))
                if told is not None and math.isfinite(told):
                    progress = min(max(told, 0.0), 100.0)
                if isinstance(row.get("metrics"), dict):
                    self._tell_row(row, cast("dict[str, Any]", row["metrics"]))
        if progress is not None:
            self._edit(TaskEdit(progress=progress))

    def _tell_row(self, row: dict[str, Any], metrics: dict[str, Any]) -> None:
        step = row.get("step")
        whole = isinstance(step, int) and not isinstance(step, bool) and MIN_ITERATION <= step <= MAX_ITERATION
        iteration = cast(int, step) if whole else self._marks.rows
        self._marks.rows += 1
        now = _time(row.get("t"))
        for name, value in metrics.items():
            number = _number(value)
            if number is not None:
                title, slash, series = str(name).partition("/")
                self._scalar(
                    title if title and series else str(name),
                    series if slash and title and series else str(name),
                    iteration,
                    number,
                    now,
                )

    def _scalar(self, title: str, series: str, iteration: int, value: float, now: float) -> None:
        names = _printable(title), _printable(series)
        try:
            number = self._numbers.get(names)
            if number is None:
                number = self._numbers[names] = self._writer.name_series(*names)
        except TaskloomError:
            return  # more series than a task may have
        self._writer.scalar(number, iteration, value, now)

    def _tell_log(self, *, last: bool) -> None:
        while True:
            lines, self._marks.log = read_lines(self._places.log, self._roots, self._marks.log, last=last)
            if not lines:
                return
            path = self._writer.stream_path("report")
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, b"\n".join(lines) + b"\n")
            finally:
                os.close(descriptor)

    def _tell_score(self, index: dict[str, Any]) -> None:
        data = index["job_data"]
        if self._marks.scored or index.get("status") not in ANSWERED or not isinstance(data.get("score"), dict):
            return
        score = cast("dict[str, Any]", data["score"])
        for name, value in score.items():
            number = _number(value)
            if number is not None:
                self._scalar(SINGLE_VALUE_TITLE, str(name), SINGLE_VALUE, number, time.time())
        told = {name: value for name, value in score.items() if name != "discard" or value}
        if told:
            self._edit(TaskEdit(runtime={"score": _finite(told)}))
        self._marks.scored = True

    def _tell_outputs(self, index: dict[str, Any] | None, *, last: bool) -> None:
        listed = _listed(index) if index is not None else set[str]()
        for output in outputs(self._places.folder, self._places.job, self._roots):
            if not last and output.path.name not in listed:
                continue
            state = output.state()
            if self._marks.stored.get(output.key) == state:
                continue
            settled = self._seen.get(output.key) == state
            self._seen[output.key] = state
            if (last or settled) and self._store(output):
                self._marks.stored[output.key] = state

    def _store(self, output: Output) -> bool:
        done = self._keeper.store(output)
        if done:
            self._write_marks()  # a large file is not packed again
        return done

    def _word(self, exit: Exit) -> Ended | None:
        index = self._read_index(again=True)
        if index is None or index.get("status") not in ANSWERED:
            return None
        details = index["job_data"].get("completion_details")
        message = details if isinstance(details, str) else ""
        if index["status"] == "FAILED" and index["job_data"].get("completion_status") == "failed":
            first = message.strip().splitlines()[0][:500] if message.strip() else "the script said so"
            return Ended(status="failed", time=time.time(), reason=f"lab.error: {first}", message=message)
        if index["status"] == "COMPLETE" and exit.code == 0:
            return Ended(status="completed", time=time.time(), message=message)
        return None

    def _read_index(self, *, again: bool = False) -> dict[str, Any] | None:
        """None when it is as it was, or cannot be read now: half of it may just be written."""
        path = self._places.folder / INDEX
        try:
            told = path.lstat()
        except OSError:
            return None
        mark = (told.st_mtime_ns, told.st_size)
        if mark == self._index and not again and not self._waiting():
            return None
        data = read_whole(path, self._roots, MAX_INDEX)
        found = _object(data or b"")
        if not isinstance(found.get("job_data"), dict):
            return None
        self._index = mark
        return found

    def _waiting(self) -> bool:
        """Whether something that was seen has not been told yet."""
        return any(self._marks.stored.get(key) != state for key, state in self._seen.items())

    def _edit(self, edit: TaskEdit) -> None:
        self._writer.record(Edited(edit=edit, time=time.time()))

    def _write_marks(self) -> None:
        journal_layout.write_whole(self._places.root / MARKS_FILE, self._marks)


def _object(data: bytes) -> dict[str, Any]:
    """A JSON object, NaN and Infinity included as Python writes them; empty for anything else."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _time(value: Any) -> float:
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return time.time()


def _printable(text: str) -> str:
    """A name that a server takes: without control characters and half characters, not too long."""
    return "".join(c if c.isprintable() else "?" for c in text)[:MAX_NAME] or "?"


def _listed(index: dict[str, Any]) -> set[str]:
    """Last parts of the paths that the package lists; a parameter of such a name may stand in a list's place."""
    found: set[str] = set()
    for name in LISTS:
        entries = index["job_data"].get(name)
        if isinstance(entries, list):
            found |= {
                entry.rstrip("/").rpartition("/")[2]
                for entry in cast("list[Any]", entries)
                if isinstance(entry, str)
            }
            models = [cast("dict[str, Any]", e) for e in cast("list[Any]", entries) if isinstance(e, dict)]
            found |= {str(e[key]).rpartition("/")[2] for e in models for key in ("path", "name", "id") if key in e}
    return found


def _finite(value: Any) -> Any:
    """JSON has no NaN: such a number is told as a word."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_finite(each) for each in cast("list[Any]", value)]
    return value

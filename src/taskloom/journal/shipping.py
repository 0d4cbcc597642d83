"""Sending one task's journals, exactly and in order; the same code in the companion process, in the worker
and in `taskloom journal ship`.

    shipping = Shipping(task_folder, Post(address))
    step = shipping.step()        # sends what is there now; raises what only waiting can cure

Order: the main writer first (it opens the task), its `Ended` last of all, so that a task that is over has
everything. A record that names bytes goes when they have arrived (`uploads`); whatever is in other journals does not
wait for it. A batch is cut by size from the server's marks; what the server has acknowledged is written to
`marks.json` before the next cut, and sending a cut again is harmless, so a crash at any point costs nothing.
When to try again, and for how long, is the caller's business.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from taskloom.domain.errors import (
    BadInput,
    BlobMissing,
    Conflict,
    DigestMismatch,
    Discarded,
    IllegalMove,
    LeaseLost,
    NotFound,
    TooLarge,
)
from taskloom.domain.task import TaskEdit
from taskloom.journal import layout
from taskloom.journal.layout import Marks
from taskloom.journal.masking import is_final, read_masks
from taskloom.journal.post import Post, file_size
from taskloom.journal.reader import Reader
from taskloom.journal.uploads import Need, Uploads, need_of
from taskloom.journal.weights import newest_weights, without_weights
from taskloom.wire.messages import ConsoleBytes, JournalBatch, JournalMarks, ScalarColumns
from taskloom.wire.operations import GET_TASK, JOURNAL_MARKS, SHIP_JOURNAL
from taskloom.wire.records import Edited, Ended, ModelStored, Opened, Record

EVENT_BYTES = 1 << 20
EVENT_COUNT = 5_000
ROW_COUNT = 50_000
CONSOLE_BYTES = 1 << 20
LOOK = 0.2  # seconds between two rounds while uploads go on
KEPT_FOR = 10.0  # seconds: a spooled file this young may be the one that a record is just being written about


@dataclass(frozen=True)
class Step:
    """What one round did. `stop`: the server wants the script to end. `waiting`: something is still unsent."""

    sent: int = 0  # bytes, about
    stop: bool = False
    waiting: bool = False


@dataclass
class _Cut:
    """How much one batch may take; halved when the server finds it too large or cannot read it."""

    events: int = EVENT_COUNT
    rows: int = ROW_COUNT
    console: int = CONSOLE_BYTES

    def halve(self) -> bool:
        if (self.events, self.rows, self.console) == (1, 0, 0):
            return False
        small = self.events <= 1 and self.rows <= 1 and self.console <= 1
        self.rows, self.console = (0, 0) if small else (self.rows // 2, self.console // 2)
        self.events = max(self.events // 2, 1)
        return True


class Shipping:
    """One task's folder on its way to one server. Hold `ship.lock` (or be the only one) while using it.

    `note` takes a line for the log when something could not be sent and was given up. `uploads`: those of an earlier
    `Shipping` of the same folder, which go on.
    """

    def __init__(
        self,
        folder: Path,
        post: Post,
        note: Callable[[str], None] = lambda _: None,
        progress: Callable[[int], None] = lambda _: None,
        uploads: Uploads | None = None,
    ) -> None:
        self.folder = folder
        self.uploads = uploads or Uploads(folder, post.address, note, progress)
        self.uploads.address = post.address
        self.post = post
        self._note = note
        self._progress = progress
        self._readers: dict[Path, Reader] = {}
        self._sent = 0
        self._stop = False
        self._asked: set[Path] = set()
        self._held: set[Path] = set()  # writers whose next record waits for bytes
        self._brought_again: set[Need] = set()
        self._spent: set[Need] = set()  # bytes whose records are with the server
        self._masks = read_masks(folder)

    # --- what there is ------------------------------------------------------------------------------------

    def readers(self) -> list[Reader]:
        """The writers of the task, main ones first. Looked up anew: children come at any time."""
        folders = layout.writer_folders(self.folder)
        self._readers = {path: self._readers.get(path) or Reader(path) for path in folders}
        return list(self._readers.values())

    def waiting(self) -> bool:
        return any(not acknowledged(reader) for reader in self.readers())

    def without_end(self) -> bool:
        """Whether a script is not over for the server: it lives, or died and `finish_dead` has its end to write."""
        return any(_lacks_end(reader) for reader in self.readers())

    def finish_dead(self) -> None:
        """Write the end of a main writer whose process died without a word; not under a lease (its holder does)."""
        for reader in self.readers():
            if not _lacks_end(reader):
                continue
            lock = layout.try_lock(reader.folder / layout.LOCK_FILE)
            if lock is None:
                continue  # alive
            try:
                if not reader.ended():  # it may have ended between the two looks
                    append_end(reader)
            finally:
                os.close(lock)

    # --- sending ------------------------------------------------------------------------------------------

    def step(self, *, beside: bool = False) -> Step:
        """Send everything that is there now, but what waits for another writer.

        beside: do not wait for uploads; what they hold up goes with a later step. Raises ServerAway, Unavailable,
        StorageFull, ServerFault (try again later), Unauthorized and Forbidden (the key does not fit). Everything
        else is settled here and noted.
        """
        self._sent, self._stop = 0, False
        step = self._round()
        while not beside and self._held:
            busy = self.uploads.busy()
            self.uploads.wait(LOOK)
            step = self._round()
            if not busy and not self.uploads.busy():
                break  # what is held up now failed, and it is not yet time to try again
        fault = self.uploads.fault()
        if not beside and self._held and fault is not None:
            raise fault
        return step

    def _round(self) -> Step:
        readers = self.readers()
        mains = [reader for reader in readers if reader.meta.role == "main"]
        self._held.clear()
        for reader in mains[:-1]:
            self._ship(reader, with_end=True)  # an earlier run, which the last one continues
        if mains and mains[-1].first_mode() == "reset":
            self._ship_before(readers, mains)
            if self._held:
                return Step(self._sent, self._stop, waiting=True)
        self._stop = False  # what was said to an earlier run is not meant for this one
        for reader in mains[-1:]:
            self._ship(reader, with_end=False)
        for reader in readers:
            if reader.meta.role != "main":
                self._ship(reader, with_end=True)
        for reader in mains[-1:]:
            self._ship(reader, with_end=not self._held)
        self._forget_files()
        waiting = any(not acknowledged(reader) for reader in readers)
        return Step(self._sent, self._stop, waiting)

    def _ship_before(self, readers: list[Reader], mains: list[Reader]) -> None:
        """The files of earlier runs, before the run that drops them begins: after it they would seem to be its own."""
        earlier = {reader.meta.writer for reader in mains[:-1]}
        for reader in readers:
            if reader.meta.beside in earlier:
                self._ship(reader, with_end=True)

    def stop_wanted(self) -> bool:
        """Ask whether the script should end, for a time in which there is nothing to send and so no answer."""
        readers = [reader for reader in self.readers() if reader.meta.role == "main" and not reader.meta.lease]
        if not readers or layout.read_marks(readers[-1].folder).events == 0:
            return False
        try:
            return self.post.call(JOURNAL_MARKS, task=self._task(readers[-1]), writer=readers[-1].meta.writer).stop
        except (Discarded, NotFound):
            return False

    def clean(self) -> bool:
        """Remove the folders of dead writers that are acknowledged; True when the task's folder is gone."""
        held = (self.folder / layout.HELD_FILE).exists()
        for reader in self.readers():
            if layout.read_marks(reader.folder).refused or not acknowledged(reader) or reader.alive():
                continue
            if held and reader.meta.role == "main" and reader.meta.lease:
                continue
            # Once more: it may have written, or died without a word, between the first look and the last.
            if acknowledged(reader) and not _lacks_end(reader):
                shutil.rmtree(reader.folder, ignore_errors=True)
        if self.readers():
            return False
        for entry in self.folder.glob("*.tmp"):
            entry.unlink(missing_ok=True)
        shutil.rmtree(self.folder / layout.FILES_FOLDER, ignore_errors=True)
        for name in (
            layout.SHIP_LOG_FILE,
            layout.ELSEWHERE_FILE,
            layout.FALLBACKS_FILE,
            layout.UPLOADING_FILE,
            layout.MASKS_FILE,
            layout.HELD_FILE,
            layout.SHIP_LOCK_FILE,
        ):
            (self.folder / name).unlink(missing_ok=True)
        try:
            self.folder.rmdir()  # refuses when a new writer came meanwhile
        except OSError:
            return not self.folder.exists()
        return True

    def _ship(self, reader: Reader, *, with_end: bool) -> None:
        cut = _Cut()
        while True:
            marks = layout.read_marks(reader.folder)
            if marks.refused or not reader.folder.exists():
                return
            batch = self._cut_batch(reader, marks, cut, with_end=with_end)
            if batch is None:
                return
            try:
                if self._was_deleted(reader, batch):
                    raise IllegalMove(f"task {reader.meta.task} was deleted")
                answer = self.post.call(SHIP_JOURNAL, batch, task=self._task(reader))
            except (Discarded, LeaseLost, NotFound, TooLarge, BadInput, Conflict, DigestMismatch) as error:
                if not self._settle(reader, marks, batch, cut, error):
                    return
                continue
            self._acknowledge(reader, marks, batch, answer)
            if _behind(answer, marks) or not _moved(answer, marks):
                return  # the server did not take it and did not say why: the next round asks again

    def _cut_batch(self, reader: Reader, marks: Marks, cut: _Cut, *, with_end: bool) -> JournalBatch | None:
        # Rows are counted before records are looked at: a series is named before its first row, so records
        # read later name every row counted earlier.
        columns = reader.columns(marks.rows, cut.rows) if cut.rows else None
        events = newest_weights(reader.records(marks.events, EVENT_BYTES)[: cut.events])
        whole = marks.events + len(events) == reader.record_count()
        held = False
        if not with_end:
            ends = next((n for n, record in enumerate(events) if isinstance(record, Ended)), None)
            if ends is not None:
                events, held = events[:ends], True
        arrived = self._arrived(events)
        if len(arrived) < len(events):
            self._held.add(reader.folder)
        if self._masks is not None:
            arrived = [self._masks.record(record) for record in arrived]
        if not (whole or held) or len(arrived) < len(events):
            columns = None
        console = self._console(reader, marks, cut.console) if cut.console else []
        if not (arrived or columns or console):
            return None
        return JournalBatch(
            writer=reader.meta.writer,
            lease=reader.meta.lease,
            iteration_offset=reader.meta.iteration_offset,
            events_start=marks.events,
            events=arrived,
            scalars=columns,
            console=console,
        )

    def _console(self, reader: Reader, marks: Marks, limit: int) -> list[ConsoleBytes]:
        found: list[ConsoleBytes] = []
        for stream in layout.STREAMS:
            start = marks.console.get(stream, 0)
            data = self._read(reader, stream, start, limit)
            if data:
                found.append(ConsoleBytes(stream=stream, start=start, data=data, time=time.time()))
        return found

    def _read(self, reader: Reader, stream: layout.Stream, start: int, limit: int) -> bytes:
        """Console bytes as they may leave the machine."""
        masks = self._masks
        if masks is None:
            return reader.console(stream, start, limit)
        final = not reader.alive() and is_final(reader.folder / stream)
        return masks.cut(partial(reader.console, stream), start, limit, final=final)

    def _acknowledge(self, reader: Reader, marks: Marks, batch: JournalBatch, answer: JournalMarks) -> None:
        fresh = Marks(events=answer.events, rows=answer.rows, console={**marks.console, **answer.console})
        layout.write_whole(reader.folder / layout.MARKS_FILE, fresh)
        sent = _batch_size(batch)
        self._sent += sent
        self._progress(sent)
        self._stop = self._stop or answer.stop
        for record in batch.events[: max(answer.events - batch.events_start, 0)]:
            need = need_of(record)
            if need is not None:
                self._spent.add(need)

    # --- bytes --------------------------------------------------------------------------------------------

    def _arrived(self, events: list[Record]) -> list[Record]:
        """The records before the first whose bytes are still on their way, as they are to be sent.

        The bytes first: the server refuses a record that names bytes it does not hold.
        """
        needs = [need_of(record) for record in events]
        newest = {
            need.uri or need.digest: need for need in needs if need is not None
        }  # what replaces others there
        self.uploads.want(newest.values())
        ready = 0
        while ready < len(events) and (
            (need := needs[ready]) is None or self.uploads.settled(newest[need.uri or need.digest])
        ):
            ready += 1
        return [self.uploads.settle(record) for record in events[:ready]]

    def _bring_again(self, batch: JournalBatch) -> bool:
        """Whether bytes that the server lost (it was restored from a backup) are still here; asked once for each."""
        lost = {need for need in map(need_of, batch.events) if need is not None} - self._brought_again
        lost = {need for need in lost if self.uploads.path(need).exists()}
        self._brought_again |= lost
        for need in lost:
            self.uploads.forget(need)
        return bool(lost)

    def _forget_files(self) -> None:
        """Remove spooled bytes whose records are with the server, but what another record still needs."""
        if not self._spent:
            return
        wanted = {
            need.digest
            for reader in self.readers()
            for need in map(need_of, reader.records(layout.read_marks(reader.folder).events))
            if need is not None
        }
        now = time.time()
        for need in list(self._spent):
            path = self.uploads.path(need)
            try:
                # It may just have been spooled again, for another address; what the server has it keeps for a day.
                young = bool(need.uri) and now - path.stat().st_ctime < KEPT_FOR
            except OSError:
                young = False
            if need.digest not in wanted and not young:
                path.unlink(missing_ok=True)
                self._spent.discard(need)
                self.uploads.forget(need)

    # --- a task that was to be run over ------------------------------------------------------------------

    def _task(self, reader: Reader) -> str:
        elsewhere = layout.read_elsewhere(self.folder)
        return elsewhere.task if elsewhere is not None else reader.meta.task

    def _was_deleted(self, reader: Reader, batch: JournalBatch) -> bool:
        """Whether the task to run over is gone. The server would swallow what comes for a deleted task, which
        is right for the rest of an old run and wrong for a new one; so it is asked before the first batch.
        """
        if reader.folder in self._asked or not _runs_over(batch) or layout.read_elsewhere(self.folder) is not None:
            return False
        existed = False
        try:
            if self.post.call(JOURNAL_MARKS, task=reader.meta.task, writer=reader.meta.writer).stop:
                existed = True  # aborted, or deleted
                self.post.call(GET_TASK, task=reader.meta.task)
        except NotFound:
            self._asked.add(reader.folder)
            return existed
        except Discarded:
            pass
        self._asked.add(reader.folder)
        return False

    def _go_elsewhere(self, reader: Reader, batch: JournalBatch, text: str) -> bool:
        """Somebody published, queued or deleted the task that this run took for its own: it gets a new one."""
        if not _runs_over(batch) or reader.meta.lease or layout.read_elsewhere(self.folder) is not None:
            return False
        made = layout.Elsewhere(uuid.uuid4().hex, text)
        layout.write_whole(self.folder / layout.ELSEWHERE_FILE, made)
        self._note(f"task {reader.meta.task} cannot be run over ({text}); this run is task {made.task}")
        return True

    # --- refusals -----------------------------------------------------------------------------------------

    def _settle(self, reader: Reader, marks: Marks, batch: JournalBatch, cut: _Cut, error: Exception) -> bool:
        """What a refusal means for this writer; True when the next cut may be tried at once."""
        text = str(error)
        if isinstance(error, Discarded | LeaseLost | IllegalMove) and self._go_elsewhere(reader, batch, text):
            return True
        match error:
            case Discarded():
                self._refuse(reader, marks, f"discarded: {text}")
                if not reader.alive():
                    shutil.rmtree(reader.folder, ignore_errors=True)
                return False
            case NotFound():
                return self._unknown_task(reader, marks, text)
            case LeaseLost() | IllegalMove():
                self._refuse(reader, marks, text)
                return False
            case BlobMissing() if self._bring_again(batch):
                return True
            case BlobMissing() | DigestMismatch() | TooLarge() | BadInput():
                return cut.halve() or self._step_over(reader, marks, batch, error)
            case _:
                return self._adopt_marks(reader, marks, text)

    def _unknown_task(self, reader: Reader, marks: Marks, text: str) -> bool:
        """A child's task appears when the main writer's `Opened` is applied. A main one's went missing: when it
        begins with `Opened` this is another server, which gets everything from the start.
        """
        if reader.meta.role != "main" or not reader.opened():
            if not any(other.meta.role == "main" for other in self.readers()):
                self._note(f"task {reader.meta.task} is not known to the server (yet): {text}")
            return False
        if marks == Marks():
            self._refuse(reader, marks, text)
            return False
        layout.write_whole(reader.folder / layout.MARKS_FILE, Marks())
        return True

    def _adopt_marks(self, reader: Reader, marks: Marks, text: str) -> bool:
        """A gap: the server has less (it was restored from a backup) or more than we think; it says how far."""
        try:
            answer = self.post.call(JOURNAL_MARKS, task=self._task(reader), writer=reader.meta.writer)
        except NotFound as error:
            return self._unknown_task(reader, marks, error.message)
        except Discarded as error:
            self._refuse(reader, marks, f"discarded: {error.message}")
            return False
        fresh = Marks(events=answer.events, rows=answer.rows, console=answer.console)
        if fresh == Marks(events=marks.events, rows=marks.rows, console=marks.console):
            self._refuse(reader, marks, text)
            return False
        layout.write_whole(reader.folder / layout.MARKS_FILE, fresh)
        return True

    def _step_over(self, reader: Reader, marks: Marks, batch: JournalBatch, error: Exception) -> bool:
        """One record that can never be taken must not hold up all that follow: an empty edit goes in its place."""
        text = str(error)
        if not batch.events:
            self._refuse(reader, marks, text)
            return False
        record = batch.events[0]
        if isinstance(record, Opened):
            self._refuse(reader, marks, text)
            return False
        if isinstance(error, BlobMissing | DigestMismatch) and isinstance(record, ModelStored):
            bare = without_weights(record)
            if bare != record:  # the rest of it is told all the same; a later record names the weights
                self._note(f"the weights that record {batch.events_start} names are not here: {text}")
                return self._in_its_place(reader, marks, batch, bare)
        self._note(f"record {batch.events_start} ({type(record).__name__}) was refused and is left out: {text}")
        return self._in_its_place(reader, marks, batch, Edited(edit=TaskEdit(), time=time.time()))

    def _in_its_place(self, reader: Reader, marks: Marks, batch: JournalBatch, record: Record) -> bool:
        alone = msgspec.structs.replace(batch, events=[record], scalars=None, console=[])
        try:
            answer = self.post.call(SHIP_JOURNAL, alone, task=self._task(reader))
        except (BadInput, TooLarge) as error:
            return not isinstance(record, Edited) and self._step_over(reader, marks, alone, error)
        self._acknowledge(reader, marks, alone, answer)
        return answer.events > marks.events

    def _refuse(self, reader: Reader, marks: Marks, text: str) -> None:
        self._note(f"writer {reader.meta.writer} of task {reader.meta.task} is kept aside: {text}")
        layout.write_whole(
            reader.folder / layout.MARKS_FILE, msgspec.structs.replace(marks, refused=text or "refused")
        )


def _lacks_end(reader: Reader) -> bool:
    """A main writer without its last word; under a lease the holder ends the task."""
    meta = reader.meta
    return meta.role == "main" and not meta.lease and reader.record_count() > 0 and not reader.ended()


def append_end(reader: Reader) -> None:
    """The last word for a process that had none. The caller holds the writer's lock."""
    record = Ended(status="failed", time=time.time(), reason="the process ended without a word (killed?)")
    data = msgspec.msgpack.encode(record)
    path = reader.folder / layout.EVENTS_FILE
    with path.open("r+b") as file:
        file.truncate(reader.records_end())  # half a record of the killed process
        file.seek(0, 2)
        file.write(layout.LENGTH.pack(len(data)) + data)


def acknowledged(reader: Reader) -> bool:
    """Whether the server has everything that is in the writer's folder (or never will)."""
    marks = layout.read_marks(reader.folder)
    if marks.refused:
        return True
    return (
        marks.rows >= reader.row_count()
        and marks.events >= reader.record_count()
        and all(marks.console.get(s, 0) >= reader.console_size(s) for s in layout.STREAMS)
    )


def unsent_bytes(reader: Reader) -> int:
    """About how many bytes of the writer's streams the server does not have yet."""
    marks = layout.read_marks(reader.folder)
    rows = max(reader.row_count() - marks.rows, 0) * layout.ROW_BYTES
    events = file_size(reader.folder / layout.EVENTS_FILE) if marks.events < reader.record_count() else 0
    console = sum(max(reader.console_size(s) - marks.console.get(s, 0), 0) for s in layout.STREAMS)
    return rows + events + console


def _runs_over(batch: JournalBatch) -> bool:
    """Whether it begins a run in a task that an earlier run had made."""
    first = batch.events[0] if batch.events and batch.events_start == 0 else None
    return isinstance(first, Opened) and first.mode != "new"


def _batch_size(batch: JournalBatch) -> int:
    rows = _row_bytes(batch.scalars) if batch.scalars else 0
    return rows + sum(len(piece.data) for piece in batch.console) + 200 * len(batch.events)


def _row_bytes(columns: ScalarColumns) -> int:
    return len(columns.series) + len(columns.iteration) + len(columns.value) + len(columns.time)


def _moved(answer: JournalMarks, marks: Marks) -> bool:
    return (answer.events, answer.rows, answer.console) != (marks.events, marks.rows, marks.console)


def _behind(answer: JournalMarks, marks: Marks) -> bool:
    return answer.events < marks.events or answer.rows < marks.rows

"""The companion process of a running script: `python -m taskloom.journal.shipper TASK_FOLDER`.

A process and not a thread, so that it takes no time from the script and survives its death: it then writes
the script's end in its place and finishes the delivery. It wakes every second, or at once when a byte comes
on its standard input. Files are uploaded beside, see `uploads`. What earlier runs left behind it sends, too, when its
own script has nothing to send. While a writer lives it tries for ever; afterwards for a bounded time without any
progress, then it leaves the journal to the next shipper. It hears a stop from the server and passes it on as SIGTERM.
`ship_all` and `pending` are the same for a person who asks.
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taskloom.domain.errors import (
    Forbidden,
    ServerAway,
    ServerFault,
    StorageFull,
    TaskloomError,
    Unauthorized,
    Unavailable,
)
from taskloom.journal import layout
from taskloom.journal.post import Post, file_size
from taskloom.journal.reader import Reader
from taskloom.journal.shipping import Shipping, unsent_bytes
from taskloom.journal.uploads import Uploads
from taskloom.wire.client import Address
from taskloom.wire.connection import find_address

WAKE = 1.0
LOOK = 0.1  # seconds between two looks while something is uploaded
LISTEN = 2.0  # seconds between two questions whether to stop, while there is nothing to send
FIRST_BACKOFF, LAST_BACKOFF = 1.0, 30.0
KEY_BACKOFF = 30.0
AFTER_LIFE = 600.0  # seconds that a companion goes on trying after the last writer is gone
LOG_BYTES = 1 << 20

_LATER = (ServerAway, Unavailable, StorageFull, ServerFault)
_KEY = (Unauthorized, Forbidden)


@dataclass(frozen=True)
class PendingJournal:
    """One task's journal that waits on this machine. `bytes`, `records`, `rows` are what the server lacks."""

    task: str
    name: str
    project: str
    folder: Path
    bytes: int
    records: int
    rows: int
    alive: bool
    offline: bool
    refused: str
    created: float


@dataclass(frozen=True)
class Result:
    """What became of one journal. `busy`: another shipper has it; `kept`: refused by the server, kept aside."""

    task: str
    name: str
    outcome: Literal["shipped", "shipping", "waiting", "kept", "busy", "offline"]
    message: str = ""
    bytes: int = 0


def pending(journal_root: Path) -> list[PendingJournal]:
    """Every journal on this machine, oldest first; those of living scripts, too."""
    found: list[PendingJournal] = []
    for folder in layout.task_folders(journal_root):
        readers = [Reader(path) for path in layout.writer_folders(folder)]
        if readers:
            found.append(_describe(folder, readers))
    return found


def _describe(folder: Path, readers: list[Reader]) -> PendingJournal:
    first = readers[0].meta
    marks = [layout.read_marks(reader.folder) for reader in readers]
    files = sum(file_size(path) for path in (folder / layout.FILES_FOLDER).glob("*"))
    return PendingJournal(
        task=first.task,
        name=first.name,
        project=first.project,
        folder=folder,
        bytes=files + sum(unsent_bytes(reader) for reader in readers),
        records=sum(max(r.record_count() - m.events, 0) for r, m in zip(readers, marks, strict=True)),
        rows=sum(max(r.row_count() - m.rows, 0) for r, m in zip(readers, marks, strict=True)),
        alive=any(reader.alive() for reader in readers),
        offline=any(reader.meta.offline for reader in readers),
        refused=next((m.refused for m in marks if m.refused), ""),
        created=first.created,
    )


def ship_all(
    journal_root: Path, address: Address, progress: Callable[[PendingJournal, int], None] | None = None
) -> list[Result]:
    """Send every journal that waits here; `progress` is told of bytes sent since it was last told.

    Offline sessions stay (they are imported), and so does what another shipper is sending. Raises
    ServerAway, Unauthorized and the like as soon as the server cannot be used at all.
    """
    post = Post(address)
    try:
        return [_ship_one(journal, post, progress) for journal in pending(journal_root)]
    finally:
        post.close()


def _ship_one(
    journal: PendingJournal, post: Post, progress: Callable[[PendingJournal, int], None] | None
) -> Result:
    if journal.offline:
        return Result(journal.task, journal.name, "offline", "an offline session: import it to ship it")
    sent = 0

    def told(count: int) -> None:
        nonlocal sent
        sent += count
        if progress is not None:
            progress(journal, count)

    taken = _take(journal, post, told)
    if taken is None:
        return Result(journal.task, journal.name, "busy", "another process is shipping it")
    try:
        step = taken.shipping.step()
        if taken.shipping.clean():
            return Result(journal.task, journal.name, "shipped", "", sent)
        refused = _refused(journal.folder)
        if refused:
            return Result(journal.task, journal.name, "kept", refused, sent)
        if step.waiting:
            return Result(journal.task, journal.name, "waiting", taken.log.last, sent)
        return Result(journal.task, journal.name, "shipping", "its script is still running", sent)
    finally:
        os.close(taken.lock)


@dataclass(frozen=True)
class _Taken:
    """Another journal in our hands."""

    shipping: Shipping
    log: Log
    lock: int


def _take(journal: PendingJournal, post: Post, progress: Callable[[int], None]) -> _Taken | None:
    """None when another shipper has it."""
    lock = layout.try_lock(journal.folder / layout.SHIP_LOCK_FILE)
    if lock is None:
        return None
    log = Log(journal.folder)
    shipping = Shipping(journal.folder, post, log, progress)
    shipping.finish_dead()
    return _Taken(shipping, log, lock)


def _refused(folder: Path) -> str:
    marks = [layout.read_marks(path) for path in layout.writer_folders(folder)]
    return next((m.refused for m in marks if m.refused), "")


class Log:
    """`shipper.log` of the task's folder: what a person should be able to read later, bounded."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / layout.SHIP_LOG_FILE
        self.last = ""

    def __call__(self, text: str) -> None:
        if text == self.last:
            return
        self.last = text
        try:
            if file_size(self._path) < LOG_BYTES:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
        except OSError:
            pass  # the folder is gone or the disk is full: there is nowhere left to say it


class Companion:
    """One shipper process's life. `environ` and `wait` are passed in; `run` returns the exit status."""

    def __init__(self, folder: Path, find: Callable[[], Address | None], wait: Callable[[float], None]) -> None:
        self.folder = folder
        self._find = find
        self._wait = wait
        self._log = Log(folder)
        self._shipping: Shipping | None = None
        self._backoff = FIRST_BACKOFF
        self._stopped: set[str] = set()
        self._listen_at = 0.0
        self._left_behind: list[PendingJournal] | None = None
        self._taken: _Taken | None = None  # the one of them that is being sent
        self._uploads: Uploads | None = None

    def run(self) -> int:
        lock = self._lock()
        if lock is None:
            return 0
        try:
            self._deliver()
        finally:
            os.close(lock)
        try:
            while self._shipping is not None and self._help(self._shipping):
                if self._taken is not None:
                    self._wait(LOOK)
        except Exception as error:  # the shipper's own boundary: what is left waits for the next one
            self._log(f"journals of earlier runs: {type(error).__name__}: {error}")
        return 0

    def _lock(self) -> int | None:
        """Wait for an older shipper of the same task to go; None when there is nothing left to do."""
        while layout.writer_folders(self.folder):
            lock = layout.try_lock(self.folder / layout.SHIP_LOCK_FILE)
            if lock is not None:
                return lock
            self._wait(WAKE)
        return None

    def _deliver(self) -> None:
        alone_since: float | None = None
        moved = 0
        while True:
            pause, done = self._round()
            if done:
                return
            going = self._uploads is not None and self._uploads.moved != moved
            moved = self._uploads.moved if self._uploads is not None else 0
            if going or self._anyone_alive():
                alone_since = None
            else:
                alone_since = time.monotonic() if alone_since is None else alone_since
                if self._shipping is None or time.monotonic() - alone_since > AFTER_LIFE:
                    return
            self._wait(pause)

    def _round(self) -> tuple[float, bool]:
        """One try: how long to pause after it, and whether everything is delivered."""
        try:
            shipping = self._shipping or self._start()
            if shipping is None:
                Shipping(self.folder, Post(Address("")), self._log).finish_dead()
                return WAKE, False
            self._shipping = shipping
            shipping.finish_dead()
            step = shipping.step(beside=True)
            if step.stop or (not step.sent and self._time_to_listen() and shipping.stop_wanted()):
                self._pass_on_stop()
            self._backoff = FIRST_BACKOFF
            if not step.sent and not step.waiting:
                self._help(shipping)
            # In this order: once nobody lives, nothing more is written, and a fresh look sees all there is. What
            # the step saw is too old: a child may have come, written and died since.
            gone = shipping.clean()
            busy = self._taken is not None or shipping.uploads.busy()
            return LOOK if busy else WAKE, gone or not (
                self._anyone_alive() or shipping.waiting() or shipping.without_end()
            )
        except _LATER as error:
            self._log(str(error))
            return self._later(error), False
        except _KEY as error:
            self._log(f"the server does not accept the key: {error}")
            self._forget()
            return KEY_BACKOFF, False
        except TaskloomError as error:
            self._log(f"{type(error).__name__}: {error}")
            return self._later(error), False
        except Exception as error:  # the shipper's loop outlives its own faults; the journal is still there
            self._log(f"fault in the shipper: {type(error).__name__}: {error}")
            return self._later(error), False

    def _help(self, shipping: Shipping) -> bool:
        """Send what earlier runs left behind, one after the other and a step a call, when our own journal has nothing
        to send; False: none left.
        """
        if self._left_behind is None:
            self._left_behind = [
                journal
                for journal in pending(self.folder.parent)
                if journal.folder != self.folder and not (journal.alive or journal.offline or journal.refused)
            ]
        if self._taken is None and self._left_behind:
            self._taken = _take(self._left_behind.pop(0), shipping.post, lambda _: None)
            if self._taken is None:
                return True
        if self._taken is None:
            return False
        done = True
        try:
            done = not (self._taken.shipping.step(beside=True).waiting and self._taken.shipping.uploads.busy())
            if done:
                self._taken.shipping.clean()
        finally:
            if done:
                os.close(self._taken.lock)
                self._taken = None
        return True

    def _time_to_listen(self) -> bool:
        """A stop should be heard soon, but not by asking at every poke."""
        if time.monotonic() < self._listen_at:
            return False
        self._listen_at = time.monotonic() + LISTEN
        return True

    def _start(self) -> Shipping | None:
        address = self._find()
        if address is None:
            return None
        started = Shipping(self.folder, Post(address), self._log, uploads=self._uploads)
        self._uploads = started.uploads
        return started

    def _forget(self) -> None:
        """Look the address up anew: the server may come back on another port."""
        if self._shipping is not None:
            self._shipping.post.close()
            self._shipping = self._start() or self._shipping

    def _later(self, error: Exception) -> float:
        self._forget()
        asked = error.details.get("retry_after", "") if isinstance(error, TaskloomError) else ""
        pause = max(self._backoff, _seconds(asked))
        self._backoff = min(self._backoff * 2, LAST_BACKOFF)
        return min(pause, LAST_BACKOFF) * random.uniform(0.8, 1.0)  # noqa: S311 - spreads the retries, no secret

    def _anyone_alive(self) -> bool:
        return any(Reader(path).alive() for path in layout.writer_folders(self.folder))

    def _pass_on_stop(self) -> None:
        """Once for each main writer that lives on this machine and runs without a lease."""
        for path in layout.writer_folders(self.folder):
            reader = Reader(path)
            meta = reader.meta
            here = meta.host == socket.gethostname()
            if meta.role != "main" or meta.lease or meta.writer in self._stopped or not here:
                continue
            if reader.alive() and not reader.ended():
                self._stopped.add(meta.writer)
                self._log(f"the server asked to stop: SIGTERM to process {meta.pid}")
                try:
                    os.kill(meta.pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def wait_for_poke(seconds: float) -> None:
    """Sleep; a byte on standard input ends it at once. A closed input (the script is gone) ends it once."""
    global _input_open
    if not _input_open:
        time.sleep(seconds)
        return
    ready, _, _ = select.select([0], [], [], seconds)
    if ready and not os.read(0, 4096):
        _input_open = False


_input_open = True


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 1:
        sys.stderr.write("usage: python -m taskloom.journal.shipper TASK_FOLDER\n")
        return 2
    # Ctrl-C and hang-up are for the script; this process has its own session and its own end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return Companion(Path(words[0]), find_address, wait_for_poke).run()


if __name__ == "__main__":
    sys.exit(main())

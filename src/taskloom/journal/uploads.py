"""Bytes on their way, beside the records: nothing waits for a large file but the record that names it.

A few threads bring spooled files to the Taskloom server or to a storage destination. A destination that refuses, or
that does not answer for `patience` seconds, is given up: the bytes go to the Taskloom server, the record is changed to
say so (`settle`), and `fallbacks.json` remembers it for the records that follow and for the script, which tells it.
What may work later is tried again with growing pauses. When to give up for good is the caller's business.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from taskloom.domain.destination import CLOUDS, Place, parse_place
from taskloom.domain.errors import (
    BadInput,
    DigestMismatch,
    Forbidden,
    NotFound,
    ServerAway,
    StorageFull,
    TaskloomError,
    TooLarge,
    Unavailable,
)
from taskloom.journal import layout
from taskloom.journal.layout import Fallback, Uploading
from taskloom.journal.post import Post, file_size
from taskloom.wire.client import Address
from taskloom.wire.records import ArtifactStored, ModelStored, Record, Sampled

if TYPE_CHECKING:
    from taskloom.journal.storage import Storage

THREADS = 4
FIRST_PAUSE, LAST_PAUSE = 1.0, 30.0
REFUSED_FOR = 300.0  # seconds that a destination which refused is not asked again
TOLD_EVERY = 0.2
TIMEOUT = 120.0  # the server writes a large file through before it answers


class Need(msgspec.Struct, frozen=True):
    """Bytes that have to be somewhere before a record that names them is sent; `uri` '': at the Taskloom server."""

    digest: str
    uri: str = ""
    media_type: str = ""


def need_of(record: Record) -> Need | None:
    match record:
        case ArtifactStored(artifact=named) | Sampled(sample=named):
            media_type = named.media_type.partition(";")[0]
        case ModelStored(model=named):
            media_type = ""
        case _:
            return None
    if named.digest:
        return Need(named.digest)
    scheme = named.uri.partition("://")[0].lower()
    if named.fingerprint and (scheme in CLOUDS or scheme == "file"):
        return Need(named.fingerprint, named.uri, media_type)
    return None


@dataclass
class _State:
    """How far one need is. `since`: when it failed first."""

    running: bool = True
    done: bool = False
    sent: int = 0
    size: int = 0
    failures: int = 0
    since: float = 0.0
    retry_at: float = 0.0
    error: TaskloomError | None = None


class Uploads:
    """Uploads of one task's spool. `address` may change while it works; `note` takes a line for the log."""

    def __init__(
        self,
        folder: Path,
        address: Address,
        note: Callable[[str], None],
        progress: Callable[[int], None] = lambda _: None,
        patience: float = 600.0,
    ) -> None:
        self.folder = folder
        self.address = address
        self.moved = 0  # bytes, ever; a caller sees by it that something goes on
        self._note, self._progress, self._patience = note, progress, patience
        self._changed = threading.Condition()
        self._states: dict[Need, _State] = {}
        self._queue: deque[Need] = deque()
        self._writing: set[str] = set()  # addresses: two uploads to the same one go one after the other
        self._threads = 0
        self._fallbacks = layout.read_fallbacks(folder)
        self._refused: dict[str, tuple[str, float]] = {}
        self._storages: dict[str, Storage] = {}
        self._started = self._told_at = 0.0

    # --- the shipper's side -------------------------------------------------------------------------------

    def want(self, needs: Iterable[Need]) -> None:
        """Begin what has to be uploaded and is not yet on its way."""
        with self._changed:
            now = time.monotonic()
            for need in needs:
                state = self._states.get(need)
                if state is not None and (state.running or state.done or now < state.retry_at):
                    continue
                if not self.path(need).exists():
                    continue
                if state is None:
                    self._replace(need)
                    state = self._states[need] = _State(size=file_size(self.path(need)))
                state.running, state.sent = True, 0
                self._queue.append(need)
            while self._threads < min(THREADS, len(self._queue)):
                self._threads += 1
                threading.Thread(target=self._work, name="taskloom-upload", daemon=True).start()

    def _replace(self, need: Need) -> None:
        """Other bytes at the same address: what was there is there no more."""
        if need.uri:
            for other in [one for one in self._states if one.uri == need.uri and self._states[one].done]:
                del self._states[other]

    def settled(self, need: Need) -> bool:
        """Whether a record that names these bytes may be sent. What is not spooled here is not ours to bring."""
        with self._changed:
            state = self._states.get(need)
            return state.done if state is not None else not self.path(need).exists()

    def settle(self, record: Record) -> Record:
        """The record as it is to be sent: changed when its bytes went to the Taskloom server instead."""
        need = need_of(record)
        if need is None or not need.uri:
            return record
        fallback = self._fallbacks.get(need.uri)
        return record if fallback is None or fallback.digest != need.digest else diverted(record, fallback)

    def busy(self) -> bool:
        with self._changed:
            return self._threads > 0

    def wait(self, timeout: float = 1.0) -> None:
        """Until nothing is on its way any more, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: not self._threads, timeout)

    def fault(self) -> TaskloomError | None:
        """Why something could not be brought yet."""
        with self._changed:
            return next((state.error for state in self._states.values() if state.error is not None), None)

    def forget(self, need: Need) -> None:
        """The record is with the server."""
        with self._changed:
            self._states.pop(need, None)

    def path(self, need: Need) -> Path:
        return self.folder / layout.FILES_FOLDER / need.digest

    # --- the threads --------------------------------------------------------------------------------------

    def _work(self) -> None:
        post = Post(self.address, timeout=TIMEOUT)
        try:
            while True:
                with self._changed:
                    need = next((one for one in self._queue if one.uri not in self._writing), None)
                    if need is None:
                        return  # whoever writes there now takes what is left
                    self._queue.remove(need)
                    state = self._states[need]
                    if need.uri:
                        self._writing.add(need.uri)
                if post.address != self.address:
                    post.close()
                    post = Post(self.address, timeout=TIMEOUT)
                self._bring(need, state, post)
        finally:
            post.close()
            with self._changed:
                self._threads -= 1
                if not self._threads:
                    self._tell_progress(over=True)
                self._changed.notify_all()

    def _bring(self, need: Need, state: _State, post: Post) -> None:
        error: TaskloomError | None = None
        try:
            self._place(need, state, post)
        except TaskloomError as failed:
            error = failed
        except FileNotFoundError:
            pass  # newer weights of the same model took its place: the record goes on without these
        except OSError as failed:  # the spooled file itself
            error = Unavailable(f"the spooled file {need.digest[:12]} cannot be read: {failed.strerror}")
        except Exception as failed:  # the shipper outlives the faults of a storage library
            error = Unavailable(f"fault while {need.digest[:12]} was uploaded: {type(failed).__name__}: {failed}")
        if error is not None:
            self._note(f"{error.message}; tried again later")
        with self._changed:
            self._writing.discard(need.uri)
            state.running, state.done, state.error = False, error is None, error
            if error is not None:
                state.failures += 1
                state.since = state.since or time.monotonic()
                state.retry_at = time.monotonic() + min(FIRST_PAUSE * 2 ** (state.failures - 1), LAST_PAUSE)
            self._changed.notify_all()

    def _place(self, need: Need, state: _State, post: Post) -> None:
        """To the destination, else to the server; raises what may work later."""
        known = self._fallbacks.get(need.uri)
        if need.uri and (known is None or known.digest != need.digest):  # other bytes at the same address
            reason = self._destined(need, state)
            if not reason:
                return
            self._fall_back(need, reason)
        try:
            post.put_file(self.path(need), need.digest, lambda count: self._count(state, count))
        except (TooLarge, BadInput, DigestMismatch) as error:
            # The server will refuse the record, too, and the shipper leaves it out.
            self._note(f"bytes {need.digest[:12]} are refused by the server: {error.message}")

    def _destined(self, need: Need, state: _State) -> str:
        """'' when the bytes are at their destination, else why they will never be."""
        root = need.uri
        try:
            place = parse_place(need.uri)
            root = place.root
            reason, until = self._refused.get(root, ("", 0.0))
            if time.monotonic() < until:
                return reason
            put_at(self._storage(place), place, self.path(need), need, lambda count: self._count(state, count))
        except (Forbidden, NotFound, BadInput) as error:
            reason = error.message
        except (Unavailable, StorageFull) as error:
            if not state.since or time.monotonic() - state.since < self._patience:
                raise
            reason = error.message
        else:
            return ""
        if not root.startswith("file:"):  # one folder says nothing about another
            self._refused[root] = (reason, time.monotonic() + REFUSED_FOR)
        return reason

    def _storage(self, place: Place) -> Storage:
        from taskloom.journal.storage import open_storage

        with self._changed:
            if place.root not in self._storages:
                self._storages[place.root] = open_storage(place)
            return self._storages[place.root]

    def _fall_back(self, need: Need, reason: str) -> None:
        with self._changed:
            self._fallbacks[need.uri] = Fallback(need.digest, reason)
            layout.write_whole(self.folder / layout.FALLBACKS_FILE, layout.Fallbacks(self._fallbacks))
        self._note(f"{need.uri} is kept on the Taskloom server instead: {reason}")

    # --- progress -----------------------------------------------------------------------------------------

    def _count(self, state: _State, count: int) -> None:
        with self._changed:
            state.sent += count
            self.moved += count
            self._progress(count)
            self._tell_progress()

    def _tell_progress(self, *, over: bool = False) -> None:
        """For a script that waits; nothing is written for what is over in a moment. The caller holds the lock."""
        path = self.folder / layout.UPLOADING_FILE
        now = time.monotonic()
        if over:
            self._started = 0.0
            path.unlink(missing_ok=True)
            return
        self._started = self._started or now
        if now - max(self._told_at, self._started) < TOLD_EVERY:
            return
        self._told_at = now
        current = [state for state in self._states.values() if state.running or state.done]
        value = Uploading(
            files=sum(state.running for state in current),
            bytes=sum(state.size for state in current),
            sent=sum(min(state.sent, state.size) if state.running else state.size for state in current),
        )
        try:
            layout.write_whole(path, value)
        except OSError:
            pass  # only a bar is missing


def put_at(
    storage: Storage, place: Place, path: Path, need: Need, count: Callable[[int], None] = lambda _: None
) -> None:
    """Bytes that are there already are not sent again."""
    if not storage.holds(place.key, file_size(path), need.digest):
        storage.put(place.key, path, need.digest, need.media_type, count)


def bring_now(record: Record, spool: Path, address: Address) -> Record:
    """The bytes of one record brought while the caller waits; the record as it is to be sent then.

    Raises Unavailable and the like when several tries did not help; the spooled file then stays.
    """
    need = need_of(record)
    if need is None or not (spool / need.digest).exists():
        return record
    for pause in (1.0, 2.0, 4.0, 0.0):
        try:
            brought = _bring_once(record, need, spool / need.digest, address)
        except (Unavailable, ServerAway, StorageFull):
            if not pause:
                raise
            time.sleep(pause)
        else:
            (spool / need.digest).unlink(missing_ok=True)
            return brought
    raise AssertionError("the last try returns or raises")


def _bring_once(record: Record, need: Need, path: Path, address: Address) -> Record:
    from taskloom.journal.storage import open_storage

    if need.uri:
        try:
            place = parse_place(need.uri)
            put_at(open_storage(place), place, path, need)
        except (Forbidden, NotFound, BadInput) as error:
            record = diverted(record, Fallback(need.digest, error.message))
        else:
            return record
    post = Post(address, timeout=TIMEOUT)
    try:
        post.put_file(path, need.digest)
    finally:
        post.close()
    return record


def diverted(record: Record, fallback: Fallback) -> Record:
    """The record with its bytes on the Taskloom server, and in its metadata where they were to go."""
    match record:
        case ArtifactStored(artifact=named):
            told = {**named.metadata, "wanted_uri": named.uri, "refusal": fallback.reason}
            changed = msgspec.structs.replace(named, digest=fallback.digest, uri="", fingerprint="", metadata=told)
            return msgspec.structs.replace(record, artifact=changed)
        case ModelStored(model=named):
            told = {**named.metadata, "wanted_uri": named.uri, "refusal": fallback.reason}
            model = msgspec.structs.replace(named, digest=fallback.digest, uri="", fingerprint="", metadata=told)
            fields = (*record.changed, "digest", "uri", "fingerprint", "metadata") if record.changed else ()
            return msgspec.structs.replace(record, model=model, changed=tuple(dict.fromkeys(fields)))
        case Sampled(sample=named):
            changed = msgspec.structs.replace(named, digest=fallback.digest, uri="", fingerprint="")
            return msgspec.structs.replace(record, sample=changed)
        case _:
            return record

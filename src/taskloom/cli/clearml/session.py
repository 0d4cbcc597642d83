"""Offline sessions of ClearML's client: what its `Task.set_offline` leaves in a folder or zip.

    task.json       the task's document, with the name of its project and where the session was
    metrics.jsonl   a line is a list of events; log.jsonl the same of the console
    data/           files that would have been uploaded, by the path they would have had

It comes from somewhere else and is taken as data: unpacked within limits (see sdk.archives), read line by line, and
no name in it leads out of its folder. A session has no state or times of its own: it is completed, between its
first and last event. The task's id is made from the session's, so that it comes once however often it is imported.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from taskloom.cli.clearml.translating import Document, is_id
from taskloom.domain.errors import BadInput, NotFound, TooLarge
from taskloom.server.compat.clearml import bodies, event_lines
from taskloom.wire import archives

TASK_FILE, METRICS_FILE, LOG_FILE, DATA = "task.json", "metrics.jsonl", "log.jsonl", "data"
OFFLINE_ID = "offline-"
LARGEST_TASK = 64 << 20  # bytes of task.json
LONGEST_LINE = 256 << 20  # bytes of one batch of events
PAGE = 5000  # events in one piece


class Session:
    """An unpacked session. `events`, `holds` and `fetch` as of an Origin."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._folder = folder
        found: Any = bodies.decode(_read(folder / TASK_FILE, LARGEST_TASK))
        if not isinstance(found, dict) or not isinstance(cast(Document, found).get("id"), str):
            raise BadInput(f"{name}: its {TASK_FILE} is no task of ClearML")
        self._told = cast(Document, found)
        self._own = str(self._told["id"])
        self.id = _own_id(self._own)
        self._data = str(self._told.get("offline_folder") or "").rstrip("/") + f"/{DATA}/"

    @property
    def project(self) -> str:
        return str(self._told.get("project_name") or "")

    def document(self) -> Document:
        """The task as a server would tell it."""
        first, last = self._times()
        moment = datetime.fromtimestamp
        return {
            **self._told,
            "id": self.id,
            "status": "completed",
            "status_changed": moment(last, UTC).isoformat(),
            "created": moment(first, UTC).isoformat(),
            "started": moment(first, UTC).isoformat(),
            "completed": moment(last, UTC).isoformat(),
            "last_update": moment(last, UTC).isoformat(),
        }

    def models(self) -> list[Document]:
        """Models whose weights were reported offline, as documents; their ids are made from the session's."""
        found: list[Document] = []
        for number, item in enumerate(cast("list[Any]", self._told.get("offline_output_models") or [])):
            if not isinstance(item, dict):
                continue
            about, weights = _part(cast(Document, item), "init"), _part(cast(Document, item), "weights")
            found.append(
                {
                    "id": hashlib.sha256(f"{self.id}/{number}".encode()).hexdigest()[:32],
                    "name": about.get("name") or self._told.get("name"),
                    "task": self.id,
                    "tags": about.get("tags"),
                    "comment": about.get("comment"),
                    "framework": about.get("framework"),
                    "labels": about.get("label_enumeration"),
                    "design": {"design": str(about.get("config_text") or "")},
                    "uri": weights.get("weights_filename") or weights.get("register_uri") or "",
                }
            )
        return found

    def version(self) -> str:
        """Names this content: another one for the same session is another version of the task."""
        checked = hashlib.sha256()
        for name in (TASK_FILE, METRICS_FILE, LOG_FILE):
            if (self._folder / name).is_file():
                with (self._folder / name).open("rb") as file:
                    checked.update(hashlib.file_digest(file, "sha256").digest())
        return checked.hexdigest()[:48]

    # --- results ----------------------------------------------------------------------------------------

    def events(self, task: str, kind: str) -> Iterator[bytes]:
        lines: list[bytes] = []
        for event in self._all_events(LOG_FILE if kind == event_lines.LOG else METRICS_FILE):
            if event.get("type") == kind and event.get("task") == self._own:
                lines.append(json.dumps({**event, "task": task}).encode())
                if len(lines) >= PAGE:
                    yield b"\n".join(lines)
                    lines = []
        if lines:
            yield b"\n".join(lines)

    def holds(self, uri: str) -> bool:
        return self._place(uri) is not None

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        place = self._place(uri)
        if place is None:
            raise NotFound(f"{uri[:200]} is not in the session")
        with place.open("rb") as file:
            shutil.copyfileobj(file, into, 1 << 20)

    def _place(self, uri: str) -> Path | None:
        """A regular file below `data/`, reached without any link."""
        if not uri.startswith(self._data):
            return None
        root = (self._folder / DATA).resolve()
        try:
            place = (root / uri.removeprefix(self._data)).resolve(strict=True)
            inside = place.is_relative_to(root) and stat.S_ISREG(place.stat().st_mode)
        except (OSError, ValueError, RuntimeError):
            return None
        return place if inside else None

    def _all_events(self, name: str) -> Iterator[Document]:
        path = self._folder / name
        if not path.is_file() or path.is_symlink():
            return
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                if len(line) >= LONGEST_LINE:
                    raise TooLarge(f"{self.name}: a line of {name} has more than {LONGEST_LINE} bytes")
                if not line.strip():
                    continue
                try:
                    found: Any = bodies.decode(line)
                except BadInput:
                    continue  # half a line of a client that was killed
                for event in cast("list[Any]", found) if isinstance(found, list) else []:
                    if isinstance(event, dict):
                        yield cast(Document, event)

    def _times(self) -> tuple[float, float]:
        """Of the first and the last event; when there is none, of the file."""
        first, last = float("inf"), 0.0
        for name in (METRICS_FILE, LOG_FILE):
            for event in self._all_events(name):
                told = event.get("timestamp")
                if isinstance(told, int | float) and 0 < told < 1e13:
                    first, last = min(first, told / 1000), max(last, told / 1000)
        if last:
            return first, last
        written = (self._folder / TASK_FILE).stat().st_mtime
        return written, written


@contextmanager
def opened(source: Path) -> Generator[Session]:
    """The session of a zip file or of a folder; BadInput when it is none."""
    if source.is_dir():
        yield Session(source, source.name)
        return
    if not source.is_file():
        raise BadInput(f"there is no offline session at {source}")
    with tempfile.TemporaryDirectory(prefix="taskloom-import-") as place:
        folder = Path(place) / "session"
        folder.mkdir()
        archives.unpack(source, folder)
        yield Session(folder, source.name)


def _own_id(told: str) -> str:
    """The session's own digits when it has them."""
    digits = told.removeprefix(OFFLINE_ID)
    return digits if is_id(digits) else hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:32]


def _read(path: Path, limit: int) -> bytes:
    if not path.is_file() or path.is_symlink():
        raise BadInput(f"this is no offline session of ClearML: it has no {path.name}")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise TooLarge(f"{path.name} has more than {limit} bytes")
    return data


def _part(item: Document, name: str) -> Document:
    found = item.get(name)
    return cast(Document, found) if isinstance(found, dict) else {}

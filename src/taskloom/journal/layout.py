"""How a journal lies on the disk: names, sizes, the row format, the small JSON files.

    <data>/journal/<task>/<writer>/meta.json      who writes, for which task (`Meta`)
                                   lock           flock held by the writer as long as it lives
                                   rows.000000    32-byte scalar rows, fixed-size segments
                                   events         records, each after its length in four bytes
                                   stdout, stderr, report   raw console bytes
                                   marks.json     what the server has (`Marks`), written by the shipper
    <data>/journal/<task>/files/<sha256>          bytes of artifacts on their way
    <data>/journal/<task>/ship.lock, shipper.log  one shipper a task, and what it had to say
    <data>/journal/<task>/fallbacks.json          what a storage destination refused (`Fallbacks`)
    <data>/journal/<task>/uploading.json          how far uploads are, while they last (`Uploading`)
    <data>/journal/<task>/held                    journals under a lease stay although they are delivered: its
                                                  worker has yet to read them
    <data>/journal/<task>/elsewhere.json          the task that it became, when its own was not to be run over
    <data>/journal/<task>/masks.json              secrets that are hidden in what is shipped, see `masking`

Records that name files are in a journal beside the others (`Meta.beside`), so that nothing else waits for an upload.
Every stream is append-only and a position in it never changes its meaning; so a reader needs no lock, and
sending anything twice is harmless. Nothing here keeps a file open.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Literal

import msgspec

FORMAT = 1
ROW = struct.Struct("<qddQ")  # iteration, value, time, series number + 1: non-zero once the row is whole
ROW_BYTES = ROW.size
SEGMENT_BYTES = 1 << 20
SEGMENT_ROWS = SEGMENT_BYTES // ROW_BYTES
LENGTH = struct.Struct("<I")
MAX_RECORD = 8 << 20  # bytes of one encoded record

META_FILE = "meta.json"
LOCK_FILE = "lock"
EVENTS_FILE = "events"
MARKS_FILE = "marks.json"
FILES_FOLDER = "files"
SHIP_LOCK_FILE = "ship.lock"
SHIP_LOG_FILE = "shipper.log"
FALLBACKS_FILE = "fallbacks.json"
UPLOADING_FILE = "uploading.json"
ELSEWHERE_FILE = "elsewhere.json"
MASKS_FILE = "masks.json"
HELD_FILE = "held"
STREAMS: tuple[Stream, ...] = ("stdout", "stderr", "report")

Stream = Literal["stdout", "stderr", "report"]
Role = Literal["main", "child"]


class Meta(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Who writes. `lease` is the token of a worker's attempt; `offline`: shipped only when imported.

    beside: the writer of the same process whose files or debug samples these are.
    """

    format: int = FORMAT
    task: str
    writer: str
    role: Role
    pid: int
    host: str = ""
    lease: str = ""
    offline: bool = False
    iteration_offset: int = 0
    name: str = ""
    project: str = ""
    created: float = 0.0
    beside: str = ""


class Marks(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How far the server has each stream; `refused` says why nothing more may be sent."""

    events: int = 0
    rows: int = 0
    console: dict[str, int] = {}
    refused: str = ""


class Elsewhere(msgspec.Struct, frozen=True):
    """The journal goes to another task than its folder says: the one that was to be run over refused it."""

    task: str
    reason: str


class Fallback(msgspec.Struct, frozen=True):
    """Bytes that a destination refused: they are on the Taskloom server, under their digest."""

    digest: str
    reason: str


class Fallbacks(msgspec.Struct, frozen=True):
    """By the address that was wanted."""

    by_uri: dict[str, Fallback] = {}


class Uploading(msgspec.Struct, frozen=True):
    """What is on its way now: files that are left, bytes of all and bytes that went."""

    files: int
    bytes: int
    sent: int


def journal_root(data: Path) -> Path:
    return data / "journal"


def segment_name(number: int) -> str:
    return f"rows.{number:06d}"


def read_meta(folder: Path) -> Meta | None:
    """None for a folder that is no writer's (or whose writer died before it had said who it is)."""
    try:
        return msgspec.json.decode((folder / META_FILE).read_bytes(), type=Meta)
    except (OSError, msgspec.DecodeError):
        return None


def read_marks(folder: Path) -> Marks:
    try:
        return msgspec.json.decode((folder / MARKS_FILE).read_bytes(), type=Marks)
    except (OSError, msgspec.DecodeError):
        return Marks()


def read_elsewhere(task_folder: Path) -> Elsewhere | None:
    try:
        return msgspec.json.decode((task_folder / ELSEWHERE_FILE).read_bytes(), type=Elsewhere)
    except (OSError, msgspec.DecodeError):
        return None


def read_fallbacks(task_folder: Path) -> dict[str, Fallback]:
    try:
        return msgspec.json.decode((task_folder / FALLBACKS_FILE).read_bytes(), type=Fallbacks).by_uri
    except (OSError, msgspec.DecodeError):
        return {}


def read_uploading(task_folder: Path) -> Uploading | None:
    try:
        return msgspec.json.decode((task_folder / UPLOADING_FILE).read_bytes(), type=Uploading)
    except (OSError, msgspec.DecodeError):
        return None


def write_whole(path: Path, value: msgspec.Struct) -> None:
    """The JSON file is the old one or the new one, never half of it."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        fresh.write_bytes(msgspec.json.encode(value))
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def task_folders(root: Path) -> list[Path]:
    """Folders of the tasks that have journals under `root`, oldest first."""
    try:
        found = [entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(found, key=_changed)


def writer_folders(task_folder: Path) -> list[Path]:
    """Folders of the writers of one task; the main ones first, because they open the task."""
    found: list[tuple[str, float, Path]] = []
    try:
        entries = list(task_folder.iterdir())
    except OSError:
        return []
    for entry in entries:
        meta = read_meta(entry) if entry.is_dir() else None
        if meta is not None:
            found.append(("0" if meta.role == "main" else "1", meta.created, entry))
    return [entry for _, _, entry in sorted(found)]


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None when another process has it or the file is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == os.stat(path).st_ino:  # noqa: PTH116 - the same file as by the descriptor
            return descriptor
    except OSError:
        pass  # held, or removed by its last holder between the two calls
    os.close(descriptor)
    return None


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock; a file that is not there is not held."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

"""What a worker keeps on disk about an attempt, so that its end is told once even when the worker restarts.

<data>/worker/<name>/id, lock
<data>/worker/<name>/attempts/<task>-<mark>/attempt.json   this record
                                            task.msgpack   the task as it was claimed
                                            journal/<task>/  its journals, shipped by a companion
                                            workspace/     code
<data>/worker/<name>/refused/...                           journals of attempts that turned out to be void
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import msgspec

from taskloom.wire.messages import Finish, Lease

RECORD = "attempt.json"
TASK_FILE = "task.msgpack"


class AttemptRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`end` is what has to be told; None as long as the child may run."""

    token: str
    task: str
    name: str
    seconds: float
    end: Finish | None = None


class AttemptFolder:
    """One attempt's folder. Nothing in it outlives the acknowledged end."""

    def __init__(self, path: Path, record: AttemptRecord) -> None:
        self.path = path
        self.record = record

    @classmethod
    def create(cls, attempts: Path, lease: Lease) -> AttemptFolder:
        mark = hashlib.sha256(lease.token.encode()).hexdigest()[:8]
        path = attempts / f"{lease.task.id}-{mark}"
        path.mkdir(parents=True, mode=0o700)
        record = AttemptRecord(token=lease.token, task=lease.task.id, name=lease.task.name, seconds=lease.seconds)
        folder = cls(path, record)
        folder._write()
        descriptor = os.open(folder.task_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.msgpack.encode(lease.task))
        return folder

    @classmethod
    def left(cls, attempts: Path) -> list[AttemptFolder]:
        """What an earlier process of this worker left; a folder without a record never ran anything."""
        found: list[AttemptFolder] = []
        for path in sorted(attempts.glob("*")):
            try:
                record = msgspec.json.decode((path / RECORD).read_bytes(), type=AttemptRecord)
            except (OSError, msgspec.DecodeError):
                shutil.rmtree(path, ignore_errors=True)
                continue
            found.append(cls(path, record))
        return found

    @property
    def task_file(self) -> Path:
        return self.path / TASK_FILE

    @property
    def journal_root(self) -> Path:
        return self.path / "journal"

    @property
    def journal(self) -> Path:
        """The journals of this attempt's task."""
        return self.journal_root / self.record.task

    def ends(self, end: Finish) -> None:
        """Known from here on, whatever happens to this process."""
        self.record = msgspec.structs.replace(self.record, end=end)
        self._write()

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def keep_aside(self, refused: Path) -> Path | None:
        """Moves journals that the server does not take out of the way; None when there are none."""
        kept = None
        if self.journal.exists():
            refused.mkdir(parents=True, exist_ok=True, mode=0o700)
            kept = refused / self.path.name
            shutil.rmtree(kept, ignore_errors=True)
            self.journal_root.rename(kept)
        self.remove()
        return kept

    def _write(self) -> None:
        fresh = self.path / f"{RECORD}.tmp"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(self.record))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path / RECORD)

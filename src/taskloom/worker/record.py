"""What a worker keeps on disk about an attempt, so that its end is told once even when the worker restarts.

<data>/worker/<name>/id, lock
<data>/worker/<name>/attempts/<task>-<mark>/attempt.json   this record
                                            task.msgpack   the task as it was claimed
                                            journal/<task>/  its journals, shipped by a companion
                                            workspace/     code
                                            place/         what its places keep of their programs
                                            checkpoints/   what the next attempt will find
<data>/worker/<name>/refused/...                           journals of attempts that turned out to be void
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import msgspec

from taskloom.domain.task import Task
from taskloom.wire.messages import Finish, Lease

RECORD = "attempt.json"
TASK_FILE = "task.msgpack"
WORKED_IN = ("home", "workspace", "checkout", "unpacked", "venv")


class AttemptRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the next process of this worker has to know to go on.

    handle  of the program, once it runs; image: it runs in a container
    began   when it began, by the clock of `boot_time`; phase: file that tells whether its setup lines are over
    end     what has to be told; None as long as the program may run
    """

    token: str
    task: str
    name: str
    seconds: float
    handle: str = ""
    image: str = ""
    began: float = 0.0
    phase: str = ""
    end: Finish | None = None


def boot_time() -> float:
    """Seconds by a clock that nobody sets, that counts while the machine sleeps, the same in every process."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


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
        folder._write(safely=False)
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

    @property
    def checkpoints(self) -> Path:
        """What the program keeps for the next attempt; outside its home, which it may empty."""
        return self.path / "checkpoints"

    def task(self) -> Task | None:
        """As it was claimed; None when the file is gone or no task."""
        try:
            return msgspec.msgpack.decode(self.task_file.read_bytes(), type=Task)
        except (OSError, msgspec.DecodeError):
            return None

    def starts(self, handle: str, image: str, phase: Path | None) -> None:
        """The program runs and can be found again."""
        self.record = msgspec.structs.replace(
            self.record, handle=handle, image=image, began=boot_time(), phase=str(phase or "")
        )
        self._write(safely=False)

    def ends(self, end: Finish) -> None:
        """Known from here on, whatever happens to this process."""
        self.record = msgspec.structs.replace(self.record, end=end)
        self._write()

    def free(self) -> None:
        """The program is gone, and so is what it worked in: should it have filled the disk, its end can be told."""
        for name in WORKED_IN:
            shutil.rmtree(self.path / name, ignore_errors=True)

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

    def _write(self, *, safely: bool = True) -> None:
        """`safely`: it is there after a power cut, too. Before the end that is worth no time: the program is not."""
        fresh = self.path / f"{RECORD}.tmp"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(self.record))
            file.flush()
            if safely:
                os.fsync(file.fileno())
        fresh.replace(self.path / RECORD)

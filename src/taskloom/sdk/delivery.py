"""The script's end of its companion process: start the shipper, poke it, ask how far it is.

The companion is a process of its own session; nothing of the script waits for it but `wait`. What it does
with the journal stands in `journal.shipper`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from taskloom.journal import layout
from taskloom.journal.reader import Reader
from taskloom.journal.writer import Writer
from taskloom.sdk.progress import UploadProgress, amount

if TYPE_CHECKING:
    import subprocess

LOOK = 0.01
LOOK_MOST = 0.1


class Delivery:
    """Shipping of one task's journals by a companion of this process."""

    def __init__(self, task_folder: Path) -> None:
        self.task_folder = task_folder
        self._process: subprocess.Popen[bytes] | None = None
        self.elsewhere: layout.Elsewhere | None = None  # the task that this run became instead
        self._once = threading.Lock()
        self._started = False

    def start(self) -> None:
        """Once. OSError when no process can be started; the journal then waits for the next shipper."""
        with self._once:
            if self._started:
                return
            self._started = True
            self._launch()

    def _launch(self) -> None:
        import subprocess

        # -P: a file of the script's folder that is named like a library must not be imported instead of it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "taskloom.journal.shipper", str(self.task_folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)

    def poke(self) -> None:
        """Ask it to look at once."""
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(b"!")
        except (OSError, ValueError):
            pass  # the pipe is full (it will look anyway) or the companion is gone (wait notices)

    def wait(self, writer: Writer, timeout: float, *, while_moving: bool = False) -> bool:
        """Wait until the server has all that `writer` recorded; False when the time ran out first.

        while_moving: the time begins anew whenever an upload has got on. Pokes again after every look that found
        something new: what was written behind a cut needs another. A long wait for uploads is shown.
        """
        begun = time.monotonic()
        pause = LOOK
        self.poke()
        self.elsewhere = layout.read_elsewhere(self.task_folder)
        progress = UploadProgress(self.task_folder)
        seen: layout.Uploading | None = None
        try:
            while not self.delivered(writer):
                self.elsewhere = self.elsewhere or layout.read_elsewhere(self.task_folder)
                progress.look()
                if while_moving and (now := layout.read_uploading(self.task_folder)) != seen:
                    begun, seen = time.monotonic(), now
                left = begun + timeout - time.monotonic()
                gone = self._process is not None and self._process.poll() is not None
                if left <= 0 or gone or self.refused(writer):
                    return self.delivered(writer)
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, LOOK_MOST)
                self.poke()
        finally:
            progress.close()
        return True

    def delivered(self, writer: Writer) -> bool:
        return all(_delivered(journal) for journal in writer.journals)

    def refused(self, writer: Writer) -> str:
        marks = (layout.read_marks(journal.folder) for journal in writer.journals)
        return next((mark.refused for mark in marks if mark.refused), "")

    def fallbacks(self) -> dict[str, layout.Fallback]:
        """What a storage destination refused, by the address that was wanted; the server has it."""
        return layout.read_fallbacks(self.task_folder)

    def uploading(self) -> str:
        """What is on its way now, for people; empty when that is nothing."""
        seen = layout.read_uploading(self.task_folder)
        return f"{amount(seen.bytes - seen.sent)} of {seen.files} files" if seen is not None and seen.files else ""

    def last_note(self) -> str:
        """The last line of the shipper's log, without its time; empty when it had nothing to say."""
        try:
            lines = (self.task_folder / layout.SHIP_LOG_FILE).read_text(encoding="utf-8").splitlines()
        except OSError:
            return ""
        return lines[-1].partition(" ")[2] if lines else ""

    def leave(self) -> None:
        """Close our end; the companion goes on by itself and ends when its work is done."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        # It is meant to outlive this process: say so, or the interpreter warns that it was not waited for.
        self._process.returncode = self._process.poll() or 0
        self._process = None

    def forget(self) -> None:
        """In a forked process: the companion is the parent's."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None


def _delivered(writer: Writer) -> bool:
    if not (writer.folder / layout.META_FILE).exists():
        return True  # removed by the shipper: everything was acknowledged; or nothing was ever recorded
    marks = layout.read_marks(writer.folder)
    if marks.refused or marks.events < writer.records or marks.rows < writer.rows:
        return False
    reader = Reader(writer.folder)
    return all(marks.console.get(s, 0) >= reader.console_size(s) for s in layout.STREAMS)

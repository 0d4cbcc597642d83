"""What a person sees who waits for uploads: a bar on a terminal, elsewhere a line now and then.

How far it is the companion writes into the task's folder; nothing here contacts anybody.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from taskloom.journal import layout

QUIET = 1.0  # seconds of waiting that nothing is said about
BAR_EVERY, LINE_EVERY = 0.5, 10.0
WIDTH = 24


class UploadProgress:
    """One wait. `look` at every turn of it, `close` at its end."""

    def __init__(self, task_folder: Path) -> None:
        self._folder = task_folder
        self._began = time.monotonic()
        self._next = self._began + QUIET
        self._drawn = False
        self._terminal = _is_terminal()
        self._first: tuple[float, int] | None = None  # when it was first seen, and how far it was then

    def look(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (BAR_EVERY if self._terminal else LINE_EVERY)
        seen = layout.read_uploading(self._folder)
        if seen is None or not seen.files:
            return
        self._first = self._first or (now, seen.sent)
        text = told(seen, now - self._first[0], seen.sent - self._first[1])
        if self._terminal:
            _write(f"\r\033[K{text}")
            self._drawn = True
        else:
            _write(f"{text}\n")

    def close(self) -> None:
        if self._drawn:
            _write("\r\033[K")
            self._drawn = False


def told(seen: layout.Uploading, seconds: float, moved: int) -> str:
    """`taskloom: uploading 2 files [#####---] 41% of 1.2 GB, 80 MB/s, 9 s left`"""
    share = min(seen.sent / seen.bytes, 1.0) if seen.bytes else 1.0
    full = int(share * WIDTH)
    files = "1 file" if seen.files == 1 else f"{seen.files} files"
    text = f"taskloom: uploading {files} [{'#' * full}{'-' * (WIDTH - full)}] {share:.0%} of {amount(seen.bytes)}"
    if seconds < 0.5 or moved <= 0:
        return text
    speed = moved / seconds
    return f"{text}, {amount(int(speed))}/s, {(seen.bytes - seen.sent) / speed:.0f} s left"


def amount(count: int) -> str:
    """Bytes for people: `1.2 GB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _is_terminal() -> bool:
    with contextlib.suppress(Exception):
        return sys.stderr.isatty()
    return False


def _write(text: str) -> None:
    with contextlib.suppress(Exception):
        sys.stderr.write(text)
        sys.stderr.flush()

"""Files that grow, read on from where one was: whole lines only, until the writer is gone.

What a task writes is read by the worker, which sees more of the machine than a container does. So only regular files
are read, no link is followed out of the workspace, and nothing waits for a pipe.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

PIECE = 1 << 20
MAX_LINE = 4 << 20  # bytes; what is longer is passed over


def open_regular(path: Path, roots: tuple[Path, ...]) -> int | None:
    """A descriptor of a regular file that lies below one of the folders; None for anything else."""
    try:
        real = path.resolve(strict=True)
        if not any(real.is_relative_to(root) for root in roots):
            return None
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, RuntimeError):
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def read_whole(path: Path, roots: tuple[Path, ...], limit: int) -> bytes | None:
    """The content of a small file; None when it is not there, no file, or larger."""
    descriptor = open_regular(path, roots)
    if descriptor is None:
        return None
    try:
        data = os.read(descriptor, limit + 1)
    finally:
        os.close(descriptor)
    return data if len(data) <= limit else None


def read_lines(path: Path, roots: tuple[Path, ...], start: int, *, last: bool) -> tuple[list[bytes], int]:
    """Lines from byte `start` on, and where to go on. last: nobody writes any more, a line need not be ended."""
    descriptor = open_regular(path, roots)
    if descriptor is None:
        return [], start
    try:
        data = os.pread(descriptor, PIECE, start)
        while data and b"\n" not in data and len(data) < MAX_LINE:
            more = os.pread(descriptor, PIECE, start + len(data))
            if not more:
                break
            data += more
    finally:
        os.close(descriptor)
    whole, newline, rest = data.rpartition(b"\n")
    if newline:
        return whole.split(b"\n"), start + len(whole) + 1
    if rest and (last or len(rest) >= MAX_LINE):
        return [rest], start + len(rest)
    return [], start

"""The output of a child process: read as fast as it comes, of which the end is kept.

A child that floods is never held up and never fills memory; a child that dies leaves its last lines.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

LINES = 50  # of the output, shown with an error
KEPT = 2**16  # bytes of the output in which they have to lie
PIECE = 2**16


class Tail:
    """Drains a pipe, whose descriptor it closes at its end. heard: called with every piece as it comes."""

    def __init__(self, descriptor: int, heard: Callable[[bytes], None] | None = None) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._heard = heard
        self._kept = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._read)

    def lines(self) -> list[str]:
        """The last ones; of a line that was cut by the bound, its end."""
        return self._kept.decode("utf-8", "replace").splitlines()[-LINES:]

    def close(self) -> None:
        """Takes what is there by now: a child writes before it ends."""
        if self._descriptor >= 0:
            self._read(most=KEPT // PIECE + 1)
        self._close()

    def _read(self, most: int = 1) -> None:
        for _ in range(most):
            try:
                data = os.read(self._descriptor, PIECE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._close()
                return
            if self._heard is not None:
                self._heard(data)
            self._kept += data
            del self._kept[:-KEPT]

    def _close(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def with_lines(text: str, tail: Tail) -> str:
    lines = tail.lines()
    return "\n".join([f"{text}; its last lines:", *lines]) if lines else text

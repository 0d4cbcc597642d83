"""Trying again what may pass, for both sides of an import, until somebody says stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from taskloom.domain.errors import Forbidden, ServerAway, StorageFull, TooMany, Unauthorized, Unavailable

T = TypeVar("T")

DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)  # seconds between tries
LONGEST = 120.0  # seconds that a server may ask for
TOLD_FROM = 4.0  # seconds of a pause that somebody should hear of
PASSING = (ServerAway, Unavailable, TooMany)
ENDS_ALL = (*PASSING, Unauthorized, Forbidden, StorageFull)
"""Errors that no other task would be spared."""


class Stopped(Exception):
    """Somebody said stop; not an error."""


class Patience:
    """Shared by all threads of an import. `tell`: hears why it takes so long."""

    def __init__(self, tell: Callable[[str], None] = lambda _text: None) -> None:
        self._stop, self._tell = threading.Event(), tell

    def stop(self) -> None:
        self._stop.set()

    def check(self) -> None:
        """Between two pieces of work: Stopped when no more is wanted."""
        if self._stop.is_set():
            raise Stopped

    def keep_trying(self, work: Callable[[], T]) -> T:
        """What `work` gives; its last error when it did not pass within some minutes."""
        for delay in DELAYS:
            self.check()
            try:
                return work()
            except PASSING as error:
                asked = str(error.details.get("retry_after", ""))
                wait = max(delay, min(float(asked), LONGEST) if asked.isdigit() else 0.0)
                if wait >= TOLD_FROM:
                    self._tell(f"{error.message}; trying again in {wait:.0f} s")
                self._stop.wait(wait)
        self.check()
        return work()

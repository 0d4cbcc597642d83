"""Trying again what may pass, for both sides of an import, until somebody says stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from taskloom.domain.errors import Forbidden, ServerAway, StorageFull, TooMany, Unauthorized, Unavailable

T = TypeVar("T")

DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)  # seconds between tries
LONGEST = 120.0  # seconds that a server may ask for
PASSING = (ServerAway, Unavailable, TooMany)
ENDS_ALL = (*PASSING, Unauthorized, Forbidden, StorageFull)
"""Errors that no other task would be spared."""


class Stopped(Exception):
    """Somebody said stop; not an error."""


class Patience:
    """Shared by all threads of an import."""

    def __init__(self) -> None:
        self._stop = threading.Event()

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
                wait = min(float(asked), LONGEST) if asked.isdigit() else 0.0
                self._stop.wait(max(delay, wait))
        self.check()
        return work()

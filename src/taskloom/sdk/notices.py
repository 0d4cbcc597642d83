"""What the SDK says to the person at the script, and the one boundary that its own faults do not cross.

Everything goes to standard error with the same prefix. A sentence about the same thing is said once, however
often it happens; how often it happened is counted and told at the end. Nothing here raises.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Generator
from typing import Any

from taskloom.domain.errors import TaskloomError


class Notices:
    """Said once, counted always. `faults` are our own, kept so that tests and reports can see them."""

    def __init__(self) -> None:
        self.counts: Counter[Any] = Counter()
        self.faults: list[str] = []

    def say(self, text: str) -> None:
        # No lock and no logging: this may run in a signal handler, or while standard error is being replaced.
        with contextlib.suppress(Exception):
            sys.stderr.write(f"taskloom: {text}\n")
            sys.stderr.flush()

    def once(self, topic: Any, text: str) -> None:
        self.counts[topic] += 1
        if self.counts[topic] == 1:
            self.say(text)

    @contextlib.contextmanager
    def boundary(self, what: str) -> Generator[None]:
        """The tracker's failure is never the script's: whatever goes wrong inside is told once and recorded."""
        try:
            yield
        except TaskloomError as error:
            self.once((what, error.message), f"{what}: {error.message}")
        except Exception as error:  # the SDK's boundary
            fault = f"{what}: {type(error).__name__}: {error}"
            if len(self.faults) < 100:
                self.faults.append(fault)
            self.once((what, type(error)), f"{fault} (the script goes on)")

"""Whether a task waits again when an attempt ended too early: by what ended it, and how often that was so.

Tries are counted by their cause since somebody enqueued the task: what was preempted twice has all its retries for
failures left. The execution's own word (`Retries`) wins over the queue's policy, which speaks of lost workers only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from taskloom.domain.execution import Retries
from taskloom.domain.queue import Queue

Cause = Literal["lost", "preempted", "failed"]
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0  # seconds before the next attempt after a failure; twice as long each time


@dataclass(frozen=True)
class Verdict:
    """tries: that ended by this cause, the last one included. most: that may; None: without end."""

    again: bool
    tries: int
    most: int | None

    @property
    def number(self) -> str:
        return f"attempt {self.tries}" if self.most is None else f"attempt {self.tries} of {self.most}"

    @property
    def why_no_more(self) -> str:
        return "" if self.again else f"it had {self.tries} of {self.most} attempts"


def judge(retries: Retries, queue: Queue | None, cause: Cause, tries: int) -> Verdict:
    most = _most(retries, queue, cause)
    return Verdict(queue is not None and (most is None or tries < most), tries, most)


def pause_after(failures: int) -> float:
    """Seconds before the next attempt, when so many have failed."""
    return min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE)


def _most(retries: Retries, queue: Queue | None, cause: Cause) -> int | None:
    if cause == "failed":
        return retries.failed + 1
    own = retries.lost if cause == "lost" else retries.preempted
    if own is not None:
        return own + 1
    if cause == "preempted":
        return None
    return queue.max_attempts if queue is not None and queue.on_lost == "requeue" else 1

"""How an evaluation that runs is shown: one line that moves on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from taskloom.cli.output import duration, number, screen
from taskloom.domain.evaluation import Usage

if TYPE_CHECKING:
    from taskloom.evals.job import Job
    from taskloom.evals.run import Run

PLAIN_EVERY = 10.0  # seconds between two plain lines
REFRESH = 4  # times a second that the line on a terminal is drawn


class Display:
    """Runs that ended of all, mean reward, failures by boundary, tokens and cost, time that is left."""

    def __init__(self, job: Job, total: int) -> None:
        self.job, self.total = job, total
        self.done = len(job.runs)
        self._first = self.done
        self._failures: Counter[str] = Counter()
        self._usage = Usage()
        self._began = time.monotonic()
        self._plain_at = self._began + PLAIN_EVERY
        self._bar: Any = None
        self._line: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._bar = Progress(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}", markup=False),
                console=screen(stderr=True),
                refresh_per_second=REFRESH,
                transient=True,
            )
            self._bar.start()
            self._line = self._bar.add_task(self.words(), total=self.total, completed=self.done)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def ended(self, job: Job, run: Run) -> None:
        """The engine's progress: one more run is over."""
        self.done += 1
        self._usage = self._usage + run.trace.usage
        if run.status != "completed":
            self._failures[run.boundary or run.status] += 1
        if self._bar is not None:
            self._bar.update(self._line, completed=self.done, description=self.words())
        elif time.monotonic() >= self._plain_at:
            self._plain_at = time.monotonic() + PLAIN_EVERY
            print(f"taskloom: {self.done} of {self.total} runs, {self.words()}", file=sys.stderr)

    def words(self) -> str:
        parts = [f"reward {number(self.job.reward)}"]
        failed = sum(self._failures.values())
        if failed:
            kinds = ", ".join(f"{name} {count}" for name, count in sorted(self._failures.items()))
            parts.append(f"{failed} failed ({kinds})")
        tokens = self._usage.prompt_tokens + self._usage.completion_tokens
        if tokens:
            parts.append(f"{tokens} tokens")
        if self._usage.cost_usd:
            parts.append(cost(self._usage.cost_usd))
        left = self._left()
        if left is not None:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def _left(self) -> float | None:
        here = self.done - self._first
        if not here or self.done >= self.total:
            return None
        return (time.monotonic() - self._began) / here * (self.total - self.done)


def cost(dollars: float) -> str:
    if dollars >= 1:
        return f"${dollars:.2f}"
    if dollars >= 0.001 or not dollars > 0:
        return f"${dollars:.4f}"
    return f"${dollars:.{1 - math.floor(math.log10(dollars))}f}"  # two digits that say something

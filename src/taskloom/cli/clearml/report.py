"""What an import did and what it left out, gathered by many threads."""

from __future__ import annotations

import threading
from collections import Counter

import msgspec

EXAMPLES = 5  # of each thing that was left out


class LeftOut(msgspec.Struct, frozen=True):
    """Things that did not come along, for one reason."""

    what: str
    why: str
    count: int
    examples: list[str]


class Failed(msgspec.Struct, frozen=True):
    task: str
    name: str
    error: str


class Account(msgspec.Struct, frozen=True):
    """The answer of --json. `tasks`: how many were new, changed, known already, cut before or failed; with
    `dry_run` nothing was done. `bytes`: of files that came along.
    """

    source: str
    target: str
    dry_run: bool
    finished: bool
    tasks: dict[str, int]
    projects: int
    models: int
    scalars: int
    plots: int
    samples: int
    console: int
    files: int
    bytes: int
    left_out: list[LeftOut]
    failed: list[Failed]


class Report:
    def __init__(self, source: str, target: str, dry_run: bool) -> None:
        self._source, self._target, self._dry_run = source, target, dry_run
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._tasks: Counter[str] = Counter()
        self._left: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self._failed: list[Failed] = []

    def add(self, what: str, count: int = 1) -> None:
        with self._lock:
            self._counts[what] += count

    def task(self, state: str) -> None:
        with self._lock:
            self._tasks[state] += 1

    def leave_out(self, what: str, why: str, example: str = "", count: int = 1) -> None:
        with self._lock:
            before, examples = self._left.get((what, why), (0, []))
            if example and len(examples) < EXAMPLES and example not in examples:
                examples = [*examples, example[:300]]
            self._left[what, why] = before + count, examples

    def fail(self, task: str, name: str, error: str) -> None:
        with self._lock:
            self._tasks["failed"] += 1
            self._failed.append(Failed(task, name, error))

    def account(self, *, finished: bool = True) -> Account:
        with self._lock:
            count = self._counts
            return Account(
                source=self._source,
                target=self._target,
                dry_run=self._dry_run,
                finished=finished,
                tasks={name: self._tasks[name] for name in ("new", "changed", "begun", "known", "left", "failed")},
                projects=count["projects"],
                models=count["models"],
                scalars=count["scalars"],
                plots=count["plots"],
                samples=count["samples"],
                console=count["console"],
                files=count["files"],
                bytes=count["bytes"],
                left_out=[LeftOut(what, why, n, examples) for (what, why), (n, examples) in self._left.items()],
                failed=list(self._failed),
            )

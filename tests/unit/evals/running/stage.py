"""A stage for evaluations within one process: an environment on a real socket, and the journal of a worker's task.

Under a worker a job writes into the journal of its task and nothing else: no companion, no capture of code.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from taskloom.evals import Environment, Run, Runtime, Task
from taskloom.evals.channel.server import ControlServer
from taskloom.journal import layout
from taskloom.journal.reader import Reader
from taskloom.wire.records import JobStored, Record, RunStored, StepsTaken

TASK = "a" * 32
R = TypeVar("R")


class Journal:
    """What was recorded for the worker's task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def records(self) -> list[Record]:
        found: list[Record] = []
        for path in layout.writer_folders(self.folder):
            found += Reader(path).records(0, 1 << 30)
        return found

    def of(self, kind: type[R]) -> list[R]:
        return [record for record in self.records if isinstance(record, kind)]

    @property
    def job(self) -> Any:
        return self.of(JobStored)[-1].job

    @property
    def runs(self) -> list[Any]:
        """As they stand, by position: the newest record of each."""
        newest = {record.run.id: record.run for record in self.of(RunStored)}
        return sorted(newest.values(), key=lambda run: run.position)

    def steps(self, run: str) -> list[Any]:
        found: dict[int, Any] = {}
        for record in self.records:
            if isinstance(record, StepsTaken) and record.run == run:
                found |= dict(enumerate(record.steps, record.start))
            elif isinstance(record, RunStored) and record.run.id == run and record.run.status == "running":
                found = {} if not record.run.steps else found
        assert list(found) == list(range(len(found)))
        return list(found.values())


@asynccontextmanager
async def served(environment: Environment) -> AsyncGenerator[Runtime]:
    server = ControlServer(environment)
    port = await server.start()
    try:
        yield Runtime(f"tcp://127.0.0.1:{port}", params={"ready_timeout": 5.0})
    finally:
        await server.stop()


def environment() -> Environment:
    """Prompts with its argument, and grades by what the argument `outcome` says."""
    env = Environment("stage")

    @env.template(id="ask")
    async def ask(n: int = 0, outcome: str = "equal") -> Any:
        if outcome == "no prompt":
            raise ValueError("there is no question")
        answer = yield f"say {n}"
        if outcome == "no grade":
            raise ValueError("there is no grade")
        yield float(answer == str(n))

    return env


def rows(count: int, **arguments: Any) -> list[Task]:
    return [Task(env="stage", id="ask", args={"n": n, **arguments}, slug=f"ask-{n}") for n in range(count)]


async def repeat(run: Run) -> None:
    """An agent that says what it is asked to."""
    run.trace.content = run.prompt_text.removeprefix("say ")

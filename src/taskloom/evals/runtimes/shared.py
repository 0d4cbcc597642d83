"""One substrate for many runs: for environments that are dear to bring up and keep nothing between tasks.

    async with Shared(DockerRuntime("registry.example.org/browser:3"), width=4) as shared:
        await taskset.run(agent, runtime=shared)

Freshness is given up for it: what a run changes in the substrate, the next one finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from taskloom.evals.failures import InfrastructureFailure
from taskloom.evals.runtimes.contract import Provider, Runtime
from taskloom.evals.runtimes.kept import Kept
from taskloom.evals.task import Task


@dataclass(eq=False)
class _Substrate:
    runtime: Runtime
    broken: bool = False


class Shared:
    """A provider of one substrate for each environment's name, brought up by the first row, taken down at the end of
    the `async with`. At most `width` runs use it at once. One that a run lost (a broken line, a dead process) is
    brought up anew for the next. ValueError for a width below 1.
    """

    def __init__(self, provider: Provider, width: int = 1) -> None:
        if width < 1:
            raise ValueError(f"width {width}: expected at least 1")
        self._provider, self._width = provider, width
        self._kept = Kept[_Substrate](None, lambda substrate: not substrate.broken)
        self._places: dict[str, asyncio.Semaphore] | None = None

    async def __aenter__(self) -> Self:
        self._places = {}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._places = None
        await self._kept.close()

    @asynccontextmanager
    async def __call__(self, task: Task, /) -> AsyncGenerator[Runtime]:
        """A place in the substrate of the row's environment, once one is free."""
        if self._places is None:
            raise ValueError("Shared: enter it first, `async with Shared(provider) as shared`, and run inside")
        place = self._places.setdefault(task.env, asyncio.Semaphore(self._width))
        async with place, self._kept.lease(task.env, lambda: self._substrate(task)) as substrate:
            try:
                yield substrate.runtime
            except InfrastructureFailure:
                substrate.broken = True
                raise

    @asynccontextmanager
    async def _substrate(self, task: Task) -> AsyncGenerator[_Substrate]:
        async with self._provider(task) as runtime:
            yield _Substrate(runtime)

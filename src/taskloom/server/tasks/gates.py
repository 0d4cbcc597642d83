"""Two things that must not overlap for one task: appending to its results and deleting them.

Batches of one task may come in side by side; a deletion waits until those that were let in are through, and
those that come later wait for it. In memory and for one event loop: after a crash nothing is on its way in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class _Gate:
    def __init__(self) -> None:
        self.changed = asyncio.Condition()
        self.inside = 0
        self.shut = False
        self.users = 0  # who holds this object, so that it can go when nobody does


class TaskGates:
    def __init__(self) -> None:
        self._gates: dict[str, _Gate] = {}

    @asynccontextmanager
    async def shared(self, task_id: str) -> AsyncGenerator[None, None]:
        """Inside with others, never while somebody is `alone`."""
        async with self._held(task_id) as gate:
            async with gate.changed:
                await gate.changed.wait_for(lambda: not gate.shut)
                gate.inside += 1
            try:
                yield
            finally:
                gate.inside -= 1
                await _tell(gate)

    @asynccontextmanager
    async def alone(self, task_id: str) -> AsyncGenerator[None, None]:
        async with self._held(task_id) as gate:
            async with gate.changed:
                await gate.changed.wait_for(lambda: not gate.shut)
                gate.shut = True
            try:
                async with gate.changed:
                    await gate.changed.wait_for(lambda: not gate.inside)
                yield
            finally:
                gate.shut = False
                await _tell(gate)

    @asynccontextmanager
    async def _held(self, task_id: str) -> AsyncGenerator[_Gate, None]:
        gate = self._gates.setdefault(task_id, _Gate())
        gate.users += 1
        try:
            yield gate
        finally:
            gate.users -= 1
            if not gate.users:
                self._gates.pop(task_id, None)


async def _tell(gate: _Gate) -> None:
    async with gate.changed:
        gate.changed.notify_all()

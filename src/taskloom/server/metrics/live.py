"""Tells watchers that a task's results grew, at most once per kind in a quarter of a second.

The first time is told at once, so that a console that is followed has no delay; what comes within the quarter
is told together at its end. Belongs to the event loop.
"""

from __future__ import annotations

import asyncio

from taskloom.server.events import EventBus
from taskloom.server.settings import Clock
from taskloom.wire.messages import LiveEvent

QUIET = 0.25


class Announcements:
    def __init__(self, bus: EventBus, clock: Clock) -> None:
        self._bus, self._clock = bus, clock
        self._again: dict[tuple[str, str, str], bool] = {}  # in their quarter; True: grew since it began

    def tell(self, kind: str, task_id: str, project: str) -> None:
        key = (kind, task_id, project)
        if key in self._again:
            self._again[key] = True
            return
        self._publish(key)

    def _publish(self, key: tuple[str, str, str]) -> None:
        kind, task_id, project = key
        self._again[key] = False
        self._bus.publish(LiveEvent(kind=kind, task=task_id, project=project, time=self._clock()))
        asyncio.get_running_loop().call_later(QUIET, self._quarter_over, key)

    def _quarter_over(self, key: tuple[str, str, str]) -> None:
        if self._again.pop(key, False):
            self._publish(key)

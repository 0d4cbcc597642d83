"""Live events: who changes something says so, and who watches is told. In memory, nothing is kept.

An event only says that something changed, so a watcher that was too slow loses nothing but the detail: its
oldest events are dropped and it is told once with the kind `missed`, upon which it asks again for what it
shows. Publishing never waits and may be done from any thread.
A watcher of a project gives its path; events carry the path of the project, too.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

from taskloom.domain.errors import Unavailable
from taskloom.wire.messages import LiveEvent

MISSED = "missed"
BACKLOG = 256  # events that wait for a slow watcher
QUIET = 0.25  # seconds in which growth is told once


class Subscription:
    """One watcher: `async with bus.subscribe(task=...) as live:` then `async for event in live`.

    Belongs to the event loop that entered it.
    """

    def __init__(self, bus: EventBus, task: str, project: str, kinds: frozenset[str]) -> None:
        self._bus = bus
        self._task, self._project, self._kinds = task, project, kinds
        self._lock = threading.Lock()
        self._waiting: deque[LiveEvent] = deque()
        self._missed = False
        self._closed = False
        self._awake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Subscription:
        self._loop = asyncio.get_running_loop()
        self._bus.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bus.remove(self)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> LiveEvent:
        try:
            event = await self.next()
        except Unavailable:
            raise StopAsyncIteration from None
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self, timeout: float | None = None) -> LiveEvent | None:
        """The next event; None when `timeout` seconds went by without one.

        Unavailable when the server stops: whoever waits for something answers its client so at once.
        """
        try:
            async with asyncio.timeout(timeout):
                while (event := self._take()) is None:
                    if self._closed:
                        raise Unavailable("the server is stopping; try again")
                    await self._awake.wait()
                return event
        except TimeoutError:
            return None

    @property
    def closed(self) -> bool:
        return self._closed

    def wants(self, event: LiveEvent) -> bool:
        if self._kinds and event.kind not in self._kinds:
            return False
        if self._task and event.task != self._task:
            return False
        return not self._project or f"{event.project}/".startswith(f"{self._project}/")

    def offer(self, event: LiveEvent) -> None:
        """From any thread. Wakes the loop only when the watcher had nothing to do: bursts cost one call."""
        with self._lock:
            if len(self._waiting) >= BACKLOG:
                self._waiting.popleft()
                self._missed = True
            self._waiting.append(event)
            first = len(self._waiting) == 1
        if first:
            self._wake()

    def close(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._awake.set)

    def _take(self) -> LiveEvent | None:
        with self._lock:
            if self._missed:
                self._missed = False
                return LiveEvent(kind=MISSED)
            if self._waiting:
                return self._waiting.popleft()
            if not self._closed:
                self._awake.clear()
            return None


class EventBus:
    """Built once by the app; services publish after their transaction is committed, never inside it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: tuple[Subscription, ...] = ()
        self._closed = False

    def publish(self, event: LiveEvent) -> None:
        for watcher in self._watchers:
            if watcher.wants(event):
                watcher.offer(event)

    def subscribe(self, task: str = "", project: str = "", kinds: frozenset[str] = frozenset()) -> Subscription:
        """Events of one task, of one project path with those below it, of some kinds; empty means all."""
        return Subscription(self, task, project, kinds)

    def add(self, watcher: Subscription) -> None:
        with self._lock:
            self._watchers = (*self._watchers, watcher)
        if self._closed:
            watcher.close()

    def remove(self, watcher: Subscription) -> None:
        with self._lock:
            self._watchers = tuple(w for w in self._watchers if w is not watcher)

    def close(self) -> None:
        """Ends every subscription, so that open event streams do not hold up a stop."""
        self._closed = True
        for watcher in self._watchers:
            watcher.close()


class Announcements:
    """Tells watchers that something of a task grew, at most once per kind in a quarter of a second.

    The first time is told at once, so that what is followed has no delay; what comes within the quarter is told
    together at its end. Belongs to the event loop.
    """

    def __init__(self, bus: EventBus, clock: Callable[[], float]) -> None:
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

"""Who listens for connections to a task, and which connections there are.

One listener a task: the process that holds its lease, or one that its user starts by hand; a newer one takes the place
of an older one, whose connections end. To connect is for the task's user and administrators, since what is served
knows no keys of its own. All of it is in memory: when the server stops, every tunnel ends, and listeners come back.
Nothing here knows of web sockets: see door.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from taskloom.domain.errors import Forbidden, NotFound, TooMany, Unavailable
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.events import EventBus
from taskloom.server.settings import Clock
from taskloom.server.tunnels import store
from taskloom.server.tunnels.store import TaskRow
from taskloom.wire.messages import LiveEvent, TunnelState

MAX_CONNECTIONS = 256  # of one task at once
MAX_WAIT = 30.0  # seconds that a question for a listener may be put off
CHANGED = "tunnel"  # kind of the event when somebody listens, or no longer does


class Line(Protocol):
    """One end of a connection, as the door makes it. `send` waits as long as the end does not read."""

    async def receive(self) -> bytes | None:
        """None when the end closed."""
        ...

    async def send(self, data: bytes) -> None: ...


@dataclass(eq=False)
class Crossing:
    """A connection in the making: somebody waits for the listener's process to accept it.

    accepted   has the other end's line once it is there; None when nobody will come
    over       is set when the connection has ended
    """

    number: int
    accepted: asyncio.Future[Line | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class Listener:
    """`dials`: numbers that its process has not been told yet. `gone` is set when it has to end, or has ended."""

    task: str
    dials: asyncio.Queue[int] = field(default_factory=lambda: asyncio.Queue[int](MAX_CONNECTIONS))
    crossings: dict[int, Crossing] = field(default_factory=dict[int, Crossing])
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    count: int = 0


class TunnelService:
    def __init__(self, db: Database, bus: EventBus, clock: Clock) -> None:
        self._db, self._bus, self._clock = db, bus, clock
        self._listeners: dict[str, Listener] = {}

    # --- the listener -----------------------------------------------------------------------------------

    async def check_listener(self, caller: Caller, task: str) -> None:
        """A lease's key serves the task of that lease and no other; a person's her own tasks."""
        row = await self._task(task)
        if caller.lease:
            if caller.lease != row.lease:
                raise Forbidden("this key is of another attempt: only the task's own process may listen for it")
            return
        _check_user(caller, row, task)

    def listen(self, task: str) -> Listener:
        before = self._listeners.get(task)
        if before is not None:
            self.unlisten(before)
        self._listeners[task] = listener = Listener(task)
        self._tell(task)
        return listener

    def unlisten(self, listener: Listener) -> None:
        """Its connections end with it."""
        listener.gone.set()
        for crossing in list(listener.crossings.values()):
            _refuse(crossing)
        if self._listeners.get(listener.task) is listener:
            del self._listeners[listener.task]
            self._tell(listener.task)

    # --- connections ------------------------------------------------------------------------------------

    async def check_caller(self, caller: Caller, task: str) -> None:
        _check_user(caller, await self._task(task), task)

    async def state(self, caller: Caller, task: str, wait: float) -> TunnelState:
        """Answers when somebody listens, or after `wait` seconds."""
        await self.check_caller(caller, task)
        wait = min(max(wait, 0.0), MAX_WAIT)
        deadline = asyncio.get_running_loop().time() + wait
        async with self._bus.subscribe(task=task, kinds=frozenset({CHANGED})) as live:
            while (found := self._listeners.get(task)) is None:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or await live.next(left) is None:
                    return TunnelState()
        return TunnelState(listening=True, connections=len(found.crossings))

    def begin(self, task: str) -> tuple[Listener, Crossing]:
        """Asks the listener for one more connection; `end` belongs to it."""
        listener = self._listeners.get(task)
        if listener is None:
            raise Unavailable(f"nobody listens for connections to task {task}", retry_after=1)
        if len(listener.crossings) >= MAX_CONNECTIONS or listener.dials.full():
            raise TooMany(f"task {task} has {MAX_CONNECTIONS} connections already", retry_after=1)
        listener.count += 1
        crossing = listener.crossings[listener.count] = Crossing(listener.count)
        listener.dials.put_nowait(crossing.number)
        return listener, crossing

    def end(self, listener: Listener, crossing: Crossing) -> None:
        listener.crossings.pop(crossing.number, None)
        _refuse(crossing)

    def waiting(self, task: str, number: str) -> Crossing:
        """The connection that waits under this number."""
        listener = self._listeners.get(task)
        found = (
            listener.crossings.get(int(number)) if listener and number.isdecimal() and len(number) < 16 else None
        )
        if found is None or found.accepted.done():
            raise NotFound(f"no connection waits under the number {number[:20]!r}")
        return found

    # --- inside -----------------------------------------------------------------------------------------

    async def _task(self, task: str) -> TaskRow:
        row = await self._db.read(lambda tx: store.get_task(tx, task))
        if row is None:
            raise NotFound(f"no task {task!r}")
        return row

    def _tell(self, task: str) -> None:
        self._bus.publish(LiveEvent(kind=CHANGED, task=task, time=self._clock()))


def _refuse(crossing: Crossing) -> None:
    crossing.over.set()
    if not crossing.accepted.done():
        crossing.accepted.set_result(None)


def _check_user(caller: Caller, row: TaskRow, task: str) -> None:
    if caller.user != row.user and caller.role != "admin":
        raise Forbidden(f"task {task} is of another user: what it serves is for its user and administrators")

"""What is opened for the first who asks, shared, and closed some time after the last has gone.

Opening and closing happen in one task of the event loop, which `asyncio.run` cancels at its end: what is kept never
outlives its loop, and nobody has to be told. What the values are is not known here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

V = TypeVar("V")
Opener = Callable[[], AbstractAsyncContextManager[V]]
log = logging.getLogger("taskloom.evals")


class Kept(Generic[V]):
    """`idle`: seconds that a value stays when nobody uses it; None: until `close`. usable: whether the next who asks
    may have it.
    """

    def __init__(self, idle: float | None, usable: Callable[[V], bool] = lambda _: True) -> None:
        self._idle, self._usable = idle, usable
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Holding[V]]] = (
            WeakKeyDictionary()
        )

    @asynccontextmanager
    async def lease(self, key: Hashable, opener: Opener[V]) -> AsyncGenerator[V]:
        """The value of this key. Raises what opening it raised; then the next who asks tries again."""
        held = self._loops.setdefault(asyncio.get_running_loop(), {})
        holding = held.get(key)
        if holding is not None and not holding.is_good(self._usable):
            held.pop(key).retire()
            holding = None
        if holding is None:
            holding = held[key] = _Holding(opener)
            holding.keeper.add_done_callback(partial(self._forget, key, holding))
        with holding.use(self._idle):
            yield await asyncio.shield(holding.opened)

    def _forget(self, key: Hashable, holding: _Holding[V], keeper: asyncio.Task[None]) -> None:
        """Nothing here keeps a loop that has come to its end."""
        loop = keeper.get_loop()
        held = self._loops.get(loop, {})
        if held.get(key) is holding:
            del held[key]
        if not held:
            self._loops.pop(loop, None)

    async def close(self) -> None:
        """Closes what this event loop holds, once its users have gone."""
        held = self._loops.pop(asyncio.get_running_loop(), {})
        for holding in held.values():
            holding.retire()
        if held:
            await asyncio.wait([holding.keeper for holding in held.values()])


class _Holding(Generic[V]):
    """One value with its keeper."""

    def __init__(self, opener: Opener[V]) -> None:
        self.users = 0
        self.opened: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._leave = asyncio.Event()
        self._retired = False
        self._timer: asyncio.TimerHandle | None = None
        self.keeper = asyncio.create_task(self._keep(opener))

    @contextmanager
    def use(self, idle: float | None) -> Generator[None]:
        """One more user; after the last one it stays for `idle` seconds, or for good."""
        self.users += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            yield
        finally:
            self.users -= 1
            if not self.users:
                if self._retired:
                    self._leave.set()
                elif idle is not None:
                    self._timer = asyncio.get_running_loop().call_later(idle, self.retire)

    def is_good(self, usable: Callable[[V], bool]) -> bool:
        if self._retired or self.keeper.done():
            return False
        return not self.opened.done() or usable(self.opened.result())

    def retire(self) -> None:
        """Nobody new; closed once the last one has gone."""
        self._retired = True
        if not self.users:
            self._leave.set()

    async def _keep(self, opener: Opener[V]) -> None:
        try:
            async with opener() as value:
                self.opened.set_result(value)
                await self._leave.wait()
        except Exception as error:
            if self.opened.done():
                log.warning("closing what was kept for later runs failed: %s", error)
            else:
                self.opened.set_exception(error)
                self.opened.exception()  # whoever asked may have gone: then it is nobody's
        finally:
            self._retired = True
            if not self.opened.done():
                self.opened.cancel()

"""The places of one attempt: where its steps and its program run, stoppable from outside whichever it is.

Nothing here knows why something is stopped: see `oversight`.
"""

from __future__ import annotations

import asyncio

from taskloom.providers.contract import Launch, Place, Program, Provider, Wanted


class Interrupted(Exception):
    """A step was to begin after the attempt was cut short."""


class Places:
    """`interrupt` stops what runs in any of them and lets nothing more begin."""

    def __init__(self) -> None:
        self._places: list[WatchedPlace] = []
        self.closed = False

    async def acquire(self, provider: Provider, wanted: Wanted) -> WatchedPlace:
        if self.closed:
            raise Interrupted
        return self._watch(await provider.acquire(wanted))

    async def adopt(self, provider: Provider, handle: str) -> Program:
        place, program = await provider.adopt(handle)
        self._watch(place).program = program
        return program

    async def interrupt(self, grace: float) -> None:
        self.closed = True
        programs = [place.program for place in self._places if place.program is not None]
        await asyncio.gather(*(program.stop(grace) for program in programs))

    async def release(self) -> None:
        """Ends what still runs, by force."""
        self.closed = True
        for place in reversed(self._places):
            await place.release()

    def _watch(self, place: Place) -> WatchedPlace:
        self._places.append(WatchedPlace(place, self))
        return self._places[-1]


class WatchedPlace:
    """A place whose running program is known."""

    def __init__(self, place: Place, places: Places) -> None:
        self.program: Program | None = None
        self._place, self._places = place, places

    @property
    def image(self) -> str:
        return self._place.image

    async def start(self, launch: Launch) -> Program:
        if self._places.closed:
            raise Interrupted
        self.program = await self._place.start(launch)
        return self.program

    async def release(self) -> None:
        await self._place.release()

"""A provider that runs nothing and obeys the test: each program ends as its script says.

It keeps the whole contract (order, stop, keep, adopt, release, files), so that what is tested with it holds elsewhere,
too. Programs live in a `World`, which outlives the providers that start and adopt them, as a machine does.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from taskloom.providers.contract import Exit, Launch, NoPlace, NotStarted, Wanted


@dataclass(frozen=True)
class Script:
    """What a program does: writes, runs until `seconds` have passed (None: until it is stopped), ends.

    `stubborn`: it ignores the request to stop and has to be killed. `refused`: it cannot be started.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float | None = 0.0
    code: int = 0
    stubborn: bool = False
    refused: str = ""


@dataclass
class World:
    """Every program that was started, by its handle."""

    programs: dict[str, DummyProgram] = field(default_factory=dict["str", "DummyProgram"])


class DummyProvider:
    """`scripts` by argv; an argv without a script cannot be started. `full`: why no place is to be had."""

    def __init__(
        self, scripts: Mapping[tuple[str, ...], Script], full: str = "", world: World | None = None
    ) -> None:
        self.scripts = scripts
        self.full = full
        self.world = world or World()
        self.places: list[DummyPlace] = []

    async def acquire(self, wanted: Wanted) -> DummyPlace:
        if self.full:
            raise NoPlace(self.full)
        place = DummyPlace(self.scripts, self.world)
        self.places.append(place)
        return place

    async def adopt(self, handle: str) -> tuple[DummyPlace, DummyProgram]:
        program = self.world.programs.get(handle) or DummyProgram(Script(), None, handle)
        program.held = True
        place = DummyPlace(self.scripts, self.world, program)
        self.places.append(place)
        return place, program

    def die(self) -> None:
        """What runs has no holder any more."""
        for place in self.places:
            place.abandon()


class DummyPlace:
    image = ""

    def __init__(
        self, scripts: Mapping[tuple[str, ...], Script], world: World, program: DummyProgram | None = None
    ) -> None:
        self._scripts = scripts
        self._world = world
        self._program = program
        self.launches: list[Launch] = []
        self.released = False

    async def start(self, launch: Launch) -> DummyProgram:
        script = self._scripts.get(launch.argv, Script(refused="no such script"))
        if self._program is not None and not self._program.ended:
            raise NotStarted(f"cannot run {launch.argv[0]!r}: the program before it still runs here")
        if script.refused:
            raise NotStarted(f"cannot run {launch.argv[0]!r} in {launch.cwd}: {script.refused}")
        self.launches.append(launch)
        self._program = DummyProgram(script, launch, f"dummy-{len(self._world.programs)}")
        self._world.programs[self._program.handle] = self._program
        return self._program

    def abandon(self) -> None:
        if self._program is not None:
            self._program.abandon()

    async def release(self) -> None:
        self.released = True
        if self._program is not None:
            await self._program.stop(0)


class DummyProgram:
    """`launch` None: a program of which nothing is known."""

    def __init__(self, script: Script, launch: Launch | None, handle: str) -> None:
        self.handle = handle
        self.held = True
        self._script = script
        self._asked = asyncio.Event()
        self._forced = asyncio.Event()
        self._kept_until = 0.0
        self._lost = "" if launch is not None else "it is not to be found"
        for path, data in ((launch.stdout, script.stdout), (launch.stderr, script.stderr)) if launch else ():
            with path.open("ab") as file:
                file.write(data)
        self._end = asyncio.create_task(self._run())

    @property
    def ended(self) -> bool:
        return self._end.done()

    async def wait(self) -> Exit:
        return await asyncio.shield(self._end)

    async def stop(self, grace: float) -> Exit:
        if not self.ended:
            self._asked.set()
            loop = asyncio.get_running_loop()
            loop.call_later(grace, self._forced.set)
        return await self.wait()

    async def keep(self, seconds: float) -> None:
        self._kept_until = asyncio.get_running_loop().time() + seconds

    def abandon(self) -> None:
        self.held = False
        asyncio.get_running_loop().call_at(self._kept_until, self._given_up)

    def _given_up(self) -> None:
        if not self.held and not self.ended:
            self._lost = "nobody held it for longer than it was kept"
            self._asked.set()
            self._forced.set()

    async def _run(self) -> Exit:
        if self._lost:
            return Exit(lost=self._lost)
        heard = self._forced if self._script.stubborn else self._asked
        try:
            await asyncio.wait_for(heard.wait(), self._script.seconds)
        except TimeoutError:
            return Exit(code=self._script.code, stopped=self._asked.is_set())
        if self._lost:
            return Exit(lost=self._lost)
        number = signal.SIGKILL if self._script.stubborn else signal.SIGTERM
        return Exit(signal=int(number), stopped=True)

"""A provider that runs nothing and obeys the test: each program ends as its script says.

It keeps the whole contract (order, stop, release, files), so that what is tested with it holds elsewhere, too.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from taskloom.domain.execution import Resources
from taskloom.providers.contract import Exit, Launch, NoPlace, NotStarted


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


class DummyProvider:
    """`scripts` by argv; an argv without a script cannot be started. `full`: why no place is to be had."""

    def __init__(self, scripts: Mapping[tuple[str, ...], Script], full: str = "") -> None:
        self.scripts = scripts
        self.full = full
        self.places: list[DummyPlace] = []

    async def acquire(self, resources: Resources) -> DummyPlace:
        if self.full:
            raise NoPlace(self.full)
        place = DummyPlace(self.scripts)
        self.places.append(place)
        return place


class DummyPlace:
    def __init__(self, scripts: Mapping[tuple[str, ...], Script]) -> None:
        self._scripts = scripts
        self._program: DummyProgram | None = None
        self.launches: list[Launch] = []
        self.released = False

    async def start(self, launch: Launch) -> DummyProgram:
        script = self._scripts.get(launch.argv, Script(refused="no such script"))
        if self._program is not None and not self._program.ended:
            raise NotStarted(f"cannot run {launch.argv[0]!r}: the program before it still runs here")
        if script.refused:
            raise NotStarted(f"cannot run {launch.argv[0]!r} in {launch.cwd}: {script.refused}")
        self.launches.append(launch)
        self._program = DummyProgram(script, launch)
        return self._program

    async def release(self) -> None:
        self.released = True
        if self._program is not None:
            await self._program.stop(0)


class DummyProgram:
    def __init__(self, script: Script, launch: Launch) -> None:
        self._script = script
        self._asked = asyncio.Event()
        self._forced = asyncio.Event()
        for path, data in ((launch.stdout, script.stdout), (launch.stderr, script.stderr)):
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

    async def _run(self) -> Exit:
        heard = self._forced if self._script.stubborn else self._asked
        try:
            await asyncio.wait_for(heard.wait(), self._script.seconds)
        except TimeoutError:
            return Exit(code=self._script.code, stopped=self._asked.is_set())
        number = signal.SIGKILL if self._script.stubborn else signal.SIGTERM
        return Exit(signal=int(number), stopped=True)

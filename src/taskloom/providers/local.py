"""The provider of this machine: programs run here, each under a supervisor process.

The supervisor (see `supervisor`) holds one end of a pipe; when this process dies, it kills the program with
all that descends from it. Nothing here knows about tasks or leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil

from taskloom.domain.execution import Resources
from taskloom.providers import supervisor
from taskloom.providers.contract import Exit, Launch, NoPlace, NotStarted

_SUPERVISOR = (sys.executable, "-I", "-S", str(Path(supervisor.__file__)))


class LocalProvider:
    """`gpus`: how many GPUs a place here may promise."""

    def __init__(self, gpus: int = 0) -> None:
        self._gpus = gpus

    async def acquire(self, resources: Resources) -> LocalPlace:
        check_resources(resources, self._gpus)
        return LocalPlace()


class LocalPlace:
    def __init__(self) -> None:
        self._program: LocalProgram | None = None

    async def start(self, launch: Launch) -> LocalProgram:
        if self._program is not None and not self._program.ended:
            raise NotStarted(f"cannot run {launch.argv[0]!r}: the program before it still runs here")
        process = await asyncio.create_subprocess_exec(
            *_SUPERVISOR,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal reaches the worker only
        )
        program = LocalProgram(process)
        self._program = program  # before anything that can be cancelled: release must find it
        await program.launch(launch)
        return program

    async def release(self) -> None:
        if self._program is not None:
            await self._program.stop(0)


class LocalProgram:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._end: asyncio.Task[Exit] | None = None
        self._pid = 0
        self._stopped = False

    @property
    def pid(self) -> int:
        """The program's own process, which leads its group; 0 before it runs."""
        return self._pid

    @property
    def ended(self) -> bool:
        return self._end is not None and self._end.done()

    async def launch(self, launch: Launch) -> None:
        order = {
            "argv": list(launch.argv),
            "cwd": str(launch.cwd),
            "env": dict(launch.env),
            "stdout": str(launch.stdout),
            "stderr": str(launch.stderr),
        }
        self._say(order)
        answer = await self._hear()
        if "started" not in answer:
            await self._process.wait()
            self._end = asyncio.create_task(self._watch())
            await self.wait()
            why = answer.get("refused", "its supervisor ended")
            raise NotStarted(f"cannot run {launch.argv[0]!r} in {launch.cwd}: {why}")
        self._pid = int(answer["started"])
        self._end = asyncio.create_task(self._watch())

    async def wait(self) -> Exit:
        if self._end is None:
            await self._process.wait()
            return Exit(lost="it was never started")
        return await asyncio.shield(self._end)

    async def stop(self, grace: float) -> Exit:
        if not self.ended:
            self._stopped = True
            if self._end is None and self._process.stdin is not None:
                self._process.stdin.close()  # it was not started yet: the end of the input ends it
            else:
                self._say({"stop": grace})
        return await self.wait()

    async def _watch(self) -> Exit:
        answer = await self._hear()
        await self._process.wait()
        if "code" in answer or "signal" in answer:
            return Exit(answer.get("code"), answer.get("signal"), stopped=self._stopped)
        self._kill_group()
        return Exit(lost="the supervisor of the program was killed", stopped=self._stopped)

    def _kill_group(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)

    def _say(self, message: dict[str, Any]) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        return json.loads(line) if line else {}


def check_resources(resources: Resources, gpus: int) -> None:
    """Raises NoPlace naming the first thing that this machine does not have."""
    wanted = (
        ("CPUs", resources.cpus, os.cpu_count() or 1),
        ("bytes of memory", resources.memory, psutil.virtual_memory().total),
        ("GPUs", resources.gpus, gpus),
    )
    for what, asked, here in wanted:
        if asked is not None and asked > here:
            raise NoPlace(f"the task asks for {asked:g} {what}; this place has {here:g}")

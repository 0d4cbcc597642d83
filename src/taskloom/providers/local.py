"""The provider of this machine: programs run here, each under a supervisor process.

What this process and the supervisor (see `supervisor`) say to one another goes through a folder of the place, so that
another process can go on where this one died. Nothing here knows about tasks or leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from taskloom.domain.execution import Resources
from taskloom.providers import supervisor
from taskloom.providers.contract import Exit, Launch, NoPlace, NotStarted, Wanted

_SUPERVISOR = (sys.executable, "-I", "-S", str(Path(supervisor.__file__)))
ABANDONED = "nobody held it for longer than it was kept"
SUPERVISOR_KILLED = "the supervisor of the program was killed"


@dataclass(frozen=True)
class Commands:
    """What the supervisor runs to ask something to end that is not its descendant, and to remove it."""

    ask: tuple[str, ...] = ()
    clear: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])


class LocalProvider:
    """`gpus`: how many GPUs a place here may promise."""

    def __init__(self, gpus: int = 0) -> None:
        self._gpus = gpus

    async def acquire(self, wanted: Wanted) -> LocalPlace:
        if wanted.image:
            raise NoPlace(f"the task asks for the image {wanted.image}; this place has no containers")
        check_resources(wanted.resources, self._gpus, wanted.folder)
        return LocalPlace(wanted.folder)

    async def adopt(self, handle: str) -> tuple[LocalPlace, LocalProgram]:
        folder = Path(read_handle(handle, "folder"))
        program = LocalProgram(folder)
        program.hold()
        return LocalPlace(folder.parent, program), program


class LocalPlace:
    image = ""

    def __init__(self, folder: Path, program: LocalProgram | None = None) -> None:
        self._folder = folder
        self._program = program
        self._count = 0

    async def start(self, launch: Launch) -> LocalProgram:
        return await self.supervise(launch, Commands())

    async def supervise(self, launch: Launch, commands: Commands) -> LocalProgram:
        """Starts it; the commands are for what does not descend from the program."""
        if self._program is not None and not self._program.ended:
            raise NotStarted(f"cannot run {launch.argv[0]!r}: the program before it still runs here")
        try:
            program = LocalProgram(self.new_folder())
            self._program = program  # before anything that can be cancelled: release must find it
            await program.launch(launch, commands)
        except OSError as error:
            raise NotStarted(f"cannot run {launch.argv[0]!r}: {error}") from error
        return program

    def new_folder(self) -> Path:
        """Where the next program and its supervisor meet."""
        while True:
            self._count += 1
            folder = self._folder / f"program-{self._count}"
            with contextlib.suppress(FileExistsError):
                folder.mkdir(parents=True, mode=0o700)
                return folder

    async def release(self) -> None:
        if self._program is not None:
            await self._program.stop(0)


class LocalProgram:
    """What is known of one program, by its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._control = -1
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._end: asyncio.Task[Exit] | None = None
        self._stopped = False

    @property
    def handle(self) -> str:
        return json.dumps({"folder": str(self._folder)})

    @property
    def pid(self) -> int:
        """The program's own process, which leads its group; 0 before it runs."""
        return int(self._status().get("pid", 0))

    @property
    def ended(self) -> bool:
        return self._end is not None and self._end.done()

    async def launch(self, launch: Launch, commands: Commands) -> None:
        self._open_control()
        order = {
            "argv": list(launch.argv),
            "cwd": str(launch.cwd),
            "env": dict(launch.env),
            "stdout": str(launch.stdout),
            "stderr": str(launch.stderr),
            "ask": list(commands.ask),
            "clear": list(commands.clear),
            "command_env": dict(commands.env),
        }
        heard, told = os.pipe2(os.O_CLOEXEC)
        try:
            self._supervisor = _spawn(self._folder, json.dumps(order).encode(), told, launch.held)
        finally:
            os.close(told)
        self._end = asyncio.create_task(self._watch(os.pidfd_open(self._supervisor.pid)))
        try:
            refused = await _until_started(heard)
        finally:
            os.close(heard)
        if refused is not None:
            await self.wait()
            why = refused or "its supervisor ended"
            raise NotStarted(f"cannot run {launch.argv[0]!r} in {launch.cwd}: {why}")

    def hold(self) -> None:
        """Takes over a program that another process started, or its end."""
        with contextlib.suppress(OSError):
            self._open_control()
        pid = int(self._status().get("supervisor", 0))
        descriptor = _pidfd(pid) if pid else None
        if descriptor is not None and not is_held(self._folder / supervisor.LOCK):
            os.close(descriptor)  # it ended; its number may be another's by now
            descriptor = None
        self._end = asyncio.create_task(self._watch(descriptor))

    async def wait(self) -> Exit:
        assert self._end is not None
        return await asyncio.shield(self._end)

    async def stop(self, grace: float) -> Exit:
        if not self.ended:
            self._stopped = True
            self._say({"stop": grace})
        return await self.wait() if self._end is not None else Exit(lost="it was never started")

    async def keep(self, seconds: float) -> None:
        self._say({"keep": seconds})

    async def _watch(self, descriptor: int | None) -> Exit:
        """`descriptor` tells when the supervisor is gone; None: it is."""
        if descriptor is not None:
            try:
                await readable(descriptor)
            finally:
                os.close(descriptor)
        if self._supervisor is not None:
            self._supervisor.wait()  # it is gone: this only takes its status away
        if self._control >= 0:
            os.close(self._control)
            self._control = -1
        status = self._status()
        if status.get("abandoned"):
            return Exit(lost=ABANDONED, stopped=self._stopped)
        if "code" in status or "signal" in status:
            return Exit(status.get("code"), status.get("signal"), stopped=self._stopped)
        if self._supervisor is not None and "pid" in status:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(status["pid"]), signal.SIGKILL)
        return Exit(lost=SUPERVISOR_KILLED if "pid" in status else "it is not to be found", stopped=self._stopped)

    def _open_control(self) -> None:
        path = self._folder / supervisor.CONTROL
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # Read and write, so that it opens without anybody at the other end; the supervisor counts writers.
        self._control = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def _status(self) -> dict[str, Any]:
        try:
            return json.loads((self._folder / supervisor.STATUS).read_bytes())
        except (OSError, ValueError):
            return {}

    def _say(self, message: dict[str, Any]) -> None:
        if self._control >= 0:
            with contextlib.suppress(OSError):
                os.write(self._control, json.dumps(message).encode() + b"\n")


def _spawn(folder: Path, order: bytes, told: int, held: Sequence[int]) -> subprocess.Popen[bytes]:
    """The order lies in memory: it may hold secrets, and be larger than a pipe."""
    source = os.memfd_create("order")
    try:
        with open(source, "wb", closefd=False) as file:
            file.write(order)
        os.lseek(source, 0, os.SEEK_SET)
        return subprocess.Popen(
            [*_SUPERVISOR, str(folder)],
            stdin=source,
            stdout=told,
            stderr=subprocess.DEVNULL,
            env={},
            pass_fds=held,
            start_new_session=True,  # a Ctrl-C at the terminal reaches the worker only
        )
    finally:
        os.close(source)


async def _until_started(heard: int) -> str | None:
    """None once the program runs, else why it does not."""
    text = b""
    while True:
        await readable(heard)
        piece = os.read(heard, 65536)
        text += piece
        for line in text.split(b"\n")[:-1]:
            told = json.loads(line)
            if "refused" in told:
                return str(told["refused"])
            if "pid" in told:
                return None
        if not piece:
            return ""


async def readable(descriptor: int) -> None:
    """Until there is something to read."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def is_held(lock: Path) -> bool:
    """Whether a living process holds the lock."""
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def read_handle(handle: str, key: str) -> str:
    """A value of a handle; a text that is none names nothing that exists."""
    try:
        return str(json.loads(handle)[key])
    except (ValueError, KeyError, TypeError):
        return os.devnull + "/nothing"


def check_resources(resources: Resources, gpus: int, folder: Path) -> None:
    """Raises NoPlace naming the first thing that this machine does not have."""
    wanted = (
        ("CPUs", resources.cpus, os.cpu_count() or 1),
        ("bytes of memory", resources.memory, psutil.virtual_memory().total),
        ("bytes of disk", resources.disk, _free(folder) if resources.disk is not None else 0),
        ("GPUs", resources.gpus, gpus),
        ("machines", resources.nodes, 1),
    )
    for what, asked, here in wanted:
        if asked is not None and asked > here:
            raise NoPlace(f"the task asks for {asked:g} {what}; this place has {here:g}")


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free

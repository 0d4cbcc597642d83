"""One process for one session: a command or an interactive shell, in the sandbox when there is one.

START runs it with pipes, or with a terminal of its own; `end` kills it with everything that it started and returns when
nothing of that is left: the sandbox's first process takes all others with it, and without a sandbox they are found by
their group, their parents and a variable that marks them. What goes in and out stands in `sessions`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import shutil
import signal
import struct
import tempfile
import termios
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import psutil

from taskloom.evals.workspace.sandbox import Sandbox, View, sandbox_arguments

CHUNK = 64 * 2**10  # bytes that are read at once, of each of a process's outputs
MARK = "TASKLOOM_WORKSPACE_SESSION"
LOOK = 0.02  # seconds until a process that is over is known to be, and between two looks where nothing tells of it
GRACE = 10.0  # seconds that a killed process may take to be gone


@dataclass(frozen=True)
class Terminal:
    kind: str
    columns: int
    rows: int


@dataclass(frozen=True)
class Order:
    """What to run: `command` for the shell, None for the shell itself."""

    shell: str
    command: str | None = None
    terminal: Terminal | None = None
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def words(self) -> list[str]:
        words = [self.shell] if self.command is None else [self.shell, "-c", self.command]
        # The session's first process takes the terminal as its own, so that job control and Ctrl-C work.
        setsid = shutil.which("setsid") if self.terminal is not None else None
        return [setsid, "-c", *words] if setsid else words


class Shell:
    """A running process. `inner`: in the sandbox the process that all others there die with."""

    def __init__(self, process: Process, mark: str, terminal: int | None, inner: int | None) -> None:
        self.process, self.terminal = process, terminal
        self._mark, self._inner = mark, inner
        self._outer = _watch(process.pid)
        self._line = _watch(inner) if inner is not None else None
        self._ended = False

    def signal(self, number: int) -> None:
        """To the command and all that it started."""
        if number == signal.SIGKILL:
            self._kill()
            return
        for process in self._family():
            with contextlib.suppress(psutil.Error, ValueError):
                process.send_signal(number)

    def resize(self, columns: int, rows: int) -> None:
        if self.terminal is not None and not self._ended:
            set_size(self.terminal, columns, rows)

    async def wait(self) -> None:
        """Until the command is over; others that it started may still hold its outputs open."""
        if self._outer is not None:
            await _readable(self._outer)
        while self.process.returncode is None:
            await asyncio.sleep(LOOK)

    async def end(self) -> None:
        """Kill what is left of it and wait until it is gone; again does nothing."""
        if self._ended:
            return
        self._ended = True
        self._kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                if self._line is not None:
                    await _readable(self._line)
                await self.wait()
        for held in (self._line, self._outer, self.terminal):
            if held is not None:
                os.close(held)

    def _kill(self) -> None:
        if self._line is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._line, signal.SIGKILL)
            return
        for process in (*self._family(), *self._marked()):
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)  # its own `kill` would take the exit code away

    def _family(self) -> list[psutil.Process]:
        """The processes below the sandbox's first; without one, the command and what is below it."""
        with contextlib.suppress(psutil.Error):
            if self._inner is not None:
                return psutil.Process(self._inner).children(recursive=True)
            if self.process.returncode is None:
                first = psutil.Process(self.process.pid)
                return [first, *first.children(recursive=True)]
        return []

    def _marked(self) -> list[psutil.Process]:
        """Without a sandbox: those that left the family, by the variable that they inherited."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
        return found


async def start_shell(order: Order, view: View, sandbox: Sandbox | None) -> Shell:
    """OSError when it cannot be started."""
    mark = uuid.uuid4().hex
    variables = dict(order.variables) if sandbox is not None else {**order.variables, MARK: mark}
    if order.terminal is not None:
        variables["TERM"] = order.terminal.kind
    master, slave = pty.openpty() if order.terminal is not None else (None, None)
    if order.terminal is not None and master is not None:
        set_size(master, order.terminal.columns, order.terminal.rows)
    try:
        if sandbox is None:
            process = await _spawn(
                order.words, slave, variables=variables, folder=str(view.root), own=slave is None
            )
            return Shell(process, mark, master, None)
        return await _start_inside(order, view, sandbox, variables, (master, slave), mark)
    except BaseException:
        if master is not None:
            os.close(master)
        raise
    finally:
        if slave is not None:
            os.close(slave)


async def _start_inside(
    order: Order,
    view: View,
    sandbox: Sandbox,
    variables: Mapping[str, str],
    terminal: tuple[int | None, int | None],
    mark: str,
) -> Shell:
    """The arguments go through a file: they hold variables, and others may see a command line."""
    master, slave = terminal
    reading, writing = os.pipe()
    try:
        with tempfile.TemporaryFile() as arguments:
            arguments.write(b"\0".join(os.fsencode(word) for word in sandbox_arguments(sandbox, view, variables)))
            arguments.seek(0)
            words = [sandbox.program, "--args", str(arguments.fileno()), "--info-fd", str(writing)]
            if order.terminal is None:
                words.append("--new-session")
            words += ["--", *order.words]
            process = await _spawn(words, slave, variables={}, passed=(arguments.fileno(), writing))
        os.close(writing)
        writing = -1
        inner = await _inner_process(reading)
        return Shell(process, mark, master, inner)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


async def _inner_process(reading: int) -> int | None:
    """What bubblewrap tells of itself; None when it ended before it came that far."""
    told = b""
    while True:
        await _readable(reading)
        piece = os.read(reading, CHUNK)
        told += piece
        if not piece:
            break
    try:
        return int(msgspec.json.decode(told)["child-pid"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None


async def _spawn(
    words: Sequence[str],
    terminal: int | None,
    *,
    variables: Mapping[str, str],
    folder: str | None = None,
    passed: tuple[int, ...] = (),
    own: bool = True,
) -> Process:
    stream = PIPE if terminal is None else terminal
    return await asyncio.create_subprocess_exec(
        *words,
        stdin=stream,
        stdout=stream,
        stderr=stream,
        env=dict(variables),
        cwd=folder,
        pass_fds=passed,
        start_new_session=own,
        limit=CHUNK,
    )


def _watch(process: int) -> int | None:
    """A descriptor that is readable once the process is over; None where the system has none, or it is gone."""
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):
        return None


async def _readable(line: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(line, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(line)


def set_size(terminal: int, columns: int, rows: int) -> None:
    size = struct.pack("HHHH", max(0, min(rows, 65535)), max(0, min(columns, 65535)), 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)

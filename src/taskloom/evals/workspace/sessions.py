"""One SSH session with a process: what comes in, what goes out, signals, and the end of it.

The process's outputs are read only as fast as the client takes them, so a flood waits in the process and not here. The
session ends when its command does (what that left running dies), when the client closes it, or when the workspace stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import asyncssh

from taskloom.evals.workspace.shells import CHUNK, Order, Shell, Terminal

StartShell = Callable[[Order], Awaitable[Shell]]

CANNOT = 126  # exit code of a session whose process could not be started
COLUMNS, ROWS = 80, 24  # of a terminal whose size the client did not tell
MAX_VARIABLES = 64  # that a client may set for a session
MAX_VARIABLE = 64 * 2**10  # bytes of one, name and value


class Session:
    """`serve` runs it to its end; `stop` ends it early."""

    def __init__(self, process: asyncssh.SSHServerProcess[bytes], shell: str) -> None:
        self._process, self._program = process, shell
        self._shell: Shell | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._stopped = asyncio.Event()
        self.finished = asyncio.Event()
        # Signals wait behind unread input otherwise, for ever when the command reads none.
        process.exception_received = self._noticed

    def stop(self) -> None:
        self._stopped.set()

    async def serve(self, start: StartShell, variables: dict[str, str]) -> None:
        try:
            await self._serve(start, variables)
        finally:
            self.finished.set()

    async def _serve(self, start: StartShell, variables: dict[str, str]) -> None:
        order = self._order(variables)
        try:
            self._shell = await start(order)
        except OSError as error:
            self._process.stderr.write(f"the workspace cannot start {self._program}: {error.strerror}\n".encode())
            self._process.exit(CANNOT)
            return
        try:
            await self._attend(self._shell)
        finally:
            await self._shell.end()

    def _order(self, variables: dict[str, str]) -> Order:
        process = self._process
        command = process.command
        asked = {name: value for name, value in process.env.items() if len(name) + len(value) <= MAX_VARIABLE}
        usable = {name: value for name, value in asked.items() if name.isidentifier() and "\0" not in value}
        known = {**variables, **dict(list(usable.items())[:MAX_VARIABLES])}
        terminal = None
        if process.term_type is not None:
            columns, rows = process.term_size[:2]
            terminal = Terminal(process.term_type or "dumb", columns or COLUMNS, rows or ROWS)
        return Order(self._program, command, terminal, known)

    async def _attend(self, shell: Shell) -> None:
        """Until the command is over and its output delivered, or nobody wants it any more."""
        forwarding = [asyncio.create_task(one) for one in await self._streams(shell)]
        work = asyncio.create_task(self._finish(shell, forwarding[1:]))
        left = [asyncio.create_task(self._process.wait_closed()), asyncio.create_task(self._stopped.wait())]
        try:
            await asyncio.wait([work, *left], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, *left, *forwarding):
                task.cancel()
            await asyncio.gather(work, *left, *forwarding, return_exceptions=True)
            if self._writer is not None:
                self._writer.close()
            if not self._process.is_closing():
                self._process.close()

    async def _finish(self, shell: Shell, outputs: list[asyncio.Task[None]]) -> None:
        await shell.wait()
        await shell.end()  # what it left running may hold the outputs open
        await asyncio.gather(*outputs)
        code = shell.process.returncode or 0
        with contextlib.suppress(OSError, asyncssh.Error):
            if code < 0:
                self._process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
            else:
                self._process.exit(code)
            await self._process.wait_closed()

    async def _streams(self, shell: Shell) -> list[Coroutine[Any, Any, None]]:
        """The forwarding to do: input first, then the outputs."""
        if shell.terminal is not None:
            reader, self._writer = await _terminal_streams(shell.terminal)
            return [self._input(self._writer, ends=False), _output(reader, self._process.stdout)]
        process = shell.process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._writer = process.stdin
        return [
            self._input(self._writer, ends=True),
            _output(process.stdout, self._process.stdout),
            _output(process.stderr, self._process.stderr),
        ]

    async def _input(self, writer: asyncio.StreamWriter, *, ends: bool) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            while chunk := await self._process.stdin.read(CHUNK):
                writer.write(chunk)
                await writer.drain()
        if ends:
            writer.close()
        else:
            writer.write(b"\x04")  # the end of the input, as a terminal says it

    def _noticed(self, exc: Exception) -> None:
        if self._shell is None:
            return
        if isinstance(exc, asyncssh.TerminalSizeChanged):
            self._shell.resize(exc.width, exc.height)
        elif isinstance(exc, asyncssh.BreakReceived):
            self._shell.signal(signal.SIGINT)
        elif isinstance(exc, asyncssh.SignalReceived):
            number = getattr(signal, f"SIG{exc.signal}", None)
            if isinstance(number, signal.Signals):
                self._shell.signal(number)


async def _output(reader: asyncio.StreamReader, writer: asyncssh.SSHWriter[bytes]) -> None:
    """Until the end; at a terminal the end is an error of its reading."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()


async def _terminal_streams(terminal: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Its two directions; each closes a descriptor of its own."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=CHUNK)
    reading = asyncio.StreamReaderProtocol(reader)
    await loop.connect_read_pipe(lambda: reading, os.fdopen(os.dup(terminal), "rb", buffering=0))
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(os.dup(terminal), "wb", buffering=0)
    )
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)

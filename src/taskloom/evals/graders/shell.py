"""The shell grader: a command says whether the answer is right, by its exit code. 0 is 1.0, everything else 0.0.

The command is the author's, run as this process's user: what an agent may do to it is decided by where its files lie.
No process of it outlives the grade: its whole group is killed at its end, its time's end, or a cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskloom.evals.failures import GraderFailure
from taskloom.evals.graders.scores import Grader
from taskloom.evals.graders.text import text_of

TIMEOUT = 600.0  # seconds of a command, when nothing else is said
MOST_OUTPUT = 32_768  # bytes kept of either stream: half of its beginning, half of its end
DRAIN = 5.0  # seconds for what is left in the pipes once the group is dead


class ShellGrader(Grader):
    """Runs a command in a shell.

    command  for `sh -c`; it finds the answer's text on its standard input
    cwd      folder that it runs in, such as a workspace's root; the process's own when left out
    env      variables beside those of this process
    timeout  seconds; beyond it the score is 0.0, and `timed_out` stands in the info

    Info: `command`, `exit_code` (None when it ran out of time; below 0: the signal), `stdout`, `stderr`, `timed_out`.
    GraderFailure when the command cannot be started.
    """

    shell = "sh"

    def __init__(
        self,
        command: str,
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        timeout_seconds: float | None = None,
        name: str = "",
        weight: float = 1.0,
    ) -> None:
        super().__init__(name=name, weight=weight)
        self.timeout = timeout if timeout_seconds is None else timeout_seconds
        if not command.strip():
            raise ValueError("the command is empty: expected what a shell can run")
        if not self.timeout > 0:
            raise ValueError(f"timeout {self.timeout}: expected seconds above 0")
        self.command, self.cwd, self.env = command, cwd, dict(env or {})

    async def score(self, answer: Any) -> tuple[float, dict[str, Any]]:
        # A start that is cancelled halfway would leave what it started: it is always finished, and then killed.
        starting = asyncio.ensure_future(self._start())
        try:
            transport, command = await asyncio.shield(starting)
        except asyncio.CancelledError:
            with contextlib.suppress(GraderFailure):  # it did not start: nothing to kill
                transport, command = await starting
                _kill_group(transport.get_pid())
                await asyncio.shield(command.end(transport))
            raise
        timed_out = False
        try:
            command.feed(transport, text_of(answer))
            await asyncio.wait_for(command.exited.wait(), self.timeout)
        except TimeoutError:
            timed_out = True
        finally:
            _kill_group(transport.get_pid())
            await asyncio.shield(command.end(transport))
        code = None if timed_out else transport.get_returncode()
        info = {
            "command": self.command,
            "exit_code": code,
            "stdout": command.outputs[1].text(),
            "stderr": command.outputs[2].text(),
            "timed_out": timed_out,
        }
        return float(code == 0), info

    async def _start(self) -> tuple[asyncio.SubprocessTransport, _Command]:
        program = shutil.which(self.shell)
        if program is None:
            raise GraderFailure(f"this machine has no {self.shell} to run the command in")
        try:
            return await asyncio.get_running_loop().subprocess_exec(
                _Command,
                program,
                "-c",
                self.command,
                cwd=self.cwd,
                env={**os.environ, **self.env},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise GraderFailure(f"the command {self.command!r:.200} cannot be started: {error}") from None


class BashGrader(ShellGrader):
    """The same with `bash -c`."""

    shell = "bash"


class _Command(asyncio.SubprocessProtocol):
    """Its end and its output. A protocol of our own, as `Process.wait` also waits for the pipes, which what the command
    left behind may hold open."""

    def __init__(self) -> None:
        self.exited, self.closed = asyncio.Event(), asyncio.Event()
        self.outputs = {1: _Output(), 2: _Output()}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.outputs[fd].add(data)

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    def feed(self, transport: asyncio.SubprocessTransport, text: str) -> None:
        """Give it the text and then the end of the input; a command that does not read it is no error."""
        stdin = transport.get_pipe_transport(0)
        if isinstance(stdin, asyncio.WriteTransport):
            stdin.write(text.encode("utf-8", "surrogatepass"))
            stdin.close()

    async def end(self, transport: asyncio.SubprocessTransport) -> None:
        """Once its group is killed: wait for it, read what is left, and leave pipes that others outside the group hold."""
        await self.exited.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.closed.wait(), DRAIN)
        transport.close()


class _Output:
    """A stream's beginning and end; the middle of a flood is counted and dropped."""

    def __init__(self) -> None:
        self._head, self._tail, self._dropped = b"", b"", 0

    def add(self, data: bytes) -> None:
        half = MOST_OUTPUT // 2
        room = half - len(self._head)
        if room > 0:
            self._head, data = self._head + data[:room], data[room:]
        tail = self._tail + data
        self._dropped += max(0, len(tail) - half)
        self._tail = tail[-half:]

    def text(self) -> str:
        gap = f"\n... {self._dropped} bytes left out ...\n" if self._dropped else ""
        return self._head.decode("utf-8", "replace") + gap + self._tail.decode("utf-8", "replace")


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)

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
        process = await self._start()
        outputs = [_Output(process.stdout), _Output(process.stderr)]
        readers = [asyncio.ensure_future(output.read()) for output in outputs]
        feeding = asyncio.ensure_future(_feed(process.stdin, text_of(answer)))
        timed_out = False
        try:
            await asyncio.wait_for(process.wait(), self.timeout)
        except TimeoutError:
            timed_out = True
        finally:
            _kill_group(process.pid)
            await asyncio.shield(_reap(process, [*readers, feeding]))
        code = None if timed_out else process.returncode
        info = {
            "command": self.command,
            "exit_code": code,
            "stdout": outputs[0].text(),
            "stderr": outputs[1].text(),
            "timed_out": timed_out,
        }
        return float(code == 0), info

    async def _start(self) -> asyncio.subprocess.Process:
        program = shutil.which(self.shell)
        if program is None:
            raise GraderFailure(f"this machine has no {self.shell} to run the command in")
        pipe = asyncio.subprocess.PIPE
        try:
            return await asyncio.create_subprocess_exec(
                program,
                "-c",
                self.command,
                cwd=self.cwd,
                env={**os.environ, **self.env},
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise GraderFailure(f"the command {self.command!r:.200} cannot be started: {error}") from None


class BashGrader(ShellGrader):
    """The same with `bash -c`."""

    shell = "bash"


class _Output:
    """A stream's beginning and end; the middle of a flood is counted and dropped."""

    def __init__(self, stream: asyncio.StreamReader | None) -> None:
        self._stream = stream
        self._head, self._tail, self._dropped = b"", b"", 0

    async def read(self) -> None:
        half = MOST_OUTPUT // 2
        while self._stream is not None and (data := await self._stream.read(65536)):
            room = half - len(self._head)
            self._head += data[:room] if room > 0 else b""
            rest = self._tail + (data[room:] if room > 0 else data)
            self._dropped += max(0, len(rest) - half)
            self._tail = rest[-half:]

    def text(self) -> str:
        gap = f"\n... {self._dropped} bytes left out ...\n" if self._dropped else ""
        return self._head.decode("utf-8", "replace") + gap + self._tail.decode("utf-8", "replace")


async def _feed(stdin: asyncio.StreamWriter | None, text: str) -> None:
    if stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(text.encode("utf-8", "surrogatepass"))
        await stdin.drain()
        stdin.close()
        await stdin.wait_closed()


async def _reap(process: asyncio.subprocess.Process, readers: list[asyncio.Task[None]]) -> None:
    """The process is gone and its pipes are read; one that a process outside the group holds is left after a while."""
    await process.wait()
    _, late = await asyncio.wait(readers, timeout=DRAIN)
    for reader in late:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)

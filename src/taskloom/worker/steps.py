"""What is done before the child runs: programs such as git and uv, each watched, told and stoppable.

A step runs in the attempt's place, so that an abort or the death of the worker ends it like the child itself.
What it prints goes to the task's console as the worker's own report, line by line while it runs, without the
credentials that a URL may hold. A step that fails raises `PrepareFailed`, whose text becomes the task's reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskloom.providers.contract import Exit, Launch, NotStarted, Place

ECHO_SECONDS = 0.5
TAIL_LINES = 200

_USERINFO = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^\s/@]+)@", re.IGNORECASE)
_PASSING = re.compile(r"(?i)\b((?:access_|private_|auth_)?token|api_?key|password|secret)=[^\s&\"']+")
_HEADER = re.compile(r"(?i)\b(authorization:\s*)(\S+\s+)?\S+")
_PLAIN_USER = re.compile(r"[A-Za-z0-9_.-]+")


class PrepareFailed(Exception):
    """The task cannot be run; the message says which thing is wrong and how. Becomes the task's reason."""


def redact(text: str) -> str:
    """The text without passwords and tokens of URLs, query strings and headers. `ssh://git@` stays."""

    def hide(match: re.Match[str]) -> str:
        scheme, user = match["scheme"], match["user"]
        if scheme.lower() in {"ssh://", "git+ssh://"} and _PLAIN_USER.fullmatch(user):
            return match[0]
        return f"{scheme}***@"

    return _HEADER.sub(r"\1***", _PASSING.sub(r"\1=***", _USERINFO.sub(hide, text)))


class Report:
    """The worker's own lines on the task's console: appended to the journal's `report` stream."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lost = 0

    def say(self, text: str) -> None:
        """One or more lines. A full disk loses the line, never the task."""
        data = (redact(text).rstrip("\n") + "\n").encode("utf-8", "replace")
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            self.lost += 1
            return
        try:
            os.write(descriptor, data)
        except OSError:
            self.lost += 1
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Done:
    """A step that ran to its end; `output` is the last part of what it printed, without credentials."""

    exit: Exit
    output: str

    @property
    def ok(self) -> bool:
        return self.exit.code == 0

    @property
    def complaint(self) -> str:
        """The line of the output that says best what is wrong."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        for mark in ("fatal:", "error:", "ERROR:", "×"):
            for line in lines:
                if line.startswith(mark):
                    return line
        return lines[-1] if lines else describe(self.exit)


class Steps:
    """Runs the steps of one attempt, one after another, in its place."""

    def __init__(self, place: Place, report: Report, folder: Path) -> None:
        self._place = place
        self.report = report
        self._folder = folder
        self._count = 0

    async def run(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], *, echo: bool = True, shown: str = ""
    ) -> Done:
        """Runs one program to its end. Raises PrepareFailed when it cannot be started."""
        self._count += 1
        log = self._folder / f"step-{self._count}.log"
        log.touch(mode=0o600)
        if echo:
            self.report.say(f"taskloom: {shown or ' '.join(argv)}")
        try:
            program = await self._place.start(Launch(tuple(argv), cwd, env, log, log))
        except NotStarted as error:
            raise PrepareFailed(redact(str(error))) from error
        async with self._echoing(log, echo):
            end = await program.wait()
        tail = log.read_bytes()[-65536:].decode("utf-8", "replace").splitlines()[-TAIL_LINES:]
        return Done(end, redact("\n".join(tail)))

    async def must(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], failed: str, *, echo: bool = True
    ) -> Done:
        """`run`, and PrepareFailed that begins with `failed` unless it ended well."""
        done = await self.run(argv, cwd, env, echo=echo)
        if not done.ok:
            raise PrepareFailed(redact(f"{failed}: {done.complaint}"))
        return done

    @contextlib.asynccontextmanager
    async def _echoing(self, log: Path, echo: bool) -> AsyncGenerator[None]:
        """Copies whole lines to the report while the step runs, and the rest when it is over."""
        with log.open("rb") as file:
            copying = asyncio.create_task(self._copy(file.read)) if echo else None
            try:
                yield
            finally:
                if copying is not None:
                    copying.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await copying

    async def _copy(self, read: Callable[[], bytes]) -> None:
        pending = b""
        try:
            while True:
                pending = self._say_lines(pending + read())
                await asyncio.sleep(ECHO_SECONDS)
        finally:
            rest = pending + read()
            if rest:
                self.report.say(rest.decode("utf-8", "replace"))

    def _say_lines(self, data: bytes) -> bytes:
        whole, newline, rest = data.rpartition(b"\n")
        if newline:
            self.report.say(whole.decode("utf-8", "replace"))
        return rest


def describe(end: Exit) -> str:
    """How a program ended, in words."""
    if end.lost:
        return end.lost
    if end.signal is not None:
        return f"killed by signal {end.signal}"
    return f"exit code {end.code}"

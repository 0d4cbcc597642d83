"""The contract of a provider: somebody who supplies a place and runs programs in it.

It is written at length because every implementation, and every test of one, is held to it (tests/contracts).

ORDER     acquire -> (start -> wait or stop), one after another, any number of times -> release.
          `release` always comes, also after an error or a cancellation at any point; it may come twice.

ACQUIRE   Gives a place that can hold the execution, or raises `NoPlace` with a sentence for people. It may take
          long (a cluster's queue). Cancelled, it leaves nothing behind.

START     Runs one program. `Launch.argv` is a list and never goes through a shell; `Launch.env` is the whole
          environment, nothing of the caller's own is added. Standard input is empty. Standard output and error
          are appended to the two files, by the program itself where the place shares a disk, so that what it
          wrote is there even when everybody else was killed. Returns once the program runs; a program that cannot
          be started raises `NotStarted`, which names it and why. A second program may not be started in a place
          while the first one runs.

WAIT      Returns how the program ended, once it and every process that descends from it are gone: a provider
          ends what the program left behind. May be called often, by many, before and after the end. Cancelling
          a wait has no effect on the program.

STOP      Asks the program to end (SIGTERM to its process group), waits `grace` seconds, then ends every process
          that descends from it by force: those that ignore the signal, that changed their session, that forked
          twice. Returns when all of them are gone. Stopping what has ended does nothing. A second stop with
          less grace makes the first one hurry. Never raises for a program that is already gone.

RELEASE   Ends whatever still runs, by force, and gives the place back.

DEATH     When the process that holds the provider dies, by whatever signal, everything that runs in its places
          dies with it at once: no orphan goes on beside the attempt that replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from taskloom.domain.execution import Resources


class NoPlace(Exception):
    """This provider cannot hold the execution; the message says what is missing."""


class NotStarted(Exception):
    """The program could not be started; the message names it and the cause."""


@dataclass(frozen=True)
class Launch:
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    stdout: Path
    stderr: Path


@dataclass(frozen=True)
class Exit:
    """How a program ended: a code, or the number of the signal that killed it, or `lost`: nobody saw its end.

    `stopped`: a stop was asked for before it ended.
    """

    code: int | None = None
    signal: int | None = None
    lost: str = ""
    stopped: bool = False


class Program(Protocol):
    """A program that was started in a place."""

    async def wait(self) -> Exit: ...

    async def stop(self, grace: float) -> Exit: ...


class Place(Protocol):
    """Where programs run, one at a time."""

    async def start(self, launch: Launch) -> Program: ...

    async def release(self) -> None: ...


class Provider(Protocol):
    """Who supplies places."""

    async def acquire(self, resources: Resources) -> Place: ...

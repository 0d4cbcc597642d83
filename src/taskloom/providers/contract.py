"""The contract of a provider: somebody who supplies a place and runs programs in it.

It is written at length because every implementation, and every test of one, is held to it (tests/contracts). It asks
for nothing that a cluster could not give: a place may be an allocation on another machine, as long as that one shares
the attempt's folder, or the provider carries the files.

ORDER     acquire -> (start -> wait or stop), one after another, any number of times -> release.
          `release` always comes, also after an error or a cancellation at any point; it may come twice. The one
          exception is a holder that means to be back (KEEP): it goes without a word.

ACQUIRE   Gives a place that can hold what is wanted, or raises `NoPlace` with a sentence for people. It may take
          long (a cluster's queue, an image that has to come); what it does meanwhile it says through `Wanted.say`.
          Cancelled, it leaves nothing behind. `Wanted.folder` is an empty folder of the caller's that the place may
          keep its own files in; it has to stay until the place is released.

START     Runs one program. `Launch.argv` is a list and never goes through a shell; `Launch.env` is the whole
          environment, nothing of the caller's own is added (in a container it stands on top of the image's own).
          Standard input is empty. Standard output and error are appended to the two files, by the program itself
          where the place shares a disk, so that what it wrote is there even when everybody else was killed. The
          descriptors in `Launch.held` (locks) stay open as long as anything of the program lives, and the program
          does not get them. Returns once the program runs; a program that cannot be started raises `NotStarted`,
          which names it and why. A second program may not be started in a place while the first one runs.

WAIT      Returns how the program ended, once it and every process that descends from it are gone: a provider
          ends what the program left behind. May be called often, by many, before and after the end. Cancelling
          a wait has no effect on the program.

STOP      Asks the program to end (SIGTERM to its process group), waits `grace` seconds, then ends every process
          that descends from it by force: those that ignore the signal, that changed their session, that forked
          twice. Returns when all of them are gone. Stopping what has ended does nothing. A second stop with
          less grace makes the first one hurry. Never raises for a program that is already gone.

KEEP      Says how long the program goes on without its holder: should the process that holds this provider die
          or leave, by whatever signal, the program goes on for `seconds` from this call, waiting to be adopted;
          then it is ended by force, with all that descends from it, so that no orphan goes on beside the attempt
          that replaces it. Each call takes the place of the one before. Never called, or 0: it is ended at once
          with its holder; that is what steps such as git and uv want. The time is counted by a clock that nobody
          can set, and that counts while the machine sleeps.

ADOPT     `Program.handle` is a text that can be kept on a disk. Another process gives it to `adopt` of a provider
          of the same kind and holds the program from then on, as if it had started it: its wait, stop, keep and
          the place's release. What ended meanwhile is adopted, too: its `wait` tells how it ended. What ended
          because nobody came in time, or is not to be found, has an `Exit` that is `lost`. A program has one
          holder at a time; that nobody else holds it is the caller's business.

RELEASE   Ends whatever still runs, by force, and gives the place back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from taskloom.domain.execution import Resources


class NoPlace(Exception):
    """This provider cannot hold the execution; the message says what is missing."""


class NotStarted(Exception):
    """The program could not be started; the message names it and the cause."""


def say_nothing(_: str) -> None:
    """For who does not want to hear how it goes."""


@dataclass(frozen=True)
class Wanted:
    """What a place has to be.

    folder          where the place keeps its own files: sockets of its own, how its programs ended
    image           container image; empty: none, which is all that a provider without containers takes
    image_arguments for the command that runs containers, as the task wrote them
    mounts          `HOST:PLACE` or `HOST:PLACE:ro`
    gpus            the GPUs that the programs may use, by the names that CUDA takes; None: no word about them
    say             takes lines for people while it lasts
    """

    folder: Path
    resources: Resources = field(default_factory=Resources)
    image: str = ""
    image_arguments: str = ""
    mounts: tuple[str, ...] = ()
    gpus: tuple[str, ...] | None = None
    say: Callable[[str], None] = say_nothing


@dataclass(frozen=True)
class Launch:
    """One program. `shared`: files and folders outside the place's own that it needs, each at the same path;
    `readonly`: the same, and nothing of it may be changed, where the place can see to that.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    stdout: Path
    stderr: Path
    shared: tuple[Path, ...] = ()
    readonly: tuple[Path, ...] = ()
    held: tuple[int, ...] = ()


@dataclass(frozen=True)
class Exit:
    """How a program ended: a code, or the number of the signal that killed it, or `lost`: nobody knows or cared.

    `stopped`: a stop was asked for before it ended.
    """

    code: int | None = None
    signal: int | None = None
    lost: str = ""
    stopped: bool = False


class Program(Protocol):
    """A program that was started in a place."""

    @property
    def handle(self) -> str: ...

    async def wait(self) -> Exit: ...

    async def stop(self, grace: float) -> Exit: ...

    async def keep(self, seconds: float) -> None: ...


class Place(Protocol):
    """Where programs run, one at a time. `image`: names exactly what the place was made from; empty: this machine."""

    @property
    def image(self) -> str: ...

    async def start(self, launch: Launch) -> Program: ...

    async def release(self) -> None: ...


class Provider(Protocol):
    """Who supplies places."""

    async def acquire(self, wanted: Wanted) -> Place: ...

    async def adopt(self, handle: str) -> tuple[Place, Program]: ...

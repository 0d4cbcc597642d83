"""One suite for every provider: what `providers.contract` promises, on processes, in containers and on scripts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest
from tests.containers import image_for_tests
from tests.contracts.provider_holder import container_provider

from taskloom.domain.execution import Resources
from taskloom.providers.contract import Exit, Launch, NoPlace, NotStarted, Place, Program, Provider, Wanted
from taskloom.providers.dummy import DummyProvider, Script, World
from taskloom.providers.local import LocalProvider

SAY = ("/bin/sh", "-c", "printf hello; printf trouble >&2; exit 3")
SLEEP = ("/bin/sh", "-c", "echo begun; exec sleep 600")
STUBBORN = ("/bin/sh", "-c", "trap '' TERM; echo begun; while :; do sleep 0.1; done")
GATED = ("/bin/sh", "-c", "echo begun; while ! [ -e go ]; do sleep 0.05; done; echo over; exit 7")
MISSING = ("/no/such/program",)
PATIENCE = 60.0

SCRIPTS = {
    SAY: Script(stdout=b"hello", stderr=b"trouble", code=3),
    SLEEP: Script(stdout=b"begun\n", seconds=None),
    STUBBORN: Script(stdout=b"begun\n", seconds=None, stubborn=True),
    GATED: Script(stdout=b"begun\nover\n", seconds=0.5, code=7),
}


class Rig(Protocol):
    """One kind of provider, and a holder of its programs that can be killed."""

    folder: Path

    def provider(self) -> Provider: ...

    def too_small(self) -> Provider: ...

    async def held_elsewhere(
        self, argv: tuple[str, ...], keep: float
    ) -> tuple[str, Callable[[], Awaitable[None]]]:
        """A running program that another process started: its handle, and what kills that process."""
        ...

    async def lost(self) -> str:
        """The handle of a program that nobody can find any more."""
        ...


def wanted(rig: Rig, **more: Any) -> Wanted:
    return Wanted(rig.folder / "place", image=getattr(rig, "image", ""), **more)


def launch(rig: Rig, argv: tuple[str, ...], **more: Any) -> Launch:
    env = {"PATH": os.environ["PATH"], "COLOUR": "green 'and' blue\n"}
    return Launch(argv, rig.folder, env, rig.folder / "out", rig.folder / "err", **more)


async def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        await asyncio.sleep(0.01)


def said(rig: Rig, text: bytes) -> bool:
    return (rig.folder / "out").exists() and text in (rig.folder / "out").read_bytes()


async def begun(rig: Rig) -> None:
    await until(lambda: said(rig, b"begun"))


class ProcessRig:
    """Holders are processes of their own: tests/contracts/provider_holder.py."""

    kind, image = "local", ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.holders: list[subprocess.Popen[str]] = []

    def provider(self) -> Provider:
        return LocalProvider()

    def too_small(self) -> Provider:
        return self.provider()

    async def held_elsewhere(
        self, argv: tuple[str, ...], keep: float
    ) -> tuple[str, Callable[[], Awaitable[None]]]:
        words = [sys.executable, "-m", "tests.contracts.provider_holder", self.kind, self.image or "-"]
        holder = subprocess.Popen(
            [*words, str(self.folder), str(keep), *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.holders.append(holder)
        assert holder.stdout is not None
        assert holder.stderr is not None
        handle = (await asyncio.to_thread(holder.stdout.readline)).strip()
        assert handle, holder.stderr.read()

        async def die() -> None:
            holder.kill()
            await asyncio.to_thread(holder.wait)

        return handle, die

    async def lost(self) -> str:
        place = await self.provider().acquire(Wanted(self.folder / "lost", image=self.image))
        program = await place.start(launch(self, SAY))
        await program.wait()
        for status in (self.folder / "lost").rglob("status.json"):
            status.unlink()
        return program.handle

    def close(self) -> None:
        for holder in self.holders:
            holder.kill()
            holder.wait()
            for stream in (holder.stdout, holder.stderr):
                if stream is not None:
                    stream.close()


class ContainerRig(ProcessRig):
    kind = "container"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.image = image_for_tests()

    def provider(self) -> Provider:
        return container_provider()


class DummyRig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World()

    def provider(self) -> Provider:
        return DummyProvider(SCRIPTS, world=self.world)

    def too_small(self) -> Provider:
        return DummyProvider({}, full="no GPUs left")

    async def held_elsewhere(
        self, argv: tuple[str, ...], keep: float
    ) -> tuple[str, Callable[[], Awaitable[None]]]:
        provider = DummyProvider(SCRIPTS, world=self.world)
        program = await (await provider.acquire(wanted(self))).start(launch(self, argv))
        await program.keep(keep)

        async def die() -> None:
            provider.die()

        return program.handle, die

    async def lost(self) -> str:
        return "no handle"

    def close(self) -> None:
        pass


@pytest.fixture(params=["local", "dummy", pytest.param("container", marks=pytest.mark.containers)])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = {"local": ProcessRig, "dummy": DummyRig, "container": ContainerRig}[request.param](tmp_path)
    yield made
    made.close()


def test_a_program_writes_to_its_files_and_its_code_is_told(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider().acquire(wanted(rig))
        (rig.folder / "out").write_bytes(b"earlier ")
        program = await place.start(launch(rig, SAY))
        end = await program.wait()
        assert (end.code, end.signal, end.stopped) == (3, None, False)
        assert (rig.folder / "out").read_bytes() == b"earlier hello"
        assert (rig.folder / "err").read_bytes() == b"trouble"
        assert await program.wait() == end
        assert await program.stop(5) == end
        await program.keep(5)
        await place.release()

    asyncio.run(story())


def test_stop_ends_a_program_that_obeys(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider().acquire(wanted(rig))
        program = await place.start(launch(rig, SLEEP))
        await begun(rig)
        end = await program.stop(60)
        assert (end.code, end.signal, end.stopped) == (None, signal.SIGTERM, True)
        await place.release()

    asyncio.run(story())


def test_stop_ends_a_program_that_ignores_it(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider().acquire(wanted(rig))
        program = await place.start(launch(rig, STUBBORN))
        await begun(rig)
        end = await program.stop(0.1)
        assert (end.code, end.signal, end.stopped) == (None, signal.SIGKILL, True)
        await place.release()

    asyncio.run(story())


def test_a_second_stop_with_less_grace_hurries_the_first(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider().acquire(wanted(rig))
        program = await place.start(launch(rig, STUBBORN))
        await begun(rig)
        patient = asyncio.create_task(program.stop(3600))
        await asyncio.sleep(0)
        await program.stop(0)
        assert (await patient).signal == signal.SIGKILL

    asyncio.run(story())


def test_a_cancelled_wait_leaves_the_program_alone(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider().acquire(wanted(rig))
        program = await place.start(launch(rig, SLEEP))
        waiting = asyncio.create_task(program.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await begun(rig)
        with pytest.raises(NotStarted, match="still runs"):
            await place.start(launch(rig, SAY))
        await place.release()
        assert (await program.wait()).stopped

    asyncio.run(story())


def test_release_ends_everything_and_may_come_twice(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider().acquire(wanted(rig))
        program = await place.start(launch(rig, STUBBORN))
        await begun(rig)
        await place.release()
        await place.release()
        assert (await program.wait()).signal == signal.SIGKILL

    asyncio.run(story())


def test_a_program_that_is_not_there_is_named(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider().acquire(wanted(rig))
        with pytest.raises(NotStarted, match="/no/such/program"):
            await place.start(launch(rig, MISSING))
        program = await place.start(launch(rig, SAY))  # the place is still good
        assert (await program.wait()).code == 3
        await place.release()

    asyncio.run(story())


def test_a_place_that_cannot_be_given_is_refused_with_its_reason(rig: Rig) -> None:
    async def story() -> None:
        with pytest.raises(NoPlace, match="GPUs"):
            await rig.too_small().acquire(wanted(rig, resources=Resources(gpus=4096)))

    asyncio.run(story())


def test_a_running_program_is_adopted_and_its_end_is_told(rig: Rig) -> None:
    async def story() -> None:
        handle, die = await rig.held_elsewhere(GATED, keep=600)
        await begun(rig)
        await die()
        _, program = await rig.provider().adopt(handle)
        assert program.handle == handle
        (rig.folder / "go").touch()
        assert await program.wait() == Exit(code=7)
        assert (rig.folder / "out").read_bytes() == b"begun\nover\n"

    asyncio.run(story())


def test_an_adopted_program_is_stopped_as_one_that_was_started(rig: Rig) -> None:
    async def story() -> None:
        handle, die = await rig.held_elsewhere(STUBBORN, keep=600)
        await begun(rig)
        await die()
        place, program = await rig.provider().adopt(handle)
        assert (await program.stop(0.1)).signal == signal.SIGKILL
        await place.release()

    asyncio.run(story())


def test_what_ended_before_it_was_adopted_tells_how(rig: Rig) -> None:
    async def story() -> None:
        handle, die = await rig.held_elsewhere(GATED, keep=600)
        await begun(rig)
        await die()
        (rig.folder / "go").touch()
        await until(lambda: said(rig, b"over"))
        place, program = await rig.provider().adopt(handle)
        assert await program.wait() == Exit(code=7)
        await place.release()

    asyncio.run(story())


@pytest.mark.parametrize("keep", [0.0, 1.5])
def test_a_program_that_nobody_adopts_in_time_is_ended(rig: Rig, keep: float) -> None:
    async def story() -> None:
        handle, die = await rig.held_elsewhere(STUBBORN, keep=keep)
        await begun(rig)
        await die()
        alive = await alive_after(rig, handle, keep)
        _, program = await rig.provider().adopt(handle)
        assert (alive, bool((await program.wait()).lost)) == (False, True)

    asyncio.run(story())


async def alive_after(rig: Rig, handle: str, seconds: float) -> bool:
    """Whether it still runs when its time is over; looked at without holding it."""
    if isinstance(rig, DummyRig):
        await asyncio.sleep(seconds + 0.5)
        return not rig.world.programs[handle].ended
    pids = supervisors(rig.folder)
    assert pids or not seconds, "it should go on for a while"
    _, left = await asyncio.to_thread(psutil.wait_procs, pids, PATIENCE)
    return bool(left)


def supervisors(folder: Path) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join(process.cmdline()) and "supervisor.py" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_adopting_what_cannot_be_found_says_that_it_is_lost(rig: Rig) -> None:
    async def story() -> None:
        place, program = await rig.provider().adopt(await rig.lost())
        end = await program.wait()
        assert (end.code, end.signal, bool(end.lost)) == (None, None, True)
        assert await program.stop(1) == end
        await place.release()
        _, nothing = await rig.provider().adopt("{not a handle")
        assert (await nothing.wait()).lost

    asyncio.run(story())


ESCAPES = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
ready, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.write(tell, b".")
        time.sleep(600)
    os._exit(0)
os.read(ready, 1)
print("begun", flush=True)
{end}
"""


def escaped(folder: Path) -> int:
    return int((folder / "out").read_text().split()[0])


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def local(tmp_path: Path) -> Any:
    made = ProcessRig(tmp_path)
    yield made
    made.close()


async def start_local(rig: ProcessRig, argv: tuple[str, ...], **more: Any) -> tuple[Place, Program]:
    place = await rig.provider().acquire(wanted(rig))
    return place, await place.start(launch(rig, argv, **more))


@pytest.mark.parametrize("end", ["time.sleep(600)", "sys.exit(0)"], ids=["stopped", "ended"])
def test_local_ends_processes_that_left_the_session_and_forked_twice(local: ProcessRig, end: str) -> None:
    async def story() -> None:
        place, program = await start_local(local, (sys.executable, "-c", ESCAPES.format(end=end)))
        await begun(local)
        if "sleep" in end:
            assert not gone(escaped(local.folder))
            await program.stop(0.1)
        else:
            assert (await program.wait()).code == 0
        assert gone(escaped(local.folder))
        await place.release()

    asyncio.run(story())


def test_local_leaves_no_orphan_when_its_holder_is_killed(local: ProcessRig) -> None:
    script = (sys.executable, "-c", ESCAPES.format(end="time.sleep(600)"))

    async def story() -> None:
        _, die = await local.held_elsewhere(script, keep=0)
        await begun(local)
        tree = psutil.Process(local.holders[0].pid).children(recursive=True)
        assert len(tree) >= 3  # the supervisor, the program, the one that escaped
        await die()
        _, alive = await asyncio.to_thread(psutil.wait_procs, tree, PATIENCE)
        assert not alive

    asyncio.run(story())


def test_locks_are_held_as_long_as_the_program_lives_and_not_by_it(local: ProcessRig) -> None:
    import fcntl

    lock = local.folder / "lock"

    async def story() -> None:
        with lock.open("wb") as mine:
            fcntl.flock(mine, fcntl.LOCK_EX)
            listing = ("/bin/sh", "-c", "echo begun; ls -l /proc/self/fd; exec sleep 600")
            place, program = await start_local(local, listing, held=(mine.fileno(),))
        await until(lambda: said(local, b"begun"))
        with lock.open("wb") as other:
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            await program.stop(0)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert str(lock) not in (local.folder / "out").read_text()
        await place.release()

    asyncio.run(story())


def test_a_program_that_kills_its_supervisor_dies_with_it_and_is_lost(local: ProcessRig) -> None:
    async def story() -> None:
        place, program = await start_local(local, ("/bin/sh", "-c", "sleep 0.3; kill -9 $PPID; sleep 600"))
        assert (await program.wait()).lost == "the supervisor of the program was killed"
        await place.release()

    asyncio.run(story())


def test_an_environment_larger_than_any_pipe_reaches_the_program(local: ProcessRig) -> None:
    async def story() -> None:
        many = {f"NAME_{n}": "x" * 100_000 for n in range(12)}
        asked = launch(local, ("/bin/sh", "-c", "printf %s ${#NAME_11}"))
        place = await local.provider().acquire(wanted(local))
        program = await place.start(
            Launch(asked.argv, asked.cwd, many | dict(asked.env), asked.stdout, asked.stderr)
        )
        assert (await program.wait()).code == 0
        assert (local.folder / "out").read_text() == "100000"
        await place.release()

    asyncio.run(story())

"""What evaluations ask of the `podman` or `docker` of this machine: which one, in what network, what was left behind.

The engine itself is found as a worker finds it (see providers.container). Nothing here runs an environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import psutil

from taskloom.evals.failures import InfrastructureFailure
from taskloom.providers.container import Engine, complaint, engine_environ, find_engine

LABEL = "taskloom.evals.owner"
COMMAND_SECONDS = 60.0  # of one command of the engine
log = logging.getLogger("taskloom.evals")


class Engines:
    """What was found out, once for each process; asked by many runs at once."""

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}
        self._shared: dict[tuple[str, tuple[str, ...]], bool] = {}
        self._swept: set[str] = set()

    async def choose(self, wanted: str) -> Engine:
        """InfrastructureFailure when none works. The first call removes what earlier processes left."""
        engine = self._engines.get(wanted)
        if engine is None:
            engine = await asyncio.to_thread(find_engine, wanted, os.environ)
            if engine is None:
                what = "neither podman nor docker works" if wanted == "auto" else f"{wanted} does not work"
                raise InfrastructureFailure(f"containers cannot be run: {what} on this machine")
            self._engines[wanted] = engine
        if engine.path not in self._swept:
            self._swept.add(engine.path)
            await remove_leftovers(engine)
        return engine

    async def shares_network(self, engine: Engine, image: str, arguments: tuple[str, ...]) -> bool:
        """Whether a container that is run so is in the machine's own network, where no port can be published."""
        key = (engine.path, arguments)
        if key not in self._shared:
            label = f"--label={LABEL}={owner()}"
            name = (await ask_engine(engine, "create", label, *arguments, "--", image)).split()[-1]
            try:
                mode = await ask_engine(engine, "inspect", "--format={{.HostConfig.NetworkMode}}", "--", name)
            finally:
                await ask_engine(engine, "rm", "--force", "--volumes", "--", name)
            self._shared[key] = mode.strip() == "host"
        return self._shared[key]


async def ask_engine(engine: Engine, *words: str) -> str:
    """What a short command of the engine says; InfrastructureFailure with its complaint."""
    process = await asyncio.create_subprocess_exec(
        engine.path,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=engine_environ(os.environ),
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        raise InfrastructureFailure(f"{engine.name} {words[0]} did not end in {COMMAND_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        said = complaint(err.decode("utf-8", "replace")) or "it did not say why"
        raise InfrastructureFailure(f"{engine.name} {words[0]} failed: {said}")
    return out.decode("utf-8", "replace")


# --- whose containers -------------------------------------------------------------------------------------------


def owner() -> str:
    """This process, so that another one can tell whether it still lives."""
    return f"{platform.node()}/{_boot()}/{os.getpid()}/{_began(os.getpid())}"


def is_over(told: str) -> bool:
    """Whether the process of a label is gone; of another machine nobody here knows."""
    node, _, rest = told.partition("/")
    boot, _, rest = rest.partition("/")
    pid, _, began = rest.partition("/")
    if node != platform.node() or not pid.isdecimal():
        return False
    return boot != _boot() or _began(int(pid)) != began


async def remove_leftovers(engine: Engine) -> None:
    """Containers of runs whose process was killed together with what watches over them."""
    try:
        names = (await ask_engine(engine, "ps", "--all", f"--filter=label={LABEL}", "--format={{.ID}}")).split()
        form = f'--format={{{{.Id}}}} {{{{index .Config.Labels "{LABEL}"}}}}'
        told = await ask_engine(engine, "inspect", form, "--", *names) if names else ""
        over = [line.split(" ", 1)[0] for line in told.splitlines() if is_over(line.partition(" ")[2].strip())]
        if over:
            log.warning("removing %d containers of evaluations that were killed", len(over))
            await ask_engine(engine, "rm", "--force", "--volumes", "--", *over)
    except InfrastructureFailure as failure:  # gone meanwhile, or not to be removed: no reason not to run
        log.warning("containers that were left behind could not be removed: %s", failure)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _began(pid: int) -> str:
    """When a process began; empty when it is gone."""
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""


def words_of(arguments: Sequence[str]) -> tuple[str, ...]:
    """ValueError for one text, which nobody here takes apart."""
    if isinstance(arguments, str):
        raise ValueError(f"run_args {arguments!r}: expected a list of words")
    return tuple(arguments)

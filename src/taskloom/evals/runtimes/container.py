"""The runtime of containers: every run has a fresh container of an image that serves its environment.

    await taskset.run(agent, runtime=DockerRuntime("registry.example.org/team/environment:3"))

The image's own command has to serve the control channel and say the line `HUD_SERVE_PORT=PORT` on its output; images made
for HUD do. Only that port is published, on the loopback interface under any free number. Where containers share the
machine's network nothing can be published: then the image is handed a free port in TASKLOOM_SERVE_PORT.

The engine's command runs under the supervisor of `providers`, which removes the container when the run is over and when
this process is killed. What even that could not remove is found by its label when the next process begins.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import socket
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from taskloom.evals.channel.contract import ChannelLost
from taskloom.evals.failures import EnvironmentFailure, InfrastructureFailure
from taskloom.evals.runtimes.contract import Runtime
from taskloom.evals.runtimes.engines import LABEL, Engines, ask_engine, owner, words_of
from taskloom.evals.runtimes.output import Tail, with_lines
from taskloom.evals.serving.process import ANNOUNCEMENT, ENV_HOST, ENV_PORT, PORT
from taskloom.evals.task import Task
from taskloom.providers.container import Engine, Puller, complaint, engine_commands, engine_environ
from taskloom.providers.container_arguments import check_image
from taskloom.providers.contract import Exit, Launch, NoPlace, NotStarted, Wanted
from taskloom.providers.local import Commands, LocalPlace, LocalProgram, LocalProvider

START_SECONDS = 240.0  # from the container's start until it serves; bringing the image is not counted
GRACE_SECONDS = 2.0  # that it gets to end by itself
NEWS_SECONDS = 1.0  # that the end of a container may take to be known after its line broke
ENGINE_FAILED = 125  # what both engines exit with when it was not the container that failed
LINE = 4096  # bytes of a line of output that may be the announcement
log = logging.getLogger("taskloom.evals")
_ANNOUNCED = re.compile(rf"^{ANNOUNCEMENT}(\d{{1,5}})\s*$".encode(), re.MULTILINE)
_engines = Engines()


class DockerRuntime:
    """A container for each run, by the `podman` or `docker` of this machine.

    port      where the image serves inside of the container
    run_args  more arguments for the engine's `run`, such as `["--memory=2g", "--env=KEY"]`; nobody checks them
    engine    `podman` or `docker`; by default the first of them that works

    ValueError for what is no name of an image, or a port that is none.
    """

    def __init__(
        self, image: str, port: int = PORT, run_args: Sequence[str] = (), *, engine: str = "auto"
    ) -> None:
        try:
            self.image = check_image(image)
        except NoPlace as error:
            raise ValueError(str(error)) from None
        if not 0 < port < 2**16:
            raise ValueError(f"port {port}: expected 1 to 65535")
        if engine not in {"auto", "podman", "docker"}:
            raise ValueError(f"engine {engine!r}: expected podman, docker or auto")
        self.port, self.run_args, self.engine = port, words_of(run_args), engine

    def __repr__(self) -> str:
        return f"DockerRuntime({self.image!r})"

    @asynccontextmanager
    async def __call__(self, task: Task, /) -> AsyncGenerator[Runtime]:
        """InfrastructureFailure without an engine or the image; EnvironmentFailure when it ends before it serves."""
        async with AsyncExitStack() as undo:
            folder = Path(tempfile.mkdtemp(prefix="taskloom-run-"))
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            place = await LocalProvider().acquire(Wanted(folder / "place", say=log.info))
            undo.push_async_callback(place.release)
            try:
                container = await self._plan(folder, place)
                output = Output(folder / "output")
                undo.callback(output.tail.close)
                program = await place.supervise(container.launch(output.path), container.commands())
            except (NoPlace, NotStarted) as error:
                raise InfrastructureFailure(str(error)) from None
            undo.push_async_callback(program.stop, GRACE_SECONDS)
            port = await container.outer_port(await _announced(program, output))
            try:
                yield Runtime(f"tcp://127.0.0.1:{port}", origin=f"{self.image} in {container.engine.name}")
            except ChannelLost as error:
                raise await _with_end(error, program, output) from None

    async def _plan(self, folder: Path, place: LocalPlace) -> Container:
        engine = await _engines.choose(self.engine)
        puller = Puller(engine, engine_environ(os.environ), place, Wanted(folder, say=log.info))
        image = await puller.image_id(self.image, "missing")
        shares = await _engines.shares_network(engine, image, self.run_args)
        name = f"taskloom-eval-{folder.name.removeprefix('taskloom-run-').replace('_', '-')}-{os.getpid()}"
        return Container(engine, name, image, self.port, self.run_args, shares)


@dataclass(frozen=True)
class Container:
    """One container of an image. shares: it is in the machine's network."""

    engine: Engine
    name: str
    image: str
    port: int
    run_args: tuple[str, ...]
    shares: bool

    def launch(self, output: Path) -> Launch:
        where = ("127.0.0.1", _free_port()) if self.shares else ("0.0.0.0", self.port)  # noqa: S104 - of its own network
        published = () if self.shares else (f"--publish=127.0.0.1::{self.port}",)
        argv = (
            self.engine.path, "run", f"--name={self.name}", f"--label={LABEL}={owner()}", "--log-driver=none",
            "--sig-proxy=false", *published, f"--env={ENV_HOST}={where[0]}", f"--env={ENV_PORT}={where[1]}",
            *self.run_args, "--", self.image,
        )  # fmt: skip
        return Launch(argv, Path("/"), engine_environ(os.environ), output, output)

    def commands(self) -> Commands:
        return engine_commands(self.engine, self.name, engine_environ(os.environ))

    async def outer_port(self, announced: int) -> int:
        """Where this machine reaches what the container announced."""
        if self.shares:
            return announced
        if announced != self.port:
            raise EnvironmentFailure(
                f"the image serves at port {announced} but {self.port} is published: say port={announced}"
            )
        told = await ask_engine(self.engine, "port", self.name, f"{self.port}/tcp")
        return int(told.split()[0].rpartition(":")[2])


class Output:
    """What a container writes, through a FIFO that is read as fast as it comes; and the port that it announces."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        self.path = path
        self.port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._begun = b""
        # Read and write, so that it stays open until the engine's command has opened it, too.
        self.tail = Tail(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), self._hear)

    def _hear(self, data: bytes) -> None:
        if self.port.done():
            return
        whole, newline, self._begun = (self._begun + data).rpartition(b"\n")
        self._begun = self._begun[-LINE:]
        if newline and (found := _ANNOUNCED.search(whole)):
            self.port.set_result(int(found[1]))


async def _announced(program: LocalProgram, output: Output) -> int:
    """The port that the image says it serves at."""
    ended = asyncio.ensure_future(program.wait())
    try:
        await asyncio.wait({output.port, ended}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if output.port.done():
            return output.port.result()
        if not ended.done():
            text = f"the container did not say {ANNOUNCEMENT}PORT within {START_SECONDS:g} s"
            raise EnvironmentFailure(with_lines(text, output.tail))
        output.tail.close()
        end = ended.result()
        if end.code == ENGINE_FAILED or end.lost:
            said = end.lost or complaint("\n".join(output.tail.lines()))
            raise InfrastructureFailure(f"the container cannot be run: {said}")
        raise EnvironmentFailure(with_lines(f"the container {_told(end)} before it served", output.tail))
    finally:
        ended.cancel()


async def _with_end(error: ChannelLost, program: LocalProgram, output: Output) -> ChannelLost:
    """A line that broke because the container ended says so."""
    ended = asyncio.ensure_future(program.wait())
    await asyncio.wait({ended}, timeout=NEWS_SECONDS)
    if not ended.done():
        ended.cancel()
        return error
    output.tail.close()
    return ChannelLost(with_lines(f"{error}; the container {_told(ended.result())}", output.tail))


def _told(end: Exit) -> str:
    if end.lost:
        return "was lost"
    return f"was killed by signal {end.signal}" if end.signal else f"ended with exit code {end.code}"


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])

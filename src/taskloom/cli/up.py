"""`taskloom up`: a server and a worker on this machine, as two processes under one supervisor.

Order of a start: the server, until it says where it listens; then the worker; then journals that wait on this
machine from earlier runs. A child that dies is started again after a pause that grows; the server keeps its
port, so that scripts and workers find it again. Order of a stop: the worker first, so that its tasks are given
back, then the server. Children do not outlive this process, however it ends; tasks that run do when it was SIGTERM, and
the next `taskloom up` goes on with them. What they do is in their rooms.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import stat
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Annotated

import typer

from taskloom.cli.clearml import conf
from taskloom.domain.errors import TaskloomError, Unavailable
from taskloom.wire.connection import data_folder, read_connection
from taskloom.wire.worker_protocol import ENV_API_KEY, ENV_DATA, ENV_URL

SERVER_READY = "Taskloom is ready at "
AGAIN_FIRST, AGAIN_LAST = 0.5, 30.0
SETTLED = 60.0  # seconds of life after which a child's next pause is the first one again
STOP_SECONDS = 30.0
SHIPPERS = 4  # journals of earlier runs that are shipped at the same time
LOOK_FOR_JOURNALS = 60.0
_PR_SET_PDEATHSIG = 1

LINES = """\
from taskloom import Task

task = Task.init(project_name="examples", task_name="my first task")
settings = task.connect({"learning_rate": 0.01, "epochs": 10})
task.get_logger().report_scalar("loss", "train", value=0.5, iteration=1)"""

CLEARML_COMMAND = "taskloom clearml-config   # writes it; this output is a file that others may read"


def up(
    data: Annotated[Path | None, typer.Option(help="Folder that holds everything (else TASKLOOM_DATA).")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8080,
    queue: Annotated[list[str] | None, typer.Option(help="Queue that the worker serves; repeat for more.")] = None,
    slots: Annotated[int, typer.Option(help="Tasks that the worker runs at the same time.")] = 1,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Start the server only.")] = False,
) -> int:
    """Start a server and a worker on this machine, until Ctrl-C or SIGTERM; after SIGTERM tasks that run go on."""
    folder = (data.expanduser().absolute() if data else None) or data_folder()
    words = [f"--queue={name}" for name in queue or ["default"]] + [f"--slots={slots}"]
    return asyncio.run(Supervisor(folder, host, port, None if no_worker else words).run())


class Child:
    """A process that is wanted: started, started again when it dies, stopped at the end."""

    def __init__(self, what: str, argv: list[str], environ: Mapping[str, str]) -> None:
        self.what, self.argv, self.environ = what, argv, environ
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        """Start it; its first line on standard output. Raises Unavailable when it ends before it said one."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env=dict(self.environ),
            start_new_session=True,  # Ctrl-C comes to us, and we stop the children in their order
            preexec_fn=_die_with_parent,
        )
        assert self.process.stdout is not None
        line = (await self.process.stdout.readline()).decode("utf-8", "replace").strip()
        if not line:
            code = await self.process.wait()
            raise Unavailable(f"the {self.what} ended with exit code {code} before it was ready", exit_code=code)
        return line

    async def ended(self) -> int:
        """Reads what it still says, until it is gone."""
        assert self.process is not None
        assert self.process.stdout is not None
        while await self.process.stdout.read(65536):
            pass
        return await self.process.wait()

    async def stop(self, number: int) -> None:
        """The signal that we were stopped with, and after a long while SIGKILL."""
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


class Supervisor:
    """`worker` holds the worker's options; None: no worker."""

    def __init__(self, data: Path, host: str, port: int, worker: list[str] | None) -> None:
        self._data, self._host, self._port, self._worker_words = data, host, port, worker
        self._asked = asyncio.Event()
        self._code, self._signal = 0, signal.SIGTERM
        self._environ = {k: v for k, v in os.environ.items() if k not in {ENV_URL, ENV_API_KEY}}
        self._environ[ENV_DATA] = str(data)
        self._children: list[Child] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask, number)
        starting = asyncio.create_task(self._start())
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()  # what kept it from starting is told and ends us
            await asked
        finally:
            await self._stop([starting, asked])
        return self._code

    def _ask(self, number: signal.Signals) -> None:
        self._signal = number
        self._code = 130 if number == signal.SIGINT else 0
        self._asked.set()

    async def _start(self) -> None:
        server = Child("server", self._server_words(), self._environ)
        self._children.append(server)
        line = await server.start()
        url = line.removeprefix(SERVER_READY)
        self._port = int(url.rpartition(":")[2])
        server.argv = self._server_words()  # started again, it keeps this port
        self._watch(server)
        worker_line = ""
        if self._worker_words is not None:
            worker = Child("worker", self._worker_argv(self._worker_words), self._worker_environ(url))
            self._children.append(worker)
            worker_line = await worker.start()
            self._watch(worker)
        self._tasks.append(asyncio.create_task(ship_waiting(self._data, self._worker_environ(url))))
        print(line, *([worker_line] if worker_line else []), sep="\n")
        print(f"Data in {self._data}", "Add to a script, and run it as always:", _indented(LINES),
              "Or point ClearML's clients here, in their clearml.conf:", _indented(self._clearml_section()),
              "Ctrl-C stops.", sep="\n\n", flush=True)  # fmt: skip

    def _clearml_section(self) -> str:
        """With the key of the connection file, which whoever starts this can read anyway. Others could read it
        in a log, so it is left out of a file that is open to them.
        """
        written = read_connection(self._data)
        if written is None or _others_read(sys.stdout):
            return CLEARML_COMMAND
        return conf.section(written.url, written.api_key)

    def _watch(self, child: Child) -> None:
        self._tasks.append(asyncio.create_task(keep_alive(child)))

    async def _stop(self, others: list[asyncio.Task[object]]) -> None:
        """No restarts any more; then the children, last started first."""
        for task in (*others, *self._tasks):
            task.cancel()
        await asyncio.gather(*others, *self._tasks, return_exceptions=True)
        for child in reversed(self._children):
            await child.stop(self._signal)

    def _server_words(self) -> list[str]:
        place = ["--data", str(self._data), "--host", self._host, "--port", str(self._port)]
        return ["-P", "-m", "taskloom.server", *place]

    def _worker_argv(self, words: list[str]) -> list[str]:
        return ["-P", "-m", "taskloom.cli.worker", "--data", str(self._data), *words]

    def _worker_environ(self, url: str) -> dict[str, str]:
        """This server, whatever the person's own environment says."""
        written = read_connection(self._data)
        key = written.api_key if written is not None else ""
        return {**self._environ, ENV_URL: written.url if written is not None else url, ENV_API_KEY: key}


async def keep_alive(child: Child) -> None:
    """Starts the child again whenever it dies."""
    pause, born = AGAIN_FIRST, time.monotonic()
    while True:
        code = await child.ended()
        if time.monotonic() - born > SETTLED:
            pause = AGAIN_FIRST
        _say(f"the {child.what} ended with exit code {code}; starting it again in {pause:g} s")
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_LAST)
            try:
                born = time.monotonic()
                _say(await child.start())
                break
            except TaskloomError as error:
                _say(f"{error.message}; trying again in {pause:g} s")


async def ship_waiting(data: Path, environ: Mapping[str, str]) -> None:
    """Ships journals that earlier runs left on this machine, a few at a time; looks again now and then."""
    from taskloom.journal import layout
    from taskloom.journal.shipper import pending

    root = layout.journal_root(data)
    room = asyncio.Semaphore(SHIPPERS)

    async def ship(folder: Path) -> None:
        async with room:
            argv = ("-P", "-m", "taskloom.journal.shipper", str(folder))
            quiet = asyncio.subprocess.DEVNULL
            process = await asyncio.create_subprocess_exec(
                sys.executable, *argv, stdin=quiet, stdout=quiet, env=dict(environ), start_new_session=True
            )  # it may outlive us: it has a journal to deliver and ends by itself
            await process.wait()

    while True:
        waiting = [
            journal.folder
            for journal in await asyncio.to_thread(pending, root)
            if not (journal.alive or journal.offline or journal.refused)
            and not layout.is_locked(journal.folder / layout.SHIP_LOCK_FILE)
        ]
        if waiting:
            _say(f"shipping {len(waiting)} journals of earlier runs")
        await asyncio.gather(*(ship(folder) for folder in waiting))
        await asyncio.sleep(LOOK_FOR_JOURNALS)


def _die_with_parent() -> None:
    """In the child, before it is replaced: SIGTERM when this process is gone, however it went."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _others_read(stream: IO[str]) -> bool:
    """Whether what is printed goes to a file that other users may read."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) and bool(mode & (stat.S_IRGRP | stat.S_IROTH))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())


def _say(text: str) -> None:
    print(f"taskloom: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """`python -m taskloom.cli.up`, with the exit codes of the whole program."""
    from taskloom.cli.main import main as whole

    whole(["up", *sys.argv[1:]])


if __name__ == "__main__":
    main()

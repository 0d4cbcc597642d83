"""The provider of containers: programs run in an image, through the `docker` or `podman` command of this machine.

The command runs in the foreground under our own supervisor (see `local`), which removes the container when the
program is over, when it is stopped by force, and when nobody adopted it in time. A line of shell is the container's
first process: it opens the output files, since the disk is shared, tells that the program began and how it ended, and
passes SIGTERM on, which a first process would not hear. The container shares the machine's network, because the server that a task
reports to is often at a loopback address. What a task may ask for stands in `container_arguments`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from taskloom.domain.execution import Resources
from taskloom.providers.container_arguments import Mount, Rules, check_arguments, check_image, check_mounts
from taskloom.providers.contract import Exit, Launch, NoPlace, NotStarted, Wanted
from taskloom.providers.local import (
    Commands,
    LocalPlace,
    LocalProgram,
    LocalProvider,
    check_resources,
    read_handle,
)

EngineName = Literal["docker", "podman"]
PROBE_SECONDS = 20.0
LOOK_SECONDS = 0.02
SAY_SECONDS = 0.5
CLEAR_SECONDS = 60.0

# Only what a POSIX shell has built in: an image need not have more. `$1` is the folder of the files of this program.
_FIRST = r"""
_t_folder=$1; _t_out=$2; _t_err=$3; shift 3
. "$_t_folder/variables"
exec </dev/null >>"$_t_out" 2>>"$_t_err"
if ! command -v "$1" >/dev/null; then printf '%s' "it is not in the image" >"$_t_folder/refused"; exit 127; fi
: >"$_t_folder/began"
trap 'kill -TERM -1' TERM
"$@" &
_t_child=$!
while :; do wait "$_t_child"; _t_code=$?; kill -0 "$_t_child" 2>/dev/null || break; done
printf '%s' "$_t_code" >"$_t_folder/ended"
exit $_t_code
"""


@dataclass(frozen=True)
class Engine:
    """The command that runs containers, and the user whom a program is in one (`UID:GID`)."""

    name: EngineName
    path: str
    user: str


def find_engine(wanted: str, environ: Mapping[str, str]) -> Engine | None:
    """The first of podman and docker (or the wanted one) that answers."""
    for name in ("podman", "docker") if wanted == "auto" else (wanted,):
        path = shutil.which(name, path=environ.get("PATH"))
        if path is not None and (engine := _probe(name, path, environ)) is not None:
            return engine
    return None


def _probe(name: str, path: str, environ: Mapping[str, str]) -> Engine | None:
    """Docker without its daemon is no engine. Where the engine itself runs without rights, root inside is the
    worker's own user outside; otherwise a program inside is whoever the worker is.
    """
    known: EngineName = "podman" if name == "podman" else "docker"
    what = "{{.Host.Security.Rootless}}" if known == "podman" else "{{.SecurityOptions}}"
    try:
        done = subprocess.run(
            [path, "info", "--format", what],
            env=engine_environ(environ),
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode != 0:
        return None
    rootless = "true" in done.stdout or "rootless" in done.stdout
    return Engine(known, path, "0:0" if rootless else f"{os.geteuid()}:{os.getegid()}")


def engine_environ(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("TASKLOOM_")}


class ContainerProvider:
    """`gpus`: the worker's own, by the names that CUDA takes."""

    def __init__(
        self, engine: Engine, environ: Mapping[str, str], rules: Rules | None = None, gpus: tuple[str, ...] = ()
    ) -> None:
        self._engine = engine
        self._environ = engine_environ(environ)
        self._rules = rules or Rules()
        self._gpus = gpus

    async def acquire(self, wanted: Wanted) -> ContainerPlace:
        check_resources(wanted.resources, len(self._gpus), wanted.folder)
        arguments = check_arguments(wanted.image_arguments, self._rules)
        mounts = check_mounts(wanted.mounts, self._rules)
        image = check_image(wanted.image)
        local = await LocalProvider().acquire(Wanted(wanted.folder))
        puller = Puller(self._engine, self._environ, local, wanted)
        try:
            found = await puller.image_id(image, _pull_policy(arguments))
        finally:
            await local.release()
        gpus = self._gpus if wanted.gpus is None else wanted.gpus
        options = [
            *(word for word in arguments if not word.startswith("--pull")),
            *limits(wanted.resources, arguments),
            *gpu_options(self._engine.name, gpus),
        ]
        return ContainerPlace(self._engine, self._environ, local, wanted.folder, found, options, mounts)

    async def adopt(self, handle: str) -> tuple[LocalPlace, ContainerProgram]:
        place, program = await LocalProvider().adopt(handle)
        name, files = read_handle(handle, "name"), Path(read_handle(handle, "files"))
        commands = engine_commands(self._engine, name, self._environ)
        return place, ContainerProgram(program, name, files, commands)


class ContainerPlace:
    """`image` is the id of what the name meant when it was acquired."""

    def __init__(
        self,
        engine: Engine,
        environ: dict[str, str],
        local: LocalPlace,
        folder: Path,
        image: str,
        options: Sequence[str],
        mounts: Sequence[Mount],
    ) -> None:
        self.image = image
        self._engine, self._environ, self._local, self._folder = engine, environ, local, folder
        self._options, self._mounts = options, mounts

    async def start(self, launch: Launch) -> ContainerProgram:
        files = self._local.new_folder()
        name = f"taskloom-{hashlib.sha256(str(files).encode()).hexdigest()[:16]}"
        try:
            _write_variables(files / "variables", launch.env)
            argv = self._argv(name, files, launch)
        except (OSError, NoPlace) as error:
            raise NotStarted(f"cannot run {launch.argv[0]!r}: {error}") from error
        log = files / "engine.log"
        outer = Launch(argv, Path("/"), self._environ, log, log, held=launch.held)
        commands = engine_commands(self._engine, name, self._environ)
        supervised = await self._local.supervise(outer, commands)
        program = ContainerProgram(supervised, name, files, commands)
        await program.until_begun(launch)
        return program

    async def release(self) -> None:
        await self._local.release()

    def _argv(self, name: str, files: Path, launch: Launch) -> tuple[str, ...]:
        seen = {files.parent, launch.cwd, launch.stdout.parent, launch.stderr.parent, *launch.shared}
        own = [Mount(path, str(path)) for path in sorted(seen) if not any(p in seen for p in path.parents)]
        own += [Mount(path, str(path), read_only=True) for path in launch.readonly if path not in seen]
        mounts = [word for mount in (*own, *self._mounts) for word in ("--mount", mount.argument)]
        first = ("-c", _FIRST, "sh", str(files), str(launch.stdout), str(launch.stderr))
        return (
            self._engine.path, "run", f"--name={name}", f"--user={self._engine.user}", "--log-driver=none", "--sig-proxy=false",
            *(() if any(o.startswith("--network") for o in self._options) else ("--network=host",)),
            "--security-opt=label=disable", *self._options, *mounts,
            f"--workdir={launch.cwd}", "--entrypoint=/bin/sh", "--", self.image, *first, *launch.argv,
        )  # fmt: skip


class ContainerProgram:
    """The program by the command that runs its container."""

    def __init__(self, outer: LocalProgram, name: str, files: Path, commands: Commands) -> None:
        self._outer, self._name, self._files, self._commands = outer, name, files, commands
        self._end = asyncio.create_task(self._watch())

    @property
    def handle(self) -> str:
        known = json.loads(self._outer.handle)
        return json.dumps({**known, "name": self._name, "files": str(self._files)})

    async def until_begun(self, launch: Launch) -> None:
        """Raises NotStarted with the engine's own words, or those of our first process."""
        while not (self._files / "began").exists():
            if self._end.done() and not (self._files / "began").exists():
                why = _read(self._files / "refused") or complaint(_read(self._files / "engine.log"))
                raise NotStarted(f"cannot run {launch.argv[0]!r} in a container: {why or 'it was stopped'}")
            await asyncio.sleep(LOOK_SECONDS)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._end)

    async def stop(self, grace: float) -> Exit:
        await self._outer.stop(grace)
        return await self.wait()

    async def keep(self, seconds: float) -> None:
        await self._outer.keep(seconds)

    async def _watch(self) -> Exit:
        end = await self._outer.wait()
        if end.lost:  # the supervisor may not have come to remove it
            await _run_quietly(self._commands.clear, self._commands.env)
            return end
        told = _read(self._files / "ended")
        if not told.isdigit():  # it was killed, or never began; the engine's own code may say anything
            return Exit(signal=int(signal.SIGKILL), stopped=end.stopped)
        code = int(told)
        return (
            Exit(signal=code - 128, stopped=end.stopped) if 128 < code < 193 else Exit(code, stopped=end.stopped)
        )


class Puller:
    """Makes sure that an image is on this machine; says what the engine says meanwhile."""

    def __init__(self, engine: Engine, environ: dict[str, str], place: LocalPlace, wanted: Wanted) -> None:
        self._engine, self._environ, self._place, self._wanted = engine, environ, place, wanted

    async def image_id(self, image: str, policy: str) -> str:
        found = await self._known(image)
        if policy == "always" or (found is None and policy != "never"):
            self._wanted.say(f"taskloom: pulling the image {image}")
            end, output = await self._run(["pull", "--", image], aloud=True)
            if end.code != 0:
                raise NoPlace(
                    f"the image {image} cannot be had: {complaint(output) or 'the engine did not say why'}"
                )
            found = await self._known(image)
        if found is None:
            raise NoPlace(f"the image {image} is not on this machine")
        return found

    async def _known(self, image: str) -> str | None:
        end, output = await self._run(["image", "inspect", "--format", "{{.Id}}", "--", image])
        return output.split()[-1] if end.code == 0 and output.split() else None

    async def _run(self, words: Sequence[str], *, aloud: bool = False) -> tuple[Exit, str]:
        log = self._place.new_folder() / "output"
        launch = Launch((self._engine.path, *words), Path("/"), self._environ, log, log)
        try:
            program = await self._place.start(launch)
        except NotStarted as error:
            raise NoPlace(f"containers cannot be run: {error}") from error
        said = 0
        waiting = asyncio.create_task(program.wait())
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=SAY_SECONDS)
            lines = _read(log).splitlines()
            for line in lines[said : len(lines) if done else len(lines) - 1] if aloud else ():
                self._wanted.say(line)
                said += 1
            if done:
                return waiting.result(), _read(log)


def limits(resources: Resources, arguments: Sequence[str]) -> list[str]:
    """What was reserved is what the container gets; a shared memory of 64 MB would end most data loaders."""
    found: list[str] = []
    if resources.cpus:
        found.append(f"--cpus={resources.cpus:g}")
    if resources.memory:
        found.append(f"--memory={resources.memory}b")
    if not any(word.startswith(("--shm-size", "--ipc")) for word in arguments):
        found.append(f"--shm-size={(resources.memory or psutil.virtual_memory().total) // 2}b")
    return found


def gpu_options(engine: EngineName, gpus: Sequence[str]) -> list[str]:
    """Docker's own option takes a line of comma-separated values, hence the quotes; podman takes CDI names."""
    if not gpus:
        return []
    if engine == "docker":
        return ["--gpus", f'"device={",".join(gpus)}"']
    return [f"--device=nvidia.com/gpu={gpu}" for gpu in gpus]


def engine_commands(engine: Engine, name: str, environ: Mapping[str, str]) -> Commands:
    """What asks the container's first process to end, and what removes it, whether it is there or not."""
    at_once = ("--time=0",) if engine.name == "podman" else ()
    return Commands(
        ask=(engine.path, "kill", "--signal=TERM", "--", name),
        clear=(engine.path, "rm", "--force", *at_once, "--volumes", "--", name),
        env=environ,
    )


def complaint(output: str) -> str:
    """The line of the engine's output that says what is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    marked = [line for line in lines if line.lower().startswith(("error", "docker: ", "podman: "))]
    return (marked or lines or [""])[-1][:1000]


def _pull_policy(arguments: Sequence[str]) -> str:
    found = [word.partition("=")[2] for word in arguments if word.startswith("--pull=")]
    return found[-1] if found else "missing"


def _write_variables(path: Path, env: Mapping[str, str]) -> None:
    """In a file that the container reads, so that no value stands in an argument list."""
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


async def _run_quietly(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    quiet = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=quiet, stdout=quiet, stderr=quiet, env=dict(environ), start_new_session=True
        )
    except OSError:
        return
    try:
        await asyncio.wait_for(process.wait(), CLEAR_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()

"""A workspace: the folder of one attempt in which code and packages are what the task recorded.

`prepare` turns an Execution into an argument list, a folder and an environment, or raises PrepareFailed with
the reason. It starts nothing of the task's own: that is the attempt's business.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from taskloom.domain.execution import Execution
from taskloom.wire.messages import Lease
from taskloom.worker.command import build_argv, check_variables, inherited, inside, working_folder
from taskloom.worker.git import Repositories, apply_changes, git_environment
from taskloom.worker.packages import Environment, Environments
from taskloom.worker.steps import PrepareFailed, Steps

PackagesMode = Literal["build", "reuse"]
REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class Prepared:
    """What to run.

    mounts  what a container must see besides the attempt's folder, each at the same path inside
    held    descriptors of locks that have to live as long as the program
    phase   a file that the program writes `run` into once its setup lines are over; None: it has none
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    mounts: tuple[Path, ...] = ()
    held: tuple[int, ...] = ()
    phase: Path | None = None


class Workspaces:
    """Prepares workspaces; knows the caches, keeps nothing of a single attempt."""

    def __init__(
        self,
        repositories: Repositories,
        environments: Environments,
        environ: Mapping[str, str],
        packages: PackagesMode,
        own: Environment,
    ) -> None:
        self._repositories = repositories
        self._environments = environments
        self._environ = environ
        self._packages: PackagesMode = packages
        self._own = own

    @contextlib.asynccontextmanager
    async def prepare(
        self, lease: Lease, folder: Path, steps: Steps, given: Mapping[str, str], image: str = ""
    ) -> AsyncGenerator[Prepared]:
        """`given` are the worker's variables for the child; `image` the id of what it will run in. The packages stay
        as long as the caller is inside.
        """
        execution = lease.task.execution
        variables = check_variables(execution.variables)
        workspace = folder / "workspace"
        await self._code(execution, workspace, folder, steps)
        execution = msgspec.structs.replace(execution, packages=_packages(execution, workspace, steps))
        async with self._use(execution, steps) as environment:
            path = variables.get("PATH") or self._environ.get("PATH", os.defpath)
            env = {
                **inherited(self._environ),
                "PYTHONUNBUFFERED": "1",
                **variables,
                **environment.variables(path),
                **_import_paths(execution, workspace),
                **given,
            }
            argv, phase = build_argv(execution, workspace, environment.python), None
            if execution.setup.strip():
                phase = folder / "phase"
                argv = ("sh", "-c", _setup_first(execution.setup, phase), "sh", *argv)
            yield Prepared(argv=argv, cwd=working_folder(execution, workspace), env=env, phase=phase)

    async def _code(self, execution: Execution, workspace: Path, folder: Path, steps: Steps) -> None:
        if execution.repository:
            await self._repositories.checkout(execution, workspace, steps)
            if execution.diff.strip():
                env = git_environment(self._environ, execution.repository)
                await apply_changes(execution.diff, workspace, folder / "changes.patch", steps, env)
            return
        workspace.mkdir(mode=0o700)
        if not execution.diff:
            if not execution.command:
                raise PrepareFailed("the task has neither a repository nor a script: nothing to run")
            inside(workspace, execution.working_dir or ".", "working directory").mkdir(parents=True, exist_ok=True)
            return
        cwd = inside(workspace, execution.working_dir or ".", "working directory")
        name = execution.entry_point.strip() or "script.py"
        script = inside(workspace, str(cwd / name), "entry point")
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_bytes(execution.diff.encode("utf-8", "surrogateescape"))
        steps.report.say(f"taskloom: wrote the recorded script to {name}")

    @contextlib.asynccontextmanager
    async def _use(self, execution: Execution, steps: Steps) -> AsyncGenerator[Environment]:
        if self._packages == "reuse":
            steps.report.say("taskloom: using the worker's own packages")
            yield self._own
            return
        async with self._environments.use(execution.packages, execution.python, steps) as environment:
            yield environment


def _setup_first(setup: str, phase: Path) -> str:
    strict = f"bash -euo pipefail -c {shlex.quote(setup)} || exit $?"
    return f'{strict}\necho run >{shlex.quote(str(phase))}\nexec "$@"'


def _packages(execution: Execution, workspace: Path, steps: Steps) -> str:
    """What the task recorded; a task of which nobody recorded packages has those that its repository lists."""
    if execution.packages or not execution.repository:
        return execution.packages
    for folder in dict.fromkeys((working_folder(execution, workspace), workspace)):
        listed = inside(workspace, str(folder / REQUIREMENTS), "requirements")
        if listed.is_file():
            steps.report.say(f"taskloom: no packages are recorded, using the repository's {REQUIREMENTS}")
            return listed.read_text(encoding="utf-8", errors="replace")
    return ""


def _import_paths(execution: Execution, workspace: Path) -> dict[str, str]:
    """PYTHONPATH with the folders of the repository that the recorded script imported from."""
    paths = [inside(workspace, path, "import path") for path in execution.import_paths]
    if any(os.pathsep in str(path) for path in paths):
        raise PrepareFailed(f"an import path holds {os.pathsep!r}: {execution.import_paths}")
    return {"PYTHONPATH": os.pathsep.join(map(str, paths))} if paths else {}

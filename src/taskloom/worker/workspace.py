"""A workspace: the folder of one attempt in which code and packages are what the task recorded.

`prepare` turns the task of a lease into one program (an argument list, a folder, an environment), or raises
PrepareFailed with the reason. What there is to do besides starting it (setup lines, packages inside a container) is a
script that ends by becoming the task's own program. It starts nothing of the task's own: that is the attempt's
business. Neither arguments nor reasons hold a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from taskloom.domain.execution import Execution
from taskloom.journal.masking import Masks
from taskloom.wire.messages import Credential, Lease
from taskloom.worker.command import binary, build_argv, check_variables, inherited, inside, working_folder
from taskloom.worker.containers import environment_key, order_packages
from taskloom.worker.credentials import fingerprint
from taskloom.worker.files import Files
from taskloom.worker.git import Repositories, apply_changes, git_environment
from taskloom.worker.home import Code, make_home
from taskloom.worker.indexes import child_settings
from taskloom.worker.lab.layout import link_experiments
from taskloom.worker.packages import Environment, Environments, Wish
from taskloom.worker.requirements import find_requirements, python_path
from taskloom.worker.script import Script, make_tools, sudo_variable
from taskloom.worker.steps import PrepareFailed, Steps
from taskloom.worker.values import Values, hidden_values
from taskloom.worker.venvs import copy_environment

PackagesMode = Literal["build", "reuse"]
OWN = "venv"


@dataclass(frozen=True)
class Prepared:
    """One program, and what has to be there for it.

    mounts    what a container must see besides the attempt's folder, each at the same path inside
    readonly  the same, but not to be written there
    held      descriptors of locks that have to live as long as the program
    phase     a file into which the program writes `run` once its setup lines are over; None when it has none
    commit    what was checked out; empty without a repository
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    mounts: tuple[Path, ...] = ()
    held: tuple[int, ...] = ()
    phase: Path | None = None
    readonly: tuple[Path, ...] = ()
    commit: str = ""


@dataclass(frozen=True)
class _Attempt:
    """What the steps of one preparation share. `execution`: with its placeholders filled, but for shell lines."""

    lease: Lease
    execution: Execution
    values: Values
    folder: Path
    steps: Steps
    given: Mapping[str, str]
    image: str

    @property
    def credentials(self) -> Sequence[Credential]:
        return self.lease.credentials

    @property
    def changes_packages(self) -> bool:
        """Whether shell lines of the task may install something."""
        return bool(self.execution.run.strip() or self.execution.setup.strip())


class Workspaces:
    """Prepares workspaces; knows the caches, keeps nothing of a single attempt. `cache`: folder of what tasks share."""

    def __init__(
        self,
        repositories: Repositories,
        environments: Environments,
        files: Files,
        cache: Path,
        environ: Mapping[str, str],
        packages: PackagesMode,
        own: Environment,
    ) -> None:
        self._repositories = repositories
        self._environments = environments
        self._files = files
        self._cache = cache
        self._environ = environ
        self._packages: PackagesMode = packages
        self._own = own

    @contextlib.asynccontextmanager
    async def prepare(
        self, lease: Lease, folder: Path, steps: Steps, given: Mapping[str, str], image: str = ""
    ) -> AsyncGenerator[Prepared]:
        """`given` are the worker's variables for the child. The packages stay as long as the caller is inside.

        image: the id of the image when the program will run in a container.
        """
        try:
            values = Values(lease)
            execution = msgspec.structs.replace(lease.task.execution, **values.execution(lease.task.execution))
            attempt = _Attempt(lease, execution, values, folder, steps, given, image)
            check_variables(execution.variables)
            if execution.image and not image:
                steps.report.say(f"taskloom: run without a container; image {execution.image} ignored")
            code = await self._code(attempt)
            link_experiments(folder, code.root, execution.run)
            async with self._ready(attempt, code) as prepared:
                yield prepared
        except PrepareFailed as error:
            raise PrepareFailed(Masks(hidden_values(lease)).hide(str(error))) from None

    @contextlib.asynccontextmanager
    async def _ready(self, attempt: _Attempt, code: Code) -> AsyncGenerator[Prepared]:
        wish, paths = await self._wish(attempt, code)
        if attempt.image:
            yield self._contained(attempt, code, wish, paths)
            return
        async with self._use(attempt, wish) as environment:
            yield self._hosted(attempt, code, environment, paths)

    # --- code -------------------------------------------------------------------------------------------

    async def _code(self, attempt: _Attempt) -> Code:
        execution, folder, steps = attempt.execution, attempt.folder, attempt.steps
        if execution.run.strip():
            return await make_home(
                execution, folder, self._repositories, self._files, steps, self._environ, attempt.credentials
            )
        workspace = folder / "workspace"
        if execution.repository:
            whole = msgspec.structs.replace(execution, directory="")
            commit = await self._repositories.checkout(whole, workspace, steps, attempt.credentials)
            if execution.diff.strip():
                env = git_environment(self._environ, execution.repository)
                await apply_changes(execution.diff, workspace, folder / "changes.patch", steps, env)
            return Code(workspace, commit)
        workspace.mkdir(mode=0o700)
        _write_script(execution, workspace, steps)
        return Code(workspace)

    # --- packages ---------------------------------------------------------------------------------------

    async def _wish(self, attempt: _Attempt, code: Code) -> tuple[Wish, list[Path]]:
        """What was recorded; a task of which nobody recorded packages has those that its repository lists. Folders
        for PYTHONPATH, too: those that the recorded script imported from, else those of the repository's project.
        """
        execution, reuse = attempt.execution, self._packages == "reuse"
        paths = [inside(code.root, path, "import path") for path in execution.import_paths]
        if reuse:
            return Wish(own=True, pip=True), paths
        if execution.packages or not execution.repository or execution.run.strip():
            return Wish(packages=execution.packages, pip=attempt.changes_packages), paths
        folders = [working_folder(execution, code.root), code.root]
        env = self._environments.uv_environment()
        spare = attempt.folder / "exported.txt"
        found = await find_requirements(folders, code.root, spare, attempt.steps, env)
        return msgspec.structs.replace(found.wish, pip=attempt.changes_packages), paths or found.paths

    @contextlib.asynccontextmanager
    async def _use(self, attempt: _Attempt, wish: Wish) -> AsyncGenerator[Environment]:
        """The worker's own packages, a shared environment, or a copy that the task's shell lines may change."""
        if self._packages == "reuse":
            attempt.steps.report.say("taskloom: using the worker's own packages")
            if not attempt.changes_packages:
                yield self._own
                return
        python = attempt.execution.python
        async with self._environments.use(wish, python, attempt.steps, attempt.credentials) as environment:
            if not attempt.changes_packages or environment.folder is None:
                yield environment
                return
            own = attempt.folder / OWN
            await asyncio.to_thread(copy_environment, environment.folder, own)
        yield Environment(own / "bin" / "python", own)

    # --- the program ------------------------------------------------------------------------------------

    def _hosted(self, attempt: _Attempt, code: Code, environment: Environment, paths: list[Path]) -> Prepared:
        execution, folder = attempt.execution, attempt.folder
        path = execution.variables.get("PATH") or self._environ.get("PATH", os.defpath)
        own: dict[str, str] = {}
        if attempt.changes_packages:
            own = {**child_settings(self._environ), **sudo_variable()}
            tools = make_tools(folder, path)
            more = [str(self._own.python.parent)] if self._packages == "reuse" else []
            path = os.pathsep.join([*more, path, *([str(tools)] if tools else [])])
        env = {
            **inherited(self._environ),
            **own,
            **self._common(attempt, code, paths),
            **environment.variables(path),
            **attempt.given,
        }
        script = Script(folder)
        argv, phase = self._program(attempt, code, script, environment.python)
        return Prepared(argv, self._cwd(execution, code), env, (), environment.held, phase, (), code.commit)

    def _contained(self, attempt: _Attempt, code: Code, wish: Wish, paths: list[Path]) -> Prepared:
        """Nothing of the host's environment is passed in but where packages come from."""
        execution, folder = attempt.execution, attempt.folder
        if wish.own:
            wish = Wish()
        script = Script(folder)
        needed = _why_python(execution, wish)
        mounts, readonly, python = (), (), Path("python3")
        if needed or execution.run.strip():
            private = "".join(sorted({fingerprint(url, attempt.credentials) for url in wish.addresses()}))
            shared = self._environments.folder / environment_key(attempt.image, wish, private)
            overlays = self._environments.folder / "overlays"
            own = attempt.changes_packages
            inner = order_packages(script, folder, shared, overlays, wish, own=own, needed=needed)
            mounts, readonly, python = inner.mounts, inner.readonly, inner.place / "bin" / "python"
        shared_cache = self._shared_cache()
        settings = child_settings(self._environ)
        env = {
            **{name: value for name, value in settings.items() if not value.startswith("/")},
            "UV_CACHE_DIR": str(shared_cache / "uv"),
            "XDG_CACHE_HOME": str(shared_cache),
            **self._common(attempt, code, paths),
            **attempt.given,
        }
        argv, phase = self._program(attempt, code, script, python, always=True)
        cwd = self._cwd(execution, code)
        return Prepared(argv, cwd, env, (*mounts, shared_cache), (), phase, readonly, code.commit)

    def _common(self, attempt: _Attempt, code: Code, paths: list[Path]) -> dict[str, str]:
        """Variables that are the same wherever it runs; the task's own win over all but what makes a run a run."""
        execution, values = attempt.execution, attempt.values
        home = {"HOME": str(code.root)} if execution.run.strip() else {}
        cache = {"XDG_CACHE_HOME": str(self._shared_cache())} if home else {}
        return {
            "PYTHONUNBUFFERED": "1",
            **cache,
            **values.parameter_variables(),
            **execution.variables,
            **values.secret_variables(attempt.folder),
            **home,
            **python_path(paths),
        }

    def _program(
        self, attempt: _Attempt, code: Code, script: Script, python: Path, *, always: bool = False
    ) -> tuple[tuple[str, ...], Path | None]:
        """The argument list, and the phase file when there is a script."""
        execution, values = attempt.execution, attempt.values
        run = execution.run.strip()
        argv = () if run else build_argv(execution, code.root, python)
        if not (always or attempt.changes_packages):
            return argv, None
        script.setup(values.shell(execution.setup))
        script.begin_run()
        if run:
            script.run(values.shell(execution.run))
        else:
            script.execute(argv)
        return script.write(), script.phase

    def _cwd(self, execution: Execution, code: Code) -> Path:
        return code.root if execution.run.strip() else working_folder(execution, code.root)

    def _shared_cache(self) -> Path:
        """What hubs download, once for all tasks of the machine."""
        folder = self._cache / "shared"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder


def _write_script(execution: Execution, workspace: Path, steps: Steps) -> None:
    """A single script whose text was recorded."""
    cwd = inside(workspace, execution.working_dir or ".", "working directory")
    if not execution.diff:
        if not execution.command:
            raise PrepareFailed("the task has neither a repository nor a script: nothing to run")
        cwd.mkdir(parents=True, exist_ok=True)
        return
    name = execution.entry_point.strip() or "script.py"
    script = inside(workspace, str(cwd / name), "entry point")
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_bytes(execution.diff.encode("utf-8", "surrogateescape"))
    steps.report.say(f"taskloom: wrote the recorded script to {name}")


def _why_python(execution: Execution, wish: Wish) -> str:
    """Why an image has to have a Python; empty: it need not."""
    if wish.packages.strip() or wish.lock:
        return "the task has Python packages"
    if not (execution.run.strip() or execution.command or binary(execution)):
        return "the task's entry point is a Python script"
    return ""

"""Attempts without a daemon and without a server: a lease made by hand, prepared and run in a real place."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskloom.domain.execution import Execution
from taskloom.domain.parameters import Parameter, Sections
from taskloom.domain.task import Task
from taskloom.providers.contract import Exit, Launch, Wanted
from taskloom.providers.local import LocalProvider
from taskloom.wire.client import Address
from taskloom.wire.messages import Credential, Lease
from taskloom.wire.send import AsyncClient
from taskloom.worker.files import Files
from taskloom.worker.git import Repositories
from taskloom.worker.packages import Environment, Environments
from taskloom.worker.steps import PrepareFailed, Report, Steps
from taskloom.worker.workspace import Prepared, Workspaces

KEY = "tl_0123456789abcdef_0123456789abcdef0123456789abcdef0123456789abcdef"


@dataclass
class Done:
    """A program that ran to its end, or what kept it from beginning."""

    out: str
    err: str
    report: str
    folder: Path
    exit: Exit | None = None
    failed: str = ""
    prepared: Prepared | None = None

    @property
    def home(self) -> Path:
        return self.folder / "home"


def lease_of(
    execution: Execution,
    *,
    secrets: dict[str, str] | None = None,
    credentials: tuple[Credential, ...] = (),
    parameters: Sections | None = None,
    **general: Any,
) -> Lease:
    sections = parameters or {}
    if general:
        sections = {**sections, "General": {n: Parameter(str(v), type(v).__name__) for n, v in general.items()}}
    task = Task(
        id=os.urandom(16).hex(), name="a task", project="vision/nets", execution=execution, parameters=sections
    )
    return Lease(
        token="t" * 32, expires=0.0, seconds=30.0, attempt=1, queue="default", task=task, user="ada", key=KEY,
        secrets=secrets or {}, credentials=credentials,
    )  # fmt: skip


class Workshop:
    """The caches of one machine; `run` is one attempt."""

    def __init__(
        self, folder: Path, *, packages: Any = "build", address: Address | None = None, **environ: str
    ) -> None:
        self.root = folder
        self.cache = folder / "cache"
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TASKLOOM_")},
            "UV_CACHE_DIR": str(folder / "uv"), "GIT_CONFIG_GLOBAL": os.devnull, **environ,
        }  # fmt: skip
        self._packages, self._address = packages, address or Address("http://127.0.0.1:9")
        self._count = 0

    def workspaces(self, client: AsyncClient) -> Workspaces:
        return Workspaces(
            Repositories(self.cache / "git", self.environ),
            Environments(self.cache / "environments", self.environ),
            Files(self.cache / "files", client),
            self.cache,
            self.environ,
            self._packages,
            Environment(Path(sys.executable), None),
        )

    def run(
        self,
        lease: Lease,
        *,
        image: str = "",
        given: dict[str, str] | None = None,
        meanwhile: Callable[[Prepared], Awaitable[None]] | None = None,
    ) -> Done:
        """Prepares the attempt and runs its program; a reason against it is told, not raised."""
        return asyncio.run(self._run(lease, image, given or {}, meanwhile))

    async def _run(self, lease: Lease, image: str, given: dict[str, str], meanwhile: Any) -> Done:
        self._count += 1
        folder = self.root / f"attempt-{self._count}"
        folder.mkdir(mode=0o700)
        out, err, report = folder / "out", folder / "err", folder / "report"
        place = await LocalProvider().acquire(Wanted(folder / "place"))
        client = AsyncClient(self._address)
        done = Done("", "", "", folder)
        try:
            steps = Steps(place, Report(report), folder)
            async with self.workspaces(client).prepare(lease, folder, steps, given, image) as prepared:
                done.prepared = prepared
                env = {**({"PATH": self.environ["PATH"]} if image else {}), **prepared.env}
                program = await place.start(Launch(prepared.argv, prepared.cwd, env, out, err))
                if meanwhile is not None:
                    await meanwhile(prepared)
                done.exit = await program.wait()
        except PrepareFailed as error:
            done.failed = str(error)
        finally:
            await place.release()
            await client.close()
        done.out, done.err, done.report = (p.read_text() if p.exists() else "" for p in (out, err, report))
        return done

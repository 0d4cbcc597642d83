"""The environment as its author declares it: templates, hooks, capabilities. Source: seed 002, HUD's `Environment`.

It listens on nothing: `channel.server` puts it on the wire, `serving` gives it a process. Whoever serves it calls
`start` before the first client and `stop` after the last one.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, cast

from taskloom.evals.capabilities import Capability
from taskloom.evals.environment.template import Function, Template

P = ParamSpec("P")
Hook = Callable[[], Awaitable[None]]
log = logging.getLogger("taskloom.evals.environment")


class Environment:
    """A world that agents act in.

    name, version  told to every client
    capabilities   services that already run; those that the environment starts itself are added by `add_capability`
                   in an `initialize` hook
    source         the file that made it, where that is known: its rows are served from there
    """

    def __init__(
        self,
        name: str = "environment",
        *,
        version: str = "0.0.1",
        capabilities: Sequence[Capability] | None = None,
    ) -> None:
        if not name:
            raise ValueError("an environment needs a name, got an empty one")
        self.name = name
        self.version = version
        self.source = _file_of_caller()
        self._capabilities: dict[str, Capability] = {}
        self._templates: dict[str, Template[Any]] = {}
        self._initializers: list[Hook] = []
        self._shutdowns: list[Hook] = []
        self._teardowns: list[Hook] = []
        self._workspaces: set[str] = set()
        self._started = False
        for capability in capabilities or ():
            self.add_capability(capability)

    # --- what it declares ---------------------------------------------------------------------------------

    @property
    def templates(self) -> Mapping[str, Template[Any]]:
        """The registered templates by their ids."""
        return MappingProxyType(self._templates)

    def template(
        self, *, id: str | None = None, description: str = "", input: Any = None, returns: Any = None
    ) -> Callable[[Function[P]], Template[P]]:
        """Register an async generator function: it yields a prompt, gets the answer, yields a grade.

        id           its name if left out
        description  shown where templates are listed; the first line of the docstring if left out
        input        type of what an agent is given, for the manifest
        returns      type of the answer, which then comes as `Answer[returns]`

        TypeError for another kind of function, ValueError for an id that is taken.
        """

        def register(function: Function[P]) -> Template[P]:
            if not inspect.isasyncgenfunction(function):
                name = getattr(function, "__qualname__", repr(function))
                raise TypeError(f"template {name}: expected an async generator function, `async def` with `yield`")
            chosen = id or function.__name__
            if chosen in self._templates:
                raise ValueError(f"environment {self.name!r} already has a template {chosen!r}")
            told = description or (inspect.getdoc(function) or "").partition("\n")[0]
            template = Template(self, function, chosen, told, input, returns)
            self._templates[chosen] = cast("Template[Any]", template)
            return template

        return register

    def initialize(self, hook: Hook) -> Hook:
        """Run an async function once before the environment is served, in order of registration."""
        self._initializers.append(_checked(hook, "initialize"))
        return hook

    def shutdown(self, hook: Hook) -> Hook:
        """Run an async function when serving ends, the last one first. What it raises is told and forgotten."""
        self._shutdowns.append(_checked(hook, "shutdown"))
        return hook

    def teardown(self, hook: Hook) -> Hook:
        """Run an async function after every eval task, graded or not. What it raises is told and forgotten."""
        self._teardowns.append(_checked(hook, "teardown"))
        return hook

    # --- capabilities -------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        return tuple(self._capabilities.values())

    def add_capability(self, capability: Capability) -> None:
        """Offer a service, in the place of one of the same name. Clients that say hello later are told of it."""
        if not isinstance(capability, Capability):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected a Capability, got {capability!r:.80}")
        self._capabilities.pop(capability.name, None)
        self._capabilities[capability.name] = capability

    def capability(self, name: str) -> Capability:
        """KeyError when none has that name."""
        try:
            return self._capabilities[name]
        except KeyError:
            known = ", ".join(self._capabilities) or "none"
            raise KeyError(f"unknown capability {name!r}; there are: {known}") from None

    def workspace(self, root: str | Path, *, name: str = "shell", **options: Any) -> Any:
        """A sandboxed shell and the files below a folder, offered as an ssh capability while it is served.

        Returns the `taskloom.evals.workspace.Workspace`, which takes the other options. ValueError for a name that
        is taken.
        """
        if name in self._workspaces:
            raise ValueError(f"environment {self.name!r} already has a workspace {name!r}")
        workspace = import_module("taskloom.evals.workspace").Workspace(root, name=name, **options)
        self._workspaces.add(name)

        async def start_workspace() -> None:
            self.add_capability(await workspace.start())

        self.initialize(start_workspace)
        self.shutdown(workspace.stop)
        return workspace

    # --- its life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Run the `initialize` hooks, once until `stop`. When one raises, those of `shutdown` run, and it is raised."""
        if self._started:
            return
        self._started = True
        try:
            for hook in self._initializers:
                await hook()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Run the `shutdown` hooks, the last one first."""
        if not self._started:
            return
        self._started = False
        for hook in reversed(self._shutdowns):
            await _run_quietly(hook, "shutdown")

    async def end_task(self) -> None:
        """Run the `teardown` hooks, after an eval task."""
        for hook in self._teardowns:
            await _run_quietly(hook, "teardown")


async def _run_quietly(hook: Hook, kind: str) -> None:
    try:
        await hook()
    except Exception:
        log.exception("the %s hook %s failed", kind, getattr(hook, "__qualname__", hook))


def _checked(hook: Hook, kind: str) -> Hook:
    if not inspect.iscoroutinefunction(hook):
        raise TypeError(f"{kind} {hook!r:.80}: expected an async function without parameters")
    return hook


def _file_of_caller() -> str | None:
    """The file whose code makes the environment; None in a prompt or a notebook."""
    maker = inspect.currentframe()
    for _ in range(2):
        maker = maker.f_back if maker is not None else None
    found = maker.f_globals.get("__file__") if maker is not None else None
    if not isinstance(found, str):
        return None
    path = Path(found)
    return str(path.resolve()) if path.is_file() else None

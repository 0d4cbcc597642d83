"""Which frameworks are hooked: what a task tells of it, and what would be hooked in this environment.

The declarations are those of `sdk/bindings`; no framework is imported for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module, metadata
from typing import Any, cast

import msgspec

from taskloom.cli.output import print_table
from taskloom.domain.task import Task
from taskloom.sdk.binding import Binding
from taskloom.sdk.frameworks import BINDINGS, older


class Hooked(msgspec.Struct, frozen=True):
    """One binding in this environment. version: of the framework, empty where it is not installed."""

    name: str
    switch: str
    version: str
    since: str
    hooks: tuple[str, ...]

    @property
    def too_old(self) -> bool:
        return older(self.version, self.since)


def hooked_here() -> list[Hooked]:
    """Every binding that there is, by name."""
    holders = metadata.packages_distributions()
    return [_hooked(name, holders) for name in BINDINGS]


def _hooked(name: str, holders: Mapping[str, list[str]]) -> Hooked:
    """A framework may come in a distribution of another name (`xgboost-cpu`): the one that holds its module counts."""
    binding: Binding = import_module(f"taskloom.sdk.bindings.{name}").BINDING
    rooms = [module.partition(".")[0] for module in binding.modules]
    found = next((holder for room in rooms for holder in holders.get(room, ())), "")
    return Hooked(name, binding.switch, metadata.version(found) if found else "", binding.since, binding.hooks)


def print_bindings(task: Task) -> None:
    """What the task says was hooked, and what went wrong with it."""
    found = task.runtime.get("bindings")
    if not isinstance(found, dict) or not found:
        return
    rows = [_row(name, told) for name, told in sorted(cast("dict[str, Any]", found).items())]
    print_table(["framework", "version", "hooked", "fault"], rows, title="Frameworks")


def _row(name: str, told: Any) -> tuple[str, str, str, str]:
    known = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    hooks = known.get("hooks")
    words = ", ".join(str(one) for one in cast("Iterable[Any]", hooks)) if isinstance(hooks, list | tuple) else ""
    return name, str(known.get("version", "")), words, str(known.get("fault") or known.get("skipped") or "")

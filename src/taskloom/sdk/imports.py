"""Told when a module gets imported: for frameworks that are hooked, and generators that are seeded, as they come.

A module that is not named pays one look-up. Who is told, and what it does then, is not here; whatever it raises
is kept from the script's import by the one who is told.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Container, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Then = Callable[[str, ModuleType], None]


class Imports:  # no MetaPathFinder, whose module takes longer to import than all of this
    """From `start` to `stop`: `then(name, module)` for each of `names`, once its code has run. Several may watch."""

    def __init__(self, names: Container[str], then: Then) -> None:
        self._names = names
        self._then = then
        self._finding = threading.local()

    def start(self) -> None:
        sys.meta_path.insert(0, self)

    def stop(self) -> None:
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._names or fullname in self._finding.__dict__:
            return None
        self._finding.__dict__[fullname] = True
        try:
            return self._watched(fullname, path, target)
        finally:
            del self._finding.__dict__[fullname]

    def _watched(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        """The spec that the others find, with a loader that tells us when the module is there."""
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                with contextlib.suppress(AttributeError):  # a loader of its own kind: it is imported unwatched
                    _call_after(spec, lambda module: self._then(name, module))
                return spec
        return None


def already_imported(name: str) -> ModuleType | None:
    """The module when its code has run; None while it still does, and when nobody imported it."""
    module = sys.modules.get(name)
    return None if module is None or getattr(module.__spec__, "_initializing", False) else module


def _call_after(spec: ModuleSpec, then: Callable[[ModuleType], None]) -> None:
    """The loader stays the one that it is, since other code looks at its type; only its one method is shadowed."""
    loader: Any = spec.loader
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        loader.__dict__.pop("exec_module", None)  # an earlier watcher's wrapper went with ours
        execute(module)
        then(module)

    loader.exec_module = exec_module

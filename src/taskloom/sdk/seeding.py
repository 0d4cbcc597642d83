"""The random seed that `Task.init` fixes: Python's `random` at once, the frameworks' generators as they are imported.

Only a framework's own seed function is called, and only once, at its import or at `Task.init` when it is there
already: what the script seeds afterwards holds. Nothing is imported for the sake of its seed. Python's hash seed
cannot be changed in a running interpreter and is left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from taskloom.sdk.imports import Imports, already_imported

if TYPE_CHECKING:
    from taskloom.sdk.notices import Notices

LEFT_ALONE = "none"
Seed = Callable[[Any, int], None]


def _numpy(module: Any, seed: int) -> None:
    module.seed(seed % 2**32)


def _torch(module: Any, seed: int) -> None:
    """Its processors and, when they are first used, its accelerators."""
    module.manual_seed(seed)


def _tensorflow(module: Any, seed: int) -> None:
    module.random.set_seed(seed)


# numpy loads its generators when they are first used. Keras draws from these and from Python's.
SEEDED: dict[str, Seed] = {"numpy.random": _numpy, "torch": _torch, "tensorflow": _tensorflow}


class Seeding:
    """Of one task, from `start` to `stop`."""

    def __init__(self, seed: int, notices: Notices) -> None:
        self._seed = seed
        self._notices = notices
        self._imports = Imports(SEEDED, self._fix)

    def start(self) -> None:
        import random

        random.seed(self._seed)
        for name in SEEDED:
            module = already_imported(name)
            if module is not None:
                self._fix(name, module)
        if any(name not in sys.modules for name in SEEDED):
            self._imports.start()

    def stop(self, timeout: float) -> None:
        del timeout
        self._imports.stop()

    def _fix(self, name: str, module: ModuleType) -> None:
        """Never raises: it may run inside the script's own import."""
        with self._notices.boundary(f"the random seed of {name} could not be set"):
            SEEDED[name](module, self._seed)

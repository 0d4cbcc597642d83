"""What a framework's function was given to save a model to, or to load it from, and whether that is told.

A path, an address, or an open file that has a name; what only lives in memory is nobody's model. Only the process
that has the task tells, and only of files that its switch wants. What becomes of it then is `weights`.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskloom.sdk.binding import Hooks

# Their last bytes are written when they are closed.
_COMPRESSED: tuple[Any, ...] = (gzip.GzipFile, bz2.BZ2File, lzma.LZMAFile)


class ModelFiles:
    """Of one framework, as ClearML writes its name."""

    def __init__(self, hooks: Hooks, framework: str) -> None:
        self._hooks = hooks
        self.framework = framework

    def saved(self, given: Any, *, framework: str = "", switch: str = "", **told: Any) -> None:
        """As `Weights.saved`. switch: another one that wants the file or not."""
        path = self._wanted(given, switch)
        if path is None:
            return

        def tell() -> None:
            # Nothing is there yet when it is written by somebody else later: an asynchronous checkpoint.
            if "://" in path or os.path.lexists(path) or _begins_files(path):
                self._hooks.weights.saved(path, framework or self.framework, **told)

        if isinstance(given, _COMPRESSED):
            self._when_closed(given, tell)
            return
        if hasattr(given, "flush"):
            given.flush()
        tell()

    def loaded(self, given: Any, *, framework: str = "", switch: str = "", flat: bool = False) -> None:
        path = self._wanted(given, switch)
        if path is not None:
            self._hooks.weights.loaded(path, framework or self.framework, flat=flat)

    def removed(self, given: Any) -> None:
        """The framework itself deleted what it had saved there."""
        path = self._wanted(given, "")
        if path is not None:
            self._hooks.weights.removed(path)

    def _wanted(self, given: Any, switch: str) -> str | None:
        path = path_of(given)
        if path is None or not self._hooks.session.owner or not self._hooks.wants_file(path, switch):
            return None
        return path

    def _when_closed(self, file: Any, tell: Callable[[], None]) -> None:
        close = file.close

        def closing() -> None:
            del file.close
            close()
            if self._hooks.active:
                with self._hooks.guard():
                    tell()

        file.close = closing


def path_of(given: Any) -> str | None:
    """The path or address; None of what has none."""
    if isinstance(given, str | os.PathLike):
        named: Any = os.fspath(given)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    elif hasattr(given, "read") or hasattr(given, "write"):
        # bz2 and lzma tell the name of the file inside them only since Python 3.13.
        inner: Any = getattr(given, "_fp", None) if isinstance(given, _COMPRESSED) else None
        named = getattr(given, "name", None) or getattr(inner, "name", None)  # a number: opened by its descriptor
    else:
        return None
    if isinstance(named, bytes):
        named = os.fsdecode(named)
    return named if isinstance(named, str) and named and "\0" not in named else None


def _begins_files(path: str) -> bool:
    """Whether it stands for several files: `ckpt-1.index`, `ckpt-1.data-00000-of-00001`."""
    return any(Path(path).parent.glob(f"{Path(path).name}.*"))

"""A task that runs in IPython or Jupyter: its cells become the task's code as they are executed, its prints the console.

The script that stands for the notebook is recorded when the task begins, after each cell that changes it, and at the
end, together with the notebook's file. A cell that raises ends nothing; when the kernel ends after one, the task has
failed by it. How cells become a script is `notebook`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from taskloom.domain.artifact import NOTEBOOK_KIND
from taskloom.domain.task import TaskEdit
from taskloom.sdk.capture.git import Surroundings, capture_surroundings
from taskloom.sdk.capture.notebook import SUFFIX, Cell, convert, find_notebook, merge_cells, read_cells
from taskloom.sdk.capture.packages import capture_packages
from taskloom.wire.records import ArtifactStored

if TYPE_CHECKING:
    from taskloom.sdk.session import Session

AFTER_CELL = "post_run_cell"


class Notebook:
    """The code of one task in one shell, from `start` to `stop`. `folder`: where the kernel works."""

    def __init__(self, session: Session, shell: Any, folder: Path) -> None:
        self._session = session
        self._shell = shell
        self._folder = folder
        self._file = find_notebook(shell.user_ns, os.environ, folder)
        self._ids: dict[int, str] = {}  # of cells, by their execution count
        self._lock = threading.Lock()
        self._around: Surroundings | None = None
        self._script = _free_name(self._file, folder, is_kernel(shell))
        self._recorded = ""

    def start(self) -> None:
        self._shell.events.register(AFTER_CELL, self._after_cell)

    def look_around(self) -> None:
        """Repository and packages, which take a moment: in the background."""
        around = capture_surroundings(self._script, self._folder)
        with self._lock:
            self._around = around
        self._record()
        self._record_packages()

    def stop(self, timeout: float) -> None:
        """The notebook as it is now, and its file."""
        del timeout
        with contextlib.suppress(ValueError):
            self._shell.events.unregister(AFTER_CELL, self._after_cell)
        if self._around is None:
            return
        self._record()
        self._record_packages()
        if self._file is not None and self._file.is_file():
            from taskloom.sdk.artifacts import prepare

            made = prepare("notebook", self._file, spool=self._session.spool)
            self._session.record(ArtifactStored(artifact=msgspec.structs.replace(made, kind=NOTEBOOK_KIND)))

    def _after_cell(self, result: Any) -> None:
        with self._session.notices.boundary("the notebook could not be recorded"):
            self._ids[result.execution_count or 0] = str(getattr(result.info, "cell_id", None) or "")
            error = result.error_before_exec or result.error_in_exec
            self._session.interrupted_by(error if isinstance(error, Exception | KeyboardInterrupt) else None)
            self._record()

    def _text(self) -> str:
        saved = read_cells(self._file) if self._file is not None else []
        cells = merge_cells(saved, self._executed())
        return convert(cells, self._file.name if self._file is not None else "what was typed")

    def _executed(self) -> list[Cell]:
        """Everything that this shell has run, in that order; the last text of a cell that ran again."""
        raw: list[str] = list(self._shell.history_manager.input_hist_raw)
        cells = [Cell(source, self._ids.get(count, "")) for count, source in enumerate(raw) if count]
        last = {cell.id: cell for cell in cells if cell.id}
        return [cell for cell in cells if not cell.id or last[cell.id] is cell]

    def _record(self) -> None:
        """Unless nothing has changed; not before the repository is known."""
        with self._lock:
            if self._around is None:
                return
            text = self._text()
            if text != self._recorded:
                self._session.edit(TaskEdit(execution=self._around.execution(text)))
                self._recorded = text

    def _record_packages(self) -> None:
        found = capture_packages(self._script, self._recorded)
        if self._session.document().execution.packages != found:
            self._session.edit(TaskEdit(execution={"packages": found}))


class KernelConsole:
    """What is printed in a kernel, which goes to the browser and not to descriptors of this process.

    A kernel's stream writes everything to its `echo` as well; IPython replaces its `write` for each cell.
    """

    def __init__(self, path: Callable[[Any], Path], stdout: bool, stderr: bool) -> None:
        self._path = path
        self._wanted = {number: name for number, name, on in ((1, "stdout", stdout), (2, "stderr", stderr)) if on}
        self._echoes: dict[int, tuple[Any, _Echo]] = {}

    @property
    def captured(self) -> frozenset[int]:
        return frozenset(self._echoes)

    def start(self) -> None:
        for number, name in self._wanted.items():
            stream = getattr(sys, name)
            if hasattr(stream, "echo"):
                stream.echo = echo = _Echo(self._path(name), stream.echo)
                self._echoes[number] = (stream, echo)

    def stop(self, timeout: float) -> None:
        del timeout
        for stream, echo in self._echoes.values():
            if stream.echo is echo:
                stream.echo = echo.before
            echo.close()


class _Echo:
    """A file of the journal, in front of what was told before."""

    def __init__(self, path: Path, before: Any) -> None:
        self.before = before
        self._file = path.open("ab", buffering=0)

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk, or a task that is over
            self._file.write(text.encode("utf-8", "replace"))
        if self.before is not None:
            self.before.write(text)

    def flush(self) -> None:
        if self.before is not None:
            self.before.flush()

    def close(self) -> None:
        self._file.close()


def is_kernel(shell: Any) -> bool:
    """Whether it speaks to a notebook and not to a terminal."""
    return hasattr(shell, "kernel")


def _free_name(notebook: Path | None, folder: Path, kernel: bool) -> Path:
    """The script's path, beside the notebook: a name that no file has."""
    stem = notebook.name.removesuffix(SUFFIX) if notebook is not None else "notebook" if kernel else "interactive"
    place = notebook.parent if notebook is not None else folder
    names = (place / f"{stem}{end}.py" for end in ("", *(f"_{number}" for number in range(2, 1000))))
    return next((name for name in names if not name.exists()), place / f"{stem}.py")

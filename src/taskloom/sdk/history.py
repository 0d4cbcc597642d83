"""What this machine remembers of its own runs: the last task of every project and name.

It answers two questions without a network: may the last task be used again, and where did its iterations
end. One small file for each project and name, in `<data>/history`; losing it costs a new task, nothing else.
"""

from __future__ import annotations

import contextlib
import zlib
from pathlib import Path

import msgspec

from taskloom.journal import layout

HISTORY_FOLDER = "history"


class LastRun(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`outputs`: it has artifacts or models. `last_iteration` is known once the run was closed."""

    task: str
    started: float
    project: str = ""
    name: str = ""
    outputs: bool = False
    offline: bool = False
    last_iteration: int | None = None


class History:
    """The file of one project and name."""

    def __init__(self, data: Path, project: str, name: str) -> None:
        # A checksum and not a digest: loading the library of digests would be a sixth of the SDK's import.
        # Two names may share a file; the names in it tell whose it is.
        checksum = zlib.crc32(f"{project}\0{name}".encode())
        self._data = data
        self._project, self._name = project, name
        self._path = data / HISTORY_FOLDER / f"{checksum:08x}.json"

    def last(self) -> LastRun | None:
        try:
            run = msgspec.json.decode(self._path.read_bytes(), type=LastRun)
        except (OSError, msgspec.DecodeError):
            return None
        return run if (run.project, run.name) == (self._project, self._name) else None

    def remember(self, run: LastRun) -> None:
        run = msgspec.structs.replace(run, project=self._project, name=self._name)
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            layout.write_whole(self._path, run)

    def change(self, task: str, *, outputs: bool | None = None, last_iteration: int | None = None) -> None:
        """Unless a newer run has taken the file over."""
        run = self.last()
        if run is None or run.task != task:
            return
        if outputs is not None:
            run = msgspec.structs.replace(run, outputs=outputs)
        if last_iteration is not None:
            run = msgspec.structs.replace(run, last_iteration=last_iteration)
        self.remember(run)

    def reusable(self, now: float, window: float) -> str:
        """The id of the last task when it may be run over, else ''.

        Not when it is older than the window or has outputs; and not while a journal of it is on this disk:
        then it still runs, or its results have not reached the server, and running it over would mix the two.
        """
        run = self.last()
        if run is None or run.outputs or run.offline or now - run.started > window:
            return ""
        return "" if (layout.journal_root(self._data) / run.task).exists() else run.task

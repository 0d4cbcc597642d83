"""Weights on their way out of a task: a copy in the spool, and where it will be stored.

The copy is made before the call returns, so that the script may change or delete its file at once. Only the newest
copy of a model waits: when new weights are recorded, those before them are removed if nobody has sent them yet,
since whoever gets the new ones would drop them. So a script that saves after every epoch keeps at most two copies
of a model on its disk, however slow the line is.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, cast

from taskloom.domain.destination import place_below, task_folder
from taskloom.domain.task import Task
from taskloom.sdk.fingerprints import Lying

KIND = "models"  # the folder below a task's in a destination


class Owner(Protocol):
    """What has to be known of the task here; every `Recorder` is one."""

    @property
    def id(self) -> str: ...

    @property
    def project_name(self) -> str: ...

    @property
    def spool(self) -> Path: ...

    def document(self) -> Task: ...


@dataclass(frozen=True)
class _Copy:
    path: Path
    inode: int


class WeightFiles:
    """Of one task in this process."""

    def __init__(self) -> None:
        self._copies: dict[str, list[_Copy]] = {}  # by model, oldest first
        self._places: dict[str, str] = {}  # the model that has a name below a destination

    def store(
        self, owner: Owner, model: str, lying: Lying, destination: str, filename: str = ""
    ) -> dict[str, Any]:
        """Copy the files into the spool; several as a zip file. Gives the fields of the model that name them.

        destination: '' for the Taskloom server. filename: by default that of the files. Raises OSError. Call
        `recorded` when the record with these fields is written.
        """
        from taskloom.sdk.serialise import copy_into, spooled
        from taskloom.wire.archives import pack

        name = filename or (lying.path.name if lying.single else f"{lying.path.name}.zip")
        if lying.single:
            digest, size = copy_into(owner.spool, lying.path)
        else:
            with spooled(owner.spool) as (out, finish):
                pack(lying.members, cast("IO[bytes]", out))
                digest, size = finish()
        with contextlib.suppress(OSError):
            path = owner.spool / digest
            self._copies.setdefault(model, []).append(_Copy(path, path.stat().st_ino))
        if not destination:
            return {"digest": digest, "size": size, "filename": name, "uri": "", "fingerprint": "", "contents": ""}
        uri = self._place(owner, model, destination, name)
        return {"digest": "", "size": size, "filename": name, "uri": uri, "fingerprint": digest, "contents": ""}

    def recorded(self, model: str) -> None:
        """The newest weights are on record: older ones that still wait are not worth sending."""
        copies = self._copies.get(model, [])
        newest = copies[-1:]
        for old in copies[:-1]:
            with contextlib.suppress(OSError):
                # Another inode: the same bytes were stored again since, for another model or artifact.
                if old.path != newest[0].path and old.path.stat().st_ino == old.inode:
                    old.path.unlink()
        if copies:
            self._copies[model] = newest

    def _place(self, owner: Owner, model: str, destination: str, filename: str) -> str:
        """Two models of one file name do not overwrite one another."""
        folder = task_folder(destination, owner.project_name, owner.document().name, owner.id)
        path = PurePosixPath(filename)
        number, name = 1, filename
        while self._places.setdefault(f"{destination}/{name}", model) != model:
            number += 1
            name = f"{path.stem}-{number}{path.suffix}"
        return place_below(folder, KIND, name)

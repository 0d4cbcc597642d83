"""Files that a script hands to the `lab` package become artifacts and models of the task, each content once.

    artifacts/NAME        the artifact NAME
    checkpoints/NAME      the artifact checkpoints/NAME
    eval_results/NAME     the artifact evals/NAME
    datasets/JOB_NAME     the artifact datasets/NAME
    models/JOB_NAME       the model NAME
    profiling/NAME        the artifact profiling/NAME

A folder becomes a zip file. While the script runs, only what the package has listed as done is taken; at the end all
that is there. The bytes are copied into the journal's folder and uploaded by the companion.
"""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taskloom.domain.artifact import Artifact, Model, ModelLink
from taskloom.domain.errors import TaskloomError
from taskloom.journal import layout
from taskloom.journal.writer import Writer
from taskloom.wire.archives import folder_members, pack
from taskloom.wire.records import ArtifactStored, ModelStored
from taskloom.worker.lab.tail import PIECE, open_regular

MODELS = "models"
_PREFIXES = {
    "artifacts": "",
    "checkpoints": "checkpoints/",
    "eval_results": "evals/",
    "datasets": "datasets/",
    MODELS: "",
    "profiling": "profiling/",
}
_OWN = {("datasets", "index.json"), (MODELS, "index.json")}  # the package's own lists


@dataclass(frozen=True)
class Output:
    """Something in one of the job's folders. `name`: what it is called in the task."""

    kind: str
    name: str
    path: Path

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.path.name}"

    def state(self) -> str:
        """Changes when the content does: names, sizes and times of what is in it."""
        found = hashlib.sha256()
        for path in [self.path, *sorted(self.path.rglob("*"))] if self.path.is_dir() else [self.path]:
            with contextlib.suppress(OSError):
                told = path.lstat()
                size = 0 if path.is_dir() else told.st_size
                found.update(
                    f"{path.name}\0{size}\0{0 if path.is_dir() else told.st_mtime_ns}\n".encode("utf-8", "replace")
                )
        return found.hexdigest()[:32]


def outputs(job: Path, job_id: str, roots: tuple[Path, ...]) -> Iterator[Output]:
    """What lies in the job's folders now."""
    for kind, prefix in _PREFIXES.items():
        folder = job / kind
        try:
            if not any(folder.resolve().is_relative_to(root) for root in roots):
                continue
            entries = sorted(folder.iterdir())
        except (OSError, RuntimeError):
            continue
        for path in entries:
            if path.is_symlink() or (kind, path.name) in _OWN:
                continue
            name = path.name.removeprefix(f"{job_id}_") if kind in {"datasets", MODELS} else path.name
            yield Output(kind, f"{prefix}{name}", path)


class Keeper:
    """Tells outputs to a task's journal."""

    def __init__(self, writer: Writer, task: str, project: str, roots: tuple[Path, ...]) -> None:
        self._writer, self._task, self._project, self._roots = writer, task, project, roots

    def store(self, output: Output) -> bool:
        """False when it cannot be read now, or is nothing that can be stored."""
        fresh = self._spool() / f"lab-{uuid.uuid4().hex}.tmp"
        try:
            folder = output.path.is_dir()
            size = self._packed(output.path, fresh) if folder else self._copied(output.path, fresh)
            if size is None:
                return False
            digest = _digest(fresh)
            fresh.replace(fresh.with_name(digest))
            self._writer.record(self._record(output, digest, size, folder=folder))
        except (OSError, TaskloomError):
            return False
        finally:
            fresh.unlink(missing_ok=True)
        return True

    def _record(self, output: Output, digest: str, size: int, *, folder: bool) -> ArtifactStored | ModelStored:
        filename = f"{output.path.name}.zip" if folder else output.path.name
        now = time.time()
        if output.kind == MODELS:
            filename = f"{output.name}.zip" if folder else output.name
            identifier = uuid.uuid5(uuid.UUID(self._task), f"lab model {output.name}").hex
            model = Model(
                id=identifier,
                name=output.name,
                project=self._project,
                task=self._task,
                digest=digest,
                size=size,
                filename=filename,
                created=now,
            )
            return ModelStored(model=model, link=ModelLink(name=output.name, model=identifier))
        media = "application/zip" if folder else mimetypes.guess_type(filename)[0] or "application/octet-stream"
        kind = "folder" if folder else "file"
        artifact = Artifact(
            output.name, kind, digest, size, filename, media, metadata={"lab": output.kind}, created=now
        )
        return ArtifactStored(artifact=artifact)

    def _copied(self, path: Path, target: Path) -> int | None:
        descriptor = open_regular(path, self._roots)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as source, target.open("xb") as out:
            while piece := source.read(PIECE):
                out.write(piece)
            return out.tell()

    def _packed(self, path: Path, target: Path) -> int:
        with target.open("xb") as out:
            pack(folder_members(path), out)
        return target.stat().st_size

    def _spool(self) -> Path:
        folder = self._writer.task_folder / layout.FILES_FOLDER
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest()

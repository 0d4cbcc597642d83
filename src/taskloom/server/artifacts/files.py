"""Files that clients keep by a path of their own choice, as ClearML's file server does; their bytes are in holdings.

Who registered an artifact, a model or a sample by the address of such a file has named the same bytes: they get
the file's digest, whichever of the two came first, and follow when the file is stored anew. What is published
keeps its bytes: its file is neither replaced nor deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from sqlalchemy import Connection

from taskloom.domain.artifact import Artifact, Model, Sample, StoredFile
from taskloom.domain.errors import Conflict
from taskloom.server.artifacts import file_store, store
from taskloom.server.artifacts.paths import digest_in, path_of
from taskloom.server.db import Database

Named = TypeVar("Named", Artifact, Model, Sample)


class FileKeeper:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def find_file(self, path: str) -> StoredFile | None:
        return await self._db.read(lambda tx: file_store.find_file(tx, path))

    async def put_files(self, files: Sequence[StoredFile]) -> bool:
        """All of them or none; their bytes are complete. Whether bytes lost a name: a file at its path was replaced."""

        def work(tx: Connection) -> bool:
            replaced = False
            for file in files:
                before = file_store.find_file(tx, file.path)
                self._tell(tx, file.path, before, file)
                file_store.put_file(tx, file)
                if before is not None and before.digest != file.digest:
                    store.unname(tx, [before.digest])
                    replaced = True
            return replaced

        return await self._db.write(work)

    async def delete_file(self, path: str) -> bool:
        """Whether there was one. Its bytes go when nothing else names them."""

        def work(tx: Connection) -> bool:
            found = file_store.find_file(tx, path)
            if found is None:
                return False
            self._tell(tx, path, found, None)
            file_store.drop_files(tx, [path])
            store.unname(tx, [found.digest])
            return True

        return await self._db.write(work)

    async def models_at(self, uris: Sequence[str]) -> list[str]:
        """Ids of the models whose weights are the files of ours at these addresses, by whatever host."""
        paths = {path for uri in uris if (path := path_of(uri)) is not None}

        def work(tx: Connection) -> list[str]:
            found: list[str] = []
            for path in paths:
                file = file_store.find_file(tx, path)
                digest = file.digest if file is not None else digest_in(path)
                models = file_store.models_with(tx, "", digest) if digest else []
                found += [m.id for m in models if (path_of(m.uri) == path if file is not None else not m.uri)]
            return found

        return await self._db.read(work) if paths else []

    # --- inside the caller's transaction -----------------------------------------------------------------

    def drop_of_task(self, tx: Connection, task_id: str) -> list[str]:
        """Files of a task whose models are gone, but for those that a model which stays names; their digests."""
        near = file_store.with_models(tx, task_id)
        files = file_store.files_of(tx, task_id)
        going = [file for file in files if file.path not in near or not self._of_model(tx, file)]
        file_store.drop_files(tx, [file.path for file in going])
        return [file.digest for file in going]

    def drop_of_model(self, tx: Connection, model: Model) -> None:
        """The file of a model that is gone, unless another model or an artifact of its task names it."""
        path = path_of(model.uri)
        file = None if path is None else file_store.find_file(tx, path)
        if file is None or self._of_model(tx, file):
            return
        if any(path_of(a.uri) == path for _, a in file_store.artifacts_with(tx, file.task, file.digest)):
            return
        file_store.drop_files(tx, [file.path])
        store.unname(tx, [file.digest])

    def _of_model(self, tx: Connection, file: StoredFile) -> bool:
        return any(path_of(model.uri) == file.path for model in file_store.models_with(tx, "", file.digest))

    def _tell(self, tx: Connection, path: str, before: StoredFile | None, after: StoredFile | None) -> None:
        """Who names this path by its address has its bytes from now on, or none when it goes."""
        old = before.digest if before is not None else ""
        new, size = (after.digest, after.size) if after is not None else ("", 0)
        known = after or before
        task_id = known.task if known is not None else ""
        for published, artifact in file_store.artifacts_with(tx, task_id, old):
            if artifact.digest != new and path_of(artifact.uri) == path:
                _refuse_published(published and artifact.digest != "", path, f"task {task_id}")
                store.put_artifact(tx, task_id, _given(artifact, new, size, path))
        for model in file_store.models_with(tx, task_id, old):
            if model.digest != new and path_of(model.uri) == path:
                _refuse_published(model.published and model.digest != "", path, f"model {model.id}")
                store.put_model(tx, _given(_renewed(model), new, size, path))
        if old and old != new:  # what they showed is gone
            for sample in file_store.samples_with(tx, task_id, old):
                if path_of(sample.uri) == path:
                    file_store.drop_sample(tx, task_id, sample)


def filled(tx: Connection, named: Named) -> Named:
    """The same with digest and size, when its address is one of ours and its bytes are here."""
    if named.digest or not named.uri:
        return named
    path = path_of(named.uri)
    if path is None:
        return named
    file = file_store.find_file(tx, path)
    if file is not None:
        return _given(named, file.digest, file.size, path)
    digest = digest_in(path)
    size = store.size_of(tx, digest) if digest else None
    if size is None:
        return named
    return msgspec.structs.replace(_given(named, digest, size, path), uri="")


def _given(named: Named, digest: str, size: int, path: str) -> Named:
    changed = msgspec.structs.replace(named, digest=digest, size=size)
    if isinstance(changed, Sample) or changed.filename:
        return changed
    return msgspec.structs.replace(changed, filename=path.rpartition("/")[2])


def _renewed(model: Model) -> Model:
    """What was known of its bytes before is not true of new ones."""
    return msgspec.structs.replace(model, fingerprint="", contents="")


def _refuse_published(published: bool, path: str, what: str) -> None:
    if published:
        raise Conflict(f"the file {path[:200]!r} belongs to {what}, which is published; it cannot be changed")

"""Artifacts as a user reads them: what is known at once, the bytes when asked for, the object if it is safe.

The public names follow ClearML's. How bytes come is the business of `downloads`, what becomes of them that of
`rebuild`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from taskloom.domain import artifact as domain
from taskloom.domain.errors import TaskloomError, Unavailable
from taskloom.sdk.destinations import destination_of, place
from taskloom.sdk.downloads import Wanted, fetch
from taskloom.sdk.rebuild import check_allowed, rebuild
from taskloom.sdk.serialise import prepare
from taskloom.sdk.session import current
from taskloom.wire.client import build_call
from taskloom.wire.operations import GET_BLOB
from taskloom.wire.records import ArtifactRemoved, ArtifactStored

if TYPE_CHECKING:
    from taskloom.sdk.recorder import Recorder
    from taskloom.wire.send import Client

__all__ = ["Artifact", "forget_artifacts", "prepare", "store_artifact"]

SHIP_WAIT = 30.0


class Artifact:
    """One artifact of a task. Reading attributes never contacts anybody.

    client: makes or gives a client of the server, called when bytes are needed. cache: the folder of `downloads`.
    task: whose artifact it is. When another task runs in this process, reading the bytes is recorded as its use.
    spool: where bytes of the live task wait for their upload.
    """

    def __init__(
        self,
        client: Callable[[], Client],
        artifact: domain.Artifact,
        cache: Path,
        task: str = "",
        spool: Path | None = None,
    ) -> None:
        self._client = client
        self._artifact = artifact
        self._cache = cache
        self._spool = spool
        self._task = task

    @property
    def name(self) -> str:
        return self._artifact.name

    @property
    def type(self) -> str:
        """file, folder, dict, pandas, numpy, image, text or object."""
        return self._artifact.kind

    @property
    def mode(self) -> str:
        """Always `output`: what a task made."""
        return "output"

    @property
    def size(self) -> int:
        """Bytes as stored."""
        return self._artifact.size

    @property
    def hash(self) -> str:
        """SHA-256 of the stored bytes, in hexadecimal digits; empty where it is not known."""
        return self._artifact.digest or self._artifact.fingerprint

    @property
    def url(self) -> str:
        """Where the bytes are: an address of the server, or the one that was recorded."""
        if self._artifact.uri or not self._artifact.digest:
            return self._artifact.uri
        return build_call(self._client().address, GET_BLOB, digest=self._artifact.digest).url

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(self._artifact.metadata)

    @property
    def preview(self) -> str:
        return self._artifact.preview

    @property
    def timestamp(self) -> datetime:
        """When it was stored, in UTC."""
        return datetime.fromtimestamp(self._artifact.created, UTC)

    def get_local_copy(
        self, extract_archive: bool = True, raise_on_error: bool = False, force_download: bool = False
    ) -> str | None:
        """Path of a local copy: a file, or the unpacked folder for a stored folder (unless `extract_archive` is False).

        It lies in a cache that other processes use: copy it before you change it. None when it could not be
        had, unless `raise_on_error`.
        """
        try:
            return str(self._fetch(force_download, unpacked=extract_archive and self.type == "folder"))
        except (TaskloomError, OSError):
            if raise_on_error:
                raise
            return None

    def get(
        self,
        force_download: bool = False,
        deserialization_function: Callable[[bytes], Any] | None = None,
        allow_pickle: bool = False,
    ) -> Any:
        """The stored object: a dictionary, table, array, image, text; a path for files and folders.

        deserialization_function: makes the object from the bytes instead. allow_pickle: a pickled object may
        be opened, which runs code that it holds; without it such an artifact raises Forbidden.
        """
        if deserialization_function is not None:
            return deserialization_function(self._fetch(force_download).read_bytes())
        check_allowed(self._artifact, allow_pickle)
        path = self._fetch(force_download, unpacked=self.type == "folder")
        return rebuild(self._artifact, path, allow_pickle=allow_pickle)

    def _fetch(self, force: bool, *, unpacked: bool = False) -> Path:
        known = self._artifact
        wanted = Wanted(
            what=f"artifact {known.name!r}",
            digest=known.digest,
            uri=known.uri,
            fingerprint=known.fingerprint,
            size=known.size,
            filename=known.filename,
        )
        path = fetch(wanted, self._client, self._cache, spool=self._spool, force=force, unpacked=unpacked)
        if self._task and current.session is not None:
            current.session.use_artifact(self._task, known.name, self.hash)
        return path

    def __repr__(self) -> str:
        return f"Artifact(name={self.name!r}, type={self.type!r}, size={self.size}, hash={self.hash!r})"


# --- storing and forgetting ------------------------------------------------------------------------------------


def store_artifact(recorder: Recorder, name: str, obj: Any, **how: Any) -> domain.Artifact:
    """Copy an object's bytes into the spool and record where they will be; `how` as of `prepare`."""
    made = prepare(name, obj, spool=recorder.spool, **how)
    destination = destination_of(recorder) if made.digest else ""
    if destination:
        document = recorder.document()
        uri = place(destination, document.project, document.name, recorder.id, f"artifacts/{name}", made.filename)
        made = msgspec.structs.replace(made, uri=uri, fingerprint=made.digest, digest="")
    recorder.record(ArtifactStored(artifact=made))
    return made


def forget_artifacts(recorder: Recorder, names: Sequence[str], raise_on_errors: bool, from_storage: bool) -> bool:
    """True when everything went. Bytes elsewhere go when no other artifact of the task names them."""
    from taskloom.journal.removal import remove_external

    before = {one.name: one for one in recorder.document().artifacts}
    gone = [before[name] for name in names if name in before]
    if recorder.live and any(one.uri for one in gone):
        recorder.wait_shipped(SHIP_WAIT, while_moving=True)  # or an upload would come after the removal
    for name in names:
        recorder.record(ArtifactRemoved(name=name, time=time.time()))
    kept = {one.uri for name, one in before.items() if name not in names}
    uris = [one.uri for one in gone if one.uri and one.uri not in kept]
    left = remove_external(recorder.id, uris) if from_storage else []
    if left and raise_on_errors:
        raise Unavailable("; ".join(f"{one.uri}: {one.reason}" for one in left))
    for one in left:
        recorder.tell(f"{one.uri} could not be removed: {one.reason}")
    return not left

"""Artifacts as a user reads them: what is known at once, the bytes when asked for, the object if it is safe.

The public names follow ClearML's. How bytes come is the business of `downloads`, what becomes of them that of
`rebuild`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.domain import artifact as domain
from taskloom.domain.errors import TaskloomError
from taskloom.sdk.downloads import Cache, local_path
from taskloom.sdk.rebuild import check_allowed, rebuild
from taskloom.sdk.serialise import prepare
from taskloom.wire.client import build_call
from taskloom.wire.operations import GET_BLOB

if TYPE_CHECKING:
    from taskloom.wire.send import Client

__all__ = ["Artifact", "prepare"]


class Artifact:
    """One artifact of a task. Reading attributes never contacts anybody.

    client: makes or gives a client of the server, called when bytes are needed. cache: the folder of `downloads`.
    """

    def __init__(self, client: Callable[[], Client], artifact: domain.Artifact, cache: Path) -> None:
        self._client = client
        self._artifact = artifact
        self._cache = Cache(cache)

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
        """SHA-256 of the stored bytes, in hexadecimal digits; empty for what Taskloom does not hold."""
        return self._artifact.digest

    @property
    def url(self) -> str:
        """Where the bytes are: an address of the server, or the one that was recorded."""
        if self._artifact.uri or not self.hash:
            return self._artifact.uri
        return build_call(self._client().address, GET_BLOB, digest=self.hash).url

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
        if not known.digest:
            return local_path(known.uri, f"artifact {known.name!r}")
        return self._cache.fetch(
            self._client, known.digest, size=known.size, filename=known.filename, force=force, unpacked=unpacked
        )

    def __repr__(self) -> str:
        return f"Artifact(name={self.name!r}, type={self.type!r}, size={self.size}, hash={self.hash!r})"

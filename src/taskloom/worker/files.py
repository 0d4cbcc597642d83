"""Uploaded folders: fetched from the server once for each content, checked, kept in a cache of bounded size."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

from taskloom.domain.artifact import check_digest
from taskloom.domain.errors import TaskloomError
from taskloom.wire.archives import unpack
from taskloom.wire.send import AsyncClient
from taskloom.worker.blobs import fetch_blob
from taskloom.worker.git import locked
from taskloom.worker.steps import PrepareFailed, Steps

MAX_CACHE = 4 * 2**30  # bytes


class Files:
    """The zip files below `folder`; shared by all slots and workers of this machine."""

    def __init__(self, folder: Path, client: AsyncClient, limit: int = MAX_CACHE) -> None:
        self._folder, self._client, self._limit = folder, client, limit

    async def unpack(self, digest: str, home: Path, spare: Path, steps: Steps) -> None:
        """The archive's content into `home`, over what is there. `spare`: a folder beside it that does not exist."""
        try:
            check_digest(digest)
            async with locked(self._folder / f"{digest}.lock"):
                archive = await self._fetched(digest, steps)
                spare.mkdir(mode=0o700)
                await asyncio.to_thread(unpack, archive, spare)
                os.utime(archive)
        except TaskloomError as error:
            raise PrepareFailed(f"the task's files cannot be had: {error.message}") from error
        merge(spare, home)
        self._trim(digest)

    async def _fetched(self, digest: str, steps: Steps) -> Path:
        archive = self._folder / f"{digest}.zip"
        if archive.exists():
            return archive
        steps.report.say(f"taskloom: fetching the task's files ({digest[:12]})")
        fresh = archive.with_suffix(".part")
        try:
            await fetch_blob(self._client, digest, fresh, steps.report.say, "the task's files")
            fresh.replace(archive)
        finally:
            fresh.unlink(missing_ok=True)
        return archive

    def _trim(self, newest: str) -> None:
        """The least recently used go; one that is being unpacked is only unlinked."""
        found: list[tuple[float, int, Path]] = []
        for path in self._folder.glob("*.zip"):
            with contextlib.suppress(OSError):
                found.append((path.stat().st_mtime, path.stat().st_size, path))
        total = 0
        for _, size, path in sorted(found, reverse=True):
            total += size
            if total > self._limit and path.stem != newest:
                path.unlink(missing_ok=True)


def merge(source: Path, target: Path) -> None:
    """Moves everything into `target`. A link there is replaced and never followed: it may lead anywhere."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and not entry.is_symlink():
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                place.unlink()
            if place.exists():
                merge(entry, place)
                continue
        elif place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        entry.replace(place)
    source.rmdir()

"""The checkpoint folder: what a program leaves for the next attempt of its task, on whatever machine that is.

It travels as the task's artifact `checkpoints`, a zip file: stored through the attempt's journal, which uploads it as
anything else, and fetched before the program starts. What cannot be fetched is said on the console and not waited for
longer than a server is away: a task that begins anew is better than none.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from pathlib import Path

from taskloom.domain.artifact import Artifact
from taskloom.domain.errors import TaskloomError
from taskloom.domain.task import Task
from taskloom.journal import layout
from taskloom.journal.writer import Writer
from taskloom.wire.archives import folder_members, pack, unpack
from taskloom.wire.records import ArtifactStored
from taskloom.wire.send import AsyncClient
from taskloom.wire.worker_protocol import CHECKPOINTS
from taskloom.worker.blobs import fetch_blob
from taskloom.worker.steps import Report

KIND, MEDIA_TYPE = "folder", "application/zip"


async def restore(client: AsyncClient, task: Task, folder: Path, report: Report) -> None:
    """Makes the folder, with what an earlier attempt left in it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    stored = next((a for a in task.artifacts if a.name == CHECKPOINTS and a.kind == KIND and a.digest), None)
    if stored is None:
        return
    archive = folder.with_name(f"{CHECKPOINTS}.zip")
    report.say(f"taskloom: fetching the checkpoints of an earlier attempt ({stored.size} bytes)")
    try:
        await fetch_blob(client, stored.digest, archive, report.say, "checkpoints", stored.size)
        await asyncio.to_thread(unpack, archive, folder)
    except (TaskloomError, OSError) as error:
        report.say(f"taskloom: the checkpoints of an earlier attempt cannot be used: {error}")
        return
    finally:
        archive.unlink(missing_ok=True)
    report.say("taskloom: the checkpoints of an earlier attempt are in TASKLOOM_CHECKPOINTS")


async def store(folder: Path, writer: Writer, report: Report) -> None:
    """Hands what is in the folder to the journal, when there is something. A full disk loses it, with a word."""
    try:
        artifact = await asyncio.to_thread(_pack, folder, writer.task_folder / layout.FILES_FOLDER)
    except OSError as error:
        report.say(f"taskloom: the checkpoints cannot be kept: {error}")
        return
    if artifact is not None:
        report.say(f"taskloom: keeping the checkpoints for the next attempt ({artifact.size} bytes)")
        writer.record(ArtifactStored(artifact=artifact))


def _pack(folder: Path, spool: Path) -> Artifact | None:
    members = folder_members(folder) if folder.is_dir() and not folder.is_symlink() else []
    count = sum(not name.endswith("/") for name, _ in members)
    if not count:
        return None
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = spool / f"{CHECKPOINTS}.{os.getpid()}.tmp"
    try:
        with fresh.open("wb") as file:
            pack(members, file)
        with fresh.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = fresh.stat().st_size
        fresh.replace(spool / digest)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
    return Artifact(
        name=CHECKPOINTS,
        kind=KIND,
        digest=digest,
        size=size,
        filename=f"{CHECKPOINTS}.zip",
        media_type=MEDIA_TYPE,
        preview=f"files: {count}",
        created=time.time(),
    )

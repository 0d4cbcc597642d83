"""SQL of files that are kept by a path, of debug samples, and of what names a file by its address.

A digest finds the rows that may name a file; whether an address is the file's is decided by who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, false, func, or_, select

from taskloom.domain.artifact import Artifact, Model, Sample, StoredFile
from taskloom.server.artifacts.store import MODEL, read_model
from taskloom.server.db import insert
from taskloom.server.tables import artifacts, files, models, samples, tasks

_artifact_of = msgspec.msgpack.Decoder(Artifact)
_sample_of = msgspec.msgpack.Decoder(Sample)
_pack = msgspec.msgpack.Encoder().encode
PUBLISHED = "published"
SLICE = 500


# --- files ------------------------------------------------------------------------------------------------


def find_file(tx: Connection, path: str) -> StoredFile | None:
    found = tx.execute(select(files).where(files.c.path == path)).first()
    return None if found is None else _file(found)


def put_file(tx: Connection, file: StoredFile) -> None:
    values = {
        "digest": file.digest,
        "size": file.size,
        "media_type": file.media_type,
        "task_id": file.task,
        "user": file.user,
        "created": file.created,
    }
    statement = insert(tx, files).values(path=file.path, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["path"], set_=values))


def drop_files(tx: Connection, paths: Sequence[str]) -> None:
    for at in range(0, len(paths), SLICE):
        tx.execute(delete(files).where(files.c.path.in_(paths[at : at + SLICE])))


def files_of(tx: Connection, task_id: str) -> list[StoredFile]:
    return [_file(row) for row in tx.execute(select(files).where(files.c.task_id == task_id))]


def with_models(tx: Connection, task_id: str) -> set[str]:
    """Paths of the files of a task whose bytes some model has."""
    named = exists().where(models.c.digest == files.c.digest)
    return set(tx.execute(select(files.c.path).where(files.c.task_id == task_id, named)).scalars())


def _file(row: Row[Any]) -> StoredFile:
    return StoredFile(
        path=row.path,
        digest=row.digest,
        size=row.size,
        media_type=row.media_type,
        task=row.task_id,
        user=row.user,
        created=row.created,
    )


# --- who names a file -------------------------------------------------------------------------------------


def artifacts_with(tx: Connection, task_id: str, digest: str) -> list[tuple[bool, Artifact]]:
    """(whether the task is published, artifact) of those of a task that have the digest, or none yet."""
    found = (
        select(tasks.c.status, artifacts.c.document)
        .join(tasks, tasks.c.id == artifacts.c.task_id)
        .where(artifacts.c.task_id == task_id, artifacts.c.digest.in_(["", digest]))
    )
    return [(status == PUBLISHED, _artifact_of.decode(row)) for status, row in tx.execute(found)]


def models_with(tx: Connection, task_id: str, digest: str) -> list[Model]:
    """Models that have the digest, and those of a task that have none yet."""
    tests: list[ColumnElement[bool]] = []
    if digest:
        tests.append(models.c.digest == digest)
    if task_id:
        tests.append(and_(models.c.task_id == task_id, models.c.digest == ""))
    return [read_model(row) for row in tx.execute(select(*MODEL).where(or_(false(), *tests)))]


def samples_with(tx: Connection, owner_id: str, digest: str) -> list[Sample]:
    found = select(samples.c.document).where(samples.c.owner_id == owner_id, samples.c.digest == digest)
    return [_sample_of.decode(row) for row in tx.execute(found).scalars()]


# --- samples ----------------------------------------------------------------------------------------------


def sample_digest(tx: Connection, owner_id: str, sample: Sample) -> str:
    return tx.execute(select(samples.c.digest).where(_is(owner_id, sample))).scalar_one_or_none() or ""


def put_sample(tx: Connection, owner_id: str, sample: Sample) -> None:
    keys = {
        "owner_id": owner_id,
        "title": sample.title,
        "series": sample.series,
        "iteration": sample.iteration,
        "name": sample.name,
    }
    values = {"digest": sample.digest, "time": sample.time, "document": _pack(sample)}
    statement = insert(tx, samples).values(**keys, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=values))


def drop_sample(tx: Connection, owner_id: str, sample: Sample) -> None:
    tx.execute(delete(samples).where(_is(owner_id, sample)))


def drop_older_samples(tx: Connection, owner_id: str, sample: Sample, kept: int) -> list[str]:
    """Of its title and series, drop all but the newest `kept` iterations; the digests they named."""
    same = (
        samples.c.owner_id == owner_id,
        samples.c.title == sample.title,
        samples.c.series == sample.series,
    )
    iterations = select(samples.c.iteration).where(*same).distinct().order_by(samples.c.iteration.desc())
    newest = tx.execute(iterations.offset(kept).limit(1)).scalar_one_or_none()
    if newest is None:
        return []
    older = (*same, samples.c.iteration <= newest)
    found = list(tx.execute(select(samples.c.digest).where(*older)).scalars())
    tx.execute(delete(samples).where(*older))
    return found


def drop_samples(tx: Connection, owner_id: str) -> list[str]:
    """Drop them all; the digests they named."""
    found = list(tx.execute(select(samples.c.digest).where(samples.c.owner_id == owner_id).distinct()).scalars())
    if found:
        tx.execute(delete(samples).where(samples.c.owner_id == owner_id))
    return found


def find_samples(
    tx: Connection, owner_id: str, title: str, newest_only: bool, limit: int, offset: int
) -> tuple[list[Sample], int]:
    """By title, series, newest iteration first, name; and how many there are."""
    tests = [samples.c.owner_id == owner_id]
    if title:
        tests.append(samples.c.title == title)
    if newest_only:
        newest = (
            select(samples.c.title, samples.c.series, func.max(samples.c.iteration).label("iteration"))
            .where(*tests)
            .group_by(samples.c.title, samples.c.series)
            .subquery()
        )
        source = samples.join(
            newest,
            and_(
                samples.c.title == newest.c.title,
                samples.c.series == newest.c.series,
                samples.c.iteration == newest.c.iteration,
            ),
        )
    else:
        source = samples
    found = select(samples.c.document).select_from(source).where(*tests)
    found = found.order_by(samples.c.title, samples.c.series, samples.c.iteration.desc(), samples.c.name)
    total = tx.execute(select(func.count()).select_from(source).where(*tests)).scalar_one()
    return [_sample_of.decode(row) for row in tx.execute(found.limit(limit).offset(offset)).scalars()], total


def _is(owner_id: str, sample: Sample) -> ColumnElement[bool]:
    return and_(
        samples.c.owner_id == owner_id,
        samples.c.title == sample.title,
        samples.c.series == sample.series,
        samples.c.iteration == sample.iteration,
        samples.c.name == sample.name,
    )

"""SQL of artifacts, models, their links and the digests that are complete. Rules are the service's.

Lists of models are found by query, files and samples are kept by file_store, what tasks used by use_store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
from sqlalchemy import BindParameter, Connection, Row, Table, bindparam, delete, exists, func, or_, select, update

from taskloom.domain.artifact import Artifact, Model, ModelLink
from taskloom.server.db import insert
from taskloom.server.prepared import Prepared
from taskloom.server.tables import (
    artifacts,
    blobs,
    deletions,
    files,
    model_links,
    model_tags,
    model_values,
    models,
    projects,
    samples,
    tasks,
)

_artifact_of = msgspec.msgpack.Decoder(Artifact)
_model_of = msgspec.msgpack.Decoder(Model)
_pack = msgspec.msgpack.Encoder().encode
OUTPUT = "output"
SLICE = 500  # ids in one IN list
_some: BindParameter[Any] = bindparam("some", expanding=True)
_ARTIFACTS = (
    select(artifacts.c.task_id, artifacts.c.document)
    .where(artifacts.c.task_id.in_(_some))
    .order_by(artifacts.c.created, artifacts.c.name)
)
_LINKS = (
    select(model_links.c.task_id, model_links.c.name, model_links.c.model_id, model_links.c.direction)
    .where(model_links.c.task_id.in_(_some))
    .order_by(model_links.c.position)
)
# The same for one task, as each step of an attempt asks.
_ARTIFACTS_OF_ONE = Prepared(
    select(artifacts.c.task_id, artifacts.c.document)
    .where(artifacts.c.task_id == bindparam("task"))
    .order_by(artifacts.c.created, artifacts.c.name)
)
_LINKS_OF_ONE = Prepared(
    select(model_links.c.task_id, model_links.c.name, model_links.c.model_id, model_links.c.direction)
    .where(model_links.c.task_id == bindparam("task"))
    .order_by(model_links.c.position)
)


# --- digests ----------------------------------------------------------------------------------------------


def size_of(tx: Connection, digest: str) -> int | None:
    """Bytes of a complete blob, None when it is not complete."""
    return tx.execute(select(blobs.c.size).where(blobs.c.digest == digest)).scalar_one_or_none()


def put_blob(tx: Connection, digest: str, size: int, now: float) -> None:
    statement = insert(tx, blobs).values(digest=digest, size=size, created=now)
    tx.execute(statement.on_conflict_do_update(index_elements=["digest"], set_={"size": size, "created": now}))


def touch_blob(tx: Connection, digest: str, now: float) -> None:
    """Somebody is about to name it: its time without a name begins anew."""
    tx.execute(update(blobs).where(blobs.c.digest == digest).values(created=now))


def unname(tx: Connection, digests: Iterable[str]) -> None:
    """They lost a name: when they have no other, they have been without for ever."""
    for digest in {d for d in digests if d}:
        tx.execute(update(blobs).where(blobs.c.digest == digest).values(created=0.0))


def drop_unnamed(tx: Connection, before: float, limit: int) -> list[str]:
    """Forget at most `limit` complete digests that nothing names and nobody asked for since `before`."""
    named = or_(
        exists().where(tasks.c.files == blobs.c.digest),
        *(exists().where(table.c.digest == blobs.c.digest) for table in (artifacts, models, files, samples)),
    )
    found = list(tx.execute(select(blobs.c.digest).where(blobs.c.created < before, ~named).limit(limit)).scalars())
    if found:
        tx.execute(delete(blobs).where(blobs.c.digest.in_(found)))
    return found


def known(tx: Connection, digests: Sequence[str]) -> set[str]:
    return set(tx.execute(select(blobs.c.digest).where(blobs.c.digest.in_(list(digests)))).scalars())


# --- artifacts --------------------------------------------------------------------------------------------


def has_task(tx: Connection, task_id: str) -> bool:
    return tx.execute(select(tasks.c.id).where(tasks.c.id == task_id)).scalar_one_or_none() is not None


def task_project(tx: Connection, task_id: str) -> str:
    """Path of the task's project; empty when there is no such task."""
    statement = select(projects.c.name).join(tasks, tasks.c.project_id == projects.c.id)
    return tx.execute(statement.where(tasks.c.id == task_id)).scalar_one_or_none() or ""


def artifact_digest(tx: Connection, task_id: str, name: str) -> str | None:
    return tx.execute(
        select(artifacts.c.digest).where(artifacts.c.task_id == task_id, artifacts.c.name == name)
    ).scalar_one_or_none()


def put_artifact(tx: Connection, task_id: str, artifact: Artifact) -> None:
    values: dict[str, Any] = {
        "digest": artifact.digest,
        "created": artifact.created,
        "document": _pack(artifact),
    }
    statement = insert(tx, artifacts).values(task_id=task_id, name=artifact.name, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["task_id", "name"], set_=values))


def drop_artifact(tx: Connection, task_id: str, name: str) -> None:
    tx.execute(delete(artifacts).where(artifacts.c.task_id == task_id, artifacts.c.name == name))


def drop_artifacts(tx: Connection, task_id: str) -> list[str]:
    """Drop them all; the digests they named."""
    found = list(tx.execute(select(artifacts.c.digest).where(artifacts.c.task_id == task_id)).scalars())
    if found:
        tx.execute(delete(artifacts).where(artifacts.c.task_id == task_id))
    return found


def artifacts_of(tx: Connection, task_ids: Sequence[str]) -> dict[str, tuple[Artifact, ...]]:
    found: defaultdict[str, list[Artifact]] = defaultdict(list)
    for some in _slices(task_ids):
        one = _ARTIFACTS_OF_ONE.rows(tx, {"task": some[0]}) if len(some) == 1 else None
        for task_id, document in tx.execute(_ARTIFACTS, {"some": some}) if one is None else one:
            found[task_id].append(_artifact_of.decode(document))
    return {task_id: tuple(rows) for task_id, rows in found.items()}


# --- models -----------------------------------------------------------------------------------------------


MODEL = (models.c.document, models.c.project)
"""What a row of a model is read from: projects are renamed in their column only."""


def read_model(row: Row[bytes, str]) -> Model:
    model = _model_of.decode(row.document)
    return model if model.project == row.project else msgspec.structs.replace(model, project=row.project)


def find_model(tx: Connection, model_id: str) -> Model | None:
    row = tx.execute(select(*MODEL).where(models.c.id == model_id)).first()
    return None if row is None else read_model(row)


def put_model(tx: Connection, model: Model) -> None:
    values: dict[str, Any] = {
        "name": model.name,
        "project": model.project,
        "task_id": model.task,
        "digest": model.digest,
        "fingerprint": model.fingerprint or model.digest,
        "contents": model.contents,
        "framework": model.framework,
        "uri": model.uri,
        "user": model.user,
        "comment": model.comment,
        "parent": model.parent,
        "iteration": model.iteration,
        "published": model.published,
        "created": model.created,
        "last_update": model.last_update,
        "document": _pack(model),
    }
    statement = insert(tx, models).values(id=model.id, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
    _put_rows(tx, model_tags, model.id, [*_tag_rows(model.tags, False), *_tag_rows(model.system_tags, True)])
    _put_rows(tx, model_values, model.id, [{"key": k, "text": told(v)} for k, v in model.metadata.items()])


def _put_rows(tx: Connection, table: Table, model_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    tx.execute(delete(table).where(table.c.model_id == model_id))
    if rows:
        tx.execute(table.insert(), [{"model_id": model_id, **row} for row in rows])


def _tag_rows(tags: Sequence[str], system: bool) -> list[dict[str, Any]]:
    return [{"system": system, "tag": tag} for tag in dict.fromkeys(tags)]


def told(value: Any) -> str:
    """A value of the metadata as the text by which it is found."""
    if isinstance(value, dict) and cast("dict[str, Any]", value).keys() == {"type", "value"}:
        value = cast("dict[str, Any]", value)["value"]  # a value of a type that only its writer knows
    if isinstance(value, str | bool | int | float):
        return str(value)
    return msgspec.json.encode(value, enc_hook=str).decode()


def drop_model(tx: Connection, model_id: str) -> None:
    for table in (model_links, model_tags, model_values):
        tx.execute(delete(table).where(table.c.model_id == model_id))
    tx.execute(delete(models).where(models.c.id == model_id))


def note_telemetry(tx: Connection, model_id: str, now: float) -> None:
    """What was reported about a model that goes is deleted with the next results that are (see `tasks.removal`)."""
    fresh = insert(tx, deletions).values(task_id=model_id, results_only=True, done=False, created=now)
    tx.execute(fresh.on_conflict_do_update(index_elements=["task_id"], set_={"done": False}))


def using_tasks(tx: Connection, model_id: str) -> list[str]:
    mine = (model_links.c.model_id == model_id) & (model_links.c.direction != OUTPUT)
    return list(tx.execute(select(model_links.c.task_id).where(mine).distinct()).scalars())


def frameworks(tx: Connection, paths: Sequence[str]) -> list[str]:
    found = select(models.c.framework).where(models.c.framework != "").distinct().order_by(models.c.framework)
    return list(tx.execute(found.where(models.c.project.in_(paths)) if paths else found).scalars())


def own_models(tx: Connection, task_id: str) -> list[Model]:
    """Unpublished models that the task made and no other task refers to."""
    elsewhere = exists().where(model_links.c.model_id == models.c.id, model_links.c.task_id != task_id)
    mine = select(*MODEL).where(models.c.task_id == task_id, models.c.published.is_(False), ~elsewhere)
    return [read_model(row) for row in tx.execute(mine)]


def put_link(tx: Connection, task_id: str, link: ModelLink) -> None:
    position = select(func.max(model_links.c.position)).where(model_links.c.task_id == task_id)
    last = tx.execute(position).scalar_one()
    statement = insert(tx, model_links).values(
        task_id=task_id,
        direction=link.direction,
        name=link.name,
        model_id=link.model,
        position=0 if last is None else last + 1,
    )
    keys = ["task_id", "direction", "name"]
    tx.execute(statement.on_conflict_do_update(index_elements=keys, set_={"model_id": link.model}))


def links_of(tx: Connection, task_ids: Sequence[str]) -> dict[str, tuple[ModelLink, ...]]:
    found: defaultdict[str, list[ModelLink]] = defaultdict(list)
    for some in _slices(task_ids):
        one = _LINKS_OF_ONE.rows(tx, {"task": some[0]}) if len(some) == 1 else None
        for task_id, name, model_id, direction in tx.execute(_LINKS, {"some": some}) if one is None else one:
            found[task_id].append(ModelLink(name=name, model=model_id, direction=direction))
    return {task_id: tuple(rows) for task_id, rows in found.items()}


def _slices(ids: Sequence[str]) -> Iterator[list[str]]:
    for at in range(0, len(ids), SLICE):
        yield list(ids[at : at + SLICE])


def drop_link(tx: Connection, task_id: str, direction: str, name: str) -> bool:
    """Whether there was one."""
    mine = (model_links.c.task_id == task_id) & (model_links.c.direction == direction)
    return tx.execute(delete(model_links).where(mine, model_links.c.name == name)).rowcount == 1


def drop_links(tx: Connection, task_id: str) -> None:
    tx.execute(delete(model_links).where(model_links.c.task_id == task_id))

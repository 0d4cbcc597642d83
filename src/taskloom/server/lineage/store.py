"""SQL of lineage: the next step from a set of tasks and models, in one direction, and what there is to say of them.

Every question is bounded by `room`, one more than may be used, so that a task with a million clones costs no more
than a page of them. Which steps are taken, and how many, is the service's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, select

from taskloom.server.tables import eval_jobs, model_links, models, projects, tasks, uses
from taskloom.wire.messages import LineageEdge, LineageNode

OUTPUT = "output"
TASK, MODEL = "task", "model"


def task_nodes(tx: Connection, ids: Sequence[str]) -> list[LineageNode]:
    """Those that are there."""
    found = (
        select(
            tasks.c.id,
            tasks.c.name,
            projects.c.name.label("project"),
            tasks.c.status,
            tasks.c.type,
            tasks.c.created,
        )
        .join(projects, projects.c.id == tasks.c.project_id)
        .where(tasks.c.id.in_(ids))
    )
    return [
        LineageNode(
            kind="task",
            id=row.id,
            name=row.name,
            project=row.project,
            status=row.status,
            type=row.type,
            created=row.created,
        )
        for row in (tx.execute(found) if ids else ())
    ]


def model_nodes(tx: Connection, ids: Sequence[str]) -> list[LineageNode]:
    found = select(
        models.c.id, models.c.name, models.c.project, models.c.published, models.c.framework, models.c.created
    ).where(models.c.id.in_(ids))
    return [
        LineageNode(
            kind="model",
            id=row.id,
            name=row.name,
            project=row.project,
            status="published" if row.published else "",
            type=row.framework,
            created=row.created,
        )
        for row in (tx.execute(found) if ids else ())
    ]


# --- steps ------------------------------------------------------------------------------------------------


def into_tasks(tx: Connection, ids: Sequence[str], room: int) -> list[LineageEdge]:
    """What went into these tasks."""
    if not ids:
        return []
    links = select(model_links.c.model_id, model_links.c.task_id, model_links.c.name)
    loaded = links.where(model_links.c.task_id.in_(ids), model_links.c.direction != OUTPUT)
    read = select(uses).where(uses.c.task_id.in_(ids)).order_by(uses.c.time, uses.c.source_task, uses.c.name)
    parents = select(tasks.c.parent, tasks.c.id).where(tasks.c.id.in_(ids), tasks.c.parent != "")
    found = [_loaded(row) for row in _first(tx, loaded.order_by(model_links.c.position), room)]
    found += [_read(row) for row in _first(tx, read, room)]
    found += [LineageEdge(relation="parent", source=p, target=t) for p, t in _first(tx, parents, room)]
    trained = _evaluated().where(eval_jobs.c.task_id.in_(ids), eval_jobs.c.trained_by != "")
    found += [LineageEdge(relation="evaluated", source=s, target=t) for s, t in _first(tx, trained, room)]
    return found


def into_models(tx: Connection, ids: Sequence[str], room: int) -> list[LineageEdge]:
    """What these models were made by and from."""
    if not ids:
        return []
    found = [_made(row) for row in _first(tx, _outputs().where(model_links.c.model_id.in_(ids)), room)]
    makers = select(models.c.task_id, models.c.id).where(models.c.id.in_(ids), models.c.task_id != "")
    found += [LineageEdge(relation="made", source=t, target=m) for t, m in _first(tx, makers, room)]
    parents = select(models.c.parent, models.c.id).where(models.c.id.in_(ids), models.c.parent != "")
    found += [LineageEdge(relation="parent", source=p, target=m) for p, m in _first(tx, parents, room)]
    return found


def out_of_tasks(tx: Connection, ids: Sequence[str], room: int) -> list[LineageEdge]:
    """What came out of these tasks."""
    if not ids:
        return []
    found = [_made(row) for row in _first(tx, _outputs().where(model_links.c.task_id.in_(ids)), room)]
    made = select(models.c.task_id, models.c.id).where(models.c.task_id.in_(ids)).order_by(models.c.created)
    found += [LineageEdge(relation="made", source=t, target=m) for t, m in _first(tx, made, room)]
    read = select(uses).where(uses.c.source_task.in_(ids)).order_by(uses.c.time, uses.c.task_id, uses.c.name)
    found += [_read(row) for row in _first(tx, read, room)]
    clones = select(tasks.c.parent, tasks.c.id).where(tasks.c.parent.in_(ids)).order_by(tasks.c.created)
    found += [LineageEdge(relation="parent", source=p, target=t) for p, t in _first(tx, clones, room)]
    trained = _evaluated().where(eval_jobs.c.trained_by.in_(ids)).order_by(eval_jobs.c.created)
    found += [LineageEdge(relation="evaluated", source=s, target=t) for s, t in _first(tx, trained, room)]
    return found


def out_of_models(tx: Connection, ids: Sequence[str], room: int) -> list[LineageEdge]:
    """Who loaded these models, and which were made from them."""
    if not ids:
        return []
    links = select(model_links.c.model_id, model_links.c.task_id, model_links.c.name).order_by(
        model_links.c.task_id
    )
    loaded = links.where(model_links.c.model_id.in_(ids), model_links.c.direction != OUTPUT)
    made = select(models.c.parent, models.c.id).where(models.c.parent.in_(ids)).order_by(models.c.created)
    found = [_loaded(row) for row in _first(tx, loaded, room)]
    found += [LineageEdge(relation="parent", source=p, target=m) for p, m in _first(tx, made, room)]
    return found


def _first(tx: Connection, found: Select[*tuple[Any, ...]], room: int) -> Sequence[Any]:
    return tx.execute(found.limit(room)).all()


def _evaluated() -> Select[str, str]:
    return select(eval_jobs.c.trained_by, eval_jobs.c.task_id)


def _outputs() -> Select[Any, Any, Any]:
    links = select(model_links.c.task_id, model_links.c.model_id, model_links.c.name)
    return links.where(model_links.c.direction == OUTPUT).order_by(model_links.c.task_id, model_links.c.position)


def _made(row: Any) -> LineageEdge:
    return LineageEdge(relation="made", source=row.task_id, target=row.model_id, name=row.name)


def _loaded(row: Any) -> LineageEdge:
    return LineageEdge(relation="loaded", source=row.model_id, target=row.task_id, name=row.name)


def _read(row: Any) -> LineageEdge:
    return LineageEdge(
        relation="read", source=row.source_task, target=row.task_id, name=row.name, digest=row.digest
    )

"""What projects hold, summed up: SQL that looks at tasks, their tags and values, and models of some projects.

Only reads. Lists of ids may be long (all projects of a house), so an empty `within` means everything instead.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, case, exists, func, select, true

from taskloom.domain.task import ARCHIVED_TAG, HIDDEN_TAG
from taskloom.server.tables import model_tags, model_values, models, projects, task_tags, task_values, tasks

Test = ColumnElement[bool]


@dataclass(frozen=True)
class Sum:
    """Tasks of one project in one state. Times in seconds; `latest`: when the last one started, 0: none did."""

    project: str
    status: str
    archived: bool
    count: int
    seconds: float
    latest: float
    ended: int  # since the moment that was asked for


def task_sums(tx: Connection, within: Collection[str], since: float, *, hidden: bool) -> list[Sum]:
    """`hidden`: tasks with that system tag are counted, too."""
    ran = case((tasks.c.completed >= tasks.c.started, tasks.c.completed - tasks.c.started), else_=0.0)
    each = select(
        tasks.c.project_id,
        tasks.c.status,
        _tagged(ARCHIVED_TAG).label("archived"),
        case((tasks.c.started > 0, ran), else_=0.0).label("seconds"),
        tasks.c.started,
        case((tasks.c.completed > since, 1), else_=0).label("ended"),
    ).where(_in(tasks.c.project_id, within), true() if hidden else ~_tagged(HIDDEN_TAG))
    one = each.subquery()
    statement = select(
        one.c.project_id,
        one.c.status,
        one.c.archived,
        func.count(),
        func.sum(one.c.seconds),
        func.max(one.c.started),
        func.sum(one.c.ended),
    ).group_by(one.c.project_id, one.c.status, one.c.archived)
    return [
        Sum(p, s, bool(a), n, sec or 0.0, last or 0.0, int(e or 0))
        for p, s, a, n, sec, last, e in tx.execute(statement)
    ]


def task_tags_in(tx: Connection, within: Collection[str], *, system: bool) -> list[str]:
    statement = select(task_tags.c.tag).where(task_tags.c.system == system).distinct()
    if within:
        statement = statement.join(tasks, tasks.c.id == task_tags.c.task_id).where(tasks.c.project_id.in_(within))
    return sorted(tx.execute(statement).scalars())


def model_tags_in(tx: Connection, within: Collection[str], *, system: bool) -> list[str]:
    statement = select(model_tags.c.tag).where(model_tags.c.system == system).distinct()
    if within:
        statement = statement.join(models, models.c.id == model_tags.c.model_id).where(_of(within))
    return sorted(tx.execute(statement).scalars())


def keys_in(tx: Connection, within: Collection[str], prefix: str) -> list[str]:
    """Keys of filterable values (see `task_values`) that tasks of these projects have."""
    start = func.substr(task_values.c.key, 1, len(prefix)) == prefix
    statement = select(task_values.c.key).where(start).distinct()
    if within:
        statement = statement.join(tasks, tasks.c.id == task_values.c.task_id)
        statement = statement.where(tasks.c.project_id.in_(within))
    return sorted(tx.execute(statement).scalars())


def values_in(tx: Connection, within: Collection[str], key: str) -> list[str]:
    """Distinct texts under one key."""
    statement = (
        select(task_values.c.text).where(task_values.c.key == key, task_values.c.text.is_not(None)).distinct()
    )
    if within:
        statement = statement.join(tasks, tasks.c.id == task_values.c.task_id)
        statement = statement.where(tasks.c.project_id.in_(within))
    return sorted(tx.execute(statement).scalars())


def metadata_keys_in(tx: Connection, within: Collection[str]) -> list[str]:
    statement = select(model_values.c.key).distinct()
    if within:
        statement = statement.join(models, models.c.id == model_values.c.model_id).where(_of(within))
    return sorted(tx.execute(statement).scalars())


def metadata_values_in(tx: Connection, within: Collection[str], key: str) -> list[str]:
    statement = select(model_values.c.text).where(model_values.c.key == key).distinct()
    if within:
        statement = statement.join(models, models.c.id == model_values.c.model_id).where(_of(within))
    return sorted(text for text in tx.execute(statement).scalars() if text is not None)


def parents_in(tx: Connection, within: Collection[str], archived: bool | None) -> list[tuple[str, str, str, str]]:
    """(id, name, project id, project path) of the tasks that are parents of tasks in these projects."""
    child, parent = tasks.alias("child"), tasks.alias("parent")
    tagged = exists().where(
        task_tags.c.task_id == child.c.id, task_tags.c.system.is_(True), task_tags.c.tag == ARCHIVED_TAG
    )
    state = true() if archived is None else tagged if archived else ~tagged
    statement = (
        select(parent.c.id, parent.c.name, projects.c.id, projects.c.name)
        .select_from(
            child.join(parent, parent.c.id == child.c.parent).join(projects, projects.c.id == parent.c.project_id)
        )
        .where(_in(child.c.project_id, within), state)
        .distinct()
    )
    return sorted(((i, n, p, path) for i, n, p, path in tx.execute(statement)), key=lambda row: (row[1], row[0]))


def types_in(tx: Connection, within: Collection[str]) -> list[str]:
    return sorted(tx.execute(select(tasks.c.type).where(_in(tasks.c.project_id, within)).distinct()).scalars())


def model_ids_in(tx: Connection, within: Sequence[str]) -> list[str]:
    return list(tx.execute(select(models.c.id).where(_of(within))).scalars())


def _of(within: Collection[str]) -> Test:
    """Models know the path of their project."""
    return models.c.project.in_(select(projects.c.name).where(projects.c.id.in_(within)))


def _in(column: ColumnElement[str], within: Collection[str]) -> Test:
    return column.in_(within) if within else true()


def _tagged(tag: str) -> Test:
    return exists().where(task_tags.c.task_id == tasks.c.id, task_tags.c.system.is_(True), task_tags.c.tag == tag)

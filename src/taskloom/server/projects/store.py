"""Projects in SQL. A project's name is its whole path; what lies below it begins with the path and a slash.

Subtrees are found by comparing the beginning of the name and not by LIKE, which minds neither case nor
wildcards in the same way on both databases.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, or_, select, update

from taskloom.domain.project import Project
from taskloom.server.db import insert, like
from taskloom.server.patterns import name_condition
from taskloom.server.tables import models, projects, tasks

SLICE = 500  # names in one IN list
_pack = msgspec.msgpack.Encoder().encode
_unpack_tags = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_ID_BY_NAME = select(projects.c.id).where(projects.c.name == bindparam("wanted"))
_NAME_BY_ID = select(projects.c.name).where(projects.c.id == bindparam("wanted"))


@dataclass(frozen=True)
class Wanted:
    """Which projects a list asks for; empty strings do not narrow it."""

    name: str
    under: str
    search: str


def find_id(tx: Connection, name: str) -> str | None:
    return tx.execute(_ID_BY_NAME, {"wanted": name}).scalar_one_or_none()


def find_name(tx: Connection, project: str) -> str | None:
    return tx.execute(_NAME_BY_ID, {"wanted": project}).scalar_one_or_none()


def find_ids(tx: Connection, names: Sequence[str]) -> dict[str, str]:
    """Ids by path."""
    found: dict[str, str] = {}
    for at in range(0, len(names), SLICE):
        some = select(projects.c.name, projects.c.id).where(projects.c.name.in_(names[at : at + SLICE]))
        found |= {row.name: row.id for row in tx.execute(some)}
    return found


def move_models(tx: Connection, before: str, after: str) -> int:
    """Models name their project by its path; how many did."""
    return tx.execute(update(models).where(models.c.project == before).values(project=after)).rowcount


def get_project(tx: Connection, project: str) -> Project | None:
    row = tx.execute(select(projects).where(projects.c.id == project)).first()
    return None if row is None else _project(row)


def list_projects(tx: Connection, wanted: Wanted, limit: int, offset: int) -> tuple[list[Project], int]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.name:
        conditions.append(projects.c.name == wanted.name)
    if wanted.under:
        conditions.append(_below(wanted.under))
    if wanted.search:
        pattern = like(wanted.search)
        conditions.append(
            or_(
                projects.c.name.ilike(pattern, escape="!"),
                projects.c.description.ilike(pattern, escape="!"),
            )
        )
    total = tx.execute(select(func.count()).select_from(projects).where(*conditions)).scalar_one()
    query = select(projects).where(*conditions).order_by(projects.c.name).limit(limit).offset(offset)
    return [_project(row) for row in tx.execute(query)], total


def find_projects(tx: Connection, pattern: str, ids: Collection[str]) -> list[Project]:
    """By a regular expression of the name, by ids, by both; neither: all. In the order of the names."""
    statement = select(projects).order_by(projects.c.name)
    if pattern:
        statement = statement.where(name_condition(tx, projects.c.name, pattern))
    if ids:
        statement = statement.where(projects.c.id.in_(ids))
    return [_project(row) for row in tx.execute(statement)]


def count_tasks(tx: Connection, within: str = "") -> list[tuple[str, str, int]]:
    """(project name, status, number of tasks that are not hidden), of one subtree or of all projects."""
    query = (
        select(projects.c.name, tasks.c.status, func.count())
        .join_from(tasks, projects, tasks.c.project_id == projects.c.id)
        .where(tasks.c.hidden.is_(False))
        .group_by(projects.c.name, tasks.c.status)
    )
    if within:
        query = query.where(or_(projects.c.name == within, _below(within)))
    return [(name, status, number) for name, status, number in tx.execute(query)]


def add_project(tx: Connection, project: Project) -> None:
    """Does nothing when the name is taken: somebody was faster."""
    values = {
        "id": project.id,
        "name": project.name,
        "description": project.description,
        "tags": _pack(project.tags),
        "system_tags": _pack(project.system_tags),
        "output_uri": project.output_uri,
        "user": project.user,
        "created": project.created,
        "last_update": project.last_update,
    }
    tx.execute(insert(tx, projects).values(values).on_conflict_do_nothing(index_elements=["name"]))


def change_project(tx: Connection, project: str, changes: Mapping[str, Any]) -> None:
    values = {
        column: _pack(value) if column in {"tags", "system_tags"} else value for column, value in changes.items()
    }
    tx.execute(update(projects).where(projects.c.id == project).values(values))


def move_contents(tx: Connection, project: str, path: str, target: str, target_path: str) -> int:
    """Tasks and models of one project to another; how many."""
    moved = tx.execute(update(tasks).where(tasks.c.project_id == project).values(project_id=target)).rowcount
    return moved + move_models(tx, path, target_path)


def remove_projects(tx: Connection, ids: Collection[str]) -> None:
    """Rows without tasks."""
    tx.execute(delete(projects).where(projects.c.id.in_(ids)))


def names_below(tx: Connection, name: str) -> dict[str, str]:
    """Name by id of everything below a path."""
    query = select(projects.c.id, projects.c.name).where(_below(name))
    return {row.id: row.name for row in tx.execute(query)}


def taken(tx: Connection, names: Iterable[str]) -> str | None:
    """One of the names that is in use, or None."""
    query = select(projects.c.name).where(projects.c.name.in_(list(names))).limit(1)
    return tx.execute(query).scalar_one_or_none()


def _below(name: str) -> ColumnElement[bool]:
    start = f"{name}/"
    return func.substr(projects.c.name, 1, len(start)) == start


def _project(row: Row[*tuple[Any, ...]]) -> Project:
    return Project(
        id=row.id,
        name=row.name,
        description=row.description,
        tags=_unpack_tags(row.tags),
        system_tags=_unpack_tags(row.system_tags),
        created=row.created,
        last_update=row.last_update,
        user=row.user,
        output_uri=row.output_uri,
    )

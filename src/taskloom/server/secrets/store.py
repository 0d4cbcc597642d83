"""Secrets in SQL. Values are encrypted bytes here; the service has the vault."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Connection, Select, delete, func, or_, select, update

from taskloom.server.tables import projects, secrets, users

SLICE = 500  # names in one IN list


@dataclass(frozen=True)
class Owner:
    """A user or a project, by id."""

    user_id: str | None = None
    project_id: str | None = None

    def condition(self) -> ColumnElement[bool]:
        return secrets.c.user_id == self.user_id if self.user_id else secrets.c.project_id == self.project_id


@dataclass(frozen=True, repr=False)
class SecretRow:
    """`owner`: the user's name or the project's path. No `repr`: what is shown of it is said elsewhere."""

    id: str
    name: str
    user_id: str | None
    project_id: str | None
    value: bytes
    description: str
    url: str
    username: str
    created: float
    changed: float
    changed_by: str
    owner: str = ""


def _whole() -> Select[*tuple[object, ...]]:
    return (
        select(secrets, func.coalesce(users.c.name, projects.c.name).label("owner"))
        .outerjoin(users, users.c.id == secrets.c.user_id)
        .outerjoin(projects, projects.c.id == secrets.c.project_id)
    )


def list_seen(tx: Connection, user_id: str) -> list[SecretRow]:
    """A user's own, then those of all projects, by owner and name."""
    query = _whole().where(or_(secrets.c.user_id == user_id, secrets.c.project_id.is_not(None)))
    return _rows(tx, query.order_by(secrets.c.user_id.is_(None), projects.c.name, secrets.c.name))


def list_all(tx: Connection) -> list[SecretRow]:
    return _rows(tx, _whole().order_by(secrets.c.id))


def find(tx: Connection, owner: Owner, name: str) -> SecretRow | None:
    return next(iter(_rows(tx, _whole().where(owner.condition(), secrets.c.name == name))), None)


def find_named(tx: Connection, names: Collection[str], user: str, paths: Sequence[str]) -> list[SecretRow]:
    """Of these names: those of the user (by name) and of the projects at these paths."""
    wanted = list(names)
    found: list[SecretRow] = []
    for at in range(0, len(wanted), SLICE):
        query = _whole().where(secrets.c.name.in_(wanted[at : at + SLICE]), _of(user, paths))
        found += _rows(tx, query)
    return found


def find_with_address(tx: Connection, user: str, paths: Sequence[str], special: str) -> list[SecretRow]:
    """Those that are passwords for an address, or have the name `special`."""
    return _rows(tx, _whole().where(or_(secrets.c.url != "", secrets.c.name == special), _of(user, paths)))


def count(tx: Connection, owner: Owner) -> int:
    return tx.execute(select(func.count()).select_from(secrets).where(owner.condition())).scalar_one()


def add(tx: Connection, row: SecretRow) -> None:
    values = asdict(row)
    del values["owner"]  # stands in another table
    tx.execute(secrets.insert().values(values))


def change(tx: Connection, row: SecretRow) -> None:
    values = asdict(row)
    for fixed in ("owner", "id", "name", "user_id", "project_id", "created"):
        del values[fixed]
    tx.execute(update(secrets).where(secrets.c.id == row.id).values(values))


def change_value(tx: Connection, secret: str, value: bytes) -> None:
    tx.execute(update(secrets).where(secrets.c.id == secret).values(value=value))


def remove(tx: Connection, secret: str) -> None:
    tx.execute(delete(secrets).where(secrets.c.id == secret))


def _of(user: str, paths: Sequence[str]) -> ColumnElement[bool]:
    return or_(users.c.name == user, projects.c.name.in_(list(paths)))


def _rows(tx: Connection, query: Select[*tuple[object, ...]]) -> list[SecretRow]:
    return [SecretRow(**row._mapping) for row in tx.execute(query)]  # pyright: ignore[reportPrivateUsage]

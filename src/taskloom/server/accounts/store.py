"""Users and keys in SQL. Only hashes of secrets are here; the service makes and compares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from taskloom.server import db
from taskloom.server.prepared import Prepared
from taskloom.server.tables import keys, users
from taskloom.wire.messages import Role


@dataclass(frozen=True)
class KeyRow:
    id: str
    user_id: str
    user: str
    label: str
    role: Role
    secret_hash: str
    created: float
    last_used: float
    expires: float
    revoked: bool
    lease: str


_WHOLE = select(keys, users.c.name.label("user")).join(users, users.c.id == keys.c.user_id)
_BY_ID = _WHOLE.where(keys.c.id == bindparam("wanted"))
_KEY = tuple(
    name for name in KeyRow.__dataclass_fields__ if name != "user"
)  # that one stands in the table of users
_ADD_KEY = Prepared(insert(keys), _KEY)
_EXTEND = Prepared(update(keys).where(keys.c.lease == bindparam("wanted")).values(expires=bindparam("until")))
_DELETE = Prepared(delete(keys).where(keys.c.lease == bindparam("wanted")))
_USER = Prepared(select(users.c.id).where(users.c.name == bindparam("wanted")))


def get_key(tx: Connection, key: str) -> KeyRow | None:
    row = tx.execute(_BY_ID, {"wanted": key}).first()
    return None if row is None else _key(row)


def list_keys(tx: Connection, user_id: str | None) -> list[KeyRow]:
    """Keys that people made, oldest first; those of one user, or all. Keys of leases are not shown."""
    query = _WHOLE.where(keys.c.lease == "").order_by(keys.c.created, keys.c.id)
    if user_id is not None:
        query = query.where(keys.c.user_id == user_id)
    return [_key(row) for row in tx.execute(query)]


def add_key(tx: Connection, row: KeyRow) -> None:
    _ADD_KEY.run(tx, {name: getattr(row, name) for name in _KEY})


def revoke_key(tx: Connection, key: str) -> None:
    tx.execute(update(keys).where(keys.c.id == key).values(revoked=True))


def extend_lease_keys(tx: Connection, lease: str, expires: float) -> None:
    _EXTEND.run(tx, {"wanted": lease, "until": expires})


def delete_lease_keys(tx: Connection, lease: str) -> None:
    _DELETE.run(tx, {"wanted": lease})


def touch_keys(tx: Connection, used: Mapping[str, float]) -> None:
    statement = update(keys).where(keys.c.id == bindparam("wanted")).values(last_used=bindparam("used"))
    tx.execute(statement, [{"wanted": key, "used": time} for key, time in used.items()])


def list_users(tx: Connection) -> list[tuple[str, str]]:
    return [(row.id, row.name) for row in tx.execute(select(users).order_by(users.c.name))]


def ensure_user(tx: Connection, fresh_id: str, name: str, now: float) -> str:
    """The user's id; made with `fresh_id` when there is none of that name."""
    found = find_user(tx, name)
    if found is None:
        values = {"id": fresh_id, "name": name, "created": now}
        tx.execute(db.insert(tx, users).values(values).on_conflict_do_nothing(index_elements=["name"]))
        found = find_user(tx, name)
    return cast(str, found)


def find_user(tx: Connection, name: str) -> str | None:
    return _USER.value(tx, {"wanted": name})


def _key(row: Row[*tuple[object, ...]]) -> KeyRow:
    return KeyRow(**row._mapping)  # pyright: ignore[reportPrivateUsage]

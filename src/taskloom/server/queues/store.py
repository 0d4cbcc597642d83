"""SQL of queues themselves. What waits in them is kept by entry_store, leases and workers by stores of their own.

Every function takes an open connection and says nothing about rules; a guarded change tells whether it found
what it wanted to change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import BindParameter, Connection, Select, bindparam, delete, func, select, update

from taskloom.domain.queue import OnLost, Queue
from taskloom.server import db
from taskloom.server.prepared import Prepared
from taskloom.server.tables import entries, leases, queues

_names = msgspec.msgpack.Decoder(tuple[str, ...])
_encode = msgspec.msgpack.encode
_PLAIN = (
    "id",
    "name",
    "description",
    "paused",
    "max_attempts",
    "max_running",
    "max_running_per_user",
    "max_waiting_per_user",
    "hold_after",
    "created",
)


def add_queue(tx: Connection, queue: Queue) -> bool:
    """False when the name is taken."""
    values: dict[str, Any] = {name: getattr(queue, name) for name in _PLAIN}
    values |= {"on_lost": queue.on_lost, "tags": _encode(queue.tags)}
    made = db.insert(tx, queues).values(**values).on_conflict_do_nothing().returning(queues.c.id)
    return tx.execute(made).first() is not None


def list_queues(tx: Connection) -> list[Queue]:
    waiting = _counts(tx, select(entries.c.queue_id, func.count()).group_by(entries.c.queue_id))
    running = _counts(
        tx, select(leases.c.queue_id, func.count()).where(leases.c.outcome == "").group_by(leases.c.queue_id)
    )
    rows = tx.execute(select(*_COLUMNS).order_by(queues.c.name)).all()
    return [_queue(row, waiting.get(row[_ID], 0), running.get(row[_ID], 0)) for row in rows]


def find_queue(tx: Connection, key: str) -> Queue | None:
    """By id, else by name."""
    rows = _BY_KEY.rows(tx, {"key": key})
    found = next((row for row in rows if row[_ID] == key), rows[0] if rows else None)
    if found is None:
        return None
    given = {"queue": found[_ID]}
    return _queue(found, _WAITING.value(tx, given), _RUNNING.value(tx, given))


def queue_policies(tx: Connection, keys: Sequence[str]) -> list[Queue]:
    """The queues with these ids or names, in the order of `keys`, without their counts."""
    if len(keys) == 1:
        rows = _BY_KEY.rows(tx, {"key": keys[0]})
    else:
        rows = tx.execute(_BY_KEYS, {"keys": list(keys)}).all()
    by_key = {**{row[_NAME]: row for row in rows}, **{row[_ID]: row for row in rows}}
    return [_queue(by_key[key], 0, 0) for key in dict.fromkeys(keys) if key in by_key]


def queues_with_entries(tx: Connection) -> list[Queue]:
    """Those where something waits, without their counts."""
    waits = select(entries.c.task_id).where(entries.c.queue_id == queues.c.id).exists()
    return [_queue(row, 0, 0) for row in tx.execute(select(*_COLUMNS).where(waits).order_by(queues.c.name))]


def edit_queue(tx: Connection, queue_id: str, **columns: Any) -> None:
    if "tags" in columns:
        columns["tags"] = _encode(columns["tags"])
    tx.execute(update(queues).where(queues.c.id == queue_id).values(**columns))


def name_taken(tx: Connection, name: str, besides: str) -> bool:
    return tx.execute(select(queues.c.id).where(queues.c.name == name, queues.c.id != besides)).first() is not None


def delete_queue(tx: Connection, queue_id: str) -> None:
    tx.execute(delete(queues).where(queues.c.id == queue_id))


def _counts(tx: Connection, statement: Select[str, int]) -> dict[str, int]:
    return {row[0]: row[1] for row in tx.execute(statement)}


def _queue(row: Sequence[Any], waiting: int, running: int) -> Queue:
    *plain, told, tags = row
    on_lost: OnLost = "fail" if told == "fail" else "requeue"
    values: dict[str, Any] = dict(zip(_PLAIN, plain, strict=True))
    return Queue(**values, on_lost=on_lost, tags=_names.decode(tags), waiting=waiting, running=running)


_COLUMNS = (*(queues.c[name] for name in _PLAIN), queues.c.on_lost, queues.c.tags)
_ID, _NAME = _PLAIN.index("id"), _PLAIN.index("name")
_keys: BindParameter[Any] = bindparam("keys", expanding=True)
_BY_KEY = Prepared(
    select(*_COLUMNS).where((queues.c.id == bindparam("key")) | (queues.c.name == bindparam("key")))
)
_WAITING = Prepared(select(func.count()).where(entries.c.queue_id == bindparam("queue")))
_RUNNING = Prepared(select(func.count()).where(leases.c.queue_id == bindparam("queue"), leases.c.outcome == ""))
_BY_KEYS = select(*_COLUMNS).where(queues.c.id.in_(_keys) | queues.c.name.in_(_keys))

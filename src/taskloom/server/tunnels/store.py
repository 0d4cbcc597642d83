"""Whose task it is and under which lease it runs, in SQL."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from taskloom.server.prepared import Prepared
from taskloom.server.tables import tasks


@dataclass(frozen=True)
class TaskRow:
    user: str
    lease: str


_BY_ID = Prepared(select(tasks.c.user, tasks.c.lease).where(tasks.c.id == bindparam("wanted")))


def get_task(tx: Connection, task: str) -> TaskRow | None:
    row = _BY_ID.first(tx, {"wanted": task})
    return None if row is None else TaskRow(row[0], row[1] or "")

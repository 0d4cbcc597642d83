"""SQL of what tasks used: artifacts of other tasks, and models known again by their bytes or their address."""

from __future__ import annotations

from sqlalchemy import Connection, case, delete, or_, select

from taskloom.domain.artifact import Model
from taskloom.server.artifacts.store import MODEL, read_model
from taskloom.server.db import insert
from taskloom.server.tables import artifacts, models, uses


def known_model(tx: Connection, task_id: str, fingerprint: str, uri: str) -> Model | None:
    """The model that was loaded: of these bytes, else one at this address about whose bytes nothing is known.

    Without a fingerprint whatever is at the address. Of several: the one at the address, one of the task itself,
    one that a task made, the newest.
    """
    at_address = (models.c.uri == uri) & (models.c.uri != "")
    if fingerprint:
        prints = (models.c.fingerprint, models.c.contents, models.c.digest)
        same = or_(*(column == fingerprint for column in prints))
        wanted = or_(same, at_address & (models.c.fingerprint == ""))
        order = [case((same, 0), else_=1)]
    else:
        wanted, order = at_address, []
    order += [
        case((at_address, 0), else_=1),
        case((models.c.task_id == task_id, 0), (models.c.task_id != "", 1), else_=2),
    ]
    found = select(*MODEL).where(wanted).order_by(*order, models.c.created.desc(), models.c.id).limit(1)
    row = tx.execute(found).first()
    return None if row is None else read_model(row)


def put_use(tx: Connection, task_id: str, source_task: str, name: str, time: float) -> None:
    """Read once more: the newest is kept. The digest is that of the artifact as it is now."""
    named = select(artifacts.c.digest).where(artifacts.c.task_id == source_task, artifacts.c.name == name)
    values = {"digest": tx.execute(named).scalar_one_or_none() or "", "time": time}
    statement = insert(tx, uses).values(task_id=task_id, source_task=source_task, name=name, **values)
    keys = ["task_id", "source_task", "name"]
    tx.execute(statement.on_conflict_do_update(index_elements=keys, set_=values))


def drop_uses(tx: Connection, task_id: str) -> None:
    tx.execute(delete(uses).where(uses.c.task_id == task_id))

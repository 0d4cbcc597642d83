"""Calls that clients made and nobody here serves: counted by name, so that a person can see what is missed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from taskloom.server.db import Database, insert
from taskloom.server.settings import Clock
from taskloom.server.tables import unserved
from taskloom.wire.messages import UnservedCall

MOST = 1000  # names that are kept; more can only come from somebody who makes them up


class Unserved:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def count(self, call: str, client: str) -> None:
        now = self._clock()

        def work(tx: Connection) -> None:
            known = tx.execute(select(unserved.c.call).where(unserved.c.call == call)).first() is not None
            if not known and tx.execute(select(func.count()).select_from(unserved)).scalar_one() >= MOST:
                return
            row = {"call": call, "count": 1, "client": client[:256], "last": now}
            added = insert(tx, unserved).values(row)
            again = {"count": unserved.c.count + 1, "client": client[:256], "last": now}
            tx.execute(added.on_conflict_do_update(index_elements=["call"], set_=again))

        await self._db.write(work)

    async def list(self) -> Sequence[UnservedCall]:
        """Most wanted first."""

        def work(tx: Connection) -> list[UnservedCall]:
            rows = tx.execute(select(unserved).order_by(unserved.c.count.desc(), unserved.c.call)).mappings()
            return [UnservedCall(**row) for row in rows]

        return await self._db.read(work)

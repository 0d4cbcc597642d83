"""Users as ClearML names them: by ids, where our tasks, projects and models hold the name.

A name that never had a key here (a task that was imported) has an id, too, made from the name itself, so that it
is the same in every answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskloom.server.compat.clearml.call import Rooms


class People:
    def __init__(self, known: Iterable[tuple[str, str]]) -> None:
        """`known`: (id, name) of everybody who ever had a key."""
        self._names = dict(known)
        self._ids = {name: user_id for user_id, name in self._names.items()}

    def id_of(self, name: str) -> str:
        """The id of a user's name; empty for no name."""
        if not name:
            return ""
        return self._ids.get(name) or hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()

    def name_of(self, user_id: str) -> str | None:
        """None for an id that nobody with a key has."""
        return self._names.get(user_id)


async def people_of(rooms: Rooms) -> People:
    return People(await rooms.accounts.list_users())

"""What projects hold, for those who look at whole projects: sums, tags, keys and values, parents.

`within` are ids of projects; none means all of them. Who wants what lies below gives those ids, too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from taskloom.server.db import Database
from taskloom.server.projects import query
from taskloom.server.projects.query import Sum


class ProjectContents:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def task_sums(self, within: Collection[str], since: float, *, hidden: bool) -> list[Sum]:
        """Counts and times by project, state and whether archived."""
        return await self._db.read(lambda tx: query.task_sums(tx, within, since, hidden=hidden))

    async def task_tags(self, within: Collection[str], *, system: bool = False) -> list[str]:
        return await self._db.read(lambda tx: query.task_tags_in(tx, within, system=system))

    async def model_tags(self, within: Collection[str], *, system: bool = False) -> list[str]:
        return await self._db.read(lambda tx: query.model_tags_in(tx, within, system=system))

    async def keys(self, within: Collection[str], prefix: str) -> list[str]:
        """Keys by which tasks can be found, such as those that begin with `parameters.`"""
        return await self._db.read(lambda tx: query.keys_in(tx, within, prefix))

    async def values(self, within: Collection[str], key: str) -> list[str]:
        return await self._db.read(lambda tx: query.values_in(tx, within, key))

    async def metadata_keys(self, within: Collection[str]) -> list[str]:
        return await self._db.read(lambda tx: query.metadata_keys_in(tx, within))

    async def metadata_values(self, within: Collection[str], key: str) -> list[str]:
        return await self._db.read(lambda tx: query.metadata_values_in(tx, within, key))

    async def parents(self, within: Collection[str], archived: bool | None) -> list[tuple[str, str, str, str]]:
        """(id, name, project id, project path) of tasks with children here, all or (not) archived ones."""
        return await self._db.read(lambda tx: query.parents_in(tx, within, archived))

    async def task_types(self, within: Collection[str]) -> list[str]:
        return await self._db.read(lambda tx: query.types_in(tx, within))

    async def models(self, within: Sequence[str]) -> list[str]:
        """Ids of the models."""
        return await self._db.read(lambda tx: query.model_ids_in(tx, within))

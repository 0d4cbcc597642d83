"""Tasksets: named, ordered collections of eval tasks, with every version that they had.

An upload is one transaction; of two at a time one is the first. Rows that are equal change nothing, and when nothing
changed there is no new version. A large upload comes in parts that go on with the version which the first one made, so
that it is one version in the end; nobody else may have changed the taskset in between.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Conflict, NotFound, TooLarge
from taskloom.domain.evaluation import EvalRow
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.evals import checks
from taskloom.server.evals import taskset_store as store
from taskloom.server.evals.reading import ANSWER
from taskloom.server.evals.taskset_store import Found, Placed
from taskloom.server.settings import Clock, Settings
from taskloom.wire.messages import (
    Facet,
    RowPage,
    RowsQuery,
    TasksetChanged,
    TasksetInfo,
    TasksetList,
    TasksetQuery,
    TasksetUpload,
    TasksetVersion,
    VersionList,
)

MAX_UPLOAD = 20_000  # rows in one request, those to remove counted: others wait for its transaction
MAX_ROWS = 10_000  # in one answer
MAX_DESCRIPTION = 64 * 1024  # characters
DELETE_ROWS = 2_000  # in one transaction


class TasksetDesk:
    def __init__(self, db: Database, clock: Clock, settings: Settings) -> None:
        self._db, self._clock, self._settings = db, clock, settings

    # --- reading -----------------------------------------------------------------------------------------

    async def list_tasksets(self, query: TasksetQuery) -> TasksetList:
        """By name; of their columns the names alone."""
        checks.check_page(query.limit, query.offset, self._settings.max_page)

        def work(tx: Connection) -> TasksetList:
            found, total = store.page(tx, query.search, query.limit, query.offset)
            return TasksetList(
                tasksets=[_info(one, {name: [] for name in store.columns(tx, one.id)}) for one in found],
                total=total,
            )

        return await self._db.read(work)

    async def get_taskset(self, name_or_id: str) -> TasksetInfo:
        def work(tx: Connection) -> TasksetInfo:
            taskset = _known(tx, name_or_id)
            return _info(taskset, store.facets(tx, taskset.id))

        return await self._db.read(work)

    async def name_of(self, name_or_id: str) -> str:
        """The name of a taskset; what is none's is taken for a name that only jobs know."""
        found = await self._db.read(lambda tx: store.find(tx, name_or_id))
        return name_or_id if found is None else found.name

    async def list_versions(self, name_or_id: str) -> VersionList:
        return await self._db.read(lambda tx: VersionList(versions=store.versions(tx, _known(tx, name_or_id).id)))

    async def list_rows(self, name_or_id: str, query: RowsQuery) -> RowPage:
        """A page of a version; fewer rows where they are large."""
        checks.check_page(query.limit, query.offset, MAX_ROWS)
        if query.value and not query.column:
            raise BadInput("value without a column; expected both")
        wanted = _value(query.value)
        return await self._db.read(lambda tx: _rows(tx, _known(tx, name_or_id), query, wanted))

    # --- changing ----------------------------------------------------------------------------------------

    async def upload_taskset(self, caller: Caller, name_or_id: str, upload: TasksetUpload) -> TasksetChanged:
        """See `TasksetUpload`. A taskset that is not there is made, unless it was addressed by an id."""
        _check_upload(upload)
        fresh = uuid.uuid4().hex

        def work(tx: Connection) -> TasksetChanged:
            taskset = store.find(tx, name_or_id)
            if taskset is None:
                if checks.is_id(name_or_id):
                    raise _unknown(name_or_id)
                taskset = self._make(tx, fresh, name_or_id, caller.user, upload)
            _check_version(taskset, upload)
            return _Upload(tx, taskset, caller.user, self._clock()).apply(upload)

        return await self._db.write(work)

    def _make(self, tx: Connection, fresh: str, name: str, user: str, upload: TasksetUpload) -> Found:
        now = self._clock()
        taskset = Found(fresh, checks.check_taskset_name(name), "", 0, 0, 0, user, now, now)
        _check_version(taskset, upload)
        store.add(tx, taskset)
        return taskset

    async def delete_taskset(self, name_or_id: str) -> None:
        """At once for everybody who asks; the rows go in short transactions."""

        def work(tx: Connection) -> str:
            taskset = _known(tx, name_or_id)
            store.remove(tx, taskset.id)
            return taskset.id

        await self._drop_rows(await self._db.write(work))

    async def finish_deletions(self) -> None:
        """What an earlier server did not get to."""
        for taskset in await self._db.read(store.leftovers):
            await self._drop_rows(taskset)

    async def _drop_rows(self, taskset_id: str) -> None:
        while await self._db.write(lambda tx: store.drop_some(tx, taskset_id, DELETE_ROWS)):
            pass


class _Upload:
    """One request's changes in its transaction."""

    def __init__(self, tx: Connection, taskset: Found, user: str, now: float) -> None:
        self._tx, self._taskset, self._user, self._now = tx, taskset, user, now
        self._facets: Counter[tuple[str, str]] = Counter()

    def apply(self, upload: TasksetUpload) -> TasksetChanged:
        tx, before = self._tx, self._taskset
        version = upload.continues or before.version + 1
        there = store.present(tx, before.id, [*(row.slug for row in upload.rows), *upload.remove])
        removed = [there[slug] for slug in upload.remove if slug in there]
        added, changed, unchanged = self._sorted(upload.rows, there, version)
        ended = [*removed, *(there[placed.row.slug] for placed in changed)]
        if added or ended:
            store.end_rows(tx, before.id, ended, version)
            store.add_rows(tx, before.id, [*changed, *added])
            self._count(ended, -1)
            self._count([*changed, *added], 1)
            store.count_facets(tx, before.id, self._facets)
            self._new_version(version, len(added), len(changed), len(removed))
        if upload.description is not None and upload.description != before.description:
            self._change(description=upload.description)
        return TasksetChanged(
            taskset=_info(self._taskset),
            created=len(added),
            updated=len(changed),
            removed=len(removed),
            unchanged=unchanged,
        )

    def _sorted(
        self, rows: Sequence[EvalRow], there: dict[str, Placed], version: int
    ) -> tuple[list[Placed], list[Placed], int]:
        """What is new, what is changed (where it stood), and how many are as they were."""
        added: list[Placed] = []
        changed: list[Placed] = []
        for row in rows:
            known = there.get(row.slug)
            if known is None:
                added.append(Placed(row, self._taskset.next_position + len(added), version))
            elif store.differ(known.row, row):
                changed.append(Placed(row, known.position, version))
        return added, changed, len(rows) - len(added) - len(changed)

    def _count(self, rows: Sequence[Placed], sign: int) -> None:
        for placed in rows:
            for facet in store.facets_of(placed.row):
                self._facets[facet] += sign

    def _new_version(self, version: int, added: int, changed: int, removed: int) -> None:
        before = self._taskset
        rows = before.rows + added - removed
        self._change(version=version, rows=rows, next_position=before.next_position + added)
        found = store.find_version(self._tx, before.id, version)
        if found is not None:  # another part of the same upload
            added, changed, removed = (
                added + found[0].added,
                changed + found[0].changed,
                removed + found[0].removed,
            )
        told = TasksetVersion(
            version=version,
            created=self._now,
            user=self._user,
            rows=rows,
            added=added,
            changed=changed,
            removed=removed,
        )
        store.put_version(self._tx, self._taskset, told)

    def _change(self, **fields: object) -> None:
        self._taskset = replace(self._taskset, changed=self._now, **fields)  # pyright: ignore[reportArgumentType]
        store.change(self._tx, self._taskset)


def _rows(tx: Connection, taskset: Found, query: RowsQuery, wanted: object) -> RowPage:
    version = query.version or taskset.version
    found = store.find_version(tx, taskset.id, version)
    if found is None and version:
        raise NotFound(f"taskset {taskset.name!r} has no version {version}; the newest is {taskset.version}")
    tests = store.tests_of(taskset.id, version, query.env, query.search)
    if query.column:
        positions = store.positions_with(tx, tests, query.column, wanted)
        total = len(positions)
        documents = store.rows_at(tx, tests, positions[query.offset : query.offset + query.limit])
    else:
        plain = not (query.env or query.search)
        rows, end = (found[0].rows, found[1]) if found is not None else (0, 0)
        total = rows if plain else store.count_rows(tx, tests)
        documents = store.rows_from(tx, tests, query.limit, query.offset, dense=plain and rows == end)
    return RowPage(taskset=_info(taskset), version=version, rows=list(_fitting(documents)), total=total)


def _fitting(documents: Iterator[bytes]) -> Iterator[EvalRow]:
    size = 0
    for document in documents:
        if size and size + len(document) > ANSWER:
            return
        size += len(document)
        yield store.decode_row(document)


def _known(tx: Connection, name_or_id: str) -> Found:
    found = store.find(tx, name_or_id)
    if found is None:
        raise _unknown(name_or_id)
    return found


def _unknown(name_or_id: str) -> NotFound:
    return NotFound(f"no taskset {name_or_id[:80]!r}")


def _info(taskset: Found, facets: dict[str, list[Facet]] | None = None) -> TasksetInfo:
    return TasksetInfo(
        id=taskset.id,
        name=taskset.name,
        description=taskset.description,
        version=taskset.version,
        rows=taskset.rows,
        user=taskset.user,
        created=taskset.created,
        changed=taskset.changed,
        facets=facets or {},
    )


def _value(text: str) -> object:
    """A facet's value as a query string has it; what is no JSON stands for itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check_version(taskset: Found, upload: TasksetUpload) -> None:
    if upload.expects is not None and upload.expects != taskset.version:
        raise Conflict(
            f"taskset {taskset.name!r} is at version {taskset.version}, not {upload.expects}; read it again",
            version=taskset.version,
        )
    if upload.continues and upload.continues != taskset.version:
        raise Conflict(
            f"taskset {taskset.name!r} is at version {taskset.version}: somebody changed it since version "
            f"{upload.continues}, which this goes on with; upload it again",
            version=taskset.version,
        )


def _check_upload(upload: TasksetUpload) -> None:
    count = len(upload.rows) + len(upload.remove)
    if count > MAX_UPLOAD:
        raise TooLarge(f"{count} rows in one request; expected at most {MAX_UPLOAD}", limit=MAX_UPLOAD)
    if upload.description is not None:
        checks.check_long(upload.description, "description", MAX_DESCRIPTION)
    if upload.continues < 0 or (upload.expects or 0) < 0:
        raise BadInput("continues, expects: expected a version, from 0 on")
    seen: set[str] = set()
    for row in upload.rows:
        checks.check_row(row)
        if row.slug in seen:
            raise BadInput(f"row {row.slug[:80]!r} stands there twice; slugs of a taskset differ")
        seen.add(row.slug)
    for slug in upload.remove:
        checks.check_slug(slug)
        if slug in seen:
            raise BadInput(f"row {slug[:80]!r} is to be uploaded and to be removed, or is to be removed twice")
        seen.add(slug)

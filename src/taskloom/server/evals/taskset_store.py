"""SQL of tasksets: their versions, rows and facets. Rules are the desk's.

A row is valid for the versions from `since` on and before `until`; that of the newest version has `until` OPEN.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, select, update

from taskloom.domain.evaluation import EvalRow
from taskloom.server.db import insert, like
from taskloom.server.prepared import Prepared
from taskloom.server.tables import taskset_facets, taskset_rows, taskset_versions, tasksets
from taskloom.wire.messages import Facet, TasksetVersion

OPEN = 2**31 - 1  # `until` of a row that no version has ended
SLICE = 500  # slugs in one IN list
LONGEST_VALUE = 256  # characters of a value as JSON; a longer one is no facet
MAX_FACETS = 100  # values told of one column
MAX_COLUMNS = 200  # columns whose values are told
_pack = msgspec.msgpack.Encoder().encode
_pack_sorted = msgspec.msgpack.Encoder(order="deterministic").encode
_row_of = msgspec.msgpack.Decoder(EvalRow)
_columns_of = msgspec.msgpack.Decoder(dict[str, Any])


@dataclass(frozen=True)
class Found:
    """A taskset's row in its table. `next_position`: of the eval task that comes next."""

    id: str
    name: str
    description: str
    version: int
    rows: int
    next_position: int
    user: str
    created: float
    changed: float


@dataclass(frozen=True)
class Placed:
    """An eval task where it stands in a taskset."""

    row: EvalRow
    position: int
    since: int


# --- tasksets ---------------------------------------------------------------------------------------------


def find(tx: Connection, name_or_id: str) -> Found | None:
    c = tasksets.c
    row = tx.execute(select(tasksets).where((c.id == name_or_id) | (c.name == name_or_id))).mappings().first()
    return None if row is None else Found(**row)


def add(tx: Connection, taskset: Found) -> None:
    tx.execute(tasksets.insert().values(**_values(taskset)))


def change(tx: Connection, taskset: Found) -> None:
    tx.execute(update(tasksets).where(tasksets.c.id == taskset.id).values(**_values(taskset)))


def _values(taskset: Found) -> dict[str, Any]:
    return {column.name: getattr(taskset, column.name) for column in tasksets.c}


def page(tx: Connection, search: str, limit: int, offset: int) -> tuple[list[Found], int]:
    """By name, with how many there are."""
    wanted = select(tasksets)
    if search:
        wanted = wanted.where(func.lower(tasksets.c.name).like(like(search.lower()), escape="!"))
    total = tx.execute(select(func.count()).select_from(wanted.subquery())).scalar_one()
    rows = tx.execute(wanted.order_by(tasksets.c.name).limit(limit).offset(offset)).mappings()
    return [Found(**row) for row in rows], total


def remove(tx: Connection, taskset_id: str) -> None:
    """Its rows stay for `drop_some`."""
    tx.execute(delete(tasksets).where(tasksets.c.id == taskset_id))


def drop_some(tx: Connection, taskset_id: str, limit: int) -> bool:
    """Delete at most about `limit` rows of a taskset that is gone; whether some were there."""
    c = taskset_rows.c
    some = select(c.position).where(c.taskset_id == taskset_id).order_by(c.position).limit(limit)
    gone = delete(taskset_rows).where(c.taskset_id == taskset_id, c.position.in_(some.scalar_subquery()))
    return tx.execute(gone).rowcount > 0


def leftovers(tx: Connection) -> list[str]:
    """Tasksets that are gone and have rows. From one to the next by the index, without a look at every row."""
    found: list[str] = []
    known = set(tx.execute(select(tasksets.c.id)).scalars())
    c = taskset_rows.c
    last = ""
    while (one := tx.execute(select(func.min(c.taskset_id)).where(c.taskset_id > last)).scalar_one()) is not None:
        last = one
        if one not in known:
            found.append(one)
    return found


# --- versions ---------------------------------------------------------------------------------------------


def put_version(tx: Connection, taskset: Found, version: TasksetVersion) -> None:
    fresh = insert(tx, taskset_versions)
    values = {
        "taskset_id": taskset.id,
        "next_position": taskset.next_position,
        **{name: getattr(version, name) for name in TasksetVersion.__struct_fields__},
    }
    kept = {"taskset_id", "version", "created", "user"}
    tx.execute(
        fresh.on_conflict_do_update(
            index_elements=["taskset_id", "version"],
            set_={name: fresh.excluded[name] for name in values if name not in kept},
        ),
        values,
    )


def find_version(tx: Connection, taskset_id: str, version: int) -> tuple[TasksetVersion, int] | None:
    """The version, and the position after its last row's."""
    c = taskset_versions.c
    wanted = select(taskset_versions).where(c.taskset_id == taskset_id, c.version == version)
    row = tx.execute(wanted).mappings().one_or_none()
    return None if row is None else (_version(row), row["next_position"])


def versions(tx: Connection, taskset_id: str) -> list[TasksetVersion]:
    c = taskset_versions.c
    wanted = select(taskset_versions).where(c.taskset_id == taskset_id).order_by(c.version.desc())
    return [_version(row) for row in tx.execute(wanted).mappings()]


def _version(row: Any) -> TasksetVersion:
    return TasksetVersion(**{name: row[name] for name in TasksetVersion.__struct_fields__})


# --- rows -------------------------------------------------------------------------------------------------


def present(tx: Connection, taskset_id: str, slugs: Sequence[str]) -> dict[str, Placed]:
    """Of these slugs the rows of the newest version."""
    c = taskset_rows.c
    wanted = select(c.slug, c.position, c.since, c.document)
    wanted = wanted.where(c.taskset_id == taskset_id, c.until == OPEN)
    found: dict[str, Placed] = {}
    for start in range(0, len(slugs), SLICE):
        for slug, position, since, document in tx.execute(
            wanted.where(c.slug.in_(list(slugs[start : start + SLICE])))
        ):
            found[slug] = Placed(_row_of.decode(document), position, since)
    return found


_ADD = Prepared(taskset_rows.insert(), [column.name for column in taskset_rows.c])
_END = Prepared(
    update(taskset_rows)
    .where(
        taskset_rows.c.taskset_id == bindparam("of"),
        taskset_rows.c.position == bindparam("place"),
        taskset_rows.c.since == bindparam("begun"),
    )
    .values(until=bindparam("version"))
)
_UNDO = Prepared(
    delete(taskset_rows).where(
        taskset_rows.c.taskset_id == bindparam("of"),
        taskset_rows.c.position == bindparam("place"),
        taskset_rows.c.since == bindparam("begun"),
    )
)


def end_rows(tx: Connection, taskset_id: str, rows: Sequence[Placed], version: int) -> None:
    """They are not those of this version; such that only this version has are gone for good."""
    given = [{"of": taskset_id, "place": r.position, "begun": r.since, "version": version} for r in rows]
    _END.run_many(tx, [one for one in given if one["begun"] != version])
    young = [{k: v for k, v in one.items() if k != "version"} for one in given if one["begun"] == version]
    _UNDO.run_many(tx, young)


def add_rows(tx: Connection, taskset_id: str, rows: Sequence[Placed]) -> None:
    _ADD.run_many(
        tx,
        [
            {
                "taskset_id": taskset_id,
                "position": placed.position,
                "since": placed.since,
                "until": OPEN,
                "slug": placed.row.slug,
                "env": placed.row.env,
                "columns": None if placed.row.columns is None else _pack(placed.row.columns),
                "document": _pack(placed.row),
            }
            for placed in rows
        ],
    )


def count_rows(tx: Connection, tests: Sequence[ColumnElement[bool]]) -> int:
    return tx.execute(select(func.count()).select_from(taskset_rows).where(*tests)).scalar_one()


def tests_of(taskset_id: str, version: int, env: str, search: str) -> list[ColumnElement[bool]]:
    """Rows of a version, of an environment, with a part of their slug."""
    c = taskset_rows.c
    tests: list[ColumnElement[bool]] = [c.taskset_id == taskset_id, c.since <= version, c.until > version]
    if env:
        tests.append(c.env == env)
    if search:
        tests.append(func.lower(c.slug).like(like(search.lower()), escape="!"))
    return tests


def positions_with(tx: Connection, tests: Sequence[ColumnElement[bool]], column: str, value: Any) -> list[int]:
    """Positions of the rows whose column has this value, in order."""
    c = taskset_rows.c
    wanted = select(c.position, c.columns).where(*tests, c.columns.is_not(None)).order_by(c.position)
    text = as_text(value)
    known: dict[bytes, bool] = {}
    found: list[int] = []
    for position, packed in tx.execute(wanted):
        fits = known.get(packed)
        if fits is None:
            columns = _columns_of.decode(packed)
            fits = known[packed] = column in columns and as_text(columns[column]) == text
        if fits:
            found.append(position)
    return found


def rows_at(tx: Connection, tests: Sequence[ColumnElement[bool]], positions: Sequence[int]) -> Iterator[bytes]:
    """Documents, in order."""
    c = taskset_rows.c
    for start in range(0, len(positions), SLICE):
        some = c.position.in_(list(positions[start : start + SLICE]))
        yield from tx.execute(select(c.document).where(*tests, some).order_by(c.position)).scalars()


def rows_from(
    tx: Connection, tests: Sequence[ColumnElement[bool]], limit: int, offset: int, *, dense: bool
) -> Iterator[bytes]:
    """Documents, in order. `dense`: positions have no holes, so that an offset is one."""
    c = taskset_rows.c
    wanted = select(c.document).where(*tests).order_by(c.position)
    wanted = wanted.where(c.position >= offset) if dense else wanted.offset(offset)
    yield from tx.execute(wanted.limit(limit)).scalars()


def decode_row(document: bytes) -> EvalRow:
    return _row_of.decode(document)


def differ(first: EvalRow, second: EvalRow) -> bool:
    """Whether they would be kept as something else: 1 and 1.0, {} and nothing differ, the order of keys does not."""
    return _pack_sorted(first) != _pack_sorted(second)


# --- facets -----------------------------------------------------------------------------------------------


def as_text(value: Any) -> str:
    """A value as JSON, equal for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def facets_of(row: EvalRow) -> Iterator[tuple[str, str]]:
    """Column and value of what can be a facet."""
    for column, value in (row.columns or {}).items():
        text = as_text(value)
        if len(text) <= LONGEST_VALUE:
            yield column, text


_FORGET = Prepared(
    delete(taskset_facets).where(
        taskset_facets.c.taskset_id == bindparam("of"),
        taskset_facets.c.column == bindparam("name"),
        taskset_facets.c.value == bindparam("text"),
        taskset_facets.c.rows <= 0,
    )
)


def count_facets(tx: Connection, taskset_id: str, changes: Counter[tuple[str, str]]) -> None:
    """Add to how many rows have a value; what none has is forgotten."""
    some = [(key, count) for key, count in changes.items() if count]
    if not some:
        return
    fresh = insert(tx, taskset_facets)
    statement = fresh.on_conflict_do_update(
        index_elements=["taskset_id", "column", "value"],
        set_={"rows": taskset_facets.c.rows + fresh.excluded.rows},
    )
    tx.execute(
        statement,
        [{"taskset_id": taskset_id, "column": c, "value": v, "rows": n} for (c, v), n in some],
    )
    _FORGET.run_many(tx, [{"of": taskset_id, "name": c, "text": v} for (c, v), n in some if n < 0])


def columns(tx: Connection, taskset_id: str) -> list[str]:
    """Those that have facets. From one to the next by the index, without a look at every value."""
    c = taskset_facets.c
    found: list[str] = []
    following = select(func.min(c.column)).where(c.taskset_id == taskset_id)
    one = tx.execute(following).scalar_one()
    while one is not None and len(found) < MAX_COLUMNS:
        found.append(one)
        one = tx.execute(following.where(c.column > one)).scalar_one()
    return found


def facets(tx: Connection, taskset_id: str) -> dict[str, list[Facet]]:
    c = taskset_facets.c
    place = func.row_number().over(partition_by=c.column, order_by=(c.rows.desc(), c.value)).label("place")
    ranked = select(c.column, c.value, c.rows, place).where(c.taskset_id == taskset_id).subquery()
    told: dict[str, list[Facet]] = {}
    wanted = select(ranked.c.column, ranked.c.value, ranked.c.rows).where(ranked.c.place <= MAX_FACETS)
    for column, value, rows in tx.execute(wanted.order_by(ranked.c.column, ranked.c.place)):
        if column in told or len(told) < MAX_COLUMNS:
            told.setdefault(column, []).append(Facet(value=json.loads(value), rows=rows))
    return told

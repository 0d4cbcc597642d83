"""Statements of hot paths: compiled once, then handed to SQLite's driver as they are.

SQLAlchemy spends 60 to 100 µs of Python on each execution, which is several times what SQLite itself needs for a seek,
and a claim is a dozen statements. Here the text, its fixed values and the converters of its columns are worked out at
the first execution. On PostgreSQL the statement goes the ordinary way: there the network is what costs, and its driver's
errors have to come as SQLAlchemy's, by which a transaction is repeated. Rows come as tuples on both.

The statement is built from names only (`bindparam`), without lists that expand and without defaults of columns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Executable, SelectBase, UpdateBase
from sqlalchemy.dialects import sqlite

Statement = SelectBase | UpdateBase
Given = Mapping[str, Any]
_NAMED = sqlite.dialect(paramstyle="named")


class Prepared:
    """Thread-safe. An insert is given the values of all columns that it names in `columns`."""

    def __init__(self, statement: Statement, columns: Sequence[str] | None = None) -> None:
        self._statement, self._columns = statement, columns
        self._ready: _Ready | None = None

    def rows(self, tx: Connection, given: Given) -> Sequence[Sequence[Any]]:
        """All rows of a select, or of what a change returns."""
        if tx.dialect.name != "sqlite":
            return cast("Sequence[Sequence[Any]]", tx.execute(self._plain, given).all())
        ready = self._made()
        found = _cursor(tx, ready, given).fetchall()
        return [ready.converted(row) for row in found] if ready.converters else found

    def first(self, tx: Connection, given: Given) -> Sequence[Any] | None:
        found = self.rows(tx, given)
        return found[0] if found else None

    def value(self, tx: Connection, given: Given) -> Any:
        """The first column of the first row; None when there is none."""
        found = self.rows(tx, given)
        return found[0][0] if found else None

    def run(self, tx: Connection, given: Given) -> int:
        """How many rows it changed."""
        if tx.dialect.name != "sqlite":
            return tx.execute(self._plain, given).rowcount
        return _cursor(tx, self._made(), given).rowcount

    def run_many(self, tx: Connection, given: Sequence[Given]) -> None:
        """A change once for each of them."""
        if not given:
            return
        if tx.dialect.name != "sqlite":
            tx.execute(self._plain, list(given))
            return
        ready = self._made()
        _raw(tx).executemany(ready.sql, [{**ready.fixed, **one} for one in given] if ready.fixed else given)

    @property
    def _plain(self) -> Executable:
        return cast(Executable, self._statement)

    def _made(self) -> _Ready:
        if self._ready is None:
            self._ready = _Ready(self._statement, self._columns)
        return self._ready


class _Ready:
    def __init__(self, statement: Statement, columns: Sequence[str] | None) -> None:
        compiled = statement.compile(dialect=_NAMED, column_keys=list(columns) if columns is not None else None)
        self.sql = str(compiled)
        self.fixed = {name: value for name, value in compiled.params.items() if value is not None}
        converters = [
            (place, column.type.dialect_impl(_NAMED).result_processor(_NAMED, None))
            for place, column in enumerate(statement.exported_columns)
        ]
        self.converters = [(place, made) for place, made in converters if made is not None]

    def converted(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for place, convert in self.converters:
            values[place] = cast("Callable[[Any], Any]", convert)(values[place])
        return tuple(values)


def _cursor(tx: Connection, ready: _Ready, given: Given) -> sqlite3.Cursor:
    return _raw(tx).execute(ready.sql, {**ready.fixed, **given})


def _raw(tx: Connection) -> sqlite3.Connection:
    if not tx.in_transaction():
        tx.begin()  # as the first ordinary statement would do: all reads of a work see one state
    return cast(sqlite3.Connection, tx.connection.driver_connection)

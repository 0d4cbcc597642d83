"""The schema of a database from one version to the next; here it is decided whether anything has to be done.

A new database gets today's tables at once (a test shows that the revisions lead to the same). An older one is
brought up by its revisions in one transaction, after a copy of a SQLite file was put aside. A database of a
newer Taskloom is refused. Alembic is loaded only when there is something to bring up: a start pays nothing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.engine import make_url

from taskloom.domain.errors import Conflict
from taskloom.server.db import connect_sqlite, sqlite_engine
from taskloom.server.tables import main, telemetry

if TYPE_CHECKING:
    from alembic.config import Config

SCHEMAS = {"main": main, "telemetry": telemetry}
FOLDER = Path(__file__).parent
COPIES = "copies"  # folder beside the database
_LOCK = 0x7461736B  # PostgreSQL: two servers that start together migrate one after the other


def revisions(name: str) -> list[str]:
    """The revisions that this version knows, oldest first; a file is called REVISION_what.py."""
    return sorted(path.stem.partition("_")[0] for path in (FOLDER / name / "versions").glob("[0-9]*.py"))


def prepare(url: str, name: str) -> None:
    """Make or bring up the schema `name` (main or telemetry) at `url`. Nobody else may have it open yet."""
    engine = schema_engine(url)
    try:
        with engine.connect() as connection:
            found = present_revision(connection, name)
        if found == revisions(name)[-1]:
            return
        if found and found not in revisions(name):
            raise Conflict(
                f"the database {name} was written by a newer Taskloom (schema {found}, this one knows up to "
                f"{revisions(name)[-1]}); install that version again, or restore a copy made by this one",
                found=found,
            )
        if found:
            keep_copy(url, name, found)
        with engine.begin() as connection:
            _make_or_bring_up(connection, name)
    finally:
        engine.dispose()


def schema_engine(url: str) -> Engine:
    path = make_url(url).database
    if make_url(url).get_backend_name() == "sqlite" and path:
        connect: Callable[[], sqlite3.Connection] = lambda: connect_sqlite(Path(path), writer=True)  # noqa: E731
        return sqlite_engine(connect, "BEGIN IMMEDIATE", pool=None)
    return create_engine(url)


def present_revision(connection: Connection, name: str) -> str:
    """The revision that the database says it has; empty for a new one."""
    table = version_table(name)
    if not inspect(connection).has_table(table):
        return ""
    return connection.execute(text(f"SELECT version_num FROM {table}")).scalar() or ""  # noqa: S608 - our own name


def version_table(name: str) -> str:
    """Each schema has its own, because on PostgreSQL both live in one database."""
    return f"{name}_version"


def keep_copy(url: str, name: str, found: str) -> Path | None:
    """A copy of a SQLite file through SQLite's own backup; PostgreSQL's are its administrator's."""
    path = make_url(url).database
    if make_url(url).get_backend_name() != "sqlite" or not path:
        return None
    folder = Path(path).parent / COPIES
    folder.mkdir(mode=0o700, exist_ok=True)
    copy = folder / f"{name}-{found}-{int(time.time())}.db"
    with closing(connect_sqlite(Path(path), writer=True)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def configured(name: str) -> Config:
    """Alembic's configuration for one schema, without a file of settings."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("path_separator", "newline")  # a folder's name may hold a space or a colon
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("version_locations", str(FOLDER / name / "versions").replace("%", "%%"))
    return config


def upgrade(connection: Connection, name: str, target: str = "head") -> None:
    """Run the revisions up to `target` inside the connection's transaction."""
    from alembic import command

    config = configured(name)
    config.attributes["connection"] = connection
    config.attributes["schema"] = name
    command.upgrade(config, target)


def _make_or_bring_up(connection: Connection, name: str) -> None:
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    found = present_revision(connection, name)  # again: somebody may have been faster
    if found == revisions(name)[-1]:
        return
    if found:
        upgrade(connection, name)
        return
    SCHEMAS[name].create_all(connection)
    stamp(connection, name, revisions(name)[-1])


def stamp(connection: Connection, name: str, revision: str) -> None:
    """Write the revision as Alembic would."""
    table = version_table(name)
    connection.execute(
        text(
            f"CREATE TABLE {table} (version_num VARCHAR(32) NOT NULL, "
            f"CONSTRAINT {table}_pkc PRIMARY KEY (version_num))"
        )
    )
    values: dict[str, Any] = {"revision": revision}
    connection.execute(text(f"INSERT INTO {table} (version_num) VALUES (:revision)"), values)  # noqa: S608

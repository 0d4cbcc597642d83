"""Each contract runs on SQLite and, with the marker `postgres`, on a database of its own in a real PostgreSQL."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from tests.conftest import ENV_POSTGRES, Clock, House

from taskloom.server.db import Database
from taskloom.server.migrations import prepare
from taskloom.server.settings import read_settings

BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


def fresh_postgres() -> Iterator[str]:
    """The address of an empty database; it is dropped afterwards."""
    import psycopg

    server = os.environ.get(ENV_POSTGRES)
    if not server:
        pytest.skip(f"{ENV_POSTGRES} is not set: run under tests/postgres.sh")
    name = f"t_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server.replace("/postgres?", f"/{name}?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=BOTH)
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Empty for SQLite, else the address of a PostgreSQL database, as TASKLOOM_DATABASE_URL has it."""
    if request.param == "sqlite":
        yield ""
    else:
        yield from fresh_postgres()


@pytest.fixture
def urls(postgres_url: str, tmp_path: Path) -> dict[str, str]:
    """SQLAlchemy's addresses of the two databases."""
    settings = read_settings(tmp_path / "house", environ={"TASKLOOM_DATABASE_URL": postgres_url})
    settings.folder.mkdir(parents=True)
    return {name: settings.database(name) for name in ("main", "telemetry")}


@pytest.fixture
def main(urls: dict[str, str]) -> Iterator[Database]:
    """The database `main` with its tables."""
    prepare(urls["main"], "main")
    database = Database(urls["main"])
    yield database
    database.close()


@pytest.fixture
def any_house(postgres_url: str, tmp_path: Path, clock: Clock) -> Iterator[House]:
    running = House(tmp_path / "house", clock, postgres_url)
    yield running
    running.stop()


@pytest.fixture(scope="module", params=BOTH)
def lasting_house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for all tests of a module, which keep to what is theirs."""
    database = contextmanager(fresh_postgres)() if request.param == "postgres" else nullcontext("")
    with database as url:
        running = House(tmp_path_factory.mktemp("lasting") / "house", database_url=url)
        yield running
        running.stop()

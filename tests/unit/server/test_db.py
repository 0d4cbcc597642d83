"""What is SQLite's own: how it is opened, how works share a commit, what a full disk does."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy.exc import DBAPIError

from taskloom.domain.errors import StorageFull, Unavailable
from taskloom.server.db import Database
from taskloom.server.migrations import prepare
from taskloom.server.tables import chunks, users


@pytest.fixture
def main(tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'main.db'}"
    prepare(url, "main")
    prepare(url, "telemetry")
    database = Database(url)
    yield database
    database.close()


def add_user(name: str) -> object:
    return lambda tx: tx.execute(users.insert().values(id=name, name=name, created=0.0))


def pragma(tx: Connection, name: str) -> object:
    return tx.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_commits_reach_the_disk_and_keys_are_checked(main: Database) -> None:
    asked = main.write_now(
        lambda tx: [pragma(tx, name) for name in ("journal_mode", "synchronous", "foreign_keys")]
    )
    assert asked == ["wal", 2, 1]
    assert main.read_now(lambda tx: pragma(tx, "query_only")) == 1


def test_works_that_wait_share_one_commit(main: Database) -> None:
    commits: list[Connection] = []

    def committed(connection: Connection) -> None:
        commits.append(connection)

    event.listen(Engine, "commit", committed)
    running, go_on = threading.Event(), threading.Event()

    def slow(_: Connection) -> None:
        running.set()
        assert go_on.wait(20)

    async def scenario() -> None:
        first = asyncio.ensure_future(main.write(slow))
        await asyncio.to_thread(running.wait, 20)
        others = [asyncio.ensure_future(main.write(add_user(f"user {n}"))) for n in range(100)]
        await asyncio.sleep(0.05)  # they are handed in
        go_on.set()
        await asyncio.gather(first, *others)

    try:
        asyncio.run(scenario())
    finally:
        event.remove(Engine, "commit", committed)
    assert main.read_now(lambda tx: tx.execute(select(func.count()).select_from(users)).scalar_one()) == 100
    assert len(commits) < 50


def test_a_caller_that_gave_up_before_its_turn_is_not_run(main: Database) -> None:
    running, go_on = threading.Event(), threading.Event()

    def slow(_: Connection) -> None:
        running.set()
        assert go_on.wait(20)

    async def scenario() -> None:
        first = asyncio.ensure_future(main.write(slow))
        await asyncio.to_thread(running.wait, 20)
        given_up = asyncio.ensure_future(main.write(add_user("given up")))
        await asyncio.sleep(0.05)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        go_on.set()
        await first

    asyncio.run(scenario())
    assert main.read_now(lambda tx: tx.execute(select(func.count()).select_from(users)).scalar_one()) == 0


def test_a_full_disk_is_told_reads_go_on_and_it_recovers_by_itself(main: Database) -> None:
    """SQLite's own limit of pages stands for the disk: it gives the very error that a full disk gives."""
    main.write_now(add_user("before"))
    pages = main.write_now(lambda tx: pragma(tx, "page_count"))
    main.write_now(lambda tx: tx.exec_driver_sql(f"PRAGMA max_page_count={pages}"))

    def still_full(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    event.listen(Engine, "connect", still_full)

    def large(tx: Connection) -> None:
        tx.execute(chunks.insert().values(series_id=1, position=0, count=1, data=b"x" * 10**6))

    async def scenario() -> list[object]:
        works = [large, add_user("small enough"), large]
        return await asyncio.gather(*(main.write(work) for work in works), return_exceptions=True)

    try:
        outcomes = asyncio.run(scenario())
    finally:
        event.remove(Engine, "connect", still_full)
    assert isinstance(outcomes[0], StorageFull)
    assert isinstance(outcomes[2], StorageFull)
    assert not isinstance(outcomes[1], Exception)  # a neighbour that still fits
    assert main.read_now(lambda tx: set(tx.execute(select(users.c.name)).scalars())) == {"before", "small enough"}
    main.write_now(lambda tx: tx.exec_driver_sql("PRAGMA max_page_count=1000000"))
    main.write_now(large)
    main.write_now(add_user("after"))
    assert "after" in main.read_now(lambda tx: set(tx.execute(select(users.c.name)).scalars()))


@pytest.mark.parametrize("fail_at", range(1, 12))
def test_an_error_of_the_disk_at_any_statement_damages_nothing(
    main: Database, fail_at: int, tmp_path: Path
) -> None:
    """The n-th statement of the writer fails as a broken disk would; the next work succeeds."""
    seen = 0

    def fail(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == fail_at:
            raise sqlite3.OperationalError("disk I/O error")

    def work(tx: Connection) -> None:
        for number in range(8):
            tx.execute(users.insert().values(id=f"{number}", name=f"{number}", created=0.0))

    event.listen(Engine, "before_cursor_execute", fail)
    try:
        main.write_now(work)
    except (sqlite3.OperationalError, DBAPIError):
        pass
    finally:
        event.remove(Engine, "before_cursor_execute", fail)
    held = main.read_now(lambda tx: tx.execute(select(func.count()).select_from(users)).scalar_one())
    assert held == (0 if fail_at <= seen and fail_at <= 9 else 8)
    main.write_now(add_user("after"))
    main.close()
    with sqlite3.connect(tmp_path / "main.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_another_process_holds_is_told_as_passing(main: Database, tmp_path: Path) -> None:
    """Somebody opened the file with a tool of their own and began to write: later it works again."""
    main.write_now(lambda tx: tx.exec_driver_sql("PRAGMA busy_timeout=50"))
    with sqlite3.connect(tmp_path / "main.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            main.write_now(add_user("too early"))
        other.execute("ROLLBACK")
    main.write_now(add_user("later"))

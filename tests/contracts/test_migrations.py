"""The schema: one truth in the tables, reached by revisions, never damaged on the way."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from taskloom.domain.errors import Conflict
from taskloom.server.db import Database
from taskloom.server.migrations import (
    COPIES,
    SCHEMAS,
    configured,
    prepare,
    present_revision,
    revisions,
    schema_engine,
    stamp,
    upgrade,
    version_table,
)
from taskloom.wire import operations as op

NAMES = sorted(SCHEMAS)


def differences(url: str, name: str) -> list[Any]:
    """What Alembic would still have to change to reach the tables of today."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    others = {table for other in NAMES if other != name for table in SCHEMAS[other].tables}
    others |= {version_table(other) for other in NAMES}

    def ours(_: Any, table: str | None, kind: str, *__: Any) -> bool:
        return kind != "table" or table not in others

    with schema_engine(url).connect() as connection:
        options = {"include_object": ours, "compare_type": True, "version_table": version_table(name)}
        return compare_metadata(MigrationContext.configure(connection, opts=options), SCHEMAS[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_revisions_lead_to_the_tables_of_today(urls: dict[str, str], name: str) -> None:
    with schema_engine(urls[name]).begin() as connection:
        upgrade(connection, name)
    assert differences(urls[name], name) == []


def test_a_new_database_gets_the_same_tables_at_once(urls: dict[str, str]) -> None:
    for name in NAMES:
        prepare(urls[name], name)
    for name in NAMES:
        assert differences(urls[name], name) == []
        with schema_engine(urls[name]).connect() as connection:
            assert present_revision(connection, name) == revisions(name)[-1]


def test_the_revisions_found_by_name_are_those_that_alembic_knows() -> None:
    from alembic.script import ScriptDirectory

    for name in NAMES:
        script = ScriptDirectory.from_config(configured(name))
        assert sorted(r.revision for r in script.walk_revisions()) == revisions(name)
        assert script.get_heads() == [revisions(name)[-1]]


def test_a_database_of_a_newer_version_is_refused_and_left_alone(urls: dict[str, str]) -> None:
    with schema_engine(urls["main"]).begin() as connection:
        stamp(connection, "main", "9999")
    with pytest.raises(Conflict, match="newer Taskloom"):
        prepare(urls["main"], "main")
    with schema_engine(urls["main"]).connect() as connection:
        assert present_revision(connection, "main") == "9999"


def test_an_older_database_is_brought_up_and_a_failure_leaves_it_as_it_was(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One more revision is added to those of today; it fails once in the middle, then it works."""
    prepare(urls["main"], "main")
    today = revisions("main")[-1]
    folder = tmp_path / "migrations"
    from taskloom.server import migrations

    (folder / "main" / "versions").mkdir(parents=True)
    for file in (migrations.FOLDER / "env.py", *(migrations.FOLDER / "main" / "versions").glob("[0-9]*.py")):
        (folder / file.relative_to(migrations.FOLDER)).write_text(file.read_text())
    broken = "    raise RuntimeError('power cut')\n"
    second = folder / "main" / "versions" / "9000_fresh.py"
    body = (
        f"import sqlalchemy as sa\nfrom alembic import op\nrevision = '9000'\ndown_revision = '{today}'\n"
        "def upgrade() -> None:\n    op.create_table('fresh', sa.Column('id', sa.Integer, primary_key=True))\n"
    )
    second.write_text(body + broken)
    monkeypatch.setattr(migrations, "FOLDER", folder)
    with pytest.raises(RuntimeError, match="power cut"):
        prepare(urls["main"], "main")
    assert state(urls["main"]) == (today, False)
    second.write_text(body)
    prepare(urls["main"], "main")
    assert state(urls["main"]) == ("9000", True)
    if urls["main"].startswith("sqlite"):
        copies = list((tmp_path / "house" / "server" / COPIES).glob(f"main-{today}-*.db"))
        assert copies
        with closing(sqlite3.connect(copies[0])) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert copy.execute("SELECT version_num FROM main_version").fetchone() == (today,)


def state(url: str) -> tuple[str, bool]:
    """(revision, whether the second revision's table is there)."""
    from sqlalchemy import inspect

    with schema_engine(url).connect() as connection:
        return present_revision(connection, "main"), inspect(connection).has_table("fresh")


def test_a_start_on_a_database_of_today_does_not_load_alembic(urls: dict[str, str]) -> None:
    code = (
        "import sys; from taskloom.server.migrations import prepare\n"
        "prepare(sys.argv[1], 'main'); prepare(sys.argv[1], 'main'); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, urls["main"]], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("postgres_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_two_servers_that_start_together_prepare_one_schema(urls: dict[str, str]) -> None:
    """SQLite cannot meet this: its folder has a lock."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: prepare(urls["main"], "main"), range(4)))
    database = Database(urls["main"])
    assert database.read_now(lambda tx: tx.execute(text("SELECT count(*) FROM main_version")).scalar_one()) == 1
    database.close()


def test_what_waits_and_runs_when_priorities_came_keeps_its_order_and_its_place(
    urls: dict[str, str], postgres_url: str, tmp_path: Path, clock: Any
) -> None:
    """A database of revision 0004 with three entries and an open lease, opened by the server of today."""
    from sqlalchemy import MetaData, insert
    from tests.conftest import House
    from tests.contracts.queue_rig import LEASE, Rig

    now = clock()
    with schema_engine(urls["main"]).begin() as connection:
        upgrade(connection, "main", "0004")
        old = MetaData()
        old.reflect(connection)
        ids = {name: name * 32 for name in "0123"}
        empty = b"\x90"
        project = {"id": "a" * 32, "name": "old ones", "tags": empty, "system_tags": empty}
        shared = {"created": now, "last_update": now, "output_uri": "", "description": "", "user": ""}
        connection.execute(insert(old.tables["projects"]).values(**project, **shared))
        queue = {"id": "b" * 32, "name": "default", "description": "", "tags": empty, "paused": False}
        connection.execute(
            insert(old.tables["queues"]).values(**queue, on_lost="requeue", max_attempts=3, created=now)
        )
        for name, task_id in ids.items():
            running = name == "0"
            row = {column.name: "" for column in old.tables["tasks"].c}
            row |= {
                "id": task_id, "name": f"task {name}", "project_id": "a" * 32, "type": "training",
                "status": "running" if running else "pending", "user": "ann", "queue_id": "b" * 32,
                "lease": "token" if running else None, "tags": empty, "system_tags": empty, "document": b"\x80",
                "attempt": int(running), "revision": 0, "hidden": False, "last_iteration": None, "progress": None,
            }  # fmt: skip
            row |= dict.fromkeys(("status_changed", "created", "started", "completed", "last_update"), now)
            connection.execute(insert(old.tables["tasks"]).values(**row))
            if not running:
                entry = {"task_id": task_id, "queue_id": "b" * 32, "user": "ann", "enqueued": now}
                connection.execute(insert(old.tables["entries"]).values(**entry, rank=-float(name)))
        lease = {column.name: "" for column in old.tables["leases"].c}
        lease |= {"token": "token", "task_id": ids["0"], "worker_id": "w1", "queue_id": "b" * 32, "attempt": 1}
        lease |= {"seconds": LEASE, "expires": now + LEASE, "stop": False, "created": now}
        connection.execute(insert(old.tables["leases"]).values(**lease))
    house = House(tmp_path / "house", clock, postgres_url)
    try:
        rig = Rig(house, clock)
        assert rig.order() == [ids["3"], ids["2"], ids["1"]]
        assert [queue.hold_after for queue in rig.client.call(op.LIST_QUEUES).queues] == [300.0]
        rig.register()
        assert rig.claim().task.id == ids["3"]
        clock.advance(LEASE + 1)
        rig.sweep()
        assert rig.order() == [ids["0"], ids["3"], ids["2"], ids["1"]]
    finally:
        house.stop()

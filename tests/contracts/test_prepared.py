"""A statement that is compiled once gives what the ordinary way gives, in the same transaction, on every database."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from taskloom.server.db import Database
from taskloom.server.prepared import Prepared
from taskloom.server.tables import queues

NAMES = ("id", "name", "description", "tags", "paused", "on_lost", "max_attempts", "hold_after", "created")
NUMBERS = ("max_running", "max_running_per_user", "max_waiting_per_user")
ADD = Prepared(insert(queues), (*NAMES, *NUMBERS))
ALL = select(*queues.c).order_by(queues.c.name)
PAUSE = Prepared(
    update(queues)
    .where(queues.c.name == bindparam("wanted"), queues.c.paused.is_(False))
    .values(paused=bindparam("pause"))
    .returning(queues.c.id, queues.c.paused)
)
RENAME = Prepared(update(queues).where(queues.c.name == bindparam("wanted")).values(name=bindparam("fresh")))
DELETE = Prepared(delete(queues).where(queues.c.name == bindparam("wanted")))
NAME = Prepared(select(queues.c.name).where(queues.c.id == bindparam("wanted")))


def row(name: str, **more: object) -> dict[str, object]:
    plain = {"id": name * 2, "name": name, "description": "", "tags": b"\x90", "paused": False, "on_lost": "fail"}
    return {**plain, "max_attempts": 3, "hold_after": 1, "created": 2.5, **dict.fromkeys(NUMBERS, 0), **more}


def put(main: Database, *rows: dict[str, object]) -> None:
    main.write_now(lambda tx: ADD.run_many(tx, rows))


def test_rows_are_those_of_the_ordinary_way_flags_and_numbers_included(main: Database) -> None:
    put(main, row("a", paused=True), row("b", hold_after=0.5))
    told = main.read_now(lambda tx: [tuple(found) for found in Prepared(ALL).rows(tx, {})])
    assert told == main.read_now(lambda tx: [tuple(found) for found in tx.execute(ALL)])
    flag = list(queues.c.keys()).index("paused")
    assert [found[flag] for found in told] == [True, False]
    assert all(type(found[flag]) is bool for found in told)


def test_a_change_tells_what_it_changed_and_returns(main: Database) -> None:
    put(main, row("a"), row("b", paused=True))
    pause = {"pause": True}
    assert main.write_now(lambda tx: PAUSE.first(tx, {"wanted": "a", **pause})) == ("aa", True)
    assert main.write_now(lambda tx: PAUSE.first(tx, {"wanted": "b", **pause})) is None
    assert main.write_now(lambda tx: RENAME.run(tx, {"wanted": "a", "fresh": "c"})) == 1
    assert main.write_now(lambda tx: DELETE.run(tx, {"wanted": "a"})) == 0
    assert main.read_now(lambda tx: NAME.value(tx, {"wanted": "aa"})) == "c"
    assert main.read_now(lambda tx: NAME.value(tx, {"wanted": "nobody"})) is None


def test_what_fails_takes_its_whole_work_back_and_no_other(main: Database) -> None:
    put(main, row("a"))

    def twice(tx: Connection) -> None:
        RENAME.run(tx, {"wanted": "a", "fresh": "z"})
        ADD.run(tx, row("b"))
        ADD.run(tx, row("b"))

    with pytest.raises(Exception, match=r"(?i)unique"):
        main.write_now(twice)
    put(main, row("c"))
    assert main.read_now(lambda tx: list(tx.execute(select(queues.c.name).order_by("name")).scalars())) == [
        "a",
        "c",
    ]


def test_all_reads_of_one_work_see_one_state(main: Database) -> None:
    put(main, row("a"))

    def look(tx: Connection) -> tuple[str, str]:
        before = NAME.value(tx, {"wanted": "aa"})
        main.write_now(lambda other: RENAME.run(other, {"wanted": "a", "fresh": "b"}))
        return before, NAME.value(tx, {"wanted": "aa"})

    assert main.read_now(look) == ("a", "a")
    assert main.read_now(lambda tx: NAME.value(tx, {"wanted": "aa"})) == "b"

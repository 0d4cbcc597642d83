"""What every database promises to the works that are handed in."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, func, select, update
from sqlalchemy.exc import DBAPIError

from taskloom.domain.errors import BadInput, Unavailable
from taskloom.server.db import Database, insert, like
from taskloom.server.tables import queues, users

PER_THREAD, THREADS = 25, 6


def add_user(name: str) -> object:
    def work(tx: Connection) -> str:
        tx.execute(insert(tx, users).values(id=name, name=name, created=0.0))
        return name

    return work


def count(tx: Connection) -> int:
    return tx.execute(select(func.count()).select_from(users)).scalar_one()


def test_what_write_returned_from_is_there_for_every_reader(main: Database) -> None:
    async def scenario() -> int:
        await main.write(add_user("ada"))
        return await main.read(count)

    assert asyncio.run(scenario()) == 1


def test_a_work_that_fails_leaves_nothing_and_its_neighbours_untouched(main: Database) -> None:
    def half(tx: Connection) -> None:
        add_user("half")(tx)
        raise LookupError("second thoughts")

    async def scenario() -> list[object]:
        works = [half if n % 3 == 0 else add_user(f"user {n}") for n in range(60)]
        return await asyncio.gather(*(main.write(w) for w in works), return_exceptions=True)

    outcomes = asyncio.run(scenario())
    assert [isinstance(o, LookupError) for o in outcomes] == [n % 3 == 0 for n in range(60)]
    assert main.read_now(count) == 40


def test_a_broken_rule_of_the_tables_is_its_own_works_trouble_only(main: Database) -> None:
    async def scenario() -> list[object]:
        works = [add_user("the same") for _ in range(10)] + [add_user(f"user {n}") for n in range(10)]
        return await asyncio.gather(*(main.write(w) for w in works), return_exceptions=True)

    outcomes = asyncio.run(scenario())
    assert sum(isinstance(o, DBAPIError) for o in outcomes) == 9
    assert main.read_now(count) == 11


def test_read_then_write_is_as_if_one_came_after_the_other(main: Database) -> None:
    """Many threads count up one number, each reading it first: no step is lost on either database."""
    main.write_now(add_user("counter"))

    def step(tx: Connection) -> None:
        now = tx.execute(select(users.c.created)).scalar_one()
        tx.execute(update(users).values(created=now + 1))

    def run(_: int) -> None:
        for _ in range(PER_THREAD):
            main.write_now(step)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(run, range(THREADS)))
    assert main.read_now(lambda tx: tx.execute(select(users.c.created)).scalar_one()) == PER_THREAD * THREADS


def test_a_reader_sees_one_state_while_others_write(main: Database) -> None:
    began, written = threading.Event(), threading.Event()

    def look_twice(tx: Connection) -> tuple[int, int]:
        first = count(tx)
        began.set()
        assert written.wait(20)
        return first, count(tx)

    with ThreadPoolExecutor(1) as thread:
        seen = thread.submit(main.read_now, look_twice)
        assert began.wait(20)
        main.write_now(add_user("ada"))
        written.set()
        assert seen.result(20) == (0, 0)
    assert main.read_now(count) == 1


def test_a_reader_cannot_write(main: Database) -> None:
    with pytest.raises(DBAPIError):
        main.read_now(add_user("sneaky"))
    assert main.read_now(count) == 0


def test_insert_can_update_or_leave_what_is_there(main: Database) -> None:
    def upsert(name: str, created: float) -> object:
        def work(tx: Connection) -> None:
            statement = insert(tx, users).values(id="u", name=name, created=created)
            tx.execute(
                statement.on_conflict_do_update(index_elements=["id"], set_={"name": statement.excluded.name})
            )

        return work

    main.write_now(upsert("first", 1.0))
    main.write_now(upsert("second", 2.0))
    found = main.read_now(lambda tx: tx.execute(select(users.c.name, users.c.created)).all())
    assert [tuple(row) for row in found] == [("second", 1.0)]

    def leave(tx: Connection) -> None:
        tx.execute(insert(tx, users).values(id="u", name="third", created=3.0).on_conflict_do_nothing())

    main.write_now(leave)
    assert main.read_now(lambda tx: tx.execute(select(users.c.name)).scalar_one()) == "second"


@pytest.mark.parametrize("name", ["100%", "a_b", "wow!", "!%_"])
def test_like_finds_text_literally(main: Database, name: str) -> None:
    for one in (name, "100 percent", "axb", "wow", "other"):
        main.write_now(add_user(one))

    def find(tx: Connection) -> list[str]:
        return list(tx.execute(select(users.c.name).where(users.c.name.ilike(like(name), escape="!"))).scalars())

    assert main.read_now(find) == [name]


def test_a_number_beyond_64_bits_is_bad_input(main: Database) -> None:
    def work(tx: Connection) -> None:
        values = {"id": "q", "name": "queue", "tags": b"", "created": 0.0, "max_attempts": 2**70}
        tx.execute(queues.insert().values(values))

    with pytest.raises(BadInput):
        main.write_now(work)
    main.write_now(add_user("still alive"))


def test_a_closed_database_says_so(main: Database) -> None:
    main.close()
    with pytest.raises(Unavailable):
        main.write_now(add_user("late"))


def test_works_handed_in_before_the_close_are_finished(main: Database) -> None:
    async def scenario() -> None:
        writing = [asyncio.ensure_future(main.write(add_user(f"user {n}"))) for n in range(50)]
        await asyncio.sleep(0)
        await asyncio.to_thread(main.close)
        await asyncio.gather(*writing)

    asyncio.run(scenario())
    reopened = Database(main.url)
    assert reopened.read_now(count) == 50
    reopened.close()

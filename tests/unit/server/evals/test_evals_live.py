"""What watchers are told of evaluations, and how traces are kept. SQLite; a real server."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import msgspec
import pytest
from tests.conftest import House
from tests.contracts.eval_rig import Evaluation, Shelf, finished, row

from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.messages import LiveEvent


class Watcher:
    """Events of kind `evals`, as an event stream tells them."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._listening = threading.Event()
        self.found: list[LiveEvent] = []
        self._more = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        assert self._listening.wait(10)

    def _listen(self) -> None:
        headers = {"authorization": f"Bearer {self._house.key}"}
        try:
            with httpx.stream("GET", f"{self._house.url}/api/events", headers=headers, timeout=30) as stream:
                for line in stream.iter_lines():
                    if line.startswith(": live"):
                        self._listening.set()
                    if line.startswith("data: "):
                        self._heard(msgspec.json.decode(line[6:], type=LiveEvent))
        except httpx.HTTPError:
            return

    def _heard(self, event: LiveEvent) -> None:
        if event.kind == "evals":
            with self._more:
                self.found.append(event)
                self._more.notify_all()

    def wait(self, count: int) -> list[tuple[str, str]]:
        """Job and project of the first so many."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.found) >= count, 10)
            return [(event.task, event.project) for event in self.found]


def rows_of(house: House, name: str, table: str) -> int:
    with closing(sqlite3.connect(house.data / "server" / f"{name}.db")) as database:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.fixture
def watcher(house: House) -> Iterator[Watcher]:
    yield Watcher(house)


def test_watchers_are_told_of_the_job_whichever_task_recorded_it(house: House, watcher: Watcher) -> None:
    told = Evaluation(house).open(project="evals/nightly").job()
    told.ship()
    assert watcher.wait(1) == [(told.task, "evals/nightly")]
    hosted = Evaluation(house).open(project="elsewhere")
    run = hosted.begin(job=told.task)
    hosted.ship()
    assert watcher.wait(2)[1:] == [(told.task, "evals/nightly")]
    hosted.took(run, "a step")
    hosted.ship()
    assert watcher.wait(3)[2:] == [(told.task, "evals/nightly")]


def test_steps_leave_the_telemetry_with_their_job(house: House) -> None:
    told, other = Evaluation(house).open().job(), Evaluation(house).open().job()
    for n in range(600):  # more than one transaction deletes
        told.whole(position=n)
    other.whole()
    hosted = Evaluation(house).open()
    hosted.whole(job=told.task)
    for one in (told, other, hosted):
        one.end().ship()
    assert rows_of(house, "telemetry", "eval_steps") == 2 * 602
    house.client.call(op.DELETE_TASK, query=m.TaskDelete(), task=told.task)
    assert rows_of(house, "telemetry", "eval_steps") == 2
    assert rows_of(house, "main", "eval_runs") == 1


def test_long_steps_are_kept_small(house: House) -> None:
    told = Evaluation(house).open().job()
    run = told.begin()
    told.took(run, "the same words again " * 5000, "short")
    told.ship()
    with closing(sqlite3.connect(house.data / "server" / "telemetry.db")) as database:
        kept = database.execute("SELECT packed, length(step) FROM eval_steps ORDER BY number").fetchall()
    assert (kept[0][0], kept[1][0]) == (1, 0)
    assert kept[0][1] < 1000
    assert told.trace(run) == ["the same words again " * 5000, "short"]


def test_a_server_that_was_stopped_while_it_deleted_a_taskset_goes_on_at_its_start(
    house: House, eventually: Callable[[Callable[[], object]], None]
) -> None:
    shelf = Shelf(house)
    shelf.upload(*(row(f"s{n}") for n in range(50)))
    Shelf(house, "kept").upload(row("a"))
    house.stop()
    with closing(sqlite3.connect(house.data / "server" / "main.db")) as database:  # as after the first transaction
        database.execute("DELETE FROM tasksets WHERE name <> 'kept'")
        database.commit()
    house.start()
    eventually(lambda: rows_of(house, "main", "taskset_rows") == 1)
    assert Shelf(house, "kept").slugs() == ["a"]


def test_the_rows_of_a_deleted_taskset_go_after_the_answer(
    house: House, eventually: Callable[[Callable[[], object]], None]
) -> None:
    shelf = Shelf(house)
    shelf.upload(*(row(f"s{n}") for n in range(3000)))
    house.client.call(op.DELETE_TASKSET, taskset=shelf.name)
    shelf = Shelf(house)
    shelf.upload(row("a"))
    eventually(lambda: rows_of(house, "main", "taskset_rows") == 1)
    assert shelf.slugs() == ["a"]


def test_an_answer_stops_before_it_grows_too_large(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskloom.server.evals import reading, tasksets

    monkeypatch.setattr(reading, "ANSWER", 5000)
    monkeypatch.setattr(tasksets, "ANSWER", 5000)
    told = Evaluation(house).open().job()
    run = told.begin()
    told.took(run, *("x" * 2000 for _ in range(5)))
    for n in range(5):
        told.told(finished(told.begin(position=n + 1), answer="y" * 2000))
    told.ship()
    page = house.client.call(op.GET_STEPS, query=m.StepsQuery(), run=run.id)
    assert (len(page.steps), page.total) == (2, 5)
    assert len(told.runs(offset=1)) == 2
    shelf = Shelf(house)
    shelf.upload(*(row(f"s{n}", args={"text": "z" * 2000}) for n in range(5)))
    assert (shelf.slugs(), shelf.page().total) == (["s0", "s1"], 5)


def test_a_batch_of_many_runs_is_taken_at_once(house: House) -> None:
    """As an evaluation of 64 at a time sends them: five records a run."""
    told = Evaluation(house).open().job()
    told.ship()
    for n in range(400):
        told.whole(position=n, started=time.time())
    told.ship()
    assert told.record().counts == {"completed": 400}

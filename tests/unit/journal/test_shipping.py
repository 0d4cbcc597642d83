"""Journals on their way to a real server: exactly once, in order, whatever is killed meanwhile."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.conftest import House, HouseProcess

from taskloom.domain.artifact import Artifact
from taskloom.domain.errors import ServerAway, Unauthorized
from taskloom.domain.status import Status
from taskloom.domain.task import Task, TaskEdit
from taskloom.journal import layout
from taskloom.journal.layout import Marks
from taskloom.journal.post import Post
from taskloom.journal.reader import Reader
from taskloom.journal.shipper import pending, ship_all
from taskloom.journal.shipping import Shipping
from taskloom.journal.writer import Writer
from taskloom.sdk.identity import new_id
from taskloom.wire.client import Address
from taskloom.wire.messages import ConsoleQuery, MoveRequest, Points, PointsQuery, TaskDelete
from taskloom.wire.operations import (
    ABORT_TASK,
    BLOB_STATUS,
    DELETE_TASK,
    GET_CONSOLE,
    GET_POINTS,
    GET_TASK,
    PUBLISH_TASK,
    RESET_TASK,
)
from taskloom.wire.records import ArtifactStored, Edited, Ended, EndStatus, Opened, OpenMode
from taskloom.wire.send import Client


class Script:
    """What a script leaves on its machine."""

    def __init__(self, root: Path, task: str = "", role: layout.Role = "main", **meta: object) -> None:
        self.task = task or new_id()
        self.root = root
        self.writer = Writer.create(root, self.task, role=role, name="a run", project="tests", **meta)  # type: ignore[arg-type]

    @property
    def folder(self) -> Path:
        return self.root / self.task

    def open(self, mode: OpenMode = "new") -> Script:
        self.writer.record(Opened(mode=mode, name="a run", project="tests", time=time.time()))
        return self

    def report(self, count: int, first: int = 0, series: str = "train") -> Script:
        number = self.writer.numbers.get(("loss", series))
        if number is None:
            number = self.writer.name_series("loss", series)
        for iteration in range(first, first + count):
            self.writer.scalar(number, iteration, iteration / 2, time.time())
        return self

    def edit(self, **changes: object) -> Script:
        self.writer.record(Edited(edit=TaskEdit(**changes), time=time.time()))  # type: ignore[arg-type]
        return self

    def print(self, text: str) -> Script:
        with self.writer.stream_path("stdout").open("ab") as file:
            file.write(text.encode())
        return self

    def end(self, status: EndStatus = "completed") -> Script:
        self.writer.record(Ended(status=status, time=time.time()))
        self.writer.close()
        return self


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def address(house: House | HouseProcess) -> Address:
    return Address(house.url, house.key)


def shipping(house: House | HouseProcess, script: Script) -> Shipping:
    return Shipping(script.folder, Post(address(house)))


def points(client: Client, task: str, series: str = "train") -> Points:
    return client.call(GET_POINTS, query=PointsQuery(title="loss", series=series, points=0), task=task)


def task_of(client: Client, task: str) -> Task:
    return client.call(GET_TASK, task=task)


def console(client: Client, task: str) -> str:
    return "".join(e.text for e in client.call(GET_CONSOLE, query=ConsoleQuery(), task=task).entries)


def test_everything_arrives_and_the_folder_goes(house: House, root: Path) -> None:
    script = Script(root).open().report(70_000).edit(comment="hello").print("a line\n").end()
    going = shipping(house, script)
    step = going.step()
    assert not step.waiting
    assert going.clean()
    assert not script.folder.exists()
    task = task_of(house.client, script.task)
    assert (task.name, task.project, task.comment, task.status) == ("a run", "tests", "hello", Status.COMPLETED)
    found = points(house.client, script.task)
    assert found.iteration == list(range(70_000))
    assert found.value == [n / 2 for n in range(70_000)]
    assert console(house.client, script.task) == "a line\n"


def test_what_is_sent_again_changes_nothing(house: House, root: Path) -> None:
    """As after a crash between the server's answer and the marks on the disk, at any place."""
    script = Script(root).open().print("once\n")
    going = shipping(house, script)
    kept: list[Marks] = [Marks()]
    for start in range(0, 500, 100):
        script.report(100, start).edit(add_tags=(f"t{start}",))
        going.step()
        kept.append(layout.read_marks(script.writer.folder))
    for marks in random.Random(1).choices(kept, k=20):
        layout.write_whole(script.writer.folder / layout.MARKS_FILE, marks)
        going.step()
    script.end()
    going.step()
    assert points(house.client, script.task).iteration == list(range(500))
    assert task_of(house.client, script.task).tags == ("t0", "t100", "t200", "t300", "t400")
    assert console(house.client, script.task) == "once\n"


def test_children_come_after_the_opening_and_before_the_end(house: House, root: Path) -> None:
    main = Script(root).open().report(10)
    child = Script(root, main.task, role="child").report(10, series="child")
    late = Script(root, main.task, role="child").report(5, series="late")
    main.end()
    child.writer.close()
    going = shipping(house, main)
    going.step()
    assert task_of(house.client, main.task).status is Status.COMPLETED
    assert points(house.client, main.task, "child").count == 10
    late.report(5, first=5, series="late").writer.close()  # a helper that outlives the script
    assert going.step().waiting is False
    assert points(house.client, main.task, "late").count == 10
    assert going.clean()


def test_a_child_waits_for_the_main_writer(house: House, root: Path) -> None:
    child = Script(root, role="child").report(3)
    going = shipping(house, child)
    assert going.step().waiting
    main = Script(root, child.task).open()
    child.writer.close()
    going.step()
    assert points(house.client, child.task).count == 3
    main.end()
    assert not going.step().waiting


def test_a_server_that_was_killed_gets_the_rest(house_process: HouseProcess, root: Path) -> None:
    script = Script(root).open().report(1000)
    going = shipping(house_process, script)
    going.step()
    house_process.kill9()
    script.report(1000, first=1000).print("meanwhile\n").end()
    with pytest.raises(ServerAway):
        going.step()
    house_process.start()
    assert not going.step().waiting
    client = house_process.client
    assert points(client, script.task).iteration == list(range(2000))
    assert task_of(client, script.task).status is Status.COMPLETED
    assert console(client, script.task) == "meanwhile\n"


def test_another_server_gets_everything_from_the_start(tmp_path: Path, root: Path) -> None:
    script = Script(root).open().report(10)
    for number in range(2):
        house = House(tmp_path / f"house {number}")
        try:
            script.report(10, first=10 * (number + 1))
            shipping(house, script).step()
            assert points(house.client, script.task).iteration == list(range(10 * (number + 2)))
        finally:
            house.stop()


def test_a_server_restored_from_a_backup_gets_what_it_lost(house: House, root: Path) -> None:
    """It has less than the marks here say, and tells so."""
    script = Script(root).open().report(10)
    going = shipping(house, script)
    going.step()
    folder = script.writer.folder
    ahead = msgspec.structs.replace(layout.read_marks(folder), rows=15, events=2)
    script.report(10, first=10)
    layout.write_whole(folder / layout.MARKS_FILE, ahead)
    assert not going.step().waiting
    assert points(house.client, script.task).iteration == list(range(20))


def test_bytes_go_before_the_record_that_names_them(house: House, root: Path) -> None:
    script = Script(root).open()
    data = random.Random(2).randbytes(3_000_000)
    digest = hashlib.sha256(data).hexdigest()
    files = script.folder / layout.FILES_FOLDER
    files.mkdir()
    (files / digest).write_bytes(data)
    script.writer.record(ArtifactStored(artifact=Artifact("weights", digest=digest, size=len(data))))
    going = shipping(house, script)
    going.step()
    assert house.client.call(BLOB_STATUS, digest=digest).complete
    assert [a.name for a in task_of(house.client, script.task).artifacts] == ["weights"]
    assert not (files / digest).exists()


def test_a_record_whose_bytes_are_gone_does_not_hold_up_the_others(house: House, root: Path) -> None:
    script = Script(root).open().edit(comment="before")
    missing = Artifact("lost", digest="0" * 64, size=3)
    script.writer.record(ArtifactStored(artifact=missing))
    script.edit(comment="after").report(5).end()
    notes: list[str] = []
    going = Shipping(script.folder, Post(address(house)), notes.append)
    assert not going.step().waiting
    task = task_of(house.client, script.task)
    assert (task.comment, task.status, task.artifacts) == ("after", Status.COMPLETED, ())
    assert points(house.client, script.task).count == 5
    assert any("left out" in note and "ArtifactStored" in note for note in notes)


def test_results_that_were_reset_are_forgotten(house: House, root: Path) -> None:
    script = Script(root).open().report(5).end()
    shipping(house, script).step()
    house.client.call(RESET_TASK, MoveRequest(), task=script.task)
    layout.write_whole(script.writer.folder / layout.MARKS_FILE, Marks())
    shipping(house, script).step()
    assert not script.writer.folder.exists()
    assert task_of(house.client, script.task).status is Status.DRAFT


def test_results_of_a_void_attempt_are_kept_aside(house: House, root: Path) -> None:
    opened = Script(root).open()
    shipping(house, opened).step()
    stale = Script(root, opened.task, lease="a lease that was lost").report(5)
    going = shipping(house, stale)
    assert not going.step().waiting
    assert "lease" in layout.read_marks(stale.writer.folder).refused
    assert points_or_none(house.client, opened.task) == 0
    stale.writer.close()
    opened.end()
    going.step()
    assert not going.clean()
    assert Reader(stale.writer.folder).row_count() == 5


def points_or_none(client: Client, task: str) -> int:
    return len(task_of(client, task).metrics)


@pytest.mark.parametrize("fate", ["published", "deleted"])
def test_a_run_over_a_task_that_is_no_longer_free_becomes_another(house: House, root: Path, fate: str) -> None:
    first = Script(root).open().report(5).end()
    going = shipping(house, first)
    going.step()
    assert going.clean()
    if fate == "published":
        house.client.call(PUBLISH_TASK, MoveRequest(), task=first.task)
    else:
        house.client.call(DELETE_TASK, query=TaskDelete(), task=first.task)
    again = Script(root, first.task).open("reset").report(7).end()
    notes: list[str] = []
    going = Shipping(again.folder, Post(address(house)), notes.append)
    step = going.step()
    assert not step.waiting
    assert not step.stop
    elsewhere = layout.read_elsewhere(again.folder)
    assert elsewhere is not None
    assert points(house.client, elsewhere.task).count == 7
    assert task_of(house.client, elsewhere.task).status is Status.COMPLETED
    assert elsewhere.task in notes[0]
    assert going.clean()


def test_a_continued_task_has_both_runs_in_order(house: House, root: Path) -> None:
    """The first run had not reached the server when the second began."""
    first = Script(root).open().report(5).end("aborted")
    second = Script(root, first.task).open("resume").report(5, first=5)
    going = shipping(house, second)
    step = going.step()
    assert not step.stop  # the abort was the first run's
    assert task_of(house.client, first.task).status is Status.RUNNING
    second.end()
    going.step()
    assert task_of(house.client, first.task).status is Status.COMPLETED
    assert points(house.client, first.task).iteration == list(range(10))
    assert going.clean()


def test_ship_all_and_pending_tell_what_waits(house: House, root: Path) -> None:
    ended = Script(root).open().report(100).end()
    running = Script(root).open().report(50)
    offline = Script(root, offline=True).open().end()
    found = {journal.task: journal for journal in pending(root)}
    assert (found[ended.task].rows, found[ended.task].alive, found[ended.task].name) == (100, False, "a run")
    assert (found[running.task].rows, found[running.task].alive) == (50, True)
    assert found[offline.task].offline
    told: list[int] = []
    results = {
        r.task: r.outcome for r in ship_all(root, address(house), lambda journal, count: told.append(count))
    }
    assert results == {ended.task: "shipped", running.task: "shipping", offline.task: "offline"}
    assert sum(told) > 0
    left = {journal.task: journal.rows for journal in pending(root)}
    assert left == {running.task: 0, offline.task: 0}
    running.end()
    assert {r.outcome for r in ship_all(root, address(house))} == {"shipped", "offline"}


def test_a_key_that_does_not_fit_is_told(house: House, root: Path) -> None:
    Script(root).open().end()
    with pytest.raises(Unauthorized):
        ship_all(root, Address(house.url, "tl_wrong"))
    assert len(pending(root)) == 1


# --- the companion process --------------------------------------------------------------------------------


def companion(script: Script, house: House | HouseProcess) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "taskloom.journal.shipper", str(script.folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=house.environment())


def test_the_companion_ships_while_the_script_runs_and_ends_after_it(
    house: House, root: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    script = Script(root).open().report(10)
    process = companion(script, house)
    eventually(lambda: layout.read_marks(script.writer.folder).rows == 10)
    script.report(10, first=10)
    assert process.stdin is not None
    process.stdin.write(b"!")
    process.stdin.flush()
    eventually(lambda: layout.read_marks(script.writer.folder).rows == 20)
    script.end()
    assert process.wait(30) == 0
    assert not script.folder.exists()
    assert points(house.client, script.task).count == 20


def test_two_companions_do_not_get_in_each_others_way(
    house: House, root: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    script = Script(root).open().report(5000)
    processes = [companion(script, house) for _ in range(3)]
    eventually(lambda: layout.read_marks(script.writer.folder).rows == 5000)
    processes[0].kill()
    script.report(5000, first=5000).end()
    for process in processes:
        process.wait(30)
    assert not script.folder.exists()
    assert points(house.client, script.task).iteration == list(range(10_000))


def test_the_companion_writes_the_end_of_a_killed_script(house: House, root: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from taskloom.journal.writer import Writer\n"
        "from taskloom.wire.records import Opened\n"
        "w = Writer.create(Path(sys.argv[1]), sys.argv[2], role='main', name='a run', project='tests')\n"
        "w.record(Opened(mode='new', name='a run', project='tests', time=time.time()))\n"
        "n = w.name_series('loss', 'train')\n"
        "for i in range(100): w.scalar(n, i, 1.0, 0.0)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    task = new_id()
    done = subprocess.run([sys.executable, "-c", code, str(root), task], check=False)
    assert done.returncode == -signal.SIGKILL
    (folder,) = layout.writer_folders(root / task)
    with (folder / layout.EVENTS_FILE).open("ab") as file:
        file.write(b"\x50\x00\x00\x00half a record")
    ship_all(root, address(house))
    found = task_of(house.client, task)
    assert (found.status, found.status_reason) == (Status.FAILED, "the process ended without a word (killed?)")
    assert points(house.client, task).count == 100
    assert not (root / task).exists()


def test_a_server_that_comes_late_gets_everything(tmp_path: Path, root: Path) -> None:
    """No server when the script runs; the companion finds it as soon as it has written its address."""
    script = Script(root).open().report(10)
    data = tmp_path / "late"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKLOOM_")}
    environment["TASKLOOM_DATA"] = str(data)
    command = [sys.executable, "-P", "-m", "taskloom.journal.shipper", str(script.folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
    time.sleep(0.5)
    assert process.poll() is None
    house = House(data)
    try:
        script.end()
        assert process.wait(60) == 0
        assert points(house.client, script.task).count == 10
    finally:
        house.stop()


def test_without_any_server_the_companion_leaves_when_the_script_does(tmp_path: Path, root: Path) -> None:
    script = Script(root).open().report(10)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKLOOM_")}
    command = [sys.executable, "-P", "-m", "taskloom.journal.shipper", str(script.folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**environment, "TASKLOOM_DATA": str(tmp_path)})
    script.writer.close()  # as a killed script would: without a last word
    assert process.wait(60) == 0
    assert Reader(script.writer.folder).ended()
    assert pending(root)[0].rows == 10


def test_an_abort_on_the_server_reaches_the_script(house: House, root: Path) -> None:
    code = (
        "import signal, sys, time; from pathlib import Path; from taskloom.journal.writer import Writer\n"
        "from taskloom.wire.records import Opened\n"
        "w = Writer.create(Path(sys.argv[1]), sys.argv[2], role='main')\n"
        "w.record(Opened(mode='new', name='a run', project='tests', time=time.time()))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    task = new_id()
    script = subprocess.Popen([sys.executable, "-c", code, str(root), task], stdout=subprocess.PIPE)
    assert script.stdout is not None
    assert script.stdout.readline() == b"ready\n"
    command = [sys.executable, "-P", "-m", "taskloom.journal.shipper", str(root / task)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=house.environment())
    deadline = time.monotonic() + 30
    while not _exists(house.client, task):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    house.client.call(ABORT_TASK, MoveRequest(reason="enough"), task=task)
    assert script.wait(30) == -signal.SIGTERM
    assert process.wait(30) == 0
    assert task_of(house.client, task).status is Status.ABORTED


def _exists(client: Client, task: str) -> bool:
    try:
        client.call(GET_TASK, task=task)
    except LookupError:
        return False
    return True

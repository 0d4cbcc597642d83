"""The house as a whole: it starts, answers, stops, comes back, and shares its folder with nobody."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.conftest import House, HouseProcess

from taskloom.domain.errors import BadInput, Conflict, ServerAway, TaskloomError
from taskloom.server.app import House as Built
from taskloom.server.migrations import schema_engine, version_table
from taskloom.server.settings import read_settings
from taskloom.wire.connection import read_connection
from taskloom.wire.messages import ProjectCreate, ProjectQuery
from taskloom.wire.operations import CREATE_PROJECT, HEALTH, LIST_PROJECTS, SERVER_INFO
from taskloom.wire.send import Client


def test_a_fresh_house_tells_programs_on_its_machine_where_it_is(house: House) -> None:
    written = read_connection(house.data)
    assert written is not None
    assert written.url == house.url
    assert stat.S_IMODE((house.data / "connection.json").stat().st_mode) == 0o600
    info = house.client.call(SERVER_INFO)
    assert (info.user, info.role, info.database) == ("admin", "admin", "sqlite")


def test_nobody_else_on_the_machine_can_look_into_the_folder(house: House) -> None:
    for folder in (house.data, house.data / "server"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    data = tmp_path / "house"
    data.mkdir()
    data.chmod(0o755)
    running = House(data)
    running.stop()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_two_fresh_houses_share_no_secret(tmp_path: Path, house: House) -> None:
    other = House(tmp_path / "other")
    assert other.key != house.key
    other.stop()


def test_health_needs_no_key(house: House) -> None:
    assert house.client_of("").call(HEALTH).status == "ok"


def test_a_second_server_on_the_folder_is_refused_and_the_first_goes_on(house_process: HouseProcess) -> None:
    command = [sys.executable, "-m", "taskloom.server", "--data", str(house_process.data), "--port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert "another server works on" in second.stderr
    assert str(house_process.process.pid) in second.stderr
    assert "Traceback" not in second.stderr
    assert house_process.client.call(HEALTH).status == "ok"


def test_a_taken_port_is_told(house: House, tmp_path: Path) -> None:
    port = house.url.rpartition(":")[2]
    command = [sys.executable, "-m", "taskloom.server", "--data", str(tmp_path / "other"), "--port", port]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (second.returncode, second.stdout) == (1, "")
    assert f"port {port}" in second.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("words", [["--port", "99999"], ["--port", "many"], ["--nonsense"]])
def test_wrong_usage_has_an_exit_code_of_its_own(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "taskloom.server", "--data", str(tmp_path / "house"), *words]
    assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 2


def test_a_database_of_a_newer_version_is_refused_without_a_scratch(tmp_path: Path) -> None:
    House(tmp_path / "house").stop()
    path = tmp_path / "house" / "server" / "main.db"
    with schema_engine(f"sqlite:///{path}").begin() as connection:
        connection.exec_driver_sql(f"UPDATE {version_table('main')} SET version_num = '9999'")
    before = path.read_bytes()
    with pytest.raises(Conflict, match="newer Taskloom"):
        Built(read_settings(tmp_path / "house"), lambda: 0.0)
    assert path.read_bytes() == before


def test_sigterm_ends_the_server_in_order_with_open_streams(house_process: HouseProcess) -> None:
    """A watcher and an idle connection are there; neither holds up the stop."""
    client = house_process.client
    client.call(CREATE_PROJECT, ProjectCreate(name="kept"))
    request = client.http.build_request("GET", f"{house_process.url}/api/events", headers=client.address.headers())
    stream = client.http.send(request, stream=True)
    assert next(stream.iter_raw()) == b": live\n\n"
    assert house_process.stop() == 0
    folder = house_process.data / "server"
    assert sorted(p.name for p in folder.glob("main.db*")) == ["main.db"]  # the log is folded in
    house_process.start()
    assert house_process.client.call(LIST_PROJECTS).total == 1


def test_a_stop_loses_nothing_that_was_acknowledged(house_process: HouseProcess) -> None:
    acknowledged = write_until_it_is_gone(house_process, house_process.stop)
    house_process.start()
    assert_all_there(house_process, acknowledged)


def test_a_kill_loses_nothing_that_was_acknowledged_time_after_time(house_process: HouseProcess) -> None:
    acknowledged: set[str] = set()
    for _ in range(4):
        acknowledged |= write_until_it_is_gone(house_process, house_process.kill9)
        house_process.start()
        assert_all_there(house_process, acknowledged)
    house_process.stop()
    with closing(sqlite3.connect(house_process.data / "server" / "main.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def write_until_it_is_gone(house: HouseProcess, end: Callable[[], object]) -> set[str]:
    """Four writers make projects while the server is ended; the names that were acknowledged."""
    acknowledged: list[str] = []
    enough = threading.Event()
    address = house.client.address
    run = os.urandom(4).hex()

    def write(writer: int) -> None:
        client = Client(address)
        for number in range(100_000):
            name = f"{run} {writer} {number}"
            try:
                client.call(CREATE_PROJECT, ProjectCreate(name=name))
            except (ServerAway, TaskloomError):
                break
            acknowledged.append(name)
            if len(acknowledged) >= 60:
                enough.set()
        client.close()

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    assert enough.wait(30)
    end()
    for writer in writers:
        writer.join(30)
    return set(acknowledged)


def assert_all_there(house: HouseProcess, acknowledged: set[str]) -> None:
    found: set[str] = set()
    while True:
        page = house.client.call(LIST_PROJECTS, query=ProjectQuery(limit=1000, offset=len(found)))
        found |= {project.name for project in page.projects}
        if not page.projects or len(found) >= page.total:
            break
    assert acknowledged <= found


def test_a_server_that_is_killed_while_it_starts_always_comes_back(tmp_path: Path) -> None:
    running = HouseProcess(tmp_path / "house")
    running.client.call(CREATE_PROJECT, ProjectCreate(name="kept"))
    running.kill9()
    command = [sys.executable, "-m", "taskloom.server", "--data", str(running.data), "--port", "0"]
    for pause in (0.15, 0.25, 0.35, 0.45, 0.55):
        starting = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            starting.wait(pause)
        except subprocess.TimeoutExpired:
            starting.kill()
        starting.wait(30)
    running.start()
    assert running.client.call(LIST_PROJECTS).total == 1
    running.stop()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgres://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("", "sqlite:///{data}/server/main.db"),
    ],
)
def test_the_database_is_chosen_by_its_address(tmp_path: Path, address: str, expected: str) -> None:
    settings = read_settings(tmp_path, environ={"TASKLOOM_DATABASE_URL": address})
    assert settings.database("main") == expected.format(data=tmp_path)


@pytest.mark.parametrize("address", ["mysql://u@h/d", "nonsense", "sqlite:///x.db"])
def test_another_database_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(BadInput, match="postgresql://"):
        read_settings(tmp_path, environ={"TASKLOOM_DATABASE_URL": address})

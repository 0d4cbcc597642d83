"""`taskloom up` as a person starts it: two processes that come back when they die and end in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from taskloom.domain.errors import TaskloomError
from taskloom.domain.execution import Execution
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.client import Address
from taskloom.wire.connection import read_connection
from taskloom.wire.send import Client

Eventually = Callable[[Callable[[], object]], None]
PATIENCE = 60.0


class Up:
    def __init__(self, data: Path, *words: str) -> None:
        self.data = data
        self.log = data.with_suffix(".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "taskloom.cli.up", "--data", str(data), "--port", "0", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "UV_CACHE_DIR": str(data.parent / "uv")},
            )
        assert self.process.stdout is not None
        self.said = ""
        while "Ctrl-C stops." not in self.said:
            line = self.process.stdout.readline()
            assert line, f"{self.said} {self.log.read_text()}"
            self.said += line

    @property
    def client(self) -> Client:
        written = read_connection(self.data)
        assert written is not None
        return Client(Address(written.url, written.api_key))

    def child(self, module: str) -> psutil.Process | None:
        for process in psutil.Process(self.process.pid).children():
            try:
                if module in process.cmdline():
                    return process
            except psutil.Error:
                continue  # it is just dying
        return None

    def answers(self) -> bool:
        try:
            return self.client.call(op.HEALTH).status == "ok"
        except TaskloomError:
            return False

    def workers(self) -> int:
        return len(self.client.call(op.LIST_WORKERS).workers)

    def end(self, number: int = signal.SIGTERM) -> int:
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        assert psutil.wait_procs(children, timeout=PATIENCE)[1] == []
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    made: list[Up] = []

    def begin(*words: str) -> Up:
        made.append(Up(tmp_path / "all", *words))
        return made[-1]

    yield begin
    for up in made:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait(PATIENCE)


def test_up_says_where_it_is_and_runs_a_task(start: Callable[..., Up], eventually: Eventually) -> None:
    up = start()
    assert up.said.startswith("Taskloom is ready at http://127.0.0.1:")
    assert "serves default with 1 slot" in up.said
    assert "from taskloom import Task" in up.said
    create = m.TaskCreate(name="a task", project="up tests", execution=Execution(command=("true",)))
    task = up.client.call(op.CREATE_TASK, create).id
    up.client.call(op.ENQUEUE_TASK, m.Enqueue(), task=task)
    eventually(lambda: up.client.call(op.GET_TASK, task=task).status not in {Status.PENDING, Status.RUNNING})
    ended = up.client.call(op.GET_TASK, task=task)
    assert (ended.status, ended.status_reason) == (Status.COMPLETED, "")
    assert up.end(signal.SIGINT) == 130


def test_up_starts_again_what_dies_and_keeps_the_address(start: Callable[..., Up], eventually: Eventually) -> None:
    up = start("--queue", "gpu", "--slots", "2")
    url = up.client.address.url
    worker, server = up.child("taskloom.cli.worker"), up.child("taskloom.server")
    assert worker is not None
    assert server is not None
    worker.kill()
    eventually(lambda: (again := up.child("taskloom.cli.worker")) and again.pid != worker.pid)
    server.kill()
    eventually(up.answers)
    assert up.client.address.url == url
    eventually(lambda: up.workers() == 1)
    assert [q.name for q in up.client.call(op.LIST_QUEUES).queues] == ["default", "gpu"]
    assert up.end() == 0


def test_nothing_outlives_an_up_that_was_killed(start: Callable[..., Up]) -> None:
    up = start()
    children = psutil.Process(up.process.pid).children(recursive=True)
    assert len(children) >= 2
    up.process.kill()
    assert psutil.wait_procs(children, timeout=PATIENCE)[1] == []
    again = start()  # the folder is free
    assert again.answers()


def test_up_without_a_worker_and_on_a_folder_that_is_taken(start: Callable[..., Up]) -> None:
    up = start("--no-worker")
    assert up.workers() == 0
    words = [sys.executable, "-m", "taskloom.cli.up", "--data", str(up.data), "--port", "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "another server works on" in done.stderr
    assert "Traceback" not in done.stderr


def test_up_ships_what_earlier_runs_left(start: Callable[..., Up], tmp_path: Path, eventually: Eventually) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os, signal\n"
        "from taskloom import Task\n"
        "task = Task.init(project_name='up tests', task_name='left behind')\n"
        "for n in range(100): task.get_logger().report_scalar('loss', 'train', float(n), n)\n"
        "print(task.id, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    data = tmp_path / "all"
    environ = {**os.environ, "TASKLOOM_DATA": str(data)}
    done = subprocess.run(
        [sys.executable, str(script)], env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == -signal.SIGKILL
    up = start("--no-worker")

    def counts() -> list[int]:
        found = up.client.call(op.QUERY_TASKS, m.TaskQuery(name="left behind")).tasks
        if not found or found[0].status is not Status.FAILED:
            return []
        return [series.count for series in found[0].metrics if series.title == "loss"]

    eventually(lambda: counts() == [100])


def test_up_prints_the_section_for_clearmls_clients_but_not_into_a_file_of_others(
    start: Callable[..., Up], tmp_path: Path, eventually: Eventually
) -> None:
    up = start("--no-worker")
    access, _, secret = up.client.address.api_key.removeprefix("tl_").partition("_")
    section = up.said[up.said.index("api {") : up.said.index("Ctrl-C")]
    assert f'files_server: "{up.client.address.url}/files"' in section
    assert f'access_key: "{access}"' in section
    assert f'secret_key: "{secret}"' in section
    assert up.end() == 0
    log = tmp_path / "open.log"
    words = [sys.executable, "-m", "taskloom.cli.up", "--data", str(up.data), "--port", "0", "--no-worker"]
    with log.open("wb") as opened:
        log.chmod(0o644)
        process = subprocess.Popen(words, stdout=opened, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: "Ctrl-C stops." in log.read_text())
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert secret not in log.read_text()
    assert "taskloom clearml-config" in log.read_text()

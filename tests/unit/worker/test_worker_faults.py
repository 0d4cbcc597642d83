"""Faults of every kind: a worker killed in each of its phases, cut networks, full disks, tasks that kill their keepers."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from taskloom.domain.execution import Execution
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op

pytestmark = pytest.mark.faults

LEASE = 3.0


class Proxy:
    """A network between a worker and the server. `cut`: nothing passes; `stuck`: requests with this text are lost;
    `mute`: answers are.
    """

    def __init__(self, url: str) -> None:
        self._target = (urlsplit(url).hostname, urlsplit(url).port)
        self.cut = self.mute = False
        self.stuck = b""
        self.seen = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """Every connection breaks."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut = True
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            if self.cut:
                client.close()
                server.close()
                continue
            self._sockets += [client, server]
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if up and self.stuck and self.stuck in data:
                    self.seen.set()
                    continue  # it never arrives, and nobody answers
                if not up and self.mute:
                    continue
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(field: Any) -> Iterator[Proxy]:
    made = Proxy(field.house.url)
    yield made
    made.close()


def behind(proxy: Proxy) -> dict[str, str]:
    return {"TASKLOOM_URL": proxy.url}


MARK = "import os, uuid\nopen(os.path.join({folder!r}, uuid.uuid4().hex), 'x').write(os.environ['TASKLOOM_TASK_ID'])\n"


def starts(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.iterdir()]


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def killed_then_once_more(field: Any, worker: Any, task: str, attempts: int) -> None:
    """The worker dies now; its next process ends the task well, once."""
    worker.kill9()
    field.worker("w1")
    ended = field.ended(task)
    assert (ended.status, ended.status_reason, ended.attempt) == (Status.COMPLETED, "", attempts)
    attempts_folder = field.folder / "w1" / "worker" / "w1" / "attempts"
    field.until(lambda: not list(attempts_folder.iterdir()))


def test_killed_while_it_claims(field: Any, proxy: Proxy, marks: Path) -> None:
    """The server leased the task, and the answer never came: the lease runs out, another attempt runs it."""
    worker = field.worker("w1", lease=LEASE, environ=behind(proxy))
    proxy.mute = True
    task = field.script(MARK.format(folder=str(marks)))
    field.running(task)
    killed_then_once_more(field, worker, task, attempts=2)
    assert starts(marks) == [task]


def test_killed_in_the_checkout(
    field: Any, marks: Path, repository: Path, git: Callable[..., str], tmp_path: Path
) -> None:
    hold = tmp_path / "bin"
    hold.mkdir()
    (hold / "git").write_text(f"#!/bin/sh\ntouch {tmp_path}/git-ran\nexec sleep 600\n")
    (hold / "git").chmod(0o755)
    (repository / "train.py").write_text(MARK.format(folder=str(marks)))
    git(repository, "commit", "--quiet", "-am", "second")
    commit = git(repository, "rev-parse", "HEAD").strip()
    worker = field.worker("w1", environ={"PATH": f"{hold}:{os.environ['PATH']}"})
    task = field.enqueue(Execution(repository=str(repository), commit=commit, entry_point="train.py"))
    field.until((tmp_path / "git-ran").exists)
    killed_then_once_more(field, worker, task, attempts=2)
    assert starts(marks) == [task]


def test_killed_while_packages_are_prepared(field: Any, marks: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow-0.1"
    slow.mkdir()
    build = '[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n'
    (slow / "pyproject.toml").write_text(build + '[project]\nname = "slow"\nversion = "0.1"\n')
    (slow / "slow.py").write_text(
        f"import time\nopen({str(tmp_path / 'building')!r}, 'w').close()\ntime.sleep(600)\n"
    )
    worker = field.worker("w1", packages="build", environ={"UV_NO_INDEX": "1", "UV_OFFLINE": "1"})
    task = field.script(MARK.format(folder=str(marks)), packages=f"slow @ file://{slow}\n")
    field.until((tmp_path / "building").exists)
    killed_then_once_more(field, worker, task, attempts=2)
    assert starts(marks) == [task]


def test_killed_while_it_uploads_and_while_it_reports_the_end(field: Any, proxy: Proxy, marks: Path) -> None:
    """The program ended; its journal, or its end, could not be told before the worker died: it is told, not run again."""
    for stuck in (b"/journal", b"/finish"):
        proxy.stuck, count = b"", len(starts(marks))
        worker = field.worker("w1", environ=behind(proxy))
        proxy.stuck = stuck
        proxy.seen.clear()
        task = field.script(MARK.format(folder=str(marks)) + "print('said')\n")
        field.until(lambda count=count: len(starts(marks)) == count + 1)
        field.until(proxy.seen.is_set)
        killed_then_once_more(field, worker, task, attempts=1)
        assert starts(marks).count(task) == 1
        assert field.console(task, "stdout") == "said\n"
        field.workers[-1].stop()


def test_a_network_that_is_cut_for_longer_than_two_renewals_costs_no_run(
    field: Any, proxy: Proxy, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    field.worker("w1", lease=20.0, environ=behind(proxy))
    task = field.script(
        f"import os, time\nprint('begun')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)\nprint('over')\n"
    )
    field.until_says(task, "begun")
    pids = {process.pid for process in field.processes(task)}
    proxy.cut = True
    proxy.drop()
    time.sleep(5)  # longer than two renewals, not longer than the lease: nobody else may have it
    assert {process.pid for process in field.processes(task)} == pids
    proxy.cut = False
    go.touch()
    ended = field.ended(task)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1)
    assert field.console(task, "stdout") == "begun\nover\n"


def test_a_task_that_kills_its_worker_goes_on_when_that_one_is_back(field: Any) -> None:
    worker = field.worker("w1")
    task = field.script(
        "import os, signal, time\n"
        f"os.kill({worker.process.pid}, signal.SIGKILL)\n"
        "print('killed it', flush=True)\ntime.sleep(2)\nprint('over')\n"
    )
    worker.process.wait(60)
    field.worker("w1")
    ended = field.ended(task)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1)
    assert field.console(task, "stdout") == "killed it\nover\n"


def test_a_task_that_kills_every_process_that_it_can_name_ends_once(field: Any) -> None:
    """Its supervisor dies with it: the task failed, and nothing is left."""
    field.worker("w1")
    task = field.script(
        "import os, signal, time\ntime.sleep(0.3)\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(600)\n"
    )
    ended = field.ended(task)
    assert (ended.status, ended.status_reason) == (Status.FAILED, "the supervisor of the program was killed")
    assert field.processes(task) == []


def test_a_disk_that_is_full_fails_the_task_with_a_message(field: Any, tmp_path: Path) -> None:
    """The program's own output is what meets the end of the disk: it sees the error itself, and is not lost."""
    field.worker("w1")
    task = field.script(
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "for n in range(100_000): print('line', n)\n"
    )
    ended = field.ended(task)
    assert ended.status is Status.FAILED
    assert field.console(task, "stdout").startswith("line 0\n")


@pytest.fixture
def small_disk(field: Any) -> Iterator[Path]:
    """The folder of a worker named `small`, on a disk of its own that 24 MB fill."""
    folder = field.folder / "small"
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("no disk of its own can be mounted here; that needs root")
    yield folder
    for worker in field.workers:
        worker.stop()
    subprocess.run(["umount", str(folder)], check=True)


def test_a_task_that_fills_the_workers_disk_ends_as_it_ended_and_the_next_one_has_room(
    field: Any, small_disk: Path
) -> None:
    field.worker(small_disk.name)
    fill = (
        "echo begun; head -c 100000000 /dev/zero > big; yes 'more than there is room for' | head -n 9999; exit 7"
    )
    filled = field.ended(field.enqueue(Execution(run=fill)))
    assert (filled.status, filled.status_reason) == (Status.FAILED, "exit code 7")
    assert field.console(filled.id, "stdout").startswith("begun\n")
    after = field.ended(field.enqueue(Execution(run="head -c 10000000 /dev/zero > big && echo fine")))
    assert (after.status, field.console(after.id, "stdout")) == (Status.COMPLETED, "fine\n")


def test_many_small_tasks_and_four_workers_run_each_once(field: Any, marks: Path) -> None:
    script = f"import os\nopen(os.path.join({str(marks)!r}, os.environ['TASKLOOM_TASK_ID']), 'x')\n"
    shell = f"set -C; : >{marks}/$TASKLOOM_TASK_ID"
    tasks = [field.enqueue(Execution(command=("sh", "-c", shell))) for _ in range(199)]
    tasks.append(field.script(script))
    for number in range(4):
        field.worker(f"w{number}", "--slots", "3")
    field.until(lambda: len(list(marks.iterdir())) == 200)
    ended = [field.ended(task) for task in tasks]
    assert {(task.status, task.attempt) for task in ended} == {(Status.COMPLETED, 1)}
    workers = {task.worker for task in ended}
    assert len(workers) > 1
    assert field.client.call(op.GET_QUEUE, query=m.QueuePage(), queue="default").entries == []

"""Real scripts in processes of their own: how they end, what their children say, and what stays when killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import House, HouseProcess

from taskloom.domain.task import Task
from taskloom.wire.messages import ConsoleQuery, TaskQuery
from taskloom.wire.operations import GET_CONSOLE, GET_TASK, LIST_SERIES, QUERY_TASKS

BEGIN = """
import os, signal, subprocess, sys, threading, time
from taskloom import Logger, Task
task = Task.init(project_name="examples", task_name="a script", reuse_last_task_id=False,
                 auto_resource_monitoring=False)
print("id", task.id, flush=True)
log = task.get_logger()
def report(series, count=100):
    for iteration in range(count):
        log.report_scalar("loss", series, iteration / 2, iteration)
report("train")
"""


class Scripts:
    """Runs scripts on a machine of their own: one data folder, and the server if there is one."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.environment = {k: v for k, v in environment.items() if not k.startswith(("TASKLOOM_TASK", "RANK"))}
        self.environment |= {"TASKLOOM_DATA": str(self.data), "PYTHONFAULTHANDLER": "1"}

    def start(self, body: str, begin: str = BEGIN, **environment: str) -> subprocess.Popen[str]:
        script = self.folder / "script.py"
        script.write_text(textwrap.dedent(begin) + textwrap.dedent(body))
        return subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**self.environment, **environment},
        )

    def run(self, body: str, begin: str = BEGIN, **environment: str) -> tuple[int, str, str, str]:
        """Exit status, task id, standard output and standard error."""
        process = self.start(body, begin, **environment)
        out, err = process.communicate(timeout=60)
        ids = [line.split()[1] for line in out.splitlines() if line.startswith("id ")]
        return process.returncode, ids[0] if ids else "", out, err


@pytest.fixture
def scripts(house: House, tmp_path: Path) -> Scripts:
    folder = tmp_path / "machine"
    folder.mkdir()
    return Scripts(folder, house.environment())


@pytest.fixture
def alone(tmp_path: Path) -> Scripts:
    """A machine without a server."""
    folder = tmp_path / "machine"
    folder.mkdir()
    return Scripts(folder, {k: v for k, v in os.environ.items() if k not in {"TASKLOOM_URL", "TASKLOOM_API_KEY"}})


def found(house: House | HouseProcess, task: str) -> Task:
    return house.client.call(GET_TASK, task=task)


def counts(house: House | HouseProcess, task: str) -> dict[str, int]:
    series = house.client.call(LIST_SERIES, task=task).series
    return {s.series: s.count for s in series if s.title == "loss"}


# --- the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "status", "reason"),
    [
        ("", 0, "completed", ""),
        ("task.close()", 0, "completed", ""),
        ("sys.exit()", 0, "completed", ""),
        ("sys.exit(0)", 0, "completed", ""),
        ("sys.exit(3)", 3, "failed", "exit status 3"),
        ("sys.exit('no data')", 1, "failed", "no data"),
        ("exit(4)", 4, "failed", "exit status 4"),
        ("def f():\n    sys.exit(5)\nf()", 5, "failed", "exit status 5"),
        ("try:\n    sys.exit(3)\nexcept SystemExit:\n    pass", 0, "completed", ""),
        ("def f():\n    try:\n        sys.exit(3)\n    except SystemExit:\n        pass\nf()", 0, "completed", ""),
        ("raise ValueError('boom')", 1, "failed", "ValueError: boom"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "aborted", "interrupted (Ctrl-C)"),
        ("os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)", -signal.SIGINT, "aborted", "interrupted (Ctrl-C)"),
        (
            "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(5)",
            -signal.SIGTERM,
            "aborted",
            "terminated (SIGTERM)",
        ),
        ("threading.Thread(target=lambda: 1 / 0).start()", 0, "completed", ""),
    ],
)
def test_a_script_ends_as_it_would_and_the_task_says_how(
    house: House, scripts: Scripts, body: str, code: int, status: str, reason: str
) -> None:
    returned, task, _, _ = scripts.run(body)
    assert returned == code
    ended = found(house, task)
    assert (ended.status, ended.status_reason) == (status, reason)
    assert counts(house, task) == {"train": 100}
    assert not list((scripts.data / "journal").iterdir())


def test_an_exception_leaves_its_traceback(house: House, scripts: Scripts) -> None:
    _, task, _, err = scripts.run("def deep():\n    raise RuntimeError('in the deep')\ndeep()")
    message = found(house, task).status_message
    assert "in deep" in message
    assert "RuntimeError: in the deep" in message
    assert "in deep" in err  # the script's own hook printed it as ever
    console = house.client.call(GET_CONSOLE, query=ConsoleQuery(), task=task).entries
    assert any("RuntimeError: in the deep" in entry.text for entry in console if entry.stream == "stderr")


def test_the_hooks_of_the_script_are_called(house: House, scripts: Scripts) -> None:
    """Its own hook of exceptions, its own handler of SIGTERM: ours neither hides nor replaces them."""
    hook = """
        before = sys.excepthook
        def mine(kind, error, trace):
            print("mine saw", kind.__name__, flush=True)
            before(kind, error, trace)
        sys.excepthook = mine
        raise ValueError("boom")
    """
    code, task, out, _ = scripts.run(hook)
    assert (code, "mine saw ValueError" in out, found(house, task).status) == (1, True, "failed")
    late = "import os, time\ntime.sleep(0.2 if os.environ['RANK'] == '0' else 0)\n"
    script = scripts.folder / "rank.py"
    script.write_text(late + BEGIN.replace('report("train")', 'report(os.environ["RANK"])'))
    launcher = (
        "import os, subprocess, sys\n"
        "ranks = [subprocess.Popen([sys.executable, 'rank.py'], env={**os.environ, 'RANK': str(n), 'LOCAL_RANK': str(n),\n"
        "    'WORLD_SIZE': '3', 'TORCHELASTIC_RUN_ID': 'none', 'TORCHELASTIC_RESTART_COUNT': '0', 'MASTER_PORT': '29500'})\n"
        "    for n in range(3)]\n"
        "sys.exit(max(r.wait() for r in ranks))\n"
    )
    for _ in range(2):  # another launch is another task
        done = subprocess.run(
            [sys.executable, "-c", launcher],
            cwd=scripts.folder, env=scripts.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        ids = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("id ")}
        assert len(ids) == 1
    tasks = house.client.call(QUERY_TASKS, TaskQuery()).tasks
    assert len(tasks) == 2
    deadline = time.monotonic() + 30
    for task in tasks:
        while counts(house, task.id) != {"0": 100, "1": 100, "2": 100}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert found(house, task.id).status == "completed"


def test_an_id_given_by_a_person_wins(house: House, scripts: Scripts) -> None:
    wanted = "ab" * 16
    code, task, _, err = scripts.run("", TASKLOOM_TASK_ID=wanted)
    assert (code, task) == (0, wanted), err
    assert found(house, wanted).status == "completed"
    code, _, _, err = scripts.run("", TASKLOOM_TASK_ID="not an id")
    assert code == 1
    assert "TASKLOOM_TASK_ID" in err


# --- offline ----------------------------------------------------------------------------------------------

OFFLINE = """
import os, sys
from taskloom import Task
task_id, folder = Task.set_offline(offline_mode=True)
task = Task.init(project_name="examples", task_name="my_task", auto_resource_monitoring=False)
assert (task.id, Task.is_offline(), os.path.isdir(folder)) == (task_id, True, True)
print("id", task.id, flush=True)
for iteration in range(100):
    task.get_logger().report_scalar("loss", "train", 1.0, iteration)
task.connect({"lr": 0.5})
"""


@pytest.fixture
def imported(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("TASKLOOM_URL", house.url)
    monkeypatch.setenv("TASKLOOM_API_KEY", house.key)
    yield house


def test_an_offline_session_is_zipped_and_imported_once(imported: House, alone: Scripts) -> None:
    from taskloom import Task as Public

    code, task, _, err = alone.run("", OFFLINE)
    assert code == 0, err
    archive = alone.data / "offline" / f"{task}.zip"
    assert str(archive) in err
    assert sorted(path.name for path in (alone.data / "offline").iterdir()) == [archive.name]
    for _ in range(2):
        assert Public.import_offline_session(session_folder_zip=str(archive)) == task
        assert counts(imported, task) == {"train": 100}
    ended = found(imported, task)
    assert (ended.name, ended.status, ended.parameters["General"]["lr"].value) == ("my_task", "completed", "0.5")
    assert archive.exists()


def test_an_offline_session_continues_an_earlier_task(imported: House, alone: Scripts) -> None:
    from taskloom import Task as Public

    _, earlier, _, _ = alone.run("", OFFLINE)
    _, later, _, _ = alone.run("", OFFLINE)
    folder = alone.data / "offline"
    Public.import_offline_session(folder / f"{earlier}.zip")
    for _ in range(2):
        again = Public.import_offline_session(
            folder / f"{later}.zip", previous_task_id=earlier, iteration_offset=1500
        )
        assert again == earlier
        assert counts(imported, earlier) == {"train": 200}
    assert found(imported, earlier).last_iteration == 1599
    assert found(imported, earlier).status == "completed"


def test_an_offline_session_that_was_killed_is_imported_from_its_folder(imported: House, alone: Scripts) -> None:
    from taskloom import Task as Public

    _, task, _, _ = alone.run("os.kill(os.getpid(), 9)", OFFLINE)
    folder = alone.data / "offline" / task
    assert folder.is_dir()
    assert Public.import_offline_session(folder) == task
    assert (found(imported, task).status, counts(imported, task)) == ("failed", {"train": 100})

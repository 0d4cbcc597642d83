"""Real scripts in processes of their own: how they end, what their children say, and what stays when killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import House, HouseProcess

from taskloom.domain.task import Task
from taskloom.journal.shipper import pending, ship_all
from taskloom.wire.client import Address
from taskloom.wire.messages import ConsoleQuery, MoveRequest, TaskQuery
from taskloom.wire.operations import ABORT_TASK, GET_CONSOLE, GET_TASK, LIST_SERIES, QUERY_TASKS

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
        self.started: list[subprocess.Popen[str]] = []
        self.environment = {k: v for k, v in environment.items() if not k.startswith(("TASKLOOM_TASK", "RANK"))}
        self.environment |= {"TASKLOOM_DATA": str(self.data), "PYTHONFAULTHANDLER": "1"}

    def start(self, body: str, begin: str = BEGIN, **environment: str) -> subprocess.Popen[str]:
        script = self.folder / "script.py"
        script.write_text(textwrap.dedent(begin) + textwrap.dedent(body))
        process = subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**self.environment, **environment},
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()

    def run(self, body: str, begin: str = BEGIN, **environment: str) -> tuple[int, str, str, str]:
        """Exit status, task id, standard output and standard error."""
        process = self.start(body, begin, **environment)
        out, err = process.communicate(timeout=60)
        ids = [line.split()[1] for line in out.splitlines() if line.startswith("id ")]
        return process.returncode, ids[0] if ids else "", out, err


@pytest.fixture
def scripts(house: House, tmp_path: Path) -> Iterator[Scripts]:
    folder = tmp_path / "machine"
    folder.mkdir()
    made = Scripts(folder, house.environment())
    yield made
    made.end()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Scripts]:
    """A machine without a server."""
    folder = tmp_path / "machine"
    folder.mkdir()
    made = Scripts(folder, {k: v for k, v in os.environ.items() if k not in {"TASKLOOM_URL", "TASKLOOM_API_KEY"}})
    yield made
    made.end()


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
    house: House,
    scripts: Scripts,
    body: str,
    code: int,
    status: str,
    reason: str,
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    returned, task, _, _ = scripts.run(body)
    assert returned == code
    ended = found(house, task)
    assert (ended.status, ended.status_reason) == (status, reason)
    assert counts(house, task) == {"train": 100}
    eventually(lambda: not list((scripts.data / "journal").iterdir()))


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
    begin = (
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: (print('mine', flush=True), sys.exit(7)))\n"
    )
    code, task, out, _ = scripts.run("os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(5)", begin + BEGIN)
    assert (code, "mine" in out.split()) == (7, True)
    assert (found(house, task).status, counts(house, task)) == ("failed", {"train": 100})


@pytest.mark.parametrize(
    "body", ["os._exit(0)", "os.kill(os.getpid(), 9)", "import ctypes; ctypes.memset(8, 0, 64)"]
)
def test_a_process_that_dies_without_a_word_has_failed(
    house: House, scripts: Scripts, body: str, eventually: Callable[[Callable[[], object]], None]
) -> None:
    _, task, _, _ = scripts.run(f"print('last words', flush=True)\ntime.sleep(0.3)\n{body}")
    eventually(lambda: found(house, task).status == "failed")
    assert found(house, task).status_reason == "the process ended without a word (killed?)"
    eventually(lambda: counts(house, task) == {"train": 100})
    eventually(lambda: not list((scripts.data / "journal").iterdir()))


def test_hooks_are_gone_after_close(scripts: Scripts) -> None:
    body = """
        task.close()
        assert sys.excepthook is sys.__excepthook__
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert "TASKLOOM_TASK_ID" not in os.environ and "TASKLOOM_OWNER" not in os.environ
        assert type(sys.exit).__name__ == "builtin_function_or_method"
        log.report_scalar("loss", "late", 1.0, 1)
        log.report_scalar("loss", "train", 1.0, 1)
        print("fine")
    """
    code, _, out, err = scripts.run(body)
    assert (code, "fine" in out) == (0, True), err


# --- no server, a slow one, one that goes -----------------------------------------------------------------


def test_without_a_server_the_journal_waits_and_says_where(alone: Scripts, house: House) -> None:
    code, task, _, err = alone.run("print('hello')")
    assert code == 0
    assert f"waits at {alone.data / 'journal' / task}" in err
    assert "taskloom journal ship" in err
    (waiting,) = pending(alone.data / "journal")
    assert (waiting.task, waiting.rows, waiting.alive) == (task, 100, False)
    (result,) = ship_all(alone.data / "journal", Address(house.url, house.key))
    assert result.outcome == "shipped"
    assert (found(house, task).status, counts(house, task)) == ("completed", {"train": 100})


def test_the_next_run_ships_what_earlier_ones_left(
    alone: Scripts, house: House, eventually: Callable[[Callable[[], object]], None]
) -> None:
    left = [alone.run("")[1] for _ in range(2)]
    killed = alone.run("os.kill(os.getpid(), 9)")[1]
    code, _, _, err = alone.run("", TASKLOOM_URL=house.url, TASKLOOM_API_KEY=house.key)
    assert code == 0, err
    eventually(lambda: not list((alone.data / "journal").iterdir()))
    assert [found(house, task).status for task in (*left, killed)] == ["completed", "completed", "failed"]
    assert counts(house, killed) == {"train": 100}


def test_a_server_that_does_not_answer_changes_nothing_and_the_end_is_bounded(alone: Scripts) -> None:
    started = time.monotonic()
    environment = {"TASKLOOM_URL": "http://127.0.0.1:9", "TASKLOOM_CLOSE_TIMEOUT": "0.5"}
    code, task, _, err = alone.run("", **environment)
    assert code == 0
    assert time.monotonic() - started < 30
    assert "are still to be shipped" in err
    assert str(alone.data / "journal" / task) in err
    for folder in (alone.data / "journal").iterdir():
        _end_companion(folder)


def _end_companion(folder: Path) -> None:
    """The companion would try for minutes; a test does not leave it behind."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"taskloom.journal.shipper" in words and str(folder).encode() in words:
                os.kill(int(process.name), signal.SIGTERM)


def test_a_server_killed_in_the_middle_gets_everything_once(
    house_process: HouseProcess, tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    folder = tmp_path / "machine"
    folder.mkdir()
    scripts = Scripts(folder, house_process.environment())
    body = """
        for number in range(40):
            report(f"s{number}", 500)
            print("line", number, flush=True)
            time.sleep(0.05)
    """
    process = scripts.start(body, TASKLOOM_CLOSE_TIMEOUT="20")
    assert process.stdout is not None
    task = process.stdout.readline().split()[1]
    for wanted in (5, 15):
        while process.stdout.readline().split()[1] != str(wanted):
            pass
        house_process.kill9()
        time.sleep(0.3)
        house_process.start()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    eventually(lambda: found(house_process, task).status == "completed")
    assert counts(house_process, task) == {"train": 100, **{f"s{n}": 500 for n in range(40)}}
    entries = house_process.client.call(GET_CONSOLE, query=ConsoleQuery(), task=task).entries
    text = "".join(entry.text for entry in entries if entry.stream == "stdout")
    assert text.splitlines()[1:] == [f"line {number}" for number in range(40)]
    assert "line 39" in out


def test_an_abort_ends_the_script(house: House, scripts: Scripts) -> None:
    process = scripts.start("time.sleep(60)")
    assert process.stdout is not None
    task = process.stdout.readline().split()[1]
    deadline = time.monotonic() + 30
    while True:
        try:
            house.client.call(ABORT_TASK, MoveRequest(reason="enough"), task=task)
            break
        except LookupError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert found(house, task).status == "aborted"


def test_a_data_folder_that_cannot_be_written_does_not_stop_the_script(alone: Scripts) -> None:
    (alone.folder / "data").write_text("a file is in the way")
    code, task, out, err = alone.run("print('went on')")
    assert (code, "went on" in out) == (0, True), err
    assert task
    assert "cannot be written" in err


# --- children ---------------------------------------------------------------------------------------------


def test_forks_write_their_own_journals_into_the_one_task(house: House, scripts: Scripts) -> None:
    body = """
        children = []
        for number in range(4):
            pid = os.fork()
            if pid == 0:
                report(f"fork {number}", 500)
                assert Task.current_task().id == task.id
                os._exit(0)
            children.append(pid)
        report("parent", 500)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
    """
    code, task, _, err = scripts.run(body)
    assert code == 0, err
    assert counts(house, task) == {"train": 100, "parent": 500, **{f"fork {n}": 500 for n in range(4)}}
    assert found(house, task).status == "completed"


def test_a_fork_that_ends_like_a_script_does_not_end_the_task(house: House, scripts: Scripts) -> None:
    body = """
        for ending in ("sys.exit(3)", "raise ValueError", ""):
            pid = os.fork()
            if pid == 0:
                exec(ending)
                sys.exit(0)
            os.waitpid(pid, 0)
        report("after")
    """
    code, task, _, err = scripts.run(body)
    assert code == 0, err
    assert found(house, task).status == "completed"
    assert counts(house, task) == {"train": 100, "after": 100}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_write_into_the_one_task(
    house: House, scripts: Scripts, method: str, eventually: Callable[[Callable[[], object]], None]
) -> None:
    begin = """
        import multiprocessing
        from taskloom import Logger, Task
        def work(number):
            log = Logger.current_logger()
            for iteration in range(200):
                log.report_scalar("loss", f"worker {number}", 1.0, iteration)
            return Task.current_task().id
        if __name__ == "__main__":
            task = Task.init(project_name="examples", task_name="a script", auto_resource_monitoring=False)
            print("id", task.id, flush=True)
            with multiprocessing.get_context(METHOD).Pool(3) as pool:
                assert set(pool.map(work, range(3))) == {task.id}
    """.replace("METHOD", repr(method))
    code, task, _, err = scripts.run("", begin)
    assert code == 0, err
    eventually(lambda: counts(house, task) == {f"worker {n}": 200 for n in range(3)})
    assert found(house, task).status == "completed"


def test_a_subprocess_that_calls_init_works_for_its_parent(
    house: House, scripts: Scripts, eventually: Callable[[Callable[[], object]], None]
) -> None:
    helper = scripts.folder / "helper.py"
    helper.write_text(
        "from taskloom import Task\n"
        "task = Task.init(project_name='other project', task_name='other name')\n"
        "for i in range(50): task.get_logger().report_scalar('loss', 'helper', 1.0, i)\n"
        "task.close()\n"
        "print('helper', task.id, task.name)\n"
    )
    body = "subprocess.run([sys.executable, 'helper.py'], check=True)\nreport('after')"
    code, task, out, err = scripts.run(body)
    assert code == 0, err
    assert f"helper {task} a script" in out
    eventually(lambda: counts(house, task) == {"train": 100, "helper": 50, "after": 100})
    assert len(house.client.call(QUERY_TASKS, TaskQuery()).tasks) == 1


def test_ranks_of_one_launcher_share_a_task(house: House, scripts: Scripts) -> None:
    """What torchrun gives its ranks; rank 0 owns the task, whoever comes first."""
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

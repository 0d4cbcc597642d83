"""A task on a real worker: it runs, says what it does, ends once; what goes wrong is named in its reason."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from taskloom.domain.execution import Execution
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op


def test_a_script_runs_and_its_console_arrives(field: Any) -> None:
    field.worker()
    task = field.script("import sys\nprint('hello from the script')\nprint('and trouble', file=sys.stderr)\n")
    ended = field.ended(task)
    assert (ended.status, ended.status_reason, ended.worker, ended.attempt) == (Status.COMPLETED, "", "w1", 1)
    assert field.console(task, "stdout") == "hello from the script\n"
    assert field.console(task, "stderr") == "and trouble\n"
    assert "running" in field.console(task, "report")
    assert list((field.folder / "w1" / "worker" / "w1" / "attempts").iterdir()) == []


def test_the_child_learns_what_the_contract_says_and_no_key_of_the_worker(field: Any) -> None:
    field.worker()
    task = field.script(
        "import os, sys, msgspec\n"
        "print({k: v for k, v in os.environ.items() if k.startswith('TASKLOOM_')})\n"
        "data = msgspec.msgpack.decode(open(os.environ['TASKLOOM_TASK_FILE'], 'rb').read())\n"
        "print('claimed', data['id'], data['name'])\n"
        "print(os.environ['COLOUR'], os.environ['PYTHONUNBUFFERED'], sys.argv[1:])\n",
        variables={"COLOUR": "green"},
        arguments=("--lr", "0.5", "a b; rm -rf /"),
    )
    assert field.ended(task).status is Status.COMPLETED
    said = field.console(task, "stdout")
    assert f"claimed {task} a task" in said
    assert "green 1 ['--lr', '0.5', 'a b; rm -rf /']" in said
    for name in ("TASK_ID", "TASK_FILE", "LEASE", "JOURNAL", "URL", "API_KEY", "DATA"):
        assert f"'TASKLOOM_{name}'" in said
    assert field.house.key not in said
    assert field.house.key not in field.console(task)


def test_a_command_and_setup_lines_run_without_a_repository(field: Any) -> None:
    field.worker()
    task = field.enqueue(
        Execution(command=("sh", "-c", "cat made; echo $0 done"), setup="echo prepared > made\nexport X=1\n")
    )
    assert field.ended(task).status is Status.COMPLETED
    assert field.console(task, "stdout") == "prepared\nsh done\n"


def test_slots_run_side_by_side(field: Any, tmp_path: Path) -> None:
    field.worker("w1", "--slots", "3")
    wait = (
        "import os, pathlib, sys, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "(folder / f'here-{os.getpid()}').touch()\n"
        "while len(list(folder.glob('here-*'))) < 3: time.sleep(0.02)\n"
    )
    tasks = [field.script(wait) for _ in range(3)]  # each waits for the two others
    assert [field.ended(task).status for task in tasks] == [Status.COMPLETED] * 3


REFUSED = [
    (Execution(diff="import sys; sys.exit(7)", entry_point="s.py"), "exit code 7"),
    (Execution(diff="import os; os.kill(os.getpid(), 9)", entry_point="s.py"), "killed by signal 9"),
    (Execution(), "neither a repository nor a script"),
    (Execution(command=("no-such-program",)), "no-such-program"),
    (
        Execution(command=("true",), setup="echo broken; false; echo more"),
        "the setup lines failed: exit code 1",
    ),
    (Execution(diff="1", entry_point="../../out.py"), "leads out of the workspace"),
    (Execution(diff="1", entry_point="s.py", working_dir="../.."), "leads out of the workspace"),
    (Execution(diff="1", entry_point="-m os; x"), "expected '-m package.module'"),
    (Execution(command=("true",), variables={"LD_PRELOAD": "x.so"}), "LD_PRELOAD"),
    (Execution(command=("true",), variables={"PYTHONSTARTUP": "x"}), "PYTHONSTARTUP"),
    (Execution(command=("true",), variables={"TASKLOOM_API_KEY": "x"}), "TASKLOOM_API_KEY"),
    (Execution(command=("true",), variables={"A B": "x"}), "'A B'"),
    (Execution(repository="ext::sh -c touch% /tmp/x", commit="a" * 40, entry_point="s.py"), "ext::sh"),
    (Execution(repository="--upload-pack=touch x", commit="a" * 40, entry_point="s.py"), "not an address"),
]


def test_what_cannot_run_fails_with_a_reason_that_names_it(field: Any) -> None:
    field.worker("w1", "--slots", "3")
    tasks = [(field.enqueue(execution), reason) for execution, reason in REFUSED]
    for task, reason in tasks:
        ended = field.ended(task)
        assert (ended.status, reason in ended.status_reason) == (Status.FAILED, True), (
            reason,
            ended.status_reason,
        )


def test_what_the_script_left_running_is_ended_with_it(field: Any) -> None:
    field.worker()
    task = field.script("import subprocess; subprocess.Popen(['setsid', 'sleep', '600']); print('left one')")
    assert field.ended(task).status is Status.COMPLETED
    assert field.processes(task) == []


STUBBORN = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
print("begun", flush=True)
while True:
    time.sleep(0.1)
"""


def test_an_abort_ends_a_stubborn_tree(field: Any) -> None:
    field.worker()
    task = field.script(STUBBORN)
    field.until_says(task, "begun")
    assert len(field.processes(task)) >= 2
    field.client.call(op.ABORT_TASK, m.MoveRequest(reason="enough"), task=task)
    ended = field.ended(task)
    assert (ended.status, ended.status_reason) == (Status.ABORTED, "enough")
    assert field.processes(task) == []


def test_an_abort_lets_a_script_say_its_last_words(field: Any) -> None:
    field.worker()
    task = field.script(
        "import signal, sys, time\n"
        "def last(*_):\n    print('last words'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, last)\n"
        "print('begun')\n"
        "while True: time.sleep(0.1)\n"
    )
    field.until_says(task, "begun")
    field.client.call(op.ABORT_TASK, m.MoveRequest(), task=task)
    assert field.ended(task).status is Status.ABORTED
    assert "last words" in field.console(task, "stdout")


def test_binary_and_large_output_arrives_whole(field: Any) -> None:
    field.worker()
    task = field.script(
        "import sys\n"
        "sys.stdout.buffer.write(b'\\xff\\x00\\x1b[31mred\\n')\n"
        "for n in range(50_000): print(f'line {n}')\n"
    )
    assert field.ended(task).status is Status.COMPLETED
    said = field.console(task, "stdout")
    assert said.endswith("line 49999\n")
    assert said.count("\n") == 50_001


def test_what_the_script_recorded_is_there_and_its_own_word_counts(field: Any) -> None:
    field.worker()
    task = field.script(
        "from taskloom import Task\n"
        "task = Task.init(project_name='elsewhere', task_name='another name')\n"
        "for n in range(10): task.get_logger().report_scalar('loss', 'train', 1.0 / (n + 1), n)\n"
        "print('trained', task.id)\n"
        "raise ValueError('out of luck')\n"
    )
    ended = field.ended(task)
    assert ended.status is Status.FAILED
    assert "ValueError" in ended.status_reason + ended.status_message
    assert [(s.title, s.series, s.count) for s in ended.metrics if s.title == "loss"] == [("loss", "train", 10)]
    assert f"trained {task}" in field.console(task, "stdout")
    assert ended.name == "a task"


def test_a_second_worker_of_the_same_name_is_refused(field: Any) -> None:
    field.worker("w1")
    with pytest.raises(AssertionError, match="runs already"):
        field.worker("w1")


def test_an_orderly_stop_gives_running_tasks_back_and_leaves_nothing(field: Any) -> None:
    first = field.worker("w1")
    task = field.script("import time; print('begun'); time.sleep(600)")
    field.until_says(task, "begun")
    assert first.stop(signal.SIGINT) == 130
    back = field.get(task)
    assert (back.status, back.status_reason) == (Status.PENDING, "the worker was stopped")
    assert field.processes(task) == []
    assert field.client.call(op.LIST_WORKERS).workers == []


def test_a_drain_timeout_lets_running_tasks_end(field: Any, tmp_path: Path) -> None:
    worker = field.worker("w1", "--drain-timeout", "60")
    go = tmp_path / "go"
    task = field.script(
        f"import os, time; print('begun')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)"
    )
    field.until_says(task, "begun")
    waiting = field.script("print('never here')")
    worker.process.terminate()
    time.sleep(0.2)
    go.touch()
    assert worker.process.wait(60) == 0
    assert field.get(task).status is Status.COMPLETED
    assert field.get(waiting).status is Status.PENDING


def test_usage_errors_have_their_own_messages(field: Any) -> None:
    for words, text in (
        (("--slots", "0"), "slots 0"),
        (("--lease", "1"), "lease 1"),
        (("--packages", "guess"), "guess"),
        (("--name", "../up"), "../up"),
    ):
        with pytest.raises(AssertionError, match=text) as refused:
            field.worker("w1", *words)
        assert "exit code 2" in str(refused.value)
    assert os.path.exists(field.folder / "w1" / "worker.log")

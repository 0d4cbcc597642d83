"""The product, told in runs: real scripts, a real server, real workers, really killed.

Each folder beside this file holds what goes in and, where it says much, what has to come out.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.scenarios.stage import HERE, Stage, wait_for

from taskloom.domain.parameters import Parameter
from taskloom.domain.task import TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as ops


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(stage: Stage, script: Path) -> Path:
    """A clone with a remote, holding the script: what people have."""
    bare = stage.work / "remote.git"
    git(stage.work, "init", "-q", "--bare", str(bare))
    clone = stage.work / "clone"
    git(stage.work, "clone", "-q", str(bare), str(clone))
    shutil.copy(script, clone / "train.py")
    (clone / "settings.txt").write_text("committed\n")
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "first")
    git(clone, "push", "-q", "origin", "HEAD")
    return clone / "train.py"


def expected(folder: str) -> dict[str, Any]:
    return json.loads((HERE / folder / "expected.json").read_text())


def test_a_script_is_recorded_cloned_edited_and_run_by_a_worker(stage: Stage) -> None:
    stage.serve()
    script = repository(stage, HERE / "01_recorded" / "train.py")
    script.write_text(script.read_text() + "\nprint('an uncommitted line')\n")
    done = stage.run(script, "--lr", "0.1")
    assert done.returncode == 0, done.stderr.decode()
    assert b"epoch 2 with lr 0.1 hidden 16" in done.stdout

    recorded = stage.only_task("scenario/recorded")
    wanted = expected("01_recorded")
    assert stage.state(recorded.id, wanted["console"]) == wanted
    assert recorded.execution.commit == git(script.parent, "rev-parse", "HEAD")
    assert recorded.execution.entry_point == "train.py"
    assert "an uncommitted line" in recorded.execution.diff

    clone = stage.client.call(ops.CLONE_TASK, m.TaskClone(), task=recorded.id)
    assert clone.status == "draft"
    edit = TaskEdit(
        parameters={"Args": {"lr": Parameter("0.5", "float")}, "General": {"hidden": Parameter("32", "int")}}
    )
    stage.client.call(ops.EDIT_TASK, m.TaskEditRequest(edit=edit), task=clone.id)
    stage.client.call(ops.ENQUEUE_TASK, m.Enqueue(queue="default"), task=clone.id)
    stage.worker("first")
    stage.ended(clone.id)
    wanted = expected("02_cloned_and_run")
    assert stage.state(clone.id, wanted["console"]) == wanted, stage.console(clone.id)
    assert "an uncommitted line" in stage.console(clone.id)
    assert stage.task(recorded.id).parameters == recorded.parameters


def test_a_killed_training_process_loses_nothing_that_a_call_returned_from(stage: Stage) -> None:
    stage.serve()
    points = 20_000
    done = stage.run(HERE / "03_training_killed" / "train.py", str(points))
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    task = stage.only_task("scenario/killed")
    task = stage.ended(task.id)
    assert task.status == "failed"
    assert task.status_reason
    for series in ("thread 0", "thread 1", "child"):
        got = stage.points(task.id, "loss", series)
        assert got.iteration == list(range(points)), series
        assert got.value == [step / 7 for step in range(points)], series
    assert "the last line before the end" in stage.console(task.id)


def test_a_killed_worker_gives_its_task_back_and_no_two_run_it_at_once(stage: Stage) -> None:
    stage.serve()
    script = repository(stage, HERE / "04_worker_killed" / "train.py")
    assert stage.run(script).returncode == 0
    recorded = stage.only_task("scenario/worker")
    gate, log = stage.work / "gate", stage.work / "log"
    clone = stage.client.call(ops.CLONE_TASK, m.TaskClone(), task=recorded.id)
    edit = TaskEdit(parameters={"Args": {"gate": Parameter(str(gate), "str"), "log": Parameter(str(log), "str")}})
    stage.client.call(ops.EDIT_TASK, m.TaskEditRequest(edit=edit), task=clone.id)
    stage.client.call(ops.ENQUEUE_TASK, m.Enqueue(), task=clone.id)

    first = stage.worker("first")
    wait_for(log.exists, "the first attempt", stage.console_tail(clone.id))
    first.kill()
    first.wait()
    stage.worker("second")
    wait_for(lambda: log.read_text().count("begun") == 2, "the second attempt", stage.console_tail(clone.id))
    gate.touch()
    task = stage.ended(clone.id)
    assert (task.status, task.attempt) == ("completed", 2)
    assert log.read_text().split() == ["begun", "begun", "ended"]
    assert stage.points(clone.id, "loss", "train").iteration[-1] == 999


def test_a_server_killed_in_the_middle_keeps_what_it_acknowledged_and_gets_the_rest_once(stage: Stage) -> None:
    server = stage.serve()
    run = stage.start(str(HERE / "05_server_away" / "train.py"), "5000", "0.05")
    wait_for(
        lambda: any(
            s.count
            for t in stage.client.call(ops.QUERY_TASKS, m.TaskQuery()).tasks
            for s in stage.task(t.id).metrics
        ),
        "the first points",
    )
    for _ in range(3):
        server.kill()
        server.wait()
        server = stage.serve()
    assert run.wait(60) == 0
    task = stage.only_task("scenario/away")
    task = stage.ended(task.id)
    assert task.status == "completed"
    got = stage.points(task.id, "loss", "train")
    assert got.iteration == list(range(5000))
    assert got.value == [step * 0.5 for step in range(5000)]


def test_without_a_server_the_script_runs_and_its_journal_waits(stage: Stage) -> None:
    done = stage.run(HERE / "05_server_away" / "train.py", "300", "0")
    assert done.returncode == 0, done.stderr.decode()
    assert b"done with 300 points" in done.stdout
    stage.serve()
    stage.command("journal", "ship")
    stage.command("journal", "ship")
    task = stage.only_task("scenario/away")
    assert task.status == "completed"
    assert stage.points(task.id, "loss", "train").iteration == list(range(300))
    assert [a.name for a in task.artifacts] == ["summary"]
    assert stage.console(task.id).count("done with 300 points") == 1


def test_an_offline_session_is_imported_and_imported_again_without_doubling(stage: Stage) -> None:
    stage.serve()
    train = HERE / "05_server_away" / "train.py"
    assert stage.run(train, "100", "0").returncode == 0
    earlier = stage.ended(stage.only_task("scenario/away").id)

    script = stage.work / "offline.py"
    script.write_text(train.read_text().replace("task = Task.init", "Task.set_offline(True)\ntask = Task.init"))
    assert stage.run(script, "200", "0").returncode == 0
    assert len(stage.client.call(ops.QUERY_TASKS, m.TaskQuery()).tasks) == 1
    (session,) = (stage.data / "offline").glob("*.zip")
    for _ in range(2):
        stage.command("journal", "import", str(session))
    for _ in range(2):
        offset = ["--previous-task-id", earlier.id, "--iteration-offset", "1000"]
        stage.command("journal", "import", str(session), *offset)

    assert stage.points(earlier.id, "loss", "train").iteration == [*range(100), *range(1000, 1200)]
    imported = [t for t in stage.client.call(ops.QUERY_TASKS, m.TaskQuery()).tasks if t.id != earlier.id]
    assert [(t.status, t.name) for t in imported] == [("completed", "server away")]
    assert stage.points(imported[0].id, "loss", "train").iteration == list(range(200))


@pytest.mark.parametrize(
    ("how", "code", "status", "words"),
    [
        ("return", 0, "completed", ""),
        ("exit 0", 0, "completed", ""),
        ("exit 3", 3, "failed", "3"),
        ("exception", 1, "failed", "the reason that people look for"),
        ("SIGTERM", -signal.SIGTERM, "aborted", ""),
        ("SIGINT", -signal.SIGINT, "aborted", ""),
        ("own handler", 7, "failed", "7"),
        ("_exit", 0, "failed", ""),
    ],
)
def test_a_script_ends_as_it_ended(stage: Stage, how: str, code: int, status: str, words: str) -> None:
    stage.serve()
    done = stage.run(HERE / "06_ends" / "train.py", how)
    assert done.returncode == code, done.stderr.decode()
    task = stage.ended(stage.only_task("scenario/ends").id)
    assert task.status == status
    assert words in task.status_reason + task.status_message


@pytest.mark.parametrize(
    ("script", "line", "edits", "said"),
    [
        ("parsed_first.py", ["images", "--lr", "0.2"], {"lr": Parameter("0.7", "float")}, "read images 0.7"),
        ("unparsed.py", ["a b", "--x"], {}, "read a b --x"),
    ],
)
def test_a_command_line_reaches_the_worker(
    stage: Stage, script: str, line: list[str], edits: dict[str, Parameter | None], said: str
) -> None:
    stage.serve()
    place = repository(stage, HERE / "07_command_lines" / script)
    assert stage.run(place, *line).returncode == 0
    recorded = stage.ended(stage.only_task("scenario/lines").id)
    assert recorded.execution.arguments == tuple(line)
    clone = stage.client.call(ops.CLONE_TASK, m.TaskClone(), task=recorded.id)
    edit = m.TaskEditRequest(edit=TaskEdit(parameters={"Args": edits}))
    stage.client.call(ops.EDIT_TASK, edit, task=clone.id)
    stage.client.call(ops.ENQUEUE_TASK, m.Enqueue(), task=clone.id)
    stage.worker("only")
    assert stage.ended(clone.id).status == "completed", stage.console(clone.id)
    assert said in stage.console(clone.id)


def test_a_command_line_with_a_secret_is_not_kept(stage: Stage) -> None:
    stage.serve()
    done = stage.run(HERE / "07_command_lines" / "secret.py", "--api-key", "hush-hush-42")
    assert done.returncode == 0
    task = stage.ended(stage.only_task("scenario/lines").id)
    assert task.execution.arguments == ()
    assert "hush-hush-42" not in msgspec.json.encode(task).decode()


def test_a_task_that_cannot_be_prepared_fails_with_the_reason(stage: Stage) -> None:
    stage.serve()
    stage.worker("only")
    missing = stage.work / "no-such-repository"
    reasons = {
        "a repository that is not there": ({"repository": str(missing), "entry_point": "x.py"}, str(missing)),
        "a diff that does not apply": (
            {
                "repository": str(repository(stage, HERE / "06_ends" / "train.py").parent),
                "commit": git(stage.work / "clone", "rev-parse", "HEAD"),
                "entry_point": "train.py",
                "diff": "diff --git a/settings.txt b/settings.txt\n--- a/settings.txt\n+++ b/settings.txt\n"
                "@@ -1 +1 @@\n-something else\n+new\n",
            },
            "settings.txt",
        ),
        "a package that does not exist": (
            {"entry_point": "x.py", "diff": "print(1)\n", "packages": "no-such-package-at-all==1.0\n"},
            "no-such-package-at-all",
        ),
    }
    for name, (execution, words) in reasons.items():
        task = stage.client.call(ops.CREATE_TASK, m.TaskCreate(name=name, project="scenario/reasons"))
        edit = m.TaskEditRequest(edit=TaskEdit(execution=execution))
        stage.client.call(ops.EDIT_TASK, edit, task=task.id)
        stage.client.call(ops.ENQUEUE_TASK, m.Enqueue(), task=task.id)
        ended = stage.ended(task.id)
        assert ended.status == "failed", name
        assert words in ended.status_reason + ended.status_message, (
            name,
            ended.status_reason,
            ended.status_message,
        )


def test_an_abort_ends_a_stubborn_tree(stage: Stage) -> None:
    stage.serve()
    stage.worker("only")
    pids = stage.work / "pids"
    script = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "code = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'\n"
        "child = subprocess.Popen([sys.executable, '-c', code], start_new_session=True)\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}} ')\n"
        "print('stubborn', flush=True)\n"
        "time.sleep(600)\n"
    )
    task = stage.client.call(ops.CREATE_TASK, m.TaskCreate(name="stubborn", project="scenario/abort"))
    edit = m.TaskEditRequest(edit=TaskEdit(execution={"entry_point": "x.py", "diff": script}))
    stage.client.call(ops.EDIT_TASK, edit, task=task.id)
    stage.client.call(ops.ENQUEUE_TASK, m.Enqueue(), task=task.id)
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2, "the tree", stage.console_tail(task.id))
    stage.client.call(ops.ABORT_TASK, m.MoveRequest(reason="enough"), task=task.id)
    assert stage.ended(task.id).status == "aborted"
    for pid in pids.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_two_workers_share_many_tasks_and_each_is_run_once(stage: Stage) -> None:
    stage.serve()
    log = stage.work / "log"
    ids: list[str] = []
    for n in range(12):
        script = f"open({str(log)!r}, 'a').write('{n}\\n')\n"
        task = stage.client.call(ops.CREATE_TASK, m.TaskCreate(name=f"number {n}", project="scenario/many"))
        edit = m.TaskEditRequest(edit=TaskEdit(execution={"entry_point": "x.py", "diff": script}))
        stage.client.call(ops.EDIT_TASK, edit, task=task.id)
        stage.client.call(ops.ENQUEUE_TASK, m.Enqueue(), task=task.id)
        ids.append(task.id)
    stage.worker("first", "--slots", "2")
    stage.worker("second", "--slots", "2")
    for task_id in ids:
        assert stage.ended(task_id).status == "completed", stage.console(task_id)
    assert sorted(map(int, log.read_text().split())) == list(range(12))

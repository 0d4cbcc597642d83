"""The task files of `examples/` as a person runs them: `taskloom run ... --follow`, a real server, a real worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op

ROOM = Path(__file__).parents[3] / "examples" / "09-task-files"


def taskloom(field: Any, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taskloom.cli.main", *words],
        env=field.house.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_folders_repositories_and_copies_run_and_are_followed_to_their_end(field: Any, tmp_path: Path) -> None:
    field.worker("w1")

    def followed(*words: str) -> str:
        ran = taskloom(field, "run", *words, "--follow")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    assert "4 the\n" in followed(str(ROOM / "from-a-folder"))

    words = ("--project", "fits", "--param", "learning_rate=5e-1", "--param", "slope=3")
    fitted = followed(str(ROOM / "typed-parameters"), *words)
    assert "with learning_rate 0.5" in fitted
    assert "loss" not in fitted
    again = followed("fits/fit a line", "--param", "learning_rate=0.25", "--param", "verbose=true")
    assert "with learning_rate 0.25" in again
    assert "step 150" in again

    made = subprocess.run(
        [sys.executable, ROOM / "from-git" / "make_repository.py", tmp_path / "greetings"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    greeted = followed(
        made.stdout.strip(), "--branch", "main", "--directory", "tasks/greet", "--env", "GREETING=hi"
    )
    assert "hi from a repository" in greeted
    task = field.client.call(op.QUERY_TASKS, m.TaskQuery(name="greet from git")).tasks[0]
    assert f"checking out {task.execution.commit}" in field.console(task.id)


def test_the_exit_code_of_a_followed_run_is_that_of_its_end(field: Any, tmp_path: Path) -> None:
    field.worker("w1")
    broken = taskloom(field, "run", "--run", "echo so far && exit 3", "--name", "breaks", "--follow")
    assert broken.returncode == 1
    assert "so far" in broken.stdout
    unready = taskloom(
        field, "run", "--run", "echo never", "--setup", "echo first; false", "--name", "unready", "--follow"
    )
    assert unready.returncode == 1
    assert "first" in unready.stdout
    assert "never" not in unready.stdout.splitlines()  # but for the line that tells what is run


def test_a_task_file_may_call_a_tag_its_branch(field: Any, repository: Path, git: Any, tmp_path: Path) -> None:
    git(repository, "tag", "v1")
    (repository / "train.py").write_text("print('second')\n")
    git(repository, "commit", "--quiet", "--all", "--message", "second")
    (tmp_path / "task.yaml").write_text(
        f"name: of a tag\nrun: python train.py\ngit_repo: {repository.as_uri()}\ngit_repo_branch: v1\n"
    )
    field.worker("w1")
    ran = taskloom(field, "run", str(tmp_path / "task.yaml"), "--follow")
    assert (ran.returncode, "first\n" in ran.stdout, "second" in ran.stdout) == (0, True, False), ran.stderr


def test_secrets_reach_the_run_and_no_console(field: Any) -> None:
    field.worker("w1")
    missing = taskloom(field, "run", str(ROOM / "secrets"))
    assert missing.returncode == 1
    assert "EXAMPLE_TOKEN" in missing.stderr
    assert "EXAMPLE_PASSWORD" in missing.stderr
    for name, value in (("EXAMPLE_TOKEN", "hush-hush-hush"), ("EXAMPLE_PASSWORD", "sesame-open")):
        field.client.call(op.PUT_SECRET, m.SecretPut(value=value), name=name)
    ran = taskloom(field, "run", str(ROOM / "secrets"), "--follow")
    assert ran.returncode == 0, ran.stderr
    assert "the token is **************\n" in ran.stdout
    assert "the password has 11 characters" in ran.stdout
    assert "hush-hush" not in ran.stdout


def test_a_sweep_runs_every_combination(field: Any) -> None:
    field.worker("w1", "--slots", "3")
    words = ("run", str(ROOM / "sweep"), "--project", "swept", "--json", "--time-limit", "5m")
    parent = json.loads(taskloom(field, *words).stdout)["id"]
    assert field.ended(parent).status is Status.COMPLETED
    children = field.client.call(op.QUERY_TASKS, m.TaskQuery(project="swept", limit=100)).tasks
    tried = {
        (child.parameters["General"]["learning_rate"].value, child.parameters["General"]["momentum"].value)
        for child in children
        if child.parent == parent
    }
    assert tried == {(rate, momentum) for rate in ("0.01", "0.1", "0.5") for momentum in ("0.0", "0.9")}


def test_a_service_and_a_run_with_checkpoints_share_a_worker(field: Any) -> None:
    def queued(*words: str) -> str:
        return str(json.loads(taskloom(field, "run", *words, "--json").stdout)["id"])

    service = queued(str(ROOM / "service"), "--param", "seconds=0.5")
    counted = queued(str(ROOM / "preemptible"), "-P", "until=3", "-P", "pause=0")
    field.worker("w1", "--slots", "2")
    for task, told in ((service, "new: watch.py"), (counted, "from 0\ncounted to 3\n")):
        assert field.ended(task).status is Status.COMPLETED
        assert told in field.console(task)

"""`taskloom run`, `init` and `validate`: from a folder, a file, flags or a task to a draft in a queue."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskloom.domain.execution import Resources, Retries
from taskloom.domain.parameters import Parameter
from taskloom.domain.status import Status
from taskloom.domain.taskfile import parse
from taskloom.wire import operations as op

FILE = """\
name: digits
description: reads digits
envs: {A: 1}
resources: {cpus: 2}
run: python train.py
parameters:
  lr: {type: float, default: 0.1, min: 0}
  epochs: 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "digits-code"
    place.mkdir()
    (place / "task.yaml").write_text(FILE)
    (place / "train.py").write_text("print('hello')\n")
    return place


@pytest.fixture(autouse=True)
def _queue(house: Any) -> None:
    from taskloom.wire import messages as m

    house.client.call(op.CREATE_QUEUE, m.QueueCreate(name="gpu"))


def fetch(house: Any, ran: Any) -> Any:
    assert ran.code == 0, ran.err
    return house.client.call(op.GET_TASK, task=ran.json["id"])


def test_a_folder_becomes_a_task_in_a_queue(taskloom: Any, house: Any, folder: Path) -> None:
    ran = taskloom("run", str(folder), "--queue", "gpu", "--param", "lr=1e-4", "--env", "B=two", "--json")
    task = fetch(house, ran)
    assert (task.name, task.project, task.comment) == ("digits", "digits-code", "reads digits")
    assert (task.status, task.queue_name) == (Status.PENDING, "gpu")
    assert task.execution.run == "python train.py"
    assert task.execution.variables == {"A": "1", "B": "two"}
    assert task.parameters["General"]["lr"] == Parameter("0.0001", "float", given=True)
    assert task.parameters["General"]["epochs"] == Parameter("3", "int")
    assert task.configuration["task.yaml"].value == FILE
    assert task.runtime["source"]["folder"] == "digits-code"
    assert house.client.call(op.BLOB_STATUS, digest=task.execution.files).complete
    assert "2 files" in ran.err


def test_equal_folders_are_uploaded_once(taskloom: Any, house: Any, folder: Path) -> None:
    (folder / "data.bin").write_bytes(bytes(range(256)) * 2000)
    first = taskloom("run", str(folder), "--draft", "--json")
    again = taskloom("run", str(folder / "task.yaml"), "--draft", "--json")
    assert "uploaded as" in first.err
    assert "the server has them already" in again.err
    assert fetch(house, first).execution.files == fetch(house, again).execution.files


def test_a_task_is_run_again_with_other_values(taskloom: Any, house: Any, folder: Path) -> None:
    draft = fetch(house, taskloom("run", str(folder), "--draft", "--json"))
    assert draft.status is Status.DRAFT
    again = fetch(
        house, taskloom("run", draft.id[:8], "-P", "epochs=9", "-E", "A=x", "--cpus", "4", "-t", "t", "--json")
    )
    assert (again.name, again.status, again.parent) == ("digits", Status.PENDING, draft.id)
    assert again.parameters["General"]["epochs"] == Parameter("9", "int", given=True)
    assert again.execution.variables == {"A": "x"}
    assert again.execution.resources.cpus == 4
    assert again.execution.files == draft.execution.files
    assert again.tags == ("t",)
    by_name = taskloom("run", "digits-code/digits", "-P", "epoch=9")
    assert by_name.code == 1
    assert "no parameter 'epoch'; did you mean 'epochs'?" in by_name.err
    assert "expected a number from 0" in taskloom("run", draft.id, "-P", "lr=-1").err
    assert house.client.call(op.GET_TASK, task=draft.id).status is Status.DRAFT


def test_a_recorded_task_is_run_again_with_parameters_of_any_section(
    taskloom: Any, house: Any, finished: Any
) -> None:
    script = finished("recorded", lr=0.5)
    again = fetch(house, taskloom("run", script.task, "-P", "Args/lr=0.25", "--json"))
    assert again.parameters["Args"]["lr"].value == "0.25"
    assert "did you mean 'Args/lr'?" in taskloom("run", script.task, "-P", "Args/lrr=1").err
    assert "expected a number" in taskloom("run", script.task, "-P", "Args/lr=many").err


def test_every_option_changes_this_run_alone(taskloom: Any, house: Any, folder: Path) -> None:
    options = ["--name", "another", "--project", "shelf/own", "--tag", "a", "--tag", "b", "--run", "echo", "--setup", "",
               "--image", "python:3.12", "--memory", "16GB", "--disk", "5", "--accelerators", "A100:2", "--priority", "7",
               "--preemptible", "--retries", "2", "--time-limit", "90m"]  # fmt: skip
    task = fetch(house, taskloom("run", str(folder), *options, "--json"))
    assert (task.name, task.project, task.tags) == ("another", "shelf/own", ("a", "b"))
    execution = task.execution
    assert (execution.run, execution.image, execution.priority, execution.preemptible) == (
        "echo",
        "python:3.12",
        7,
        True,
    )
    assert execution.resources == Resources(2.0, 16 * 10**9, 5 * 10**9, 2, "A100")
    assert (execution.retries, execution.time_limit) == (Retries(failed=2), 5400)
    assert (folder / "task.yaml").read_text() == FILE
    shown = taskloom("task", "show", task.id).out
    for told in (
        "2 cpus, 16.0 GB memory, 5.0 GB disk, 2 GPUs A100",
        "1 h 30 min",
        "2 after a failure",
        "preemptible",
    ):
        assert told in shown


def test_what_is_wrong_is_said_before_anything_is_sent(taskloom: Any, house: Any, folder: Path) -> None:
    def told(*words: str) -> str:
        ran = taskloom("run", str(folder), *words)
        assert ran.code == 1, ran.out
        return ran.err

    assert "no parameter 'learning_rat'" in told("-P", "learning_rat=1")
    assert "did you mean 'epochs'?" in told("-P", "ephocs=1")
    assert "parameter lr: expected a number from 0, got" in told("-P", "lr=-1")
    assert "--memory: expected gigabytes" in told("--memory", "lots")
    assert "--env LD_PRELOAD: not for a task to set" in told("-E", "LD_PRELOAD=x")
    (folder / "task.yaml").write_text("name: digits\nscript: x\n")
    assert f"{folder / 'task.yaml'}:2:1: script: no such field; the shell text is called `run`" in told()
    assert house.client.call(op.LIST_PROJECTS).projects == []


def test_a_value_that_is_needed_is_asked_of_the_command_line(taskloom: Any, house: Any, folder: Path) -> None:
    (folder / "task.yaml").write_text("name: digits\nrun: x\nparameters: {data: {type: string, required: true}}\n")
    ran = taskloom("run", str(folder))
    assert (ran.code, "parameter data needs a value: --param data=..." in ran.err) == (1, True)
    assert fetch(house, taskloom("run", str(folder), "-P", "data=mnist", "--json")).status is Status.PENDING
    assert fetch(house, taskloom("run", str(folder), "--draft", "--json")).status is Status.DRAFT


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(taskloom: Any, house: Any, folder: Path) -> None:
    plan = taskloom("run", str(folder), "-P", "epochs=5", "--dry-run", "--json").json
    assert plan["names"] == ["task.yaml", "train.py"]
    assert plan["task"]["parameters"]["General"]["epochs"]["value"] == "5"
    shown = taskloom("run", str(folder), "--dry-run").out
    assert "run: python train.py" in shown
    assert "General/epochs: 3" in shown
    assert house.client.call(op.LIST_PROJECTS).projects == []


def test_a_file_that_names_a_repository_uploads_nothing_unless_asked(
    taskloom: Any, house: Any, folder: Path
) -> None:
    (folder / "task.yaml").write_text(FILE + "github_repo_url: https://example.org/a/b\n")
    ran = taskloom("run", str(folder), "--draft", "--json")
    assert fetch(house, ran).execution.files == ""
    assert "--upload takes the folder's files, too" in ran.err
    assert fetch(house, taskloom("run", str(folder), "--draft", "--upload", "--json")).execution.files
    assert fetch(house, taskloom("run", str(folder), "--draft", "--no-upload", "--json")).execution.files == ""


def test_a_sweep_and_a_value_for_the_same_parameter_contradict(taskloom: Any, folder: Path) -> None:
    (folder / "task.yaml").write_text(FILE + "sweeps: {sweep_config: {lr: [1, 2]}}\n")
    shown = taskloom("run", str(folder), "--dry-run").out
    assert "sweep: lr: 1.0, 2.0; best by the lowest eval/loss" in shown
    assert "the file's sweep gives it several values already" in taskloom("run", str(folder), "-P", "lr=3").err


def test_without_a_task_file_flags_say_what_to_run(
    taskloom: Any, house: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "x.sh").write_text("echo hi\n")
    refused = taskloom("run", str(bare))
    assert refused.code == 1
    assert "has no task.yaml: say what to run with --run, or write one with `taskloom init`" in refused.err
    task = fetch(house, taskloom("run", str(bare), "--run", "sh x.sh", "--accelerators", "none", "--json"))
    assert (task.name, task.execution.run, task.execution.resources.gpus) == ("bare", "sh x.sh", 0)
    assert task.execution.files
    assert not (bare / "task.yaml").exists()
    monkeypatch.chdir(bare)
    alone = fetch(house, taskloom("run", "--run", "echo hi", "--json"))
    assert (alone.name, alone.execution.run, alone.execution.files) == ("echo hi", "echo hi", "")


def test_no_such_target_is_said(taskloom: Any, tmp_path: Path) -> None:
    assert "no such file or folder" in taskloom("run", "./nothing").err
    assert "no task 'nothing'" in taskloom("run", "nothing").err
    assert "--branch and --directory belong to the URL" in taskloom("run", str(tmp_path), "--branch", "x").err


def test_a_person_at_a_terminal_is_asked(house: Any, tmp_path: Path) -> None:
    pexpect = pytest.importorskip("pexpect")
    bare = tmp_path / "asked"
    bare.mkdir()
    child = pexpect.spawn(
        sys.executable,
        ["-m", "taskloom.cli.main", "run", str(bare), "--draft"],
        env=house.environment(),
        timeout=30,
    )
    for question, answer in (
        ("Shell line to run", "python x.py"),
        ("Name", ""),
        ("before it", ""),
        ("GPUs", "A100"),
        ("Keep this", "y"),
    ):
        child.expect(question)
        child.sendline(answer)
    child.expect("draft")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    written = parse((bare / "task.yaml").read_text())
    assert (written.name, written.execution.run) == ("asked", "python x.py")
    assert written.execution.resources == Resources(gpus=1, gpu_type="A100")


# --- validate and init ------------------------------------------------------------------------------------


def test_validate_says_what_is_wrong_without_a_server(taskloom: Any, house: Any, folder: Path) -> None:
    house.stop()
    assert taskloom("validate", str(folder)).code == 0
    path = folder / "task.yaml"
    path.write_text("name: digits\nrun: x\nresources:\n  cpus: many\n")
    ran = taskloom("validate", str(path))
    assert ran.code == 1
    assert f"{path}:4:9: resources.cpus: expected a number such as 4 or 0.5" in ran.err
    told = taskloom("validate", str(folder), "--json")
    assert (told.code, told.json["valid"], told.json["problems"][0]["line"]) == (1, False, 4)
    path.write_text("name: digits\nrun: x\nminutes_requested: 5\n")
    assert taskloom("validate", str(folder)).code == 0
    assert taskloom("validate", str(folder), "--strict").code == 1
    path.write_bytes(b"name: digits\nrun: \xff\n")
    assert "task.yaml:2:6: byte 0xff: expected UTF-8" in taskloom("validate", str(folder)).err
    path.write_bytes(b"\xef\xbb\xbfname: digits\r\nrun: x\r\n")
    assert taskloom("validate", str(folder)).code == 0
    path.unlink()
    assert "has no task.yaml" in taskloom("validate", str(folder)).err
    house.start()


def test_validate_prints_the_schema_that_is_published(taskloom: Any) -> None:
    published = Path(__file__).parents[3] / "docs" / "task-yaml.schema.json"
    assert taskloom("validate", "--schema").json == json.loads(published.read_text("utf-8"))


def test_init_writes_a_file_that_can_be_run_and_never_over_another(taskloom: Any, tmp_path: Path) -> None:
    place = tmp_path / "new" / "fresh: 'one'"
    ran = taskloom("init", str(place), "--json")
    assert ran.json == {"path": str(place / "task.yaml")}
    file = parse((place / "task.yaml").read_text())
    assert (file.name, file.execution.run, file.warnings) == ("fresh: 'one'", "python train.py", ())
    assert taskloom("validate", str(place), "--strict").code == 0
    refused = taskloom("init", str(place))
    assert (refused.code, "is there already" in refused.err) == (1, True)


def test_a_folder_in_a_git_repository_tells_its_commit(taskloom: Any, house: Any, folder: Path) -> None:
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=folder, check=True)
    task = fetch(house, taskloom("run", str(folder), "--draft", "--json"))
    source = task.runtime["source"]
    assert (source["branch"], source["changed"], len(source["commit"])) == ("main", False, 40)
    assert task.execution.files

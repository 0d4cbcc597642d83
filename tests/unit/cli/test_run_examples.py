"""The task files of `examples/`: each can be run as it stands, and becomes the draft that it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from taskloom.domain.execution import Resources, Retries
from taskloom.domain.task import TaskType
from taskloom.domain.taskfile import parse
from taskloom.domain.taskfile.schema import json_schema
from taskloom.wire import operations as op

ROOM = Path(__file__).parents[3] / "examples" / "09-task-files"
FILES = sorted(ROOM.glob("*/task.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_every_example_is_valid_for_parser_and_editors_and_says_what_it_shows(path: Path) -> None:
    text = path.read_text("utf-8")
    file = parse(text)
    assert file.warnings == ()
    assert file.description
    jsonschema.validate(yaml.safe_load(text), json_schema())


def test_examples_become_drafts(taskloom: Any, house: Any) -> None:
    def draft(name: str, *options: str) -> Any:
        ran = taskloom("run", str(ROOM / name), "--draft", "--json", *options)
        assert ran.code == 0, ran.err
        return house.client.call(op.GET_TASK, task=ran.json["id"])

    assert draft("from-a-folder").execution.files
    typed = draft("typed-parameters", "-P", "learning_rate=5e-1", "-P", "loss=absolute").parameters["General"]
    assert (typed["learning_rate"].value, typed["learning_rate"].type) == ("0.5", "float")
    sweep = draft("sweep").execution.sweep
    assert sweep.grid == {"learning_rate": (0.01, 0.1, 0.5), "momentum": (0.0, 0.9)}
    assert draft("secrets").execution.secrets == ("EXAMPLE_PASSWORD",)
    assert draft("container").execution.image == "python:3.12-slim"
    calm = draft("preemptible").execution
    assert (calm.preemptible, calm.priority, calm.time_limit) == (True, -1, 600)
    assert (calm.resources, calm.retries) == (Resources(cpus=1.0, memory=256 * 10**6), Retries(lost=2, failed=1))
    assert draft("service").type is TaskType.SERVICE
    assert draft("lab-package").execution.setup == "uv pip install transformerlab"


def test_the_example_from_git_begins_in_its_folder(taskloom: Any, house: Any, tmp_path: Path) -> None:
    target = tmp_path / "greetings"
    made = subprocess.run(
        [sys.executable, ROOM / "from-git" / "make_repository.py", target],
        check=True,
        capture_output=True,
        text=True,
    )
    url = made.stdout.strip()
    ran = taskloom("run", url, "--branch", "main", "--directory", "tasks/greet", "--draft", "--json")
    assert ran.code == 0, ran.err
    execution = house.client.call(op.GET_TASK, task=ran.json["id"]).execution
    assert (execution.repository, execution.branch, execution.directory) == (url, "main", "tasks/greet")
    assert execution.run == 'cd ~/greet\npython greet.py "$GREETING"'


def test_scripts_of_examples_run_by_hand_too(tmp_path: Path) -> None:
    def said(name: str, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOM / name, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout

    assert said("from-a-folder", "count.py", "letter.txt").startswith("4 the\n")
    assert "from Python 3" in said("container", "where.py", "hello")
    assert said("from-git", "greet.py", "good day") == "good day from a repository\n"

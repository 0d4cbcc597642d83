"""`get_config` and `get_secret`: a worker's word when there is one, else what lies beside the script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taskloom import Task, get_config, get_secret
from taskloom.domain.errors import BadInput, NotFound
from taskloom.domain.parameters import Parameter, flatten
from taskloom.domain.task import Task as Document

FILE = """
name: fit a line
run: python fit.py
parameters:
  rate: {type: float, default: 0.1}
  steps: 200
  name: "plain"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKLOOM_DATA", str(tmp_path / "data"))
    return tmp_path


def claimed(folder: Path, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any]) -> None:
    """What a worker leaves for the scripts that it runs."""
    task = Document(id="0" * 32, name="claimed", project="tests", parameters=parameters)
    (folder / "task.msgpack").write_bytes(msgspec.msgpack.encode(task))
    monkeypatch.setenv("TASKLOOM_TASK_FILE", str(folder / "task.msgpack"))


def test_by_hand_the_values_are_the_defaults_of_the_task_file(here: Path) -> None:
    assert get_config() == {}
    (here / "task.yaml").write_text(FILE)
    assert get_config() == {"rate": 0.1, "steps": 200, "name": "plain"}


def test_a_script_that_also_records_itself_has_them_among_its_parameters(here: Path) -> None:
    (here / "task.yaml").write_text(FILE)
    Task.set_offline(True)
    try:
        task = Task.init("configured", "by hand", auto_resource_monitoring=False, auto_connect_streams=False)
        assert get_config()["steps"] == 200
        assert {name: p.value for name, p in flatten(task.data.parameters).items()} == {
            "General/rate": "0.1", "General/steps": "200", "General/name": "plain",
        }  # fmt: skip
        task.close()
    finally:
        Task.set_offline(False)


def test_on_a_worker_the_edited_values_win_in_their_types(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "task.yaml").write_text(FILE)
    claimed(here, monkeypatch, {
        "General": {"rate": Parameter("0.5", "float"), "steps": Parameter("3", "int"), "on": Parameter("True", "bool")},
        "Args": {"other": Parameter("1", "int")},
    })  # fmt: skip
    assert get_config() == {"rate": 0.5, "steps": 3, "on": True}


def test_a_task_file_that_cannot_be_read_says_where(here: Path) -> None:
    (here / "task.yaml").write_text("name: x\nrum: python fit.py\n")
    with pytest.raises(BadInput, match=r"task\.yaml:2:1: .*did you mean 'run'"):
        get_config()


def test_a_secret_comes_from_the_worker_or_by_hand_from_the_environment(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound, match="no environment variable has that name"):
        get_secret("TOKEN")
    monkeypatch.setenv("TOKEN", "by hand")
    assert get_secret("TOKEN") == "by hand"
    (here / "secrets.json").write_text(json.dumps({"TOKEN": "from the server"}))
    monkeypatch.setenv("TASKLOOM_SECRETS", str(here / "secrets.json"))
    assert get_secret("TOKEN") == "from the server"
    with pytest.raises(NotFound, match=r"not named by the task \(it names: TOKEN\)"):
        get_secret("OTHER")

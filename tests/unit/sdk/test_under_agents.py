"""Scripts below an agent of another system: the task that it runs is attached to, when our server knows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import House
from tests.unit.sdk.test_task_processes import Scripts, counts, found
from tests.unit.server.compat.wire import ClearMLWire

from taskloom.domain.execution import Execution
from taskloom.domain.parameters import Parameter
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op

BEGIN = """
import argparse, os, sys
from taskloom import Task
parser = argparse.ArgumentParser()
parser.add_argument("--depth", type=int, default=2)
task = Task.init(project_name="mine", task_name="my own name", auto_resource_monitoring=False)
args = parser.parse_args()
settings = task.connect({"rate": 0.1})
print("id", task.id)
print("saw", args.depth, settings["rate"])
for i in range(100):
    task.get_logger().report_scalar("loss", "train", i, i)
"""


class Rig:
    def __init__(self, house: House, scripts: Scripts) -> None:
        self.house, self.scripts, self.wire = house, scripts, ClearMLWire(house)

    def pulled(self) -> str:
        """A task that an agent has just pulled."""
        create = m.TaskCreate(
            name="given", project="agents", execution=Execution(diff="x", packages="# Python 3.11\n"),
            parameters={"Args": {"depth": Parameter("7", "int")}, "General": {"rate": Parameter("0.5", "float")}},
        )  # fmt: skip
        task = self.house.client.call(op.CREATE_TASK, create).id
        self.house.client.call(op.ENQUEUE_TASK, m.Enqueue(), task=task)
        queue = self.wire.call("queues.get_default")["id"]
        assert self.wire.call("queues.get_next_task", queue=queue)["entry"]["task"] == task
        self.wire.call("tasks.started", task=task, force=True)
        return task

    def words(self) -> dict[str, str]:
        access, _, secret = self.house.key.removeprefix("tl_").partition("_")
        return {
            "CLEARML_API_HOST": self.house.url,
            "CLEARML_API_ACCESS_KEY": access,
            "CLEARML_API_SECRET_KEY": secret,
        }


@pytest.fixture
def rig(house: House, tmp_path: Path) -> Iterator[Rig]:
    """A machine that knows no server of ours but the agent's."""
    folder = tmp_path / "machine"
    folder.mkdir()
    environment = house.environment()
    for name in ("TASKLOOM_URL", "TASKLOOM_API_KEY"):
        del environment[name]
    scripts = Scripts(folder, environment)
    yield Rig(house, scripts)
    scripts.end()


def test_it_attaches_takes_edited_values_and_leaves_the_end_to_the_agent(rig: Rig) -> None:
    given = rig.pulled()
    code, task, out, err = rig.scripts.run("", BEGIN, CLEARML_TASK_ID=given, **rig.words())
    assert (code, task) == (0, given), err
    assert "saw 7 0.5" in out
    after = found(rig.house, given)
    assert (after.status, after.name, after.execution.diff) == (Status.RUNNING, "given", "x")
    assert "development" not in after.system_tags
    assert counts(rig.house, given) == {"train": 100}
    rig.wire.call("tasks.completed", task=given, status_reason="worker execution done")
    assert found(rig.house, given).status is Status.COMPLETED


def test_the_agents_own_file_of_settings_names_the_server(rig: Rig, tmp_path: Path) -> None:
    given = rig.pulled()
    words = rig.words()
    credentials = {"access_key": words["CLEARML_API_ACCESS_KEY"], "secret_key": words["CLEARML_API_SECRET_KEY"]}
    settings = {"api": {"api_server": rig.house.url, "credentials": credentials, "more": 1}, "agent": {"x": None}}
    path = tmp_path / "agent.cfg"
    path.write_text(json.dumps(settings, indent=4))
    code, task, _, err = rig.scripts.run("", BEGIN, CLEARML_TASK_ID=given, CLEARML_CONFIG_FILE=str(path))
    assert (code, task) == (0, given), err


def test_processes_of_the_script_belong_to_the_same_task(rig: Rig) -> None:
    given = rig.pulled()
    body = """
    import subprocess
    child = "from taskloom import Task; t = Task.init(); t.get_logger().report_scalar('loss', 'child', 1, 1)"
    subprocess.run([sys.executable, "-c", child], check=True)
    """
    code, _, _, err = rig.scripts.run(body, BEGIN, CLEARML_TASK_ID=given, **rig.words())
    assert code == 0, err
    assert counts(rig.house, given) == {"train": 100, "child": 1}


@pytest.mark.parametrize("task", ["ab" * 16, "no id", ""])
def test_a_task_of_another_system_is_not_taken_for_ours(rig: Rig, task: str) -> None:
    ours = {"TASKLOOM_URL": rig.house.url, "TASKLOOM_API_KEY": rig.house.key}
    code, made, out, err = rig.scripts.run("", BEGIN, CLEARML_TASK_ID=task, **ours)
    assert code == 0, err
    assert made != task
    assert "saw 2 0.1" in out
    assert found(rig.house, made).name == "my own name"


def test_an_agent_of_another_server_is_left_alone(rig: Rig) -> None:
    words = {**rig.words(), "CLEARML_API_SECRET_KEY": "of another server"}
    code, made, _, err = rig.scripts.run("", BEGIN, CLEARML_TASK_ID="ab" * 16, **words)
    assert code == 0, err
    assert made != "ab" * 16
    assert "no server is configured" in err


def test_clearmls_calls_list_taskloom_among_the_packages(rig: Rig) -> None:
    lines = "# Python 3.11.7 (CPython, Linux)\nnumpy==1.26.0\n# taskloom==0.1.0 (a worker brings its own)\n"
    create = m.TaskCreate(name="ours", project="agents", execution=Execution(packages=lines))
    task = rig.house.client.call(op.CREATE_TASK, create).id
    told = rig.wire.call("tasks.get_by_id", task=task)["task"]["script"]["requirements"]
    assert told["pip"].splitlines()[1:] == ["numpy==1.26.0", "taskloom==0.1.0"]
    rig.wire.call("tasks.edit", task=task, script={"requirements": told}, force=True)
    assert found(rig.house, task).execution.packages == lines  # what was told comes back and changes nothing

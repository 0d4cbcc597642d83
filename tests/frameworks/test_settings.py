"""The settings file as scripts and workers see it: obeyed, told once when it is wrong, and given on to what a worker runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.frameworks.conftest import Bench
from tests.scenarios.stage import PATIENCE

from taskloom.domain.execution import Execution
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as ops

SCRIPT = """
import json, random, sys, time
from taskloom import Task
for name in ("one task", "another"):
    task = Task.init("settings", name)
    task.get_logger().report_scalar("a", "b", 1.0, iteration=0)
    task.close()
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Bench]:
    """A server without a worker, and a settings file beside it."""
    (tmp_path / "work").mkdir()
    made = Bench(tmp_path / "data", tmp_path / "work")
    made.serve()
    yield made
    for process in reversed(made.processes):
        process.terminate()
        process.wait(PATIENCE)


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


def test_a_script_obeys_the_file_and_tells_once_what_is_wrong_in_it(stage: Bench) -> None:
    file = write(
        stage.work / "mine.toml",
        "colour = 1\n[sdk]\nrandom_seed = 9\nresource_sample_seconds = 0\nclose_timeout_in_seconds = 'long'\n",
    )
    script = stage.work / "script.py"
    script.write_text(SCRIPT)
    done = stage.script(script, TASKLOOM_CONFIG=str(file))
    assert done.returncode == 0, done.stderr.decode()
    said = [line for line in done.stderr.decode().splitlines() if str(file) in line]
    assert said == [
        f"taskloom: {file}: there is no setting 'colour'; it is left out",
        f"taskloom: {file}: sdk.close_timeout_in_seconds is 'long': expected a number, 0 or more; it is left out",
    ]
    found = stage.client.call(ops.QUERY_TASKS, m.TaskQuery(project="settings")).tasks
    assert sorted(one.name for one in found) == ["another", "one task"]
    for one in found:
        task = stage.ended(one.id)
        assert task.runtime["random_seed"] == 9
        assert [(s.title, s.series) for s in task.metrics] == [("a", "b")]  # nothing of the machine


def test_the_files_address_is_found_without_variables(stage: Bench) -> None:
    assert stage.address is not None
    file = write(stage.work / "there.toml", f'url = "{stage.address.url}"\napi_key = "{stage.address.api_key}"\n')
    script = stage.work / "script.py"
    script.write_text(SCRIPT)
    elsewhere = str(stage.work / "elsewhere")
    done = stage.script(
        script, TASKLOOM_CONFIG=str(file), TASKLOOM_DATA=elsewhere, TASKLOOM_URL="", TASKLOOM_API_KEY=""
    )
    assert done.returncode == 0, done.stderr.decode()
    found = stage.client.call(ops.QUERY_TASKS, m.TaskQuery(project="settings")).tasks
    assert {stage.ended(one.id).status for one in found} == {Status.COMPLETED}


def test_what_a_worker_runs_sees_the_workers_settings_and_a_clone_its_originals_seed(stage: Bench) -> None:
    file = write(stage.work / "worker.toml", "[sdk]\nrandom_seed = 9\nclose_timeout_in_seconds = 7\n")
    stage.start(
        *("-m", "taskloom.cli.main", "worker", "--queue", "default", "--packages", "reuse", "--name", "w"),
        TASKLOOM_CONFIG=str(file),
        TASKLOOM_RESOURCE_SAMPLE_SECONDS="3",
        TASKLOOM_OFFLINE="",
    )
    text = (
        "import json, random\nfrom taskloom import Task\nfrom taskloom.wire.configuration import find\n"
        "task = Task.init('seen', 'by a worker')\n"
        "keys = ('sdk.random_seed', 'sdk.close_timeout_in_seconds', 'sdk.resource_sample_seconds')\n"
        "found = [find(key) for key in keys]\n"
        "print('SEEN', json.dumps([random.random(), *([one.value, one.source] for one in found)]))\n"
    )
    seen = [[9, str(file)], [7.0, str(file)], [3.0, "TASKLOOM_RESOURCE_SAMPLE_SECONDS"]]
    made = m.TaskCreate(
        name="drafted", project="seen", execution=Execution(diff=text, entry_point="script.py", packages="")
    )
    draft = stage.client.call(ops.CREATE_TASK, made)
    stage.client.call(ops.ENQUEUE_TASK, m.Enqueue(create=True), task=draft.id)
    first = told(stage, draft.id)
    assert first[1:] == seen
    assert stage.task(draft.id).runtime["random_seed"] == 9

    script = stage.work / "script.py"
    script.write_text(text)
    by_hand = stage.script(script, TASKLOOM_RANDOM_SEED="5")
    (task,) = (
        one for one in stage.client.call(ops.QUERY_TASKS, m.TaskQuery(project="seen")).tasks if one.id != draft.id
    )
    assert stage.ended(task.id).runtime["random_seed"] == 5
    clone = stage.clone(task)
    again = told(stage, clone.id)
    assert again[0] == json.loads(by_hand.stdout.decode().partition("SEEN ")[2])[0] != first[0]
    assert clone.runtime["random_seed"] == 5


def told(stage: Bench, task: str) -> list[object]:
    assert stage.ended(task).status is Status.COMPLETED, stage.console_tail(task)()
    return json.loads(stage.console(task).partition("SEEN ")[2].splitlines()[0])

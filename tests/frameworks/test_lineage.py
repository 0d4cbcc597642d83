"""From data to model to evaluation and back, by scripts that tell nothing of it themselves; killed ones, too."""

from __future__ import annotations

import hashlib
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PATIENCE
from tests.frameworks.conftest import Bench

from taskloom.domain.artifact import ModelLink
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as ops

FOLDER = "07-lineage"


def lineage(bench: Bench, task: str = "", model: str = "") -> dict[str, Any]:
    """Steps by `kind name`, and `source -relation name-> target`."""
    if task:
        found = bench.client.call(ops.TASK_LINEAGE, query=m.LineageQuery(), task=task)
    else:
        found = bench.client.call(ops.MODEL_LINEAGE, query=m.LineageQuery(), model=model)
    names = {node.id: node.name for node in found.nodes}
    return {
        "steps": {f"{node.kind} {node.name}": node.steps for node in found.nodes},
        "edges": {f"{names[e.source]} -{e.relation} {e.name}-> {names[e.target]}" for e in found.edges},
    }


def task_named(bench: Bench, project: str, name: str) -> str:
    query = m.TaskQuery(project=project, name=name, exact_name=True, fields=["name"])
    (found,) = bench.client.call(ops.QUERY_TASKS, query).tasks
    return found.id


def run(bench: Bench, script: str, *arguments: str) -> str:
    done = bench.script(f"{FOLDER}/{script}", *arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.fixture(scope="module")
def family(bench: Bench) -> dict[str, str]:
    """The three examples run one after the other; the model file is moved in between. Ids by names."""
    made, moved = bench.work / "digits.joblib", bench.work / "elsewhere" / "best.joblib"
    moved.parent.mkdir()
    run(bench, "prepare_data.py", "--project", "lineage")
    run(bench, "train.py", "--project", "lineage", "--model", str(made))
    made.rename(moved)
    printed = run(bench, "evaluate.py", "--project", "lineage", "--model", str(moved))
    names = ("prepare data", "train", "evaluate")
    ids = {name: bench.ended(task_named(bench, "lineage", name)).id for name in names}
    return {**ids, "printed": printed, "moved": str(moved)}


PREPARED = "prepare data -read train-> train"
TESTED = "prepare data -read test-> evaluate"
MADE = "train -made train - digits-> train - digits"
LOADED = "train - digits -loaded best-> evaluate"


def test_the_evaluation_is_traced_back_to_the_data(bench: Bench, family: dict[str, str]) -> None:
    found = lineage(bench, family["evaluate"])
    assert found["edges"] == {PREPARED, TESTED, MADE, LOADED}
    assert found["steps"] == {
        "task evaluate": 0,
        "model train - digits": -1,
        "task prepare data": -1,
        "task train": -2,
    }


def test_the_data_is_followed_to_the_evaluation(bench: Bench, family: dict[str, str]) -> None:
    found = lineage(bench, family["prepare data"])
    assert found["edges"] == {PREPARED, TESTED, MADE, LOADED}
    assert found["steps"] == {
        "task prepare data": 0,
        "task evaluate": 1,
        "task train": 1,
        "model train - digits": 2,
    }


def test_the_model_knows_who_made_and_who_used_it(bench: Bench, family: dict[str, str]) -> None:
    (made,) = bench.models(bench.task(family["train"])).values()
    (used,) = bench.models(bench.task(family["evaluate"]), "input").values()
    assert used.id == made.id
    assert (made.name, made.framework, made.project, made.task) == (
        "train - digits",
        "ScikitLearn",
        "lineage",
        family["train"],
    )
    data = Path(family["moved"]).read_bytes()
    assert bench.blob(made.digest) == data
    assert lineage(bench, model=made.id)["edges"] == {PREPARED, MADE, LOADED}


def test_the_running_script_sees_its_own_lineage(bench: Bench, family: dict[str, str]) -> None:
    assert family["printed"].splitlines()[-4:] == [
        "+0 task evaluate",
        "-1 model train - digits",
        "-1 task prepare data",
        "-2 task train",
    ]


def test_a_clone_that_trains_otherwise_makes_a_model_of_its_own(bench: Bench, family: dict[str, str]) -> None:
    clone = bench.clone(bench.task(family["train"]), {"Args/penalty": "50.0"})
    (first,) = bench.models(bench.task(family["train"])).values()
    (second,) = bench.models(clone).values()
    assert second.id != first.id
    assert second.digest != first.digest
    found = lineage(bench, clone.id)
    assert found["steps"] == {
        "task train, edited": 0,
        "task train": -1,
        "task prepare data": -1,
        "model train, edited - digits": 1,
    }
    assert "prepare data -read train-> train, edited" in found["edges"]


# --- weights as they are saved ----------------------------------------------------------------------------

MANY = """
import os, sys, time
from pathlib import Path
from taskloom import Task
import joblib
task = Task.init(project_name="weights", task_name=sys.argv[1], output_uri=sys.argv[2] == "up", reuse_last_task_id=False)
print(task.id, flush=True)
spool = task._recorder.spool
most = 0
for number in range(int(sys.argv[3])):
    joblib.dump({"epoch": number, "weights": os.urandom(100_000)}, "many.joblib")
    most = max(most, len(list(spool.iterdir())))
    if sys.argv[1] == "killed" and number == 7:
        print(number, flush=True)
        time.sleep(600)
joblib.load("many.joblib")
print(most, flush=True)
"""


def script(bench: Bench, text: str, name: str) -> Path:
    path = bench.work / name
    path.write_text(text)
    return path


def test_a_model_that_is_saved_again_and_again_is_one_with_its_last_bytes(bench: Bench) -> None:
    path = script(bench, MANY, "many.py")
    done = bench.script(path, "many", "up", "1000")
    assert done.returncode == 0, done.stderr.decode()
    task_id, most = done.stdout.decode().split()
    task = bench.ended(task_id)
    (model,) = bench.models(task).values()
    assert bench.models(task, "input") == {}
    assert bench.blob(model.digest) == (bench.work / "many.joblib").read_bytes()
    assert int(most) <= 3  # one that is sent, one that waits, one that is written


def test_without_a_destination_only_the_place_and_the_fingerprint_are_told(bench: Bench) -> None:
    done = bench.script(script(bench, MANY, "many.py"), "named", "local", "20")
    task = bench.ended(done.stdout.decode().split()[0])
    (model,) = bench.models(task).values()
    file = bench.work / "many.joblib"
    assert (model.uri, model.digest) == (file.as_uri(), "")
    assert model.fingerprint == hashlib.sha256(file.read_bytes()).hexdigest()
    assert bench.models(task, "input") == {}


def test_a_killed_script_loses_no_model_that_was_saved(bench: Bench) -> None:
    path = script(bench, MANY, "many.py")
    process = subprocess.Popen(
        [bench.python, str(path), "killed", "up", "100"],
        cwd=bench.work,
        env=bench.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    task_id, number = process.stdout.readline().strip(), process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    task = bench.ended(task_id)
    assert (task.status, number) == (Status.FAILED, "7")
    (model,) = bench.models(task).values()
    assert bench.blob(model.digest) == (bench.work / "many.joblib").read_bytes()


TWO = """
import os, sys
import joblib
from taskloom import Task
Task.init(project_name="two", task_name=sys.argv[1], output_uri=True, reuse_last_task_id=False)
for number in range(20):
    joblib.dump({"who": sys.argv[1], "number": number}, sys.argv[1] + ".joblib")
    joblib.dump({"the same": number}, sys.argv[1] + "-same.joblib")
"""


def test_two_processes_that_save_the_same_bytes_do_not_take_them_from_one_another(bench: Bench) -> None:
    path = script(bench, TWO, "two.py")
    started = [
        subprocess.Popen([bench.python, str(path), name], cwd=bench.work, env=bench.environment())
        for name in ("one", "other")
    ]
    assert [process.wait(PATIENCE) for process in started] == [0, 0]
    for name in ("one", "other"):
        models = bench.models(bench.ended(task_named(bench, "two", name)))
        assert sorted(models) == [f"{name} - {name}", f"{name} - {name}-same"]
        for model in models.values():
            assert bench.blob(model.digest) == (bench.work / model.filename).read_bytes()


FOLDERS = """
import json, sys
from pathlib import Path
from taskloom import InputModel, Model, OutputModel, Task
what = sys.argv[1]
task = Task.init(project_name="folders", task_name=what, output_uri=sys.argv[2], reuse_last_task_id=False)
from taskloom.sdk.session import current
from taskloom.sdk.weights import Weights
weights = Weights(current.session)
folder = Path(sys.argv[3])
if what == "save":
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"weights")
    weights.saved(folder, "Some")
    (folder / "tokenizer.json").write_text("{}")  # saved beside it by something else
    weights.saved(Path("ckpt-1"), "Some") if Path("ckpt-1.index").write_text("i") else None
else:
    weights.loaded(folder, "Some")
    copy = Model.query_models(project_name="folders", model_name="save - bert")[0].get_local_copy(raise_on_error=True)
    print(sorted(p.name for p in Path(copy).iterdir()))
"""


@pytest.mark.parametrize("destination", ["", "folder"])
def test_a_folder_is_known_again_although_more_was_saved_into_it(bench: Bench, destination: str) -> None:
    path = script(bench, FOLDERS, "folders.py")
    place = bench.work / f"bert-{destination or 'server'}" / "bert"
    place.parent.mkdir()
    uri = str(bench.work / "destination") if destination else "taskloom:"
    saved = bench.script(path, "save", uri, str(place))
    assert saved.returncode == 0, saved.stderr.decode()
    tasks = bench.client.call(ops.QUERY_TASKS, m.TaskQuery(project="folders", order_by=["-created"])).tasks
    made = bench.models(bench.ended(tasks[0].id))
    assert sorted(made) == ["save - bert", "save - ckpt-1"]
    moved = place.rename(place.parent / "moved")
    loaded = bench.script(path, "load", uri, str(moved))
    assert loaded.returncode == 0, loaded.stderr.decode()
    assert loaded.stdout.decode().split("\n")[0] == "['model.bin']"
    tasks = bench.client.call(ops.QUERY_TASKS, m.TaskQuery(project="folders", order_by=["-created"])).tasks
    assert bench.models(bench.ended(tasks[0].id), "input")["moved"].id == made["save - bert"].id


CHOSEN = """
from pathlib import Path
from taskloom import InputModel, Model, OutputModel, Task
task = Task.init(project_name="chosen", task_name="uses a model", output_uri=True, reuse_last_task_id=False)
if not Model.query_models(project_name="chosen"):
    for name in ("first", "second"):
        Path(f"{name}.txt").write_text(name)
        OutputModel(name=name).update_weights(f"{name}.txt", async_enable=False)
model = InputModel(name="first", project="chosen")
model.connect(task, name="start")
task.get_logger().report_single_value("letters", len(Path(model.get_local_copy(raise_on_error=True)).read_text()))
"""


def test_a_worker_runs_a_clone_with_the_model_that_was_chosen_for_it(bench: Bench) -> None:
    task = bench.record(script(bench, CHOSEN, "chosen.py"), project="chosen")
    models = bench.models(task)
    assert bench.models(task, "input") == {"start": models["first"]}
    copy = bench.client.call(ops.CLONE_TASK, m.TaskClone(name="with another"), task=task.id)
    bench.client.call(ops.LINK_MODEL, ModelLink("start", models["second"].id, "input"), task=copy.id)
    bench.client.call(ops.ENQUEUE_TASK, m.Enqueue(), task=copy.id)
    ended = bench.ended(copy.id)
    assert ended.status is Status.COMPLETED, bench.console_tail(copy.id)()
    assert [one.last for one in ended.metrics if one.series == "letters"] == [len("second")]
    assert {name: one.name for name, one in bench.models(ended, "input").items()} == {"start": "second"}

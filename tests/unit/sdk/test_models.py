"""Models of a task: made, found, used and published, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import House

from taskloom.domain.errors import BadInput, Conflict, NotFound
from taskloom.domain.task import Task
from taskloom.sdk.models import InputModel, Model, OutputModel, models_of
from taskloom.sdk.remote import RemoteTask
from taskloom.wire.messages import MoveRequest, TaskCreate
from taskloom.wire.operations import CREATE_TASK, GET_TASK, START_TASK


@pytest.fixture
def recorder(house: House, monkeypatch: pytest.MonkeyPatch) -> RemoteTask:
    for name, value in house.environment().items():
        monkeypatch.setenv(name, value)
    made = house.client.call(CREATE_TASK, TaskCreate(name="trainer", project="tests/models"))
    return RemoteTask(house.client.call(START_TASK, MoveRequest(), task=made.id), lambda: house.client)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    path.write_bytes(os.urandom(5000))
    return path


def task(house: House, recorder: RemoteTask) -> Task:
    return house.client.call(GET_TASK, task=recorder.id)


def test_a_model_is_linked_to_its_task_at_once(house: House, recorder: RemoteTask):
    made = OutputModel(recorder, name="net", tags=["a", "b"], comment="first", framework="PyTorch")
    (link,) = task(house, recorder).models
    assert (link.name, link.model, link.direction) == ("net", made.id, "output")
    found = Model(made.id)
    assert (found.name, found.tags, found.comment, found.framework) == ("net", ["a", "b"], "first", "PyTorch")
    assert (found.project, found.task, found.published) == ("tests/models", recorder.id, False)


def test_weights_are_copied_and_come_back(recorder: RemoteTask, weights: Path):
    made = OutputModel(recorder)
    url = made.update_weights(weights, iteration=7)
    before = weights.read_bytes()
    assert weights.exists()
    weights.write_bytes(b"next epoch")
    found = Model(made.id)
    assert (found.name, found.framework, found.iteration, found.url) == ("trainer", "PyTorch", 7, url)
    copy = Path(found.get_local_copy(raise_on_error=True) or "")
    assert (copy.name, copy.read_bytes()) == ("weights.pt", before)
    assert found.get_weights() == str(copy)


def test_new_weights_take_the_place_of_the_old(house: House, recorder: RemoteTask, weights: Path):
    made = OutputModel(recorder, name="net", tags=["keep"])
    for iteration, text in ((1, "one"), (2, "two")):
        weights.write_text(text)
        made.update_weights(weights, iteration=iteration, target_filename="net.pt")
    assert len(task(house, recorder).models) == 1
    found = Model(made.id)
    assert found.iteration == 2 and found.tags == ["keep"]
    assert Path(found.get_local_copy() or "").read_text() == "two"


def test_the_same_name_goes_on_with_the_same_model(recorder: RemoteTask, weights: Path):
    first = OutputModel(recorder, name="net", tags=["keep"], label_enumeration={"cat": 0})
    first.update_weights(weights)
    second = OutputModel(recorder, name="net", comment="later")
    assert second.id == first.id
    assert (second.tags, second.comment, second.labels) == (["keep"], "later", {"cat": 0})
    assert OutputModel(recorder, name="other").id != first.id


def test_a_folder_is_a_package(recorder: RemoteTask, tmp_path: Path):
    (tmp_path / "saved/variables").mkdir(parents=True)
    (tmp_path / "saved/variables/data").write_text("data")
    (tmp_path / "saved/model.pb").write_text("graph")
    made = OutputModel(recorder)
    made.update_weights(tmp_path / "saved")
    found = Model(made.id)
    place = Path(found.get_weights_package(return_path=True) or "")  # type: ignore[arg-type]
    assert (place / "variables/data").read_text() == "data"
    assert (found.get_local_copy(extract_archive=False) or "").endswith("saved.zip")
    files = found.get_weights_package()
    assert isinstance(files, list) and [file.name for file in files] == ["model.pb", "data"]


def test_several_files_are_a_package(recorder: RemoteTask, tmp_path: Path):
    for name in ("encoder.bin", "decoder.bin"):
        (tmp_path / name).write_text(name)
    made = OutputModel(recorder)
    made.update_weights_package([tmp_path / "encoder.bin", tmp_path / "decoder.bin"])
    files = Model(made.id).get_weights_package()
    assert isinstance(files, list) and [file.name for file in files] == ["decoder.bin", "encoder.bin"]
    with pytest.raises(BadInput):
        made.update_weights_package([])


def test_design_labels_and_metadata(recorder: RemoteTask):
    made = OutputModel(recorder, config_dict={"layers": [1, 2]}, base_model_id="b" * 32)
    made.update_labels({"cat": 0, "dog": 1})
    made.set_metadata("accuracy", 0.5, "float")
    found = Model(made.id)
    assert found.config_dict == {"layers": [1, 2]} and '"layers"' in found.config_text
    assert found.labels == {"cat": 0, "dog": 1}
    assert found.get_metadata("accuracy") == 0.5
    assert found.get_all_metadata() == {"base_model_id": "b" * 32, "accuracy": 0.5}
    made.update_design(config_text="not json")
    made.set_all_metadata({"only": "this"})
    assert Model(made.id).config_dict == {} and Model(made.id).get_all_metadata() == {"only": "this"}
    with pytest.raises(BadInput, match="not as both"):
        made.update_design("text", {})
    with pytest.raises(BadInput, match="labels"):
        made.update_labels({"cat": "zero"})  # type: ignore[dict-item]


def test_registered_weights_keep_only_their_address(recorder: RemoteTask):
    made = OutputModel(recorder)
    assert made.update_weights(register_uri="hdfs://bucket/net.onnx") == "hdfs://bucket/net.onnx"
    found = Model(made.id)
    assert (found.url, found.framework) == ("hdfs://bucket/net.onnx", "ONNX")
    assert found.get_local_copy() is None
    with pytest.raises(BadInput, match="hdfs://bucket"):
        found.get_local_copy(raise_on_error=True)


def test_a_weights_file_that_is_not_there(recorder: RemoteTask, tmp_path: Path):
    with pytest.raises(BadInput, match=r"missing\.pt"):
        OutputModel(recorder).update_weights(tmp_path / "missing.pt")
    with pytest.raises(BadInput, match="weights_filename"):
        OutputModel(recorder).update_weights()


def test_a_published_model_stays_as_it_is(recorder: RemoteTask, weights: Path):
    made = OutputModel(recorder)
    made.update_weights(weights)
    made.publish()
    found = Model(made.id)
    assert made.published and found.published
    with pytest.raises(Conflict, match="framework"):
        found.framework = "changed"
    found.comment = "what people write about it may change"
    assert Model(made.id).comment == found.comment


def test_models_are_edited_from_elsewhere(recorder: RemoteTask):
    found = Model(OutputModel(recorder).id)
    found.name, found.tags, found.comment, found.framework = "renamed", ["x", "x"], "told", "JAX"
    again = Model(found.id)
    assert (again.name, again.tags, again.comment, again.framework) == ("renamed", ["x"], "told", "JAX")


def test_models_are_found(recorder: RemoteTask):
    for name, tags in (("net one", ["a"]), ("net two", ["a", "b"]), ("other", [])):
        OutputModel(recorder, name=name, tags=tags).set_metadata("kind", name)
    assert {m.name for m in Model.query_models(project_name="tests/models")} == {"net one", "net two", "other"}
    assert {m.name for m in Model.query_models(model_name="net one")} == {"net one"}
    assert {m.name for m in Model.query_models(tags=["a", "-b"])} == {"net one"}
    assert {m.name for m in Model.query_models(metadata={"kind": "other"})} == {"other"}
    assert len(Model.query_models(max_results=2)) == 2
    assert Model.query_models(only_published=True) == []
    assert InputModel(name="net one", project="tests/models").tags == ["a"]
    with pytest.raises(NotFound, match="net three"):
        InputModel(name="net three")
    with pytest.raises(BadInput):
        InputModel()


def test_a_task_uses_a_model(house: House, recorder: RemoteTask, weights: Path):
    made = OutputModel(recorder, name="net")
    made.update_weights(weights)
    user = house.client.call(CREATE_TASK, TaskCreate(name="user", project="tests"))
    with pytest.raises(Conflict, match="is draft"):
        OutputModel(RemoteTask(user, lambda: house.client))
    InputModel(made.id).connect(
        RemoteTask(user, lambda: house.client), name="net"
    )  # a draft may be told what to use
    other = RemoteTask(house.client.call(START_TASK, MoveRequest(), task=user.id), lambda: house.client)
    InputModel(made.id).connect(other)
    InputModel(made.id).connect(other, name="starting point")
    views = models_of(other)
    assert views["output"] == [] and views["input"].keys() == ["net", "starting point"]  # type: ignore[attr-defined]
    assert views["input"]["starting point"].id == views["input"][-1].id == made.id  # type: ignore[call-overload]
    assert Path(views["input"][0].get_local_copy() or "").read_bytes() == weights.read_bytes()
    with pytest.raises(KeyError, match="no model 'x'; there are: net"):
        views["input"]["x"]  # type: ignore[call-overload]
    assert Model(made.id).task == recorder.id


def test_a_model_from_elsewhere_is_registered(recorder: RemoteTask, weights: Path):
    made = InputModel.import_model(f"file://{weights}", name="imported", tags=["x"], create_as_published=True)
    assert isinstance(made, InputModel)
    found = InputModel(name="imported")
    assert (found.id, found.published, found.framework, found.tags) == (made.id, True, "PyTorch", ["x"])
    assert found.get_local_copy() == str(weights)


def test_a_removed_model_is_gone(recorder: RemoteTask):
    made = OutputModel(recorder)
    assert Model.remove(made.id)
    with pytest.raises(NotFound):
        Model(made.id).name  # noqa: B018
    assert models_of(RemoteTask(recorder.reload(), recorder.client))["output"] == []


def test_without_a_task_an_output_model_has_no_place():
    with pytest.raises(BadInput, match=r"Task\.init"):
        OutputModel()


def test_a_running_script_records_its_models_behind_its_back(
    house: House, tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
):
    script = tmp_path / "train.py"
    script.write_text(
        "from pathlib import Path\n"
        "from taskloom import OutputModel, Task\n"
        "task = Task.init(project_name='tests', task_name='live model')\n"
        "model = OutputModel(name='net', tags=['x'])\n"
        "Path('net.pt').write_text('weights')\n"
        "model.update_weights('net.pt', iteration=3)\n"
        "print(task.models['output'][-1].id == model.id, len(task.models['output']))\n"
        "print(task.id)\n"
        "task.close()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**house.environment(), "TASKLOOM_DATA": str(tmp_path / "own")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    first, task_id = [line for line in done.stdout.splitlines() if line in {"True 1"} or len(line) == 32]
    assert first == "True 1"
    eventually(lambda: house.client.call(GET_TASK, task=task_id).models)
    recorder = RemoteTask(house.client.call(GET_TASK, task=task_id), lambda: house.client)
    found = models_of(recorder)["output"][-1]
    assert (found.name, found.tags, found.iteration) == ("net", ["x"], 3)
    assert Path(found.get_local_copy(raise_on_error=True) or "").read_text() == "weights"

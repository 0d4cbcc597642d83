"""Models of unmodified ClearML scripts and of our own: registered by one, found and downloaded by the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.clearml.conftest import ClearML
from tests.clearml.test_artifacts import ours
from tests.conftest import House

from taskloom.wire.messages import ModelQuery
from taskloom.wire.operations import GET_MODEL, GET_TASK, QUERY_MODELS

Of = Callable[[House], ClearML]

WHOLE_LIFE = """
import json
from pathlib import Path
from clearml import InputModel, Model, OutputModel, Task

task = Task.init(project_name="models/of clearml", task_name="made by clearml", output_uri=True,
                 auto_connect_frameworks=False)
task.connect_label_enumeration({"cat": 1, "dog": 2})
Path("weights.pt").write_bytes(b"weights" * 1000)
model = OutputModel(task=task, name="first net", config_dict={"layers": 3}, framework="PyTorch",
                    tags=["candidate", "small"], comment="as it was made")
model.update_weights("weights.pt", auto_delete_file=False, iteration=3)
model.wait_for_uploads()
model.set_metadata("accuracy", 0.5, "float")
model.set_metadata("note", "good; ä")
model.set_all_metadata({"layers": {"value": "3", "type": "int"}}, replace=False)
print("model=" + model.id)
print("url=" + model.url)

package = OutputModel(task=task, name="a package")
Path("parts").mkdir()
for name in ("one.bin", "two.bin"):
    Path("parts", name).write_text(name)
package.update_weights_package(weights_path="parts", auto_delete_file=False)
package.wait_for_uploads()
print("package=" + package.id)

elsewhere = InputModel.import_model("https://example.org/net.onnx", name="from elsewhere", framework="ONNX")
again = InputModel.import_model("https://example.org/net.onnx")
assert again.id == elsewhere.id
task.connect(elsewhere, name="base")
print("elsewhere=" + elsewhere.id)

found = InputModel(model_id=model.id)
assert (found.name, found.framework, found.labels) == ("first net", "PyTorch", {"cat": 1, "dog": 2}), found.labels
assert found.config_dict == {"layers": 3}, found.config_dict
assert sorted(found.tags) == ["candidate", "small"]
assert found.get_metadata("note") == "good; ä" and found.get_metadata_casted("accuracy") == 0.5
assert Path(found.get_local_copy(force_download=True)).read_bytes() == b"weights" * 1000
assert InputModel(name="first net", project="models/of clearml").id == model.id
assert InputModel.import_model(model.url).id == model.id
inner = sorted(Path(path).name for path in Model(package.id).get_weights_package())
assert inner == ["one.bin", "two.bin"], inner

def ids(**asked):
    return {one.id for one in Model.query_models(project_name="models/of clearml", **asked)}

assert ids() == {model.id, package.id, elsewhere.id}
assert ids(model_name="first net") == {model.id} and ids(model_name="first") == set()
assert ids(tags=["candidate"]) == {model.id} and ids(tags=["__$all", "candidate", "absent"]) == set()
assert ids(tags=["candidate", "-small"]) == set()
assert ids(metadata={"accuracy": "0.5", "layers": "3"}) == {model.id} and ids(metadata={"accuracy": "1"}) == set()
assert len(Model.query_models(project_name="models/of clearml", max_results=2)) == 2

model.tags = ["best"]
model.comment = "said later"
model.publish()
assert Model(model.id).published and ids(only_published=True) == {model.id}
package.archive()
assert ids() == {model.id, elsewhere.id} and package.id in ids(include_archived=True)
package.unarchive()
assert package.id in ids()

spare = OutputModel(task=task, name="spare")
spare.update_weights("weights.pt", auto_delete_file=False, target_filename="spare.pt")
spare.wait_for_uploads()
url = spare.url
print("removed=%s" % Model.remove(spare.id))
print("used=%s" % Model.remove(elsewhere.id))
print("published=%s" % Model.remove(model.id))
from clearml import StorageManager
print("left=%s" % StorageManager.exists_file(url))
print("links=" + json.dumps({k: [m.name for m in v] for k, v in Task.get_task(task_id=task.id).models.items()}))
print("id=" + task.id)
task.close()
"""

AUTOLOG = """
import joblib
from clearml import Task
from sklearn.linear_model import LinearRegression
task = Task.init(project_name="models/of joblib", task_name="sklearn", output_uri=True)
line = LinearRegression().fit([[0], [1]], [0, 1])
joblib.dump(line, "line.pkl", compress=True)
task.flush(wait_for_uploads=True)
print("id=" + task.id)
task.close()
"""

OURS_READ = """
import sys
from pathlib import Path
from taskloom import Model
model = Model(sys.argv[1])
assert (model.name, model.framework, model.project, model.published) == (
    "first net", "PyTorch", "models/of clearml", True)
assert (model.labels, model.tags, model.comment) == ({"cat": 1, "dog": 2}, ["best"], "said later")
assert model.config_text == "layers = 3", model.config_text
assert model.get_all_metadata() == {"accuracy": 0.5, "note": "good; ä", "layers": 3}
assert Path(model.get_local_copy()).read_bytes() == b"weights" * 1000
package = Model(sys.argv[2])
assert sorted(path.name for path in package.get_weights_package()) == ["one.bin", "two.bin"]
assert [found.id for found in Model.query_models(model_name="first net")] == [model.id]
print("all=read")
"""

OURS_MAKE = """
from pathlib import Path
from taskloom import OutputModel, Task
task = Task.init(project_name="models/of ours", task_name="made by ours")
Path("net.pt").write_bytes(b"ours" * 500)
model = OutputModel(task, name="our net", framework="PyTorch", label_enumeration={"a": 1}, tags=["ours"],
                    config_text="three layers")
model.update_weights("net.pt", async_enable=False)
model.set_metadata("accuracy", 0.25)
print("id=" + task.id)
print("model=" + model.id)
task.close()
"""

CLEARML_READS = """
import sys
from pathlib import Path
from clearml import InputModel, Model, Task
model = InputModel(model_id=sys.argv[1])
assert (model.name, model.framework, model.labels, model.config_text) == ("our net", "PyTorch", {"a": 1}, "three layers")
assert Path(model.get_local_copy()).read_bytes() == b"ours" * 500
assert Path(model.get_local_copy()).suffix == ".pt"
assert model.get_metadata_casted("accuracy") == 0.25
assert [m.id for m in Model.query_models(project_name="models/of ours", tags=["ours"])] == [model.id]
assert [m.id for m in Task.get_task(task_id=sys.argv[2]).models["output"]] == [model.id]
assert InputModel.import_model(model.url).id == model.id
model.comment = "told by clearml"
model.tags = ["ours", "seen"]
print("all=read")
"""


def test_a_model_of_clearml_lives_and_is_read_by_ours(shared_house: House, clearml_of: Of, tmp_path: Path) -> None:
    clearml = clearml_of(shared_house)
    ran = clearml.run(WHOLE_LIFE).ok()
    call = shared_house.client.call
    assert [ran.said(word) for word in ("removed", "used", "published", "left")] == [
        "True",
        "False",
        "False",
        "False",
    ]
    assert json.loads(ran.said("links")) == {"input": ["from elsewhere"], "output": ["first net", "a package"]}
    model = call(GET_MODEL, model=ran.said("model"))
    assert (model.size, model.filename, model.uri) == (7000, "weights.pt", ran.said("url"))
    assert (model.task, model.project, model.iteration) == (ran.said("id"), "models/of clearml", 3)
    assert model.digest
    found = call(QUERY_MODELS, ModelQuery(project="models/of clearml")).models
    assert {one.name for one in found} == {"first net", "a package", "from elsewhere"}
    links = [(link.model, link.direction) for link in call(GET_TASK, task=ran.said("id")).models]
    assert set(links) == {
        (ran.said("model"), "output"),
        (ran.said("package"), "output"),
        (ran.said("elsewhere"), "input"),
    }
    assert "all=read" in ours(shared_house, tmp_path, OURS_READ, ran.said("model"), ran.said("package"))


def test_what_joblib_writes_is_a_model_with_its_weights(shared_house: House, clearml_of: Of) -> None:
    ran = clearml_of(shared_house).run(AUTOLOG).ok()
    task = shared_house.client.call(GET_TASK, task=ran.said("id"))
    assert [link.direction for link in task.models] == ["output"]
    model = shared_house.client.call(GET_MODEL, model=task.models[0].model)
    assert (model.framework, model.filename, model.task) == ("ScikitLearn", "line.pkl", task.id)
    assert model.digest and model.size > 0


def test_a_model_of_ours_is_read_by_clearml(shared_house: House, clearml_of: Of, tmp_path: Path) -> None:
    said = dict(line.split("=", 1) for line in ours(shared_house, tmp_path, OURS_MAKE).splitlines() if "=" in line)
    ran = clearml_of(shared_house).run(CLEARML_READS, said["model"], said["id"]).ok()
    assert ran.said("all") == "read"
    model = shared_house.client.call(GET_MODEL, model=said["model"])
    assert (model.comment, model.tags, model.size) == ("told by clearml", ("ours", "seen"), 2000)

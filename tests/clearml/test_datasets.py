"""Datasets: made, extended by children, listed, fetched and deleted, by the SDK and by `clearml-data`."""

from __future__ import annotations

from tests.clearml.conftest import ClearML

from taskloom.domain.status import Status
from taskloom.wire.messages import TaskQuery
from taskloom.wire.operations import GET_TASK, QUERY_TASKS

PARENT_AND_CHILD = """
import hashlib, os, pathlib
from clearml import Dataset

def content(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(pathlib.Path(folder).rglob("*")) if p.is_file()}

source = pathlib.Path("source")
(source / "deep").mkdir(parents=True)
(source / "a.txt").write_text("first")
(source / "deep" / "b.bin").write_bytes(bytes(range(256)) * 400)
(source / "gone.txt").write_text("will go")

parent = Dataset.create(dataset_name="numbers", dataset_project="data", dataset_tags=["raw"])
parent.add_files("source")
parent.set_metadata({"rows": 3})
parent.upload()
parent.finalize()
print("parent=" + parent.id)

(source / "a.txt").write_text("second")
(source / "gone.txt").unlink()
(source / "new.txt").write_text("new")
child = Dataset.create(dataset_name="numbers", dataset_project="data", parent_datasets=[parent.id], dataset_version="2.0.0")
child.sync_folder("source")
child.upload()
child.finalize()
print("child=" + child.id)

again = Dataset.get(dataset_project="data", dataset_name="numbers", dataset_version="2.0.0")
assert again.id == child.id
assert content(again.get_local_copy()) == content("source")
old = Dataset.get(dataset_id=parent.id)
assert sorted(content(old.get_local_copy())) == ["a.txt", "deep/b.bin", "gone.txt"]
assert old.get_metadata() == {"rows": 3}
assert again.get_dependency_graph()[child.id] == [parent.id]
assert sorted(again.list_modified_files(parent.id)) == ["a.txt"]
assert sorted(again.list_removed_files(parent.id)) == ["gone.txt"]
assert sorted(again.list_added_files(parent.id)) == ["new.txt"]
listed = Dataset.list_datasets(dataset_project="data", only_completed=True)
assert {parent.id, child.id} <= {one["id"] for one in listed}, listed
tagged = Dataset.list_datasets(dataset_project="data", tags=["raw"])
assert [one["id"] for one in tagged] == [parent.id], tagged

child.publish()
squashed = Dataset.squash("flat", dataset_ids=[parent.id, child.id])
flat = pathlib.Path(squashed.get_local_copy())
assert sorted(content(flat)) == ["a.txt", "deep/b.bin", "gone.txt", "new.txt"], "what any of them holds"
assert (flat / "a.txt").read_text() == "second"
Dataset.delete(dataset_id=squashed.id, force=True)
try:
    Dataset.get(dataset_id=squashed.id)
except ValueError:
    print("squashed=deleted")
print("squashed_id=" + squashed.id)
"""


def test_a_dataset_and_its_child_come_back_file_by_file(clearml: ClearML) -> None:
    ran = clearml.run(PARENT_AND_CHILD).ok()
    call = clearml.house.client.call
    parent, child = call(GET_TASK, task=ran.said("parent")), call(GET_TASK, task=ran.said("child"))
    assert parent.status is Status.COMPLETED
    assert child.status is Status.PUBLISHED
    assert parent.type == "data_processing"
    assert parent.project == "data/.datasets/numbers"
    assert "dataset" in parent.system_tags
    assert parent.tags == ("raw",)
    data = [artifact for artifact in child.artifacts if artifact.name.startswith("data")]
    assert data, "the child's bytes are artifacts of its task"
    assert all(artifact.digest for artifact in data), "held by the server"
    assert ran.said("squashed") == "deleted"
    found = call(QUERY_TASKS, TaskQuery(project="data", subprojects=True, hidden=True)).tasks
    assert {task.id for task in found} == {parent.id, child.id}


def test_the_clearml_data_program_makes_lists_fetches_and_deletes(clearml: ClearML) -> None:
    files = clearml.folder / "files"
    files.mkdir()
    (files / "one.csv").write_text("x,y\n1,2\n")
    made = clearml.command("clearml-data", "create", "--project", "data", "--name", "table").ok()
    dataset = next(word.split("=")[1] for word in made.out.replace(",", " ").split() if word.startswith("id="))
    clearml.command("clearml-data", "add", "--files", str(files)).ok()
    clearml.command("clearml-data", "close").ok()
    task = clearml.house.client.call(GET_TASK, task=dataset)
    assert task.status is Status.COMPLETED

    listed = clearml.command("clearml-data", "list", "--id", dataset).ok()
    assert "one.csv" in listed.out
    searched = clearml.command("clearml-data", "search", "--project", "data", "--name", "table").ok()
    assert dataset in searched.out
    target = clearml.folder / "copy"
    clearml.command("clearml-data", "get", "--id", dataset, "--copy", str(target)).ok()
    assert (target / "one.csv").read_text() == "x,y\n1,2\n"
    clearml.command("clearml-data", "delete", "--id", dataset, "--force").ok()
    assert not clearml.house.client.call(QUERY_TASKS, TaskQuery(ids=[dataset])).tasks

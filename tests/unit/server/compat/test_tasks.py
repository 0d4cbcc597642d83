"""Tasks made, edited, cloned and deleted in ClearML's own forms; what arrives is read through our own API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.conftest import Clock, House
from tests.unit.server.compat.test_lives import WAYS
from tests.unit.server.compat.wire import ClearMLWire, Refused

from taskloom.domain.artifact import Model
from taskloom.domain.parameters import Parameter
from taskloom.domain.status import Status
from taskloom.domain.task import Property, Task
from taskloom.wire.messages import ModelCreate, ProjectCreate
from taskloom.wire.operations import CREATE_MODEL, CREATE_PROJECT, GET_MODEL, GET_TASK


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = House(tmp_path_factory.mktemp("tasks") / "house", Clock())
    yield running
    running.stop()


@pytest.fixture(scope="module")
def wire(house: House) -> ClearMLWire:
    return ClearMLWire(house)


@pytest.fixture
def ours(house: House) -> Callable[[str], Task]:
    return lambda task: house.client.call(GET_TASK, task=task)


def make(wire: ClearMLWire, status: str = "created", **fields: object) -> str:
    task: str = wire.call("tasks.create", **{"name": "some task", "type": "training", **fields})["id"]
    for step in WAYS[status]:
        wire.call(f"tasks.{step}", task=task)
    return task


def theirs(wire: ClearMLWire, task: str) -> dict[str, Any]:
    return wire.call("tasks.get_by_id", task=task)["task"]


def refusal(work: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(Refused) as refused:
        work()
    return refused.value.code, refused.value.subcode


def model(house: House, name: str = "weights") -> str:
    return house.client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name=name, uri="s3://a/b"))).id


def artifact(key: str, **more: object) -> dict[str, Any]:
    return {"key": key, "type": "custom", "mode": "output", "uri": f"s3://bucket/{key}", "content_size": 5, **more}


# --- made -------------------------------------------------------------------------------------------------


def test_a_task_is_made_with_everything_at_once(
    wire: ClearMLWire, house: House, ours: Callable[[str], Task]
) -> None:
    project = house.client.call(CREATE_PROJECT, ProjectCreate(name="made/here")).id
    used = model(house)
    task = make(
        wire,
        project=project,
        comment="why",
        tags=["a"],
        system_tags=["development"],
        script={"entry_point": "a.py", "requirements": {"pip": "numpy", "conda": "x"}},
        hyperparams={"Args": {"lr": {"value": 0.5, "type": "float"}}, "properties": {"p": {"value": "1"}}},
        configuration={"net": {"value": "{}", "type": "json"}},
        container={"image": "ubuntu"},
        runtime={"progress": "7", "x": 1},
        output_dest="s3://there",
        models={"input": [{"name": "weights", "model": used}]},
        execution={"artifacts": [artifact("given", mode="input")]},
    )
    made = ours(task)
    assert (made.project, made.comment, made.tags, made.system_tags) == (
        "made/here",
        "why",
        ("a",),
        ("development",),
    )
    assert made.execution.entry_point == "a.py"
    assert made.execution.foreign == {"requirements": {"conda": "x"}}
    assert made.parameters == {"Args": {"lr": Parameter("0.5", "float")}}
    assert made.properties == {"p": Property("1")}
    assert (made.progress, made.runtime, made.output_uri) == (7, {"x": 1}, "s3://there")
    assert [(link.name, link.model, link.direction) for link in made.models] == [("weights", used, "input")]
    assert [found.name for found in made.artifacts] == ["given"]
    assert theirs(wire, task)["execution"]["artifacts"][0]["mode"] == "input"


def test_a_task_without_a_project_gets_one(wire: ClearMLWire, ours: Callable[[str], Task]) -> None:
    assert ours(make(wire)).project == "default"


def test_what_cannot_be_made_is_told_by_its_number(wire: ClearMLWire) -> None:
    assert refusal(lambda: wire.call("tasks.create", type="training")) == (400, 11)
    assert refusal(lambda: make(wire, type="nonsense")) == (400, 12)
    assert refusal(lambda: make(wire, project="0" * 32)) == (400, 401)
    assert refusal(lambda: make(wire, models={"output": [{"name": "a", "model": "0" * 32}]})) == (400, 201)
    assert refusal(lambda: wire.call("tasks.validate", name="ab", type="training")) == (400, 12)
    assert wire.call("tasks.validate", name="abc", type="training") == {}


# --- edited -----------------------------------------------------------------------------------------------

WHAT_TO_RUN = {
    "script": {"branch": "other"},
    "hyperparams": {"Args": {"a": {"value": "1"}}},
    "container": {"image": "x"},
}
NEUTRAL = {"name": "a new name", "comment": "c", "tags": ["t"], "system_tags": ["s"], "runtime": {"x": 1}}


@pytest.mark.parametrize("field", NEUTRAL)
@pytest.mark.parametrize("status", WAYS)
def test_what_only_describes_a_task_is_edited_any_time(wire: ClearMLWire, status: str, field: str) -> None:
    task = make(wire, status)
    assert wire.call("tasks.edit", task=task, **{field: NEUTRAL[field]})["updated"] == 1
    assert theirs(wire, task)[field] == NEUTRAL[field]


@pytest.mark.parametrize("field", WHAT_TO_RUN)
@pytest.mark.parametrize("status", WAYS)
def test_what_to_run_is_edited_before_the_end_or_by_force(wire: ClearMLWire, status: str, field: str) -> None:
    task = make(wire, status)
    change = {field: WHAT_TO_RUN[field]}
    if status in {"created", "queued", "in_progress"}:
        wire.call("tasks.edit", task=task, **change)
    else:
        assert refusal(lambda: wire.call("tasks.edit", task=task, **change)) == (400, 110)
    if status == "published":
        assert refusal(lambda: wire.call("tasks.edit", task=task, force=True, **change)) == (400, 110)
    else:
        wire.call("tasks.edit", task=task, force=True, **change)


def test_script_is_merged_and_parameters_are_replaced(wire: ClearMLWire, ours: Callable[[str], Task]) -> None:
    task = make(wire, script={"repository": "r", "branch": "b"}, hyperparams={"A": {"x": {"value": "1"}}})
    wire.call("tasks.edit", task=task, script={"branch": "c"}, hyperparams={"B": {"y": {"value": "2"}}})
    found = ours(task)
    assert (found.execution.repository, found.execution.branch) == ("r", "c")
    assert found.parameters == {"B": {"y": Parameter("2")}}
    wire.call("tasks.edit", task=task, hyperparams={}, configuration={}, container={}, script={"branch": ""})
    assert (ours(task).parameters, ours(task).execution.branch) == ({}, "")


def test_an_edit_of_the_project_moves_the_task(
    wire: ClearMLWire, house: House, ours: Callable[[str], Task]
) -> None:
    project = house.client.call(CREATE_PROJECT, ProjectCreate(name="another place")).id
    task = make(wire)
    wire.call("tasks.edit", task=task, project=project)
    assert (ours(task).project, ours(task).project_id) == ("another place", project)
    assert refusal(lambda: wire.call("tasks.edit", task=task, project="f" * 32)) == (400, 401)
    told = wire.call("tasks.move", ids=[task], project_name="made/on the fly")
    assert ours(task).project == "made/on the fly"
    assert told["project_id"] == ours(task).project_id
    assert refusal(lambda: wire.call("tasks.move", ids=[task])) == (400, 11)


def test_update_only_describes(wire: ClearMLWire, ours: Callable[[str], Task]) -> None:
    task = make(wire, "published")
    wire.call("tasks.update", task=task, name="better name", comment="seen", tags=["x"], script={"branch": "no"})
    found = ours(task)
    assert (found.name, found.comment, found.tags, found.execution.branch) == ("better name", "seen", ("x",), "")
    lines = "\n".join(json.dumps({"task": task, "comment": text}) for text in ("one", "two"))
    assert wire.send("tasks.update_batch", lines.encode(), "application/json-lines") == {"updated": 2}
    assert ours(task).comment == "two"
    assert refusal(lambda: wire.send("tasks.update_batch", b"\n", "application/json-lines")) == (400, 17)


def test_each_edit_that_changes_something_is_a_revision(wire: ClearMLWire, ours: Callable[[str], Task]) -> None:
    task = make(wire)
    for _ in range(2):
        wire.call("tasks.edit", task=task, comment="the same")
    assert ours(task).revision == 1


# --- parts ------------------------------------------------------------------------------------------------


def test_parameters_are_edited_one_by_one(wire: ClearMLWire, ours: Callable[[str], Task]) -> None:
    task = make(wire, hyperparams={"A": {"x": {"value": "1"}, "y": {"value": "2"}}, "B": {"z": {"value": "3"}}})

    def item(section: str, name: str, value: str) -> dict[str, str]:
        return {"section": section, "name": name, "value": value}

    def flat() -> dict[str, str]:
        found = ours(task)
        mine = {f"{s}/{n}": p.value for s, names in found.parameters.items() for n, p in names.items()}
        return mine | {f"properties/{n}": p.value for n, p in found.properties.items()}

    def edit(*items: dict[str, str], replace: str | None = None) -> None:
        wire.call("tasks.edit_hyper_params", task=task, hyperparams=list(items), replace_hyperparams=replace)

    edit(item("A", "x", "9"), item("properties", "p", "q"))
    assert flat() == {"A/x": "9", "A/y": "2", "B/z": "3", "properties/p": "q"}
    edit(item("A", "new", "5"), replace="section")
    assert flat() == {"A/new": "5", "B/z": "3", "properties/p": "q"}
    told = wire.call("tasks.get_hyper_params", tasks=[task])["params"]
    assert told[0]["task"] == task
    assert {(i["section"], i["name"], i["value"]) for i in told[0]["hyperparams"]} == {
        ("A", "new", "5"),
        ("B", "z", "3"),
        ("properties", "p", "q"),
    }
    keys = [{"section": "A", "name": "new"}, {"section": "B"}, {"section": "properties", "name": "never there"}]
    assert wire.call("tasks.delete_hyper_params", task=task, hyperparams=keys) == {"deleted": 1}
    assert flat() == {"properties/p": "q"}
    edit(item("C", "only", "1"), replace="all")
    assert flat() == {"C/only": "1"}
    assert refusal(lambda: edit(replace="nonsense")) == (400, 12)
    assert refusal(lambda: wire.call("tasks.get_hyper_params", tasks=[task, "f" * 32])) == (400, 101)


def test_properties_are_edited_in_every_state_and_parameters_are_not(wire: ClearMLWire) -> None:
    task = make(wire, "published")
    mine = [{"section": "properties", "name": "p", "value": "1"}]
    wire.call("tasks.edit_hyper_params", task=task, hyperparams=mine)
    assert theirs(wire, task)["hyperparams"]["properties"]["p"]["value"] == "1"
    other = [{"section": "Args", "name": "p", "value": "1"}]
    for force in (False, True):
        fields = {"task": task, "hyperparams": other, "force": force}
        assert refusal(lambda f=fields: wire.call("tasks.edit_hyper_params", **f)) == (400, 110)


def test_configurations_are_edited_one_by_one(wire: ClearMLWire) -> None:
    task = make(wire, configuration={"a": {"value": "1"}, "empty": {"value": ""}})
    wire.call("tasks.edit_configuration", task=task, configuration=[{"name": "b", "value": "2", "type": "json"}])
    assert wire.call("tasks.get_configuration_names", tasks=[task])["configurations"] == [
        {"task": task, "names": ["a", "b"]}
    ]
    every = wire.call("tasks.get_configuration_names", tasks=[task], skip_empty=False)["configurations"]
    assert every[0]["names"] == ["a", "empty", "b"]
    told = wire.call("tasks.get_configurations", tasks=[task], names=["b"])["configurations"]
    assert told == [
        {"task": task, "configuration": [{"name": "b", "value": "2", "type": "json", "description": None}]}
    ]
    assert wire.call("tasks.delete_configuration", task=task, configuration=["a", "empty"]) == {"deleted": 1}
    assert list(theirs(wire, task)["configuration"]) == ["b"]
    only = [{"name": "c", "value": "3"}]
    wire.call("tasks.edit_configuration", task=task, configuration=only, replace_configuration=True)
    assert list(theirs(wire, task)["configuration"]) == ["c"]


def test_requirements_are_replaced_and_nothing_else(wire: ClearMLWire, ours: Callable[[str], Task]) -> None:
    task = make(wire, "in_progress", script={"branch": "b", "requirements": {"pip": "a", "conda": "c"}})
    wire.call("tasks.set_requirements", task=task, requirements={"pip": "x==1\ny", "org_pip": "a"})
    execution = ours(task).execution
    assert (execution.branch, execution.packages) == ("b", "x==1\ny")
    assert theirs(wire, task)["script"]["requirements"] == {"pip": "x==1\ny", "org_pip": "a"}
    assert refusal(lambda: wire.call("tasks.set_requirements", task=task)) == (400, 11)


def test_artifacts_are_added_replaced_and_deleted(wire: ClearMLWire, ours: Callable[[str], Task]) -> None:
    task = make(wire, "in_progress")
    some = [artifact("one"), artifact("two", content_size=7)]
    assert wire.call("tasks.add_or_update_artifacts", task=task, artifacts=some) == {"updated": 1}
    assert [(a.name, a.size, a.uri) for a in ours(task).artifacts] == [
        ("one", 5, "s3://bucket/one"),
        ("two", 7, "s3://bucket/two"),
    ]
    gone = [{"key": "one", "mode": "output"}, {"key": "two", "mode": "input"}]
    for _ in range(2):
        assert wire.call("tasks.delete_artifacts", task=task, artifacts=gone) == {"deleted": 1}
    assert [a.name for a in ours(task).artifacts] == ["two"], "the other one is no input"
    wire.call("tasks.completed", task=task, publish=True)
    refused = {"task": task, "artifacts": some, "force": True}
    assert refusal(lambda: wire.call("tasks.add_or_update_artifacts", **refused)) == (400, 110)


def test_a_list_of_artifacts_sent_back_changes_nothing(wire: ClearMLWire, ours: Callable[[str], Task]) -> None:
    task = make(wire)
    preview = {"preview": "a table", "content_type": "text/csv", "data_hash": "h"}
    some = [artifact("one", type_data=preview, display_data=[["rows", "3"]], hash="0" * 64, timestamp=5)]
    wire.call("tasks.add_or_update_artifacts", task=task, artifacts=[*some, artifact("two")])
    before = ours(task)
    execution = theirs(wire, task)["execution"]
    wire.call("tasks.edit", task=task, execution={**execution, "model_labels": {"cat": 1}})
    after = ours(task)
    assert after.artifacts == before.artifacts
    assert theirs(wire, task)["execution"]["model_labels"] == {"cat": 1}
    wire.call("tasks.edit", task=task, execution={"artifacts": execution["artifacts"][1:]})
    assert [a.name for a in ours(task).artifacts] == ["two"]


def test_models_are_linked_and_unlinked(wire: ClearMLWire, house: House, ours: Callable[[str], Task]) -> None:
    first, second = model(house), model(house, "other")
    task = make(wire, "in_progress")

    def link(name: str, which: str, kind: str) -> dict[str, Any]:
        return wire.call("tasks.add_or_update_model", task=task, name=name, model=which, type=kind, iteration=3)

    assert link("in", first, "input") == {"updated": 1}
    link("out", first, "output")
    link("out", second, "output")
    assert {(m.name, m.model, m.direction) for m in ours(task).models} == {
        ("in", first, "input"),
        ("out", second, "output"),
    }
    assert house.client.call(GET_MODEL, model=second).name == "other", "a link changes nothing of the model"
    assert refusal(lambda: link("x", "0" * 32, "output")) == (400, 201)
    assert refusal(lambda: link("x", first, "sideways")) == (400, 12)
    wire.call("tasks.delete_models", task=task, models=[{"name": "in", "type": "input"}])
    assert [m.name for m in ours(task).models] == ["out"]
    wire.call("tasks.edit", task=task, models={"input": [{"name": "again", "model": first}], "output": []})
    assert [(m.name, m.direction) for m in ours(task).models] == [("again", "input")]


def test_publishing_publishes_the_models_it_made(wire: ClearMLWire, house: House) -> None:
    made, used, kept = model(house), model(house), model(house)
    task = make(wire, "in_progress")
    wire.call("tasks.add_or_update_model", task=task, name="made", model=made, type="output")
    wire.call("tasks.add_or_update_model", task=task, name="used", model=used, type="input")
    wire.call("tasks.completed", task=task)
    wire.call("tasks.publish", task=task)
    other = make(wire, "in_progress")
    wire.call("tasks.add_or_update_model", task=other, name="kept", model=kept, type="output")
    wire.call("tasks.completed", task=other)
    wire.call("tasks.publish", task=other, publish_model=False)
    assert [house.client.call(GET_MODEL, model=m).published for m in (made, used, kept)] == [True, False, False]


# --- cloned, archived, deleted ----------------------------------------------------------------------------


def test_a_clone_runs_the_same_with_what_shall_differ(
    wire: ClearMLWire, house: House, ours: Callable[[str], Task]
) -> None:
    used = model(house)
    source = make(
        wire,
        "completed",
        parent="1" * 32,
        tags=["a"],
        system_tags=["development"],
        comment="of the source",
        script={"entry_point": "a.py", "requirements": {"conda": "c"}},
        hyperparams={"Args": {"lr": {"value": "1"}}, "properties": {"p": {"value": "2"}}},
        configuration={"net": {"value": "deep"}},
        models={"input": [{"name": "weights", "model": used}]},
        container={"image": "one"},
    )
    plain = ours(wire.call("tasks.clone", task=source)["id"])
    origin = ours(source)
    assert (plain.name, plain.status, plain.parent) == ("Clone Of some task", Status.DRAFT, "1" * 32)
    assert (plain.execution, plain.parameters, plain.properties) == (
        origin.execution,
        origin.parameters,
        origin.properties,
    )
    assert (plain.tags, plain.system_tags, plain.comment) == (("a",), (), "of the source")
    assert [m.model for m in plain.models] == [used]
    told = wire.call(
        "tasks.clone",
        task=source,
        new_task_name="another",
        new_task_comment="",
        new_task_tags=["b"],
        new_task_system_tags=["s"],
        new_task_parent=source,
        new_project_name="clones/here",
        new_task_hyperparams={"Args": {"lr": {"value": "2"}}},
        new_task_configuration={},
        new_task_container={"image": "two"},
        new_task_input_models=[],
        execution_overrides={"model_labels": {"x": 1}},
    )
    clone = ours(told["id"])
    assert told["new_project"] == {"id": clone.project_id, "name": "clones/here"}
    assert (clone.name, clone.comment, clone.tags, clone.system_tags) == ("another", "", ("b",), ("s",))
    assert clone.parent == source
    assert clone.parameters == {"Args": {"lr": Parameter("2")}}
    assert (clone.properties, clone.configuration, clone.models) == ({}, {}, ())
    assert clone.execution.image == "two"
    assert clone.execution.foreign["execution"] == {"model_labels": {"x": 1}}
    assert clone.execution.foreign["requirements"] == {"conda": "c"}


def test_archiving_hides_and_takes_out_of_the_queue(wire: ClearMLWire, ours: Callable[[str], Task]) -> None:
    waiting, done = make(wire, "queued"), make(wire, "completed")
    assert wire.call("tasks.archive", tasks=[waiting, done]) == {"archived": 2}
    assert (ours(waiting).status, ours(waiting).system_tags) == (Status.DRAFT, ("archived",))
    assert wire.call("tasks.unarchive", tasks=[done]) == {"unarchived": 1}
    assert ours(done).system_tags == ()
    assert refusal(lambda: wire.call("tasks.archive", tasks=["f" * 32])) == (400, 101)
    assert wire.call("tasks.make_public", ids=[done]) == {"updated": 1}


@pytest.mark.parametrize("status", WAYS)
def test_only_drafts_and_archived_tasks_are_deleted_without_force(wire: ClearMLWire, status: str) -> None:
    task = make(wire, status)
    if status != "created":
        assert refusal(lambda: wire.call("tasks.delete", task=task)) == (400, 110)
        if status not in {"queued", "in_progress", "published"}:
            wire.call("tasks.archive", tasks=[task])
    told = wire.call("tasks.delete", task=task, force=status in {"queued", "in_progress", "published"})
    assert told["deleted"] is True
    assert refusal(lambda: theirs(wire, task)) == (400, 101)


def test_who_deletes_may_ask_for_the_addresses_of_what_was_stored(wire: ClearMLWire, house: House) -> None:
    task = make(wire, "in_progress")
    wire.call("tasks.add_or_update_artifacts", task=task, artifacts=[artifact("one")])
    wire.call("tasks.add_or_update_model", task=task, name="m", model=model(house), type="output")
    told = wire.call("tasks.delete", task=task, force=True, return_file_urls=True, delete_external_artifacts=True)
    assert told["urls"] == {"artifact_urls": ["s3://bucket/one"], "model_urls": ["s3://a/b"], "event_urls": []}


def test_a_key_of_a_viewer_reads_tasks(wire: ClearMLWire, house: House) -> None:
    task = make(wire)
    viewer = ClearMLWire(house, house.make_key("viewer", "looker"))
    found = viewer.call("tasks.get_by_id", task=task)["task"]
    assert found["user"] == theirs(wire, task)["user"], "the same user for everybody"
    assert refusal(lambda: viewer.call("tasks.edit", task=task, comment="no")) == (403, 10)

"""Projects found by patterns, merged, and summed up; keys of metrics: the same on both databases."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.conftest import House
from tests.journals import Run
from tests.unit.server.compat.wire import ClearMLWire

from taskloom.domain.artifact import Model
from taskloom.domain.parameters import encode
from taskloom.wire.messages import ModelCreate, TaskCreate, TaskQuery
from taskloom.wire.operations import CREATE_MODEL, CREATE_TASK, QUERY_TASKS


def fill(house: House) -> None:
    client = house.client
    metadata: dict[str, Any] = {"size": {"key": "size", "type": "int", "value": "5"}}
    model = Model(id="", name="weights", project="top/low", tags=("green",), metadata=metadata)
    client.call(CREATE_MODEL, ModelCreate(model=model))
    parent = client.call(
        CREATE_TASK, TaskCreate(name="parent", project="top", tags=("red",), parameters={"A": {"lr": encode(0.5)}})
    )
    client.call(
        CREATE_TASK, TaskCreate(name="child", project="top/low", parent=parent.id, system_tags=("archived",))
    )
    Run(client).open(name="run", project="top/low").scalar(1, 2.0, "a/b", "c").end("completed").ship()


def test_projects_are_found_by_pattern_and_summed_up(any_house: House) -> None:
    fill(any_house)
    wire = ClearMLWire(any_house)
    found = {p["name"]: p["id"] for p in wire.call("projects.get_all", name="^t.p")["projects"]}
    assert sorted(found) == ["top", "top/low"]
    top = found["top"]
    (summed,) = wire.call("projects.get_all_ex", name="^top$", include_stats=True)["projects"]
    active, archived = summed["stats"]["active"], summed["stats"]["archived"]
    assert (active["total_tasks"], active["completed_tasks_24h"], archived["total_tasks"]) == (2, 1, 1)
    assert active["status_count"]["completed"] == 1
    assert wire.call("projects.get_task_tags", projects=[top], include_system=True) == {
        "tags": ["red"],
        "system_tags": ["archived"],
    }
    assert wire.call("projects.get_model_tags", projects=[top])["tags"] == ["green"]
    assert wire.call("projects.get_hyper_parameters", project=top)["parameters"] == [
        {"section": "A", "name": "lr"}
    ]
    assert wire.call("projects.get_hyperparam_values", projects=[top], section="A", name="lr")["values"] == ["0.5"]
    assert wire.call("projects.get_model_metadata_keys", project=top)["keys"] == ["size"]
    (variant,) = wire.call("projects.get_unique_metric_variants", project=top)["metrics"]
    assert (variant["metric"], variant["variant"]) == ("a/b", "c")
    (parent,) = wire.call("projects.get_task_parents", projects=[top])["parents"]
    assert parent["name"] == "parent"
    assert wire.call("tasks.get_types", projects=[top])["types"] == ["training"]


def test_metrics_are_found_by_the_hashes_of_their_names(any_house: House) -> None:
    fill(any_house)
    wire = ClearMLWire(any_house)
    key = f"last_metrics.{hashlib.md5(b'a/b').hexdigest()}.{hashlib.md5(b'c').hexdigest()}.max_value"
    found = wire.call("tasks.get_all", **{key: [2, None]}, order_by=[f"-{key}"], only_fields=["name"])["tasks"]
    assert [task["name"] for task in found] == ["run"]


def test_a_merged_project_leaves_nothing_behind(any_house: House) -> None:
    fill(any_house)
    wire = ClearMLWire(any_house)
    other = wire.call("projects.create", name="other/low")["id"]
    found = {p["name"]: p["id"] for p in wire.call("projects.get_all")["projects"]}
    assert wire.call("projects.merge", project=found["top"], destination_project=found["other"]) == {
        "moved_entities": 4,
        "moved_projects": 1,
    }
    tasks = any_house.client.call(QUERY_TASKS, TaskQuery(hidden=True)).tasks
    assert {task.name: task.project for task in tasks} == {
        "parent": "other",
        "child": "other/low",
        "run": "other/low",
    }
    assert {p["name"]: p["id"] for p in wire.call("projects.get_all")["projects"]} == {
        "other": found["other"],
        "other/low": other,
    }
    answer = wire.call("projects.delete", project=other, force=True, delete_contents=True)
    assert (answer["deleted_tasks"], answer["deleted_models"]) == (2, 1)


def test_a_scroll_goes_by_ids(any_house: House) -> None:
    made = sorted(
        any_house.client.call(CREATE_TASK, TaskCreate(name=f"task {n}", project="some")).id for n in range(7)
    )
    wire, seen, scroll = ClearMLWire(any_house), [], None
    for _ in range(3):
        answer = wire.call("tasks.get_all", size=3, scroll_id=scroll, only_fields=["id"])
        seen += [task["id"] for task in answer["tasks"]]
        scroll = answer["scroll_id"]
    assert seen == made

"""ClearML's calls about projects: found, made, moved, merged, deleted, and what they hold."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from tests.conftest import House
from tests.journals import Run
from tests.unit.server.compat.wire import ClearMLWire, Refused

from taskloom.domain.artifact import Model
from taskloom.domain.parameters import encode
from taskloom.domain.task import Property
from taskloom.wire.messages import ModelCreate, ModelQuery, TaskCreate, TaskQuery
from taskloom.wire.operations import CREATE_MODEL, CREATE_TASK, QUERY_MODELS, QUERY_TASKS


@pytest.fixture
def wire(house: House) -> ClearMLWire:
    return ClearMLWire(house)


def make(wire: ClearMLWire, name: str, **fields: Any) -> str:
    return wire.call("projects.create", name=name, **fields)["id"]


def names(wire: ClearMLWire, **fields: Any) -> list[str]:
    return [project["name"] for project in wire.call("projects.get_all", **fields)["projects"]]


def task(house: House, project: str, name: str = "some task", **fields: Any) -> str:
    return house.client.call(CREATE_TASK, TaskCreate(name=name, project=project, **fields)).id


def places(house: House) -> dict[str, str]:
    found = house.client.call(QUERY_TASKS, TaskQuery(hidden=True)).tasks
    return {one.name: one.project for one in found}


def refused(wire: ClearMLWire, name: str, /, **fields: Any) -> tuple[int, int]:
    with pytest.raises(Refused) as caught:
        wire.call(name, **fields)
    return caught.value.code, caught.value.subcode


def test_a_project_is_made_with_those_above_it_and_told_whole(house: House, wire: ClearMLWire) -> None:
    made = make(wire, "root/mid/leaf", description="some\nwords", tags=["t"], default_output_destination="s3://b")
    project = wire.call("projects.get_by_id", project=made)["project"]
    above = {p["name"]: p["id"] for p in wire.call("projects.get_all")["projects"]}
    assert sorted(above) == ["root", "root/mid", "root/mid/leaf"]
    assert project["basename"] == "leaf"
    assert (project["parent"], project["path"]) == (above["root/mid"], [above["root"], above["root/mid"]])
    assert (project["description"], project["tags"]) == ("some\nwords", ["t"])
    assert project["default_output_destination"] == "s3://b"
    assert project["user"] == wire.call("users.get_current_user")["user"]["id"]


def test_a_name_that_is_taken_or_too_short_is_refused_as_clients_expect(wire: ClearMLWire) -> None:
    make(wire, "taken")
    other = make(wire, "other")
    assert refused(wire, "projects.create", name="taken") == (400, 801)
    assert refused(wire, "projects.update", project=other, name="taken") == (400, 801)
    assert refused(wire, "projects.create", name="ab") == (400, 12)
    assert refused(wire, "projects.create") == (400, 11)
    assert refused(wire, "projects.get_by_id", project="0" * 32) == (400, 401)
    assert refused(wire, "projects.update", project="0" * 32, name="new") == (400, 401)


def test_names_are_patterns_and_hidden_projects_have_to_be_asked_for(wire: ClearMLWire) -> None:
    make(wire, "shown/inner")
    hidden = make(wire, "shown/.datasets/numbers", system_tags=["hidden", "dataset"])
    assert names(wire, name="^shown$") == ["shown"]
    assert names(wire, name="^shown/\\.datasets/.*") == []
    assert names(wire, name="^shown/\\.datasets/.*", search_hidden=True) == ["shown/.datasets/numbers"]
    assert names(wire, id=[hidden]) == ["shown/.datasets/numbers"]
    assert names(wire, name="^(sho|x)wn/i") == ["shown/inner"]
    assert names(wire, name="SHOWN") == []
    assert names(wire, basename="^inner$") == ["shown/inner"]
    assert names(wire, system_tags=["dataset"], search_hidden=True) == ["shown/.datasets/numbers"]
    assert names(wire, shallow_search=True) == ["shown"]
    (shown,) = wire.call("projects.get_all", name="^shown$")["projects"]
    assert names(wire, parent=[shown["id"]], order_by=["name"]) == ["shown/.datasets", "shown/inner"]
    below = names(wire, parent=[shown["id"]], search_hidden=True, shallow_search=True, order_by=["-name"])
    assert below == ["shown/inner", "shown/.datasets"]


def test_projects_are_filtered_ordered_and_paged(wire: ClearMLWire) -> None:
    for n in range(7):
        make(wire, f"project {n}", tags=["even"] if n % 2 == 0 else [], description=f"about {n % 3}")
    assert names(wire, tags=["even"]) == [f"project {n}" for n in (0, 2, 4, 6)]
    assert names(wire, tags=["-even"]) == [f"project {n}" for n in (1, 3, 5)]
    assert names(wire, tags=[None]) == [f"project {n}" for n in (1, 3, 5)]
    assert names(wire, description="2$") == ["project 2", "project 5"]
    assert names(wire, _any_={"fields": ["name", "description"], "pattern": "ABOUT 1|project 0"}) == [
        f"project {n}" for n in (0, 1, 4)
    ]
    assert names(wire, search_text="T 3") == ["project 3"]
    assert names(wire, order_by=["-name"], page=1, page_size=3) == [f"project {n}" for n in (3, 2, 1)]
    seen, scroll = [], None
    for _ in range(4):
        answer = wire.call("projects.get_all", size=3, scroll_id=scroll)
        seen += [project["name"] for project in answer["projects"]]
        scroll = answer["scroll_id"]
    assert sorted(seen) == [f"project {n}" for n in range(7)]
    (only,) = wire.call("projects.get_all", name="project 3", only_fields=["name"])["projects"]
    assert set(only) == {"id", "name"}
    assert refused(wire, "projects.get_all", name="(") == (400, 12)
    assert refused(wire, "projects.get_all", size=5, scroll_id="broken") == (400, 1104)


def test_an_update_changes_what_it_names(wire: ClearMLWire) -> None:
    made = make(wire, "before", description="kept", system_tags=["a"])
    make(wire, "before/below")
    answer = wire.call("projects.update", project=made, name="after", system_tags=["a", "hidden"], unknown=1)
    assert answer == {"updated": 1, "fields": {"name": "after", "system_tags": ["a", "hidden"]}}
    project = wire.call("projects.get_by_id", project=made)["project"]
    assert (project["name"], project["description"]) == ("after", "kept")
    assert names(wire, name="^after/") == ["after/below"]


def test_a_moved_project_takes_everything_below_it_along(house: House, wire: ClearMLWire) -> None:
    moved = make(wire, "here/thing")
    make(wire, "here/thing/below")
    task(house, "here/thing/below")
    assert wire.call("projects.move", project=moved, new_location="there/new") == {"moved": 2}
    assert places(house) == {"some task": "there/new/thing/below"}
    wire.call("projects.move", project=moved, new_location="")
    assert places(house) == {"some task": "thing/below"}


def test_merging_joins_what_both_have(house: House, wire: ClearMLWire) -> None:
    source, target = make(wire, "source"), make(wire, "target")
    for path, name in (
        ("source", "one"),
        ("source/same", "two"),
        ("source/own", "three"),
        ("target/same", "four"),
    ):
        task(house, path, f"task {name}")
    model = house.client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name="weights", project="source/own")))
    merged = wire.call("projects.merge", project=source, destination_project=target)
    assert merged == {"moved_entities": 4, "moved_projects": 2}
    assert places(house) == {
        "task one": "target",
        "task two": "target/same",
        "task three": "target/own",
        "task four": "target/same",
    }
    (kept,) = house.client.call(QUERY_MODELS, ModelQuery(ids=[model.id])).models
    assert kept.project == "target/own"
    assert names(wire, name="source") == []
    inner = wire.call("projects.get_all", name="^target/own$")["projects"][0]["id"]
    assert refused(wire, "projects.merge", project=target, destination_project=inner) == (400, 12)


def test_a_project_with_tasks_is_deleted_by_force_and_leaves_them(house: House, wire: ClearMLWire) -> None:
    made = make(wire, "doomed")
    task(house, "doomed")
    task(house, "doomed/below", "lower task")
    held = wire.call("projects.validate_delete", project=made)
    assert held == {"tasks": 2, "non_archived_tasks": 2, "models": 0, "non_archived_models": 0}
    assert refused(wire, "projects.delete", project=made) == (400, 402)
    answer = wire.call("projects.delete", project=made, force=True)
    assert (answer["deleted"], answer["disassociated_tasks"], answer["deleted_tasks"]) == (2, 2, 0)
    assert places(house) == {"some task": "default", "lower task": "default"}
    assert names(wire) == ["default"]


def test_a_project_is_deleted_with_its_contents_when_that_is_asked(house: House, wire: ClearMLWire) -> None:
    made = make(wire, "doomed")
    task(house, "doomed/below")
    house.client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name="weights", project="doomed")))
    answer = wire.call("projects.delete", project=made, force=True, delete_contents=True)
    assert (answer["deleted"], answer["deleted_tasks"], answer["deleted_models"]) == (2, 1, 1)
    assert places(house) == {}
    assert house.client.call(QUERY_MODELS, ModelQuery()).models == []
    assert refused(wire, "projects.delete", project=made) == (400, 401)


def test_archived_tasks_do_not_hold_a_project(house: House, wire: ClearMLWire) -> None:
    made = make(wire, "old things")
    task(house, "old things", system_tags=("archived",))
    assert wire.call("projects.delete", project=made)["disassociated_tasks"] == 1
    assert places(house) == {"some task": "default"}


def test_a_viewer_reads_and_changes_nothing(house: House, wire: ClearMLWire) -> None:
    made = make(wire, "looked at")
    viewer = ClearMLWire(house, house.make_key("viewer", "guest"))
    assert names(viewer) == ["looked at"]
    for call in ("projects.create", "projects.update", "projects.delete", "projects.move", "projects.merge"):
        assert refused(viewer, call, project=made, name="other")[0] == 403


def test_what_projects_hold_is_told(house: House, wire: ClearMLWire) -> None:
    parent = task(
        house,
        "top",
        "parent",
        tags=("red",),
        system_tags=("special",),
        parameters={"Args": {"lr": encode(0.5)}},
        properties={"note": Property("x")},
    )
    task(house, "top/low", "child", tags=("blue",), parent=parent, parameters={"Args": {"lr": encode(0.25)}})
    run = (
        Run(house.client)
        .open(name="run", project="top/low")
        .scalar(1, 2.0, "a/b", "c")
        .scalar(1, 3.0, "plain", "s")
    )
    run.end("completed").ship()
    metadata: dict[str, Any] = {"size": {"key": "size", "type": "int", "value": "5"}}
    model = Model(id="", name="weights", project="top", tags=("green",), metadata=metadata)
    house.client.call(CREATE_MODEL, ModelCreate(model=model))
    found = {p["name"]: p["id"] for p in wire.call("projects.get_all")["projects"]}
    top, low = found["top"], found["top/low"]

    assert wire.call("projects.get_task_tags", projects=[top]) == {"tags": ["blue", "red"]}
    with_system = wire.call("projects.get_task_tags", projects=[top], include_system=True)
    assert with_system["system_tags"] == ["special"]
    assert wire.call("projects.get_task_tags", projects=[low]) == {"tags": ["blue"]}
    assert wire.call("projects.get_model_tags", projects=[top]) == {"tags": ["green"]}
    assert wire.call("organization.get_tags") == {"tags": ["blue", "green", "red"]}
    parameters = wire.call("projects.get_hyper_parameters", project=top)
    assert parameters == {
        "total": 2,
        "remaining": 0,
        "parameters": [{"section": "Args", "name": "lr"}, {"section": "properties", "name": "note"}],
    }
    values = wire.call("projects.get_hyperparam_values", projects=[top], section="Args", name="lr")
    assert (values["total"], values["values"]) == (2, ["0.25", "0.5"])
    alone = wire.call(
        "projects.get_hyperparam_values", projects=[top], section="Args", name="lr", include_subprojects=False
    )
    assert alone["values"] == ["0.5"]
    metrics = wire.call("projects.get_unique_metric_variants", project=top)["metrics"]
    assert [(m["metric"], m["variant"]) for m in metrics] == [("a/b", "c"), ("plain", "s")]
    assert metrics[0]["metric_hash"] == hashlib.md5(b"a/b").hexdigest()
    assert wire.call("projects.get_model_metadata_keys", project=top)["keys"] == ["size"]
    parents = wire.call("projects.get_task_parents", projects=[top])["parents"]
    assert parents == [{"id": parent, "name": "parent", "project": {"id": top, "name": "top"}}]
    assert wire.call("projects.get_task_parents", projects=[top], tasks_state="archived") == {"parents": []}
    assert wire.call("tasks.get_types", projects=[top])["types"] == ["training"]


def test_statistics_count_states_with_and_without_those_below(house: House, wire: ClearMLWire) -> None:
    task(house, "sums", "draft")
    task(house, "sums", "old draft", system_tags=("archived",))
    task(house, "sums", "secret", system_tags=("hidden",))
    Run(house.client).open(name="run", project="sums/low").scalar(1, 2.0).end("completed").ship()
    (top,) = wire.call("projects.get_all_ex", name="^sums$", include_stats=True)["projects"]
    active = top["stats"]["active"]
    assert (active["total_tasks"], active["completed_tasks_24h"]) == (2, 1)
    assert (active["status_count"]["created"], active["status_count"]["completed"]) == (1, 1)
    assert top["stats"]["archived"]["total_tasks"] == 1
    assert [p["name"] for p in top["sub_projects"]] == ["sums/low"]
    (alone,) = wire.call("projects.get_all_ex", name="^sums$", include_stats=True, stats_with_children=False)[
        "projects"
    ]
    assert alone["stats"]["active"]["total_tasks"] == 1

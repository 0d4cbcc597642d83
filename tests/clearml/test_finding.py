"""The unmodified client finds tasks and projects: by every filter that its users are told of, and all of many."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.clearml.conftest import ClearML
from tests.conftest import House
from tests.journals import Run

from taskloom.domain.parameters import encode
from taskloom.domain.task import TaskEdit, TaskType
from taskloom.wire.messages import ProjectEdit, ProjectQuery, TaskCreate, TaskEditRequest
from taskloom.wire.operations import CREATE_TASK, EDIT_PROJECT, EDIT_TASK, LIST_PROJECTS

MANY = 1200
TAGS = ["", "a", "b", "c", "d", "a b", "b c", "c d", "a c d", "a b c", "b c d", "a b c d"]

FIND = """
import json
from clearml import Task

def names(**filters):
    return sorted(task.name for task in Task.get_tasks(**filters))

def names_of(ids):
    return sorted(Task.get_task(task_id=task_id).name for task_id in ids)

told = {
    "any": names(project_name="tagged", tags=["a", "b", "c"]),
    "all": names(project_name="tagged", tags=["__$and", "a", "b", "c"]),
    "not": names(project_name="tagged", tags=["__$not", "a", "b", "__$not", "c"]),
    "dash": names(project_name="tagged", tags=["-a", "b", "-c"]),
    "or_and": names(project_name="tagged", tags=["a", "b", "__$and", "c", "d"]),
    "and_or": names(project_name="tagged", tags=["__$and", "__$or", "a", "b", "__$and", "c", "d"]),
    "by_filter": names_of(Task.query_tasks(task_filter={"tags": ["a", "-b"]})),
    "archived": names(project_name="states"),
    "kept": names(project_name="states", task_filter={"system_tags": ["-archived"]}),
    "flag": names(project_name="states", allow_archived=False),
    "done": names(task_filter={"status": ["completed", "published"]}),
    "training": names(project_name="states", task_filter={"type": ["training"]}),
    "text": names(task_filter={"search_text": "needle"}),
    "pattern": names(project_name="tagged", task_name="^tags (a|b)$"),
    "both": names(project_name=["states", "deep/inner"]),
    "none": names(project_name="no such project"),
    "repository": names(task_filter={"_all_": {"fields": ["script.repository"], "pattern": "github.com/user"}}),
    "either": names(task_filter={"_any_": {"fields": ["comment", "name"], "pattern": "NEEDLE|tags d"}}),
    "queried": sorted(Task.query_tasks(project_name="deep/inner")) == sorted(
        t.id for t in Task.get_tasks(project_name="deep/inner")),
    "newest": names(task_filter={"order_by": ["-last_update"], "page_size": 1, "page": 0}),
}
fields = Task.query_tasks(
    project_name="states", task_name="code",
    additional_return_fields=["script.repository", "status", "last_update", "hyperparams"],
)
told["fields"] = [
    [f["script.repository"], str(f["status"]), f["hyperparams"]["Args"]["lr"].value if not isinstance(
        f["hyperparams"]["Args"]["lr"], dict) else f["hyperparams"]["Args"]["lr"]["value"]] for f in fields
]
one = Task.get_task(project_name="deep/inner", task_name="run 1")
told["one"] = [one.name, one.get_status(), one.get_last_scalar_metrics()["loss"]["train"]["last"]]
told["by_id"] = Task.get_task(task_id=one.id).name
told["missing"] = Task.get_task(project_name="deep/inner", task_name="nothing") is None
told["projects"] = sorted(p.name for p in Task.get_projects())
told["hidden"] = sorted(p.name for p in Task.get_projects(search_hidden=True, name="secret"))
told["project_id"] = Task.get_project_id("deep/inner") == one.project
told["unknown"] = Task.get_project_id("no such project")
told["name"] = one.get_project_name()
print("told=" + json.dumps(told, default=str))
"""


def fill(house: House) -> None:
    client = house.client

    def task(name: str, project: str, **fields: Any) -> str:
        return client.call(CREATE_TASK, TaskCreate(name=name, project=project, **fields)).id

    for tags in TAGS:
        task(f"tags {tags}".strip(), "tagged", tags=tuple(tags.split()))
    task("old one", "states", system_tags=("archived",))
    task("needle in a name", "states", type=TaskType.TESTING)
    task("a comment", "states", comment="with a needle inside", type=TaskType.TESTING)
    coded = task("code", "states", parameters={"Args": {"lr": encode(0.5)}})
    edit = TaskEdit(execution={"repository": "https://github.com/user/code.git"})
    client.call(EDIT_TASK, TaskEditRequest(edit=edit), task=coded)
    task("secret thing", "secret/.datasets/thing", system_tags=("hidden",))
    hide(house, under="secret")
    for n in range(3):
        run = Run(client).open(name=f"run {n}", project="deep/inner").scalar(n, n * 0.5)
        run.end("failed" if n == 2 else "completed").ship()


def hide(house: House, under: str) -> None:
    """Marks the projects below as hidden, as the client itself marks those of datasets."""
    for project in house.client.call(LIST_PROJECTS, query=ProjectQuery(under=under)).projects:
        house.client.call(EDIT_PROJECT, ProjectEdit(system_tags=("hidden",)), project=project.id)


@pytest.fixture
def told(shared_house: House, clearml_of: Callable[[House], ClearML]) -> dict[str, Any]:
    fill(shared_house)
    return json.loads(clearml_of(shared_house).run(FIND).ok().said("told"))


def tagged(test: Callable[[set[str]], bool]) -> list[str]:
    return sorted(f"tags {tags}".strip() for tags in TAGS if test(set(tags.split())))


def test_tasks_and_projects_are_found_as_the_examples_say(told: dict[str, Any]) -> None:
    assert told["any"] == tagged(lambda t: bool(t & {"a", "b", "c"}))
    assert told["all"] == tagged(lambda t: t >= {"a", "b", "c"})
    assert told["not"] == told["dash"] == tagged(lambda t: "b" in t and not t & {"a", "c"})
    assert told["or_and"] == tagged(lambda t: bool(t & {"a", "b"}) or t >= {"c", "d"})
    assert told["and_or"] == tagged(lambda t: bool(t & {"a", "b"}) and t >= {"c", "d"})
    assert told["by_filter"] == tagged(lambda t: "a" in t and "b" not in t)
    assert told["archived"] == ["a comment", "code", "needle in a name", "old one"]
    assert told["kept"] == told["flag"] == ["a comment", "code", "needle in a name"]
    assert told["done"] == ["run 0", "run 1"]
    assert told["training"] == ["code", "old one"]
    assert told["text"] == ["a comment", "needle in a name"]
    assert told["pattern"] == ["tags a", "tags b"]
    assert told["both"] == sorted([*told["archived"], "run 0", "run 1", "run 2"])
    assert told["none"] == []
    assert told["repository"] == ["code"]
    assert told["either"] == ["a comment", "needle in a name", "tags d"]
    assert told["queried"] is True
    assert told["newest"] == ["run 2"]
    assert told["fields"] == [["https://github.com/user/code.git", "created", "0.5"]]
    assert told["one"] == ["run 1", "completed", 0.5]
    assert told["by_id"] == "run 1"
    assert told["missing"] is True
    assert told["projects"] == ["deep", "deep/inner", "secret", "states", "tagged"]
    assert told["hidden"] == ["secret", "secret/.datasets", "secret/.datasets/thing"]
    assert told["project_id"] is True
    assert told["unknown"] is None
    assert told["name"] == "deep/inner"


def test_more_tasks_than_a_page_are_listed_in_full(house: House, clearml: ClearML) -> None:
    made = [
        house.client.call(CREATE_TASK, TaskCreate(name=f"one of many {n}", project="many")).id for n in range(MANY)
    ]
    ran = clearml.run(
        f"""
        import json
        from clearml import Task
        ids = Task.query_tasks(project_name="many")
        print("paged=" + json.dumps(ids))
        names = Task.query_tasks(project_name="many", additional_return_fields=["name"])
        print("names=%d" % len(set(entry["name"] for entry in names)))
        tasks = Task._query_tasks(project_name="many", page=0, page_size={MANY + 50})
        print("whole=%d" % len(set(task.id for task in tasks)))
        print("got=" + json.dumps([task.id for task in Task.get_tasks(project_name="many")]))
        """
    ).ok()
    assert json.loads(ran.said("paged")) == made
    assert ran.said("names") == str(MANY)
    assert ran.said("whole") == str(MANY)
    assert json.loads(ran.said("got")) == made, "not only the first page, at which this call stops"

"""Making, editing, cloning, resetting and deleting tasks, and who may."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.conftest import House
from tests.journals import Run, fresh_id

from taskloom.domain.artifact import Artifact, Model, ModelLink
from taskloom.domain.errors import (
    BadInput,
    BlobMissing,
    Conflict,
    Forbidden,
    IllegalMove,
    NotFound,
    StaleRevision,
    TaskloomError,
    TooLarge,
)
from taskloom.domain.execution import Execution, Resources
from taskloom.domain.parameters import Parameter
from taskloom.domain.status import Status
from taskloom.domain.task import ConfigurationObject, Property, Task, TaskEdit, TaskType
from taskloom.wire.messages import (
    ConsoleQuery,
    Finish,
    ModelQuery,
    MoveRequest,
    ProjectDelete,
    ProjectQuery,
    TaskClone,
    TaskCreate,
    TaskDelete,
    TaskEditRequest,
    TaskQuery,
)
from taskloom.wire.operations import (
    CLONE_TASK,
    CREATE_TASK,
    DELETE_ARTIFACT,
    DELETE_PROJECT,
    DELETE_TASK,
    EDIT_TASK,
    END_TASK,
    GET_CONSOLE,
    GET_TASK,
    LIST_PROJECTS,
    PUBLISH_TASK,
    PUT_ARTIFACT,
    QUERY_MODELS,
    QUERY_TASKS,
    RESET_TASK,
    START_TASK,
)
from taskloom.wire.records import ArtifactStored, ModelStored
from taskloom.wire.send import Client


def make(house: House, **more: object) -> Task:
    return house.client.call(CREATE_TASK, TaskCreate(**{"name": "some task", "project": "tests", **more}))


def edit(client: Client, task: str, *, force: bool = False, **changes: object) -> Task:
    return client.call(EDIT_TASK, TaskEditRequest(edit=TaskEdit(**changes), force=force), task=task)


def upload(house: House, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    headers = {"Authorization": f"Bearer {house.key}"}
    assert httpx.put(f"{house.url}/api/blobs/{digest}", content=data, headers=headers).status_code == 200
    return digest


def has_bytes(house: House, digest: str) -> bool:
    headers = {"Authorization": f"Bearer {house.key}"}
    return httpx.get(f"{house.url}/api/blobs/{digest}", headers=headers).status_code == 200


def finished_run(house: House) -> Run:
    """A completed task with telemetry, an artifact, a model of its own and one that went in."""
    run = Run(house.client).open(project="main/sub", tags=("kept",), system_tags=("development",), comment="words")
    run.edit(
        execution={"repository": "https://example.org/code.git", "diff": "+ 1", "resources": {"gpus": 1}},
        parameters={"Args": {"lr": Parameter("0.1", "float")}},
        configuration={"General": ConfigurationObject("a: 1", "yaml")},
        properties={"note": Property("good")},
        runtime={"host": "here"},
        progress=50.0,
    )
    run.scalar(1, 2.0).print("some words")
    run.say(ArtifactStored(artifact=Artifact("result", digest=upload(house, run.task.encode()))))
    ours = Model(fresh_id(), "out", digest=upload(house, b"w" + run.task.encode()))
    theirs = Model(fresh_id(), "in", uri="https://example.org/weights")
    run.say(ModelStored(model=ours, link=ModelLink("out", ours.id)))
    run.say(ModelStored(model=theirs, link=ModelLink("in", theirs.id, "input")))
    run.end().ship()
    return run


# --- making -----------------------------------------------------------------------------------------------


def test_a_draft_is_made_with_everything_it_was_given(any_house: House) -> None:
    wanted = TaskCreate(
        id=fresh_id(),
        name=" a name ",
        project="one/two/three",
        type=TaskType.QC,
        comment="first\nsecond",
        parent=fresh_id(),
        tags=("a", "b", "a"),
        system_tags=("s",),
        execution=Execution(
            repository="r", arguments=("--x", "1"), resources=Resources(cpus=0.5), variables={"A": "b"}
        ),
        parameters={"General": {"x/y": Parameter("1", "int", "what it is")}},
        configuration={"c": ConfigurationObject("{}", "json")},
        properties={"p": Property("1", "int")},
        output_uri="s3://b",
    )
    task = any_house.client.call(CREATE_TASK, wanted)
    assert any_house.client.call(GET_TASK, task=wanted.id) == task
    for field in ("id", "type", "comment", "parent", "system_tags", "execution", "parameters", "configuration"):
        assert getattr(task, field) == getattr(wanted, field), field
    assert (task.name, task.tags, task.status, task.user) == ("a name", ("a", "b"), Status.DRAFT, "admin")
    shelves = any_house.client.call(LIST_PROJECTS, query=ProjectQuery()).projects
    assert [p.name for p in shelves] == ["one", "one/two", "one/two/three"]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"name": "ab"}, BadInput),
        ({"name": "a\nb c"}, BadInput),
        ({"name": "x" * 257}, BadInput),
        ({"project": "a//b"}, BadInput),
        ({"project": ""}, BadInput),
        ({"id": "A" * 32}, BadInput),
        ({"id": "../x"}, BadInput),
        ({"parent": "not an id"}, BadInput),
        ({"tags": ("",)}, BadInput),
        ({"tags": tuple(f"t{n}" for n in range(257))}, TooLarge),
        ({"comment": "x" * (64 * 1024 + 1)}, TooLarge),
        ({"comment": "a\0b"}, BadInput),
        ({"execution": Execution(diff="x" * (16 * 2**20 + 1))}, TooLarge),
        ({"execution": Execution(branch="x" * 5000)}, TooLarge),
        ({"execution": Execution(variables={"A=B": "c"})}, BadInput),
        ({"execution": Execution(diff="a\0b")}, BadInput),
        ({"configuration": {"c": ConfigurationObject("x" * (16 * 2**20 + 1))}}, TooLarge),
        ({"configuration": {"": ConfigurationObject("x")}}, BadInput),
        ({"parameters": {"A": {"p": Parameter("x" * (2**20 + 1))}}}, TooLarge),
        ({"parameters": {"": {"p": Parameter("x")}}}, BadInput),
        ({"parameters": {"A": {"": Parameter("x")}}}, BadInput),
    ],
)
def test_what_a_task_may_not_hold(house: House, wrong: dict[str, object], error: type[TaskloomError]) -> None:
    with pytest.raises(error) as refused:
        make(house, **wrong)
    assert type(refused.value) is error
    task = make(house)
    changes = {k: v for k, v in wrong.items() if k not in {"id", "execution"}}
    if changes:
        with pytest.raises(error):
            edit(house.client, task.id, **changes)
        assert house.client.call(GET_TASK, task=task.id) == task


def test_an_id_is_never_used_twice(any_house: House) -> None:
    task = make(any_house)
    with pytest.raises(Conflict, match=task.id):
        make(any_house, id=task.id)


def test_values_that_sql_or_index_could_trip_over_are_kept(any_house: House) -> None:
    odd = {"'; DROP TABLE tasks; --": "x", "k" * 5000: "long key", "nul": "a\0b", "big": "y" * 100_000, "π/☃": "é"}
    task = make(any_house, parameters={"S": {name: Parameter(value, "str") for name, value in odd.items()}})
    seen = any_house.client.call(GET_TASK, task=task.id)
    assert {name: p.value for name, p in seen.parameters["S"].items()} == odd


# --- editing ----------------------------------------------------------------------------------------------


def test_every_field_of_a_draft_can_be_edited(any_house: House) -> None:
    task = make(any_house, tags=("a", "b"), parameters={"A": {"x": Parameter("1"), "y": Parameter("2")}})
    after = edit(
        any_house.client,
        task.id,
        name="another name",
        project="elsewhere/below",
        type=TaskType.SERVICE,
        comment="why",
        add_tags=("c",),
        remove_tags=("a",),
        execution={"branch": "main", "resources": {"gpus": 2}},
        parameters={"A": {"x": None}, "B": {"z": Parameter("3")}},
        configuration={"c": ConfigurationObject("v")},
        properties={"p": Property("q")},
        runtime={"r": [1, {"deep": None}]},
        progress=12.5,
        output_uri="file:///there",
    )
    assert (after.name, after.project, after.type, after.comment) == (
        "another name",
        "elsewhere/below",
        "service",
        "why",
    )
    assert (after.tags, after.execution.branch, after.execution.resources.gpus) == (("b", "c"), "main", 2)
    assert after.parameters == {"A": {"y": Parameter("2")}, "B": {"z": Parameter("3")}}
    assert (after.runtime, after.progress, after.output_uri) == ({"r": [1, {"deep": None}]}, 12.5, "file:///there")
    assert (after.revision, after.project_id != task.project_id) == (1, True)
    assert any_house.client.call(GET_TASK, task=task.id) == after
    same = edit(any_house.client, task.id, name="another name")
    assert same.revision == 1  # nothing differs


@pytest.mark.parametrize("status", [Status.RUNNING, Status.COMPLETED, Status.PUBLISHED])
def test_what_to_run_is_edited_in_drafts_only_and_the_rest_always(any_house: House, status: Status) -> None:
    task = make(any_house)
    any_house.client.call(START_TASK, MoveRequest(), task=task.id)
    if status is not Status.RUNNING:
        any_house.client.call(END_TASK, Finish(outcome="completed"), task=task.id)
    if status is Status.PUBLISHED:
        any_house.client.call(PUBLISH_TASK, MoveRequest(), task=task.id)
    member = any_house.client_of(any_house.make_key("member"))
    for change in (
        {"execution": {"branch": "b"}},
        {"parameters": {"A": {"x": Parameter("1")}}},
        {"replace_parameters": True},
        {"configuration": {"c": ConfigurationObject("v")}},
    ):
        with pytest.raises(IllegalMove) as refused:
            edit(member, task.id, **change)
        assert refused.value.details["status"] == status.value
        with pytest.raises(Forbidden):
            edit(member, task.id, force=True, **change)
    after = edit(member, task.id, name="new name", comment="c", tags=("t",), properties={"p": Property("v")})
    assert (after.name, after.status, after.revision) == ("new name", status, 1)
    assert edit(any_house.client, task.id, force=True, execution={"branch": "b"}).execution.branch == "b"


def test_of_two_editors_the_slower_one_is_told(any_house: House) -> None:
    task = make(any_house)
    edit(any_house.client, task.id, revision=0, comment="first")
    with pytest.raises(StaleRevision) as refused:
        edit(any_house.client, task.id, revision=0, comment="second")
    assert refused.value.details["revision"] == 1
    assert any_house.client.call(GET_TASK, task=task.id).comment == "first"

    def attempt(n: int) -> bool:
        try:
            edit(any_house.client_of(any_house.key), task.id, revision=1, comment=f"racer {n}")
        except StaleRevision:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [False, False, False, True]


def test_edits_without_a_revision_from_many_sides_all_stay(any_house: House) -> None:
    task = make(any_house)

    def add(n: int) -> None:
        edit(any_house.client_of(any_house.key), task.id, parameters={"A": {f"p{n}": Parameter(str(n))}})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(24)))
    after = any_house.client.call(GET_TASK, task=task.id)
    assert (after.revision, set(after.parameters["A"])) == (24, {f"p{n}" for n in range(24)})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"execution": {"brunch": "x"}}, "did you mean 'branch'"),
        ({"execution": {"arguments": 7}}, "array"),
        ({"execution": {"resources": {"cpus": "many"}}}, "float"),
        ({"progress": 100.5}, "0 to 100"),
        ({"progress": -1.0}, "0 to 100"),
        ({"parent": "x"}, "32"),
        ({"name": "é"}, "expected 3 to 256"),
    ],
)
def test_a_malformed_edit_is_told_what_was_expected(house: House, change: dict[str, object], told: str) -> None:
    task = make(house)
    with pytest.raises(BadInput) as refused:
        edit(house.client, task.id, **change)
    assert told in refused.value.message
    assert house.client.call(GET_TASK, task=task.id) == task


# --- cloning ----------------------------------------------------------------------------------------------


def test_a_clone_runs_the_same_and_has_no_results(any_house: House) -> None:
    run = finished_run(any_house)
    source = run.seen()
    clone = any_house.client.call(CLONE_TASK, TaskClone(), task=run.task)
    for field in ("project", "type", "comment", "tags", "execution", "parameters", "configuration", "properties"):
        assert getattr(clone, field) == getattr(source, field), field
    assert (clone.name, clone.parent, clone.status) == ("Clone Of test run", source.id, Status.DRAFT)
    assert (clone.system_tags, clone.artifacts, clone.metrics, clone.runtime) == ((), (), (), {})
    assert (clone.started, clone.last_iteration, clone.progress, clone.revision) == (0.0, None, None, 0)
    assert [link.name for link in clone.models] == ["in"]
    after = edit(any_house.client, clone.id, parameters={"Args": {"lr": Parameter("0.2", "float")}})
    assert after.parameters["Args"]["lr"].value == "0.2"
    assert run.seen() == source


def test_a_clone_may_be_named_and_placed(any_house: House) -> None:
    source = make(any_house, name="x" * 256, comment="theirs")
    clone = any_house.client.call(CLONE_TASK, TaskClone(), task=source.id)
    assert clone.name == ("Clone Of " + "x" * 256)[:256]
    parent = fresh_id()
    wanted = TaskClone(name="mine", project="other/place", comment="", parent=parent)
    clone = any_house.client.call(CLONE_TASK, wanted, task=source.id)
    assert (clone.name, clone.project, clone.comment, clone.parent) == ("mine", "other/place", "", parent)
    with pytest.raises(NotFound):
        any_house.client.call(CLONE_TASK, TaskClone(), task=fresh_id())


# --- resetting and deleting -------------------------------------------------------------------------------


def test_a_reset_takes_results_and_bytes_and_leaves_what_to_run(any_house: House) -> None:
    run = finished_run(any_house)
    before = run.seen()
    digest = before.artifacts[0].digest
    after = any_house.client.call(RESET_TASK, MoveRequest(), task=run.task)
    for field in ("name", "execution", "parameters", "configuration", "properties", "tags"):
        assert getattr(after, field) == getattr(before, field), field
    assert (after.status, after.artifacts, after.metrics, after.runtime) == (Status.DRAFT, (), (), {})
    assert (after.last_iteration, after.progress, after.started) == (None, None, 0.0)
    assert [link.name for link in after.models] == ["in"]
    assert any_house.client.call(GET_CONSOLE, query=ConsoleQuery(), task=run.task).entries == []
    assert not has_bytes(any_house, digest)
    assert any_house.client.call(QUERY_MODELS, ModelQuery(name="out")).total == 0
    found = any_house.client.call(QUERY_TASKS, TaskQuery(order_by=["metrics.loss/train"], ids=[run.task])).tasks
    assert found[0].metrics == ()


def test_a_deleted_task_is_gone_with_its_bytes_but_not_with_those_of_others(any_house: House) -> None:
    run = finished_run(any_house)
    digest = run.seen().artifacts[0].digest
    other = Run(any_house.client).open().say(ArtifactStored(artifact=Artifact("same", digest=digest))).end()
    other.ship()
    any_house.client.call(DELETE_TASK, query=TaskDelete(), task=run.task)
    with pytest.raises(NotFound):
        run.seen()
    with pytest.raises(NotFound):
        any_house.client.call(GET_CONSOLE, query=ConsoleQuery(), task=run.task)
    assert has_bytes(any_house, digest)
    any_house.client.call(DELETE_TASK, query=TaskDelete(), task=other.task)
    assert not has_bytes(any_house, digest)
    with pytest.raises(NotFound):
        any_house.client.call(DELETE_TASK, query=TaskDelete(), task=run.task)


@pytest.mark.parametrize("status", [Status.RUNNING, Status.PUBLISHED])
def test_only_force_deletes_what_runs_or_is_published(any_house: House, status: Status) -> None:
    run = Run(any_house.client).open()
    run.ship()
    if status is Status.PUBLISHED:
        run.end().ship()
        any_house.client.call(PUBLISH_TASK, MoveRequest(), task=run.task)
    with pytest.raises(IllegalMove) as refused:
        any_house.client.call(DELETE_TASK, query=TaskDelete(), task=run.task)
    assert refused.value.details["status"] == status.value
    any_house.client.call(DELETE_TASK, query=TaskDelete(force=True), task=run.task)
    with pytest.raises(NotFound):
        run.seen()


def test_a_project_goes_when_it_is_empty_or_by_force_with_its_tasks(any_house: House) -> None:
    run = finished_run(any_house)
    make(any_house, project="main/sub/deeper", system_tags=("archived",))
    bystander = make(any_house, project="main/subway")
    digest = run.seen().artifacts[0].digest
    sub = run.seen().project_id
    with pytest.raises(Conflict, match="2 tasks"):
        any_house.client.call(DELETE_PROJECT, query=ProjectDelete(), project=sub)
    any_house.client.call(DELETE_PROJECT, query=ProjectDelete(force=True), project=sub)
    names = [p.name for p in any_house.client.call(LIST_PROJECTS, query=ProjectQuery()).projects]
    assert names == ["main", "main/subway"]
    assert any_house.client.call(GET_TASK, task=bystander.id) == bystander
    assert not has_bytes(any_house, digest)
    any_house.client.call(DELETE_TASK, query=TaskDelete(), task=bystander.id)
    any_house.client.call(DELETE_PROJECT, query=ProjectDelete(), project=bystander.project_id)
    with pytest.raises(NotFound):
        any_house.client.call(DELETE_PROJECT, query=ProjectDelete(), project=bystander.project_id)


# --- artifacts by hand ------------------------------------------------------------------------------------


def test_artifacts_are_put_and_removed_by_hand(any_house: House) -> None:
    task = make(any_house).id
    digest = upload(any_house, b"by hand")
    put = any_house.client.call(PUT_ARTIFACT, Artifact("a/b c", digest=digest), task=task)
    assert [(a.name, a.size) for a in put.artifacts] == [("a/b c", 7)]
    with pytest.raises(BlobMissing):
        any_house.client.call(PUT_ARTIFACT, Artifact("x", digest="0" * 64), task=task)
    with pytest.raises(NotFound, match="nothing"):
        any_house.client.call(DELETE_ARTIFACT, task=task, name="nothing")
    assert any_house.client.call(DELETE_ARTIFACT, task=task, name="a/b c").artifacts == []
    assert not has_bytes(any_house, digest)
    with pytest.raises(NotFound):
        any_house.client.call(PUT_ARTIFACT, Artifact("x", uri="u"), task=fresh_id())


def test_a_published_task_keeps_its_artifacts(any_house: House) -> None:
    run = finished_run(any_house)
    any_house.client.call(PUBLISH_TASK, MoveRequest(), task=run.task)
    with pytest.raises(IllegalMove):
        any_house.client.call(PUT_ARTIFACT, Artifact("x", uri="u"), task=run.task)
    with pytest.raises(IllegalMove):
        any_house.client.call(DELETE_ARTIFACT, task=run.task, name="result")
    assert len(run.seen().artifacts) == 1

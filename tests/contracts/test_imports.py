"""Tasks, models and projects brought over from another server: as they were there, once, and nothing of ours lost."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import pytest
from tests.conftest import House
from tests.journals import Run, fresh_id

from taskloom.domain.artifact import Artifact, Model, ModelLink
from taskloom.domain.errors import BadInput, BlobMissing, Conflict, Discarded, Forbidden, TooLarge
from taskloom.domain.execution import Execution
from taskloom.domain.parameters import Parameter
from taskloom.domain.project import Project
from taskloom.domain.status import Status
from taskloom.domain.task import ConfigurationObject, Property, Task, TaskType
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.client import build_call


def task_of(task_id: str = "", **fields: Any) -> Task:
    whole: dict[str, Any] = {
        "id": task_id or fresh_id(),
        "name": "from elsewhere",
        "project": "old/shelf",
        "type": TaskType.INFERENCE,
        "status": Status.COMPLETED,
        "status_reason": "it ended",
        "status_changed": 1_600_000_300.5,
        "user": "Ada Lovelace",
        "comment": "kept",
        "parent": "f" * 32,
        "tags": ("one", "two"),
        "system_tags": ("archived",),
        "created": 1_600_000_000.25,
        "started": 1_600_000_100.5,
        "completed": 1_600_000_300.5,
        "last_update": 1_600_000_400.75,
        "last_iteration": 17,
        "progress": 40.0,
        "execution": Execution(repository="https://x/y.git", commit="abc", entry_point="a.py"),
        "parameters": {"Args": {"lr": Parameter("0.1", "float")}},
        "configuration": {"net": ConfigurationObject("a = 1", "dict")},
        "properties": {"quality": Property("good")},
        "runtime": {"free": "value"},
        "worker": "their-worker",
    }
    return Task(**{**whole, **fields})


class Importer:
    """One attempt to bring one version of a task over."""

    def __init__(self, house: House, task: Task, version: str = "v1") -> None:
        self.house, self.task, self.version = house, task, version
        self.run = Run(house.client, task.id, writer=f"i.{uuid.uuid4().hex}")

    def step(self, step: m.ImportStep) -> str:
        body = m.TaskImport(step=step, version=self.version, writer=self.run.writer, task=self.task)
        return self.house.client.call(op.IMPORT_TASK, body, task=self.task.id).state

    def whole(self) -> Importer:
        self.step("begin")
        self.run.scalar(3, 0.5).scalar(4, 0.25).print("hello\n").ship()
        self.step("finish")
        return self


def seen(house: House, task_id: str) -> Task:
    return house.client.call(op.GET_TASK, task=task_id)


def test_a_task_arrives_as_it_was(any_house: House) -> None:
    wanted = task_of()
    importer = Importer(any_house, wanted)
    assert importer.step("look") == "new"
    importer.whole()
    found = seen(any_house, wanted.id)
    for name in Task.__struct_fields__:
        if name not in {"project_id", "metrics"}:
            assert getattr(found, name) == getattr(wanted, name), name
    assert [(s.title, s.count, s.last) for s in found.metrics] == [("loss", 2, 0.25)]
    assert importer.run.points().value == [0.5, 0.25]
    assert importer.step("look") == "known"


@pytest.mark.parametrize(
    "status", [Status.DRAFT, Status.FAILED, Status.ABORTED, Status.PUBLISHED], ids=lambda s: s.value
)
def test_every_state_in_which_nothing_runs_is_kept(any_house: House, status: Status) -> None:
    wanted = task_of(status=status)
    Importer(any_house, wanted).whole()
    found = seen(any_house, wanted.id)
    assert (found.status, found.status_changed, found.last_update) == (
        status,
        wanted.status_changed,
        wanted.last_update,
    )


def test_a_finished_version_is_not_begun_again_and_a_finish_may_be_repeated(any_house: House) -> None:
    importer = Importer(any_house, task_of(status=Status.PUBLISHED)).whole()
    importer.step("finish")
    again = Importer(any_house, importer.task)
    assert (again.step("look"), again.step("begin")) == ("known", "known")
    assert seen(any_house, importer.task.id).metrics[0].count == 2


def test_an_import_that_was_cut_is_begun_anew_without_a_trace_of_the_first(any_house: House) -> None:
    cut = Importer(any_house, task_of())
    cut.step("begin")
    cut.run.scalar(1, 9.0).scalar(2, 9.0).scalar(3, 9.0).print("half").ship()
    again = Importer(any_house, cut.task)
    assert again.step("look") == "begun"
    again.whole()
    assert again.run.points().value == [0.5, 0.25]
    with pytest.raises(Discarded):  # the first one was not dead after all
        cut.run.scalar(4, 9.0).ship()
    with pytest.raises(Conflict):
        cut.step("finish")


def test_another_version_takes_the_place_of_the_first(any_house: House) -> None:
    first = Importer(any_house, task_of(artifacts=(Artifact("old", uri="s3://x/old", created=5.0),))).whole()
    second = Importer(any_house, task_of(first.task.id, name="renamed there", tags=()), "v2")
    assert second.step("look") == "changed"
    second.whole()
    found = seen(any_house, first.task.id)
    assert (found.name, found.tags, found.artifacts) == ("renamed there", (), ())
    assert found.metrics[0].count == 2


def test_what_was_run_reset_or_made_here_is_left_alone(any_house: House) -> None:
    client = any_house.client
    reset = Importer(any_house, task_of()).whole()
    client.call(op.RESET_TASK, m.MoveRequest(), task=reset.task.id)
    enqueued = Importer(any_house, task_of(status=Status.DRAFT)).whole()
    client.call(op.ENQUEUE_TASK, m.Enqueue(queue="here", create=True), task=enqueued.task.id)
    native = client.call(op.CREATE_TASK, m.TaskCreate(name="ours", project="shelf")).id
    for task in (reset.task.id, enqueued.task.id, native):
        before = seen(any_house, task)
        for version in ("v1", "v2"):
            with pytest.raises(Conflict):
                Importer(any_house, task_of(task), version).step("begin")
        assert seen(any_house, task) == before


def test_a_task_that_was_deleted_here_does_not_come_back(any_house: House) -> None:
    importer = Importer(any_house, task_of()).whole()
    any_house.client.call(op.DELETE_TASK, query=m.TaskDelete(force=True), task=importer.task.id)
    for step in ("look", "begin"):
        with pytest.raises(Discarded):
            importer.step(step)


def test_artifacts_and_models_come_along_and_bytes_must_be_there(any_house: House) -> None:
    client, data = any_house.client, b"weights"
    digest = hashlib.sha256(data).hexdigest()
    model = Model(
        id=fresh_id(), name="net", project="old/shelf", digest=digest, published=True, user="Ada", created=7.0,
        last_update=8.0, tags=("good",), labels={"cat": 1},
    )  # fmt: skip
    artifact = Artifact("data", "file", digest, len(data), "data.bin", created=6.0)
    wanted = task_of(artifacts=(artifact,), models=(ModelLink("net", model.id),))
    importer = Importer(any_house, wanted)
    importer.step("begin")
    with pytest.raises(BlobMissing):
        client.call(op.IMPORT_MODEL, model, model=model.id)
    with pytest.raises(BlobMissing):
        importer.step("finish")
    call = build_call(client.address, op.PUT_BLOB, digest=digest)
    client.http.request(call.method, call.url, headers=call.headers, content=data).raise_for_status()
    kept = client.call(op.IMPORT_MODEL, model, model=model.id)
    assert (kept.published, kept.user, kept.created, kept.last_update) == (True, "Ada", 7.0, 8.0)
    importer.step("finish")
    found = seen(any_house, wanted.id)
    assert (found.artifacts, found.models) == (wanted.artifacts, wanted.models)


def test_a_model_that_was_changed_here_stays_as_it_is(any_house: House) -> None:
    client = any_house.client
    model = Model(id=fresh_id(), name="net", uri="s3://x/y", created=7.0, last_update=8.0)
    client.call(op.IMPORT_MODEL, model, model=model.id)
    client.call(op.EDIT_MODEL, m.ModelEdit(comment="ours"), model=model.id)
    assert client.call(op.IMPORT_MODEL, model, model=model.id).comment == "ours"


def test_projects_keep_their_ids_and_one_of_the_same_name_takes_the_tasks(any_house: House) -> None:
    client = any_house.client
    wanted = Project(
        id=fresh_id(), name="old/deep/shelf", description="d", tags=("t",), system_tags=("hidden",), created=3.0,
        last_update=4.0, user="Ada",
    )  # fmt: skip
    kept = client.call(op.IMPORT_PROJECT, wanted, project=wanted.id)
    assert kept == wanted
    assert client.call(op.IMPORT_PROJECT, wanted, project=wanted.id) == wanted
    ours = client.call(op.CREATE_PROJECT, m.ProjectCreate(name="both"))
    theirs = Project(id=fresh_id(), name="both", description="theirs", created=3.0, last_update=4.0)
    assert client.call(op.IMPORT_PROJECT, theirs, project=theirs.id).id == ours.id
    renamed = Project(id=wanted.id, name="old/other", created=3.0, last_update=5.0)
    assert client.call(op.IMPORT_PROJECT, renamed, project=wanted.id).name == "old/other"
    client.call(op.EDIT_PROJECT, m.ProjectEdit(description="ours"), project=wanted.id)
    assert client.call(op.IMPORT_PROJECT, renamed, project=wanted.id).description == "ours"


def test_only_an_administrator_imports_and_nonsense_is_refused(any_house: House) -> None:
    wanted = task_of()
    body = m.TaskImport(step="begin", version="v1", writer="w", task=wanted)
    member = any_house.client_of(any_house.make_key("member"))
    with pytest.raises(Forbidden):
        member.call(op.IMPORT_TASK, body, task=wanted.id)
    for wrong in (
        {"status": Status.RUNNING},
        {"created": float("inf")},
        {"name": "x"},
        {"user": "u" * 300},
    ):
        with pytest.raises((BadInput, TooLarge)):
            Importer(any_house, task_of(**wrong)).step("begin")
    with pytest.raises((BadInput, TooLarge)):
        any_house.client.call(op.IMPORT_TASK, body, task=fresh_id())
    other = Project(id="x", name="some project")
    with pytest.raises((BadInput, TooLarge)):
        any_house.client.call(op.IMPORT_PROJECT, other, project="x")

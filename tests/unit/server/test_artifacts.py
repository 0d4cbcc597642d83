"""Artifacts of tasks and models with their lineage: named, replaced, shared, edited, published, gone with their bytes."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator

import pytest
from tests.conftest import House

from taskloom.domain.artifact import Artifact, Model, ModelLink
from taskloom.domain.errors import BadInput, BlobMissing, Conflict, Forbidden, NotFound, TooLarge
from taskloom.domain.task import Task
from taskloom.wire.messages import (
    JournalBatch,
    ModelCreate,
    ModelEdit,
    ModelQuery,
    MoveRequest,
    TaskCreate,
    TaskDelete,
)
from taskloom.wire.operations import (
    BLOB_STATUS,
    CREATE_MODEL,
    CREATE_TASK,
    DELETE_ARTIFACT,
    DELETE_MODEL,
    DELETE_TASK,
    EDIT_MODEL,
    GET_MODEL,
    GET_TASK,
    LIST_ARTIFACTS,
    PUBLISH_MODEL,
    PUT_ARTIFACT,
    QUERY_MODELS,
    RESET_TASK,
    SHIP_JOURNAL,
)
from taskloom.wire.records import ArtifactRemoved, ArtifactStored, Ended, ModelStored, Opened, Record


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for all of these: each test makes tasks and models of its own."""
    running = House(tmp_path_factory.mktemp("lasting") / "house")
    yield running
    running.stop()


def upload(house: House, data: bytes = b"") -> str:
    data = data or uuid.uuid4().bytes
    name = hashlib.sha256(data).hexdigest()
    answer = house.client.http.put(
        f"{house.url}/api/blobs/{name}", content=data, headers=house.client.address.headers()
    )
    assert answer.status_code == 200
    return name


def complete(house: House, digest: str) -> bool:
    return house.client.call(BLOB_STATUS, digest=digest).complete


def draft(house: House) -> Task:
    return house.client.call(CREATE_TASK, TaskCreate(name="a task", project="artifacts"))


class Run:
    """A task as its script's journal tells it."""

    def __init__(self, house: House) -> None:
        self.house, self.id, self.writer, self.sent = house, uuid.uuid4().hex, uuid.uuid4().hex, 0
        self.tell(Opened(mode="new", name="a run", project="artifacts/runs", time=1.0))

    def tell(self, *records: Record) -> None:
        batch = JournalBatch(writer=self.writer, events_start=self.sent, events=list(records))
        self.house.client.call(SHIP_JOURNAL, batch, task=self.id)
        self.sent += len(records)

    def end(self) -> None:
        self.tell(Ended(status="completed", time=2.0))

    @property
    def task(self) -> Task:
        return self.house.client.call(GET_TASK, task=self.id)


# --- artifacts ------------------------------------------------------------------------------------------------


def test_a_run_names_bytes_and_takes_names_back(lasting: House) -> None:
    run = Run(lasting)
    first, second = upload(lasting, b"first"), upload(lasting)
    run.tell(
        ArtifactStored(artifact=Artifact("data", "dict", first, size=99, metadata={"rows": 3}, created=5.0)),
        ArtifactStored(artifact=Artifact("../../etc/passwd", digest=second, filename="/root/x", created=6.0)),
        ArtifactStored(artifact=Artifact("elsewhere", uri="s3://bucket/key", size=12, created=7.0)),
    )
    found = lasting.client.call(LIST_ARTIFACTS, task=run.id).artifacts
    assert [a.name for a in found] == ["data", "../../etc/passwd", "elsewhere"]
    assert found[0] == Artifact("data", "dict", first, size=5, metadata={"rows": 3}, created=5.0)
    assert run.task.artifacts == tuple(found)
    run.tell(ArtifactRemoved(name="../../etc/passwd", time=8.0), ArtifactRemoved(name="never there", time=8.0))
    assert [a.name for a in run.task.artifacts] == ["data", "elsewhere"]


def test_bytes_that_did_not_arrive_cannot_be_named(lasting: House) -> None:
    run = Run(lasting)
    digest = hashlib.sha256(b"not here").hexdigest()
    with pytest.raises(BlobMissing) as refused:
        run.tell(ArtifactStored(artifact=Artifact("data", digest=digest)))
    assert refused.value.details["digest"] == digest
    upload(lasting, b"not here")
    run.tell(ArtifactStored(artifact=Artifact("data", digest=digest)))
    assert run.task.artifacts[0].size == 8


def test_replaced_bytes_go_unless_they_have_another_name(lasting: House) -> None:
    task, other = draft(lasting), draft(lasting)
    shared, alone, last = upload(lasting), upload(lasting), upload(lasting)
    for holder, name, digest in (
        (task, "a", shared),
        (other, "a", shared),
        (task, "b", alone),
        (task, "a", last),
        (task, "b", last),
    ):
        lasting.client.call(PUT_ARTIFACT, Artifact(name, digest=digest), task=holder.id)
    lasting.client.call(DELETE_ARTIFACT, task=task.id, name="b")
    assert (complete(lasting, shared), complete(lasting, alone), complete(lasting, last)) == (True, False, True)
    lasting.client.call(DELETE_ARTIFACT, task=task.id, name="a")
    lasting.client.call(DELETE_TASK, query=TaskDelete(), task=other.id)
    assert (complete(lasting, shared), complete(lasting, last)) == (False, False)


@pytest.mark.parametrize(
    ("artifact", "error"),
    [
        (Artifact(""), BadInput),
        (Artifact("x" * 1025), BadInput),
        (Artifact("line\nbreak"), BadInput),
        (Artifact("data", digest="nonsense"), BadInput),
        (Artifact("data", preview="x" * (5 * 2**20)), TooLarge),
    ],
)
def test_what_no_artifact_can_be_is_refused(lasting: House, artifact: Artifact, error: type[Exception]) -> None:
    with pytest.raises(error):
        lasting.client.call(PUT_ARTIFACT, artifact, task=draft(lasting).id)


def test_artifacts_of_nobody_are_not_found(lasting: House) -> None:
    with pytest.raises(NotFound):
        lasting.client.call(LIST_ARTIFACTS, task="0" * 32)


# --- models ---------------------------------------------------------------------------------------------------


def model_of(run: Run, **fields: object) -> Model:
    told = Model(id=uuid.uuid4().hex, **fields)  # pyright: ignore[reportArgumentType]
    run.tell(ModelStored(model=told, link=ModelLink(told.name or "model", told.id)))
    return told


def test_a_model_knows_the_task_that_made_it_and_tasks_that_use_it(lasting: House) -> None:
    maker, user = Run(lasting), Run(lasting)
    digest = upload(lasting, b"weights")
    made = model_of(maker, name="best", digest=digest, framework="sklearn", tags=("good",))
    found = lasting.client.call(GET_MODEL, model=made.id)
    assert (found.task, found.project, found.user, found.size) == (maker.id, "artifacts/runs", "admin", 7)
    user.tell(ModelStored(model=Model(id=made.id, name="other"), link=ModelLink("start", made.id, "input")))
    assert user.task.models == (ModelLink("start", made.id, "input"),)
    assert maker.task.models == (ModelLink("best", made.id),)
    assert lasting.client.call(GET_MODEL, model=made.id) == found, "who uses a model does not change it"


def test_a_run_updates_its_model_but_not_a_published_one(lasting: House) -> None:
    run = Run(lasting)
    first, second = upload(lasting), upload(lasting)
    made = model_of(run, name="net", digest=first, iteration=1)
    again = Model(id=made.id, name="net", digest=second, iteration=2)
    run.tell(ModelStored(model=again, link=ModelLink("net", made.id)))
    found = lasting.client.call(GET_MODEL, model=made.id)
    assert (found.digest, found.iteration, found.task) == (second, 2, run.id)
    assert len(run.task.models) == 1
    lasting.client.call(PUBLISH_MODEL, model=made.id)
    run.tell(ModelStored(model=made, link=ModelLink("net", made.id)))
    assert lasting.client.call(GET_MODEL, model=made.id).digest == second


def test_a_model_is_found_by_what_it_is(lasting: House) -> None:
    mark = uuid.uuid4().hex
    digest = upload(lasting)
    run = Run(lasting)
    model_of(run, name=f"Net_{mark}", digest=digest, tags=("a", "b"), framework="torch")
    model_of(run, name=f"tree {mark}", tags=("b",), framework="sklearn", project="elsewhere")
    lasting.client.call(PUBLISH_MODEL, model=model_of(run, name=f"final 100% {mark}", tags=("c",)).id)

    def found(**query: object) -> list[str]:
        asked = ModelQuery(**{"task": run.id, **query})  # pyright: ignore[reportArgumentType]
        answer = lasting.client.call(QUERY_MODELS, asked)
        assert answer.total >= len(answer.models)
        return sorted(model.name.removesuffix(mark).strip("_ ") for model in answer.models)

    assert found() == ["Net", "final 100%", "tree"]
    assert found(name="NET_") == ["Net"]
    assert found(name="100%") == ["final 100%"]
    assert found(name="_") == ["Net"]
    assert found(project="elsewhere") == ["tree"]
    assert found(digest=digest) == ["Net"]
    assert found(framework="torch") == ["Net"]
    assert found(only_published=True) == ["final 100%"]
    assert found(tags=["a", "c"]) == ["Net", "final 100%"]
    assert found(tags=["__$and", "a", "b"]) == ["Net"]
    assert found(tags=["-b"]) == ["final 100%"]
    assert found(ids=["0" * 32]) == []
    assert len(found(limit=2)) == 2
    assert len(found(limit=2, offset=2)) == 1
    with pytest.raises(BadInput):
        found(limit=0)


def test_a_model_is_made_edited_and_published_by_hand(lasting: House) -> None:
    client = lasting.client
    made = client.call(
        CREATE_MODEL, ModelCreate(model=Model(id="", name="by hand", uri="s3://b/k", published=True))
    )
    assert (made.published, made.user) == (False, "admin")
    digest = upload(lasting, b"12345")
    edited = client.call(
        EDIT_MODEL, ModelEdit(name="new", tags=("x",), digest=digest, comment="why"), model=made.id
    )
    assert (edited.name, edited.tags, edited.size, edited.comment, edited.uri) == (
        "new",
        ("x",),
        5,
        "why",
        "s3://b/k",
    )
    assert client.call(PUBLISH_MODEL, model=made.id).published
    assert client.call(PUBLISH_MODEL, model=made.id).published
    with pytest.raises(Conflict, match="published; its digest"):
        client.call(EDIT_MODEL, ModelEdit(digest=upload(lasting, b"other")), model=made.id)
    told = client.call(EDIT_MODEL, ModelEdit(name="newer", tags=("y",), digest=digest), model=made.id)
    assert (told.name, told.tags, told.published) == ("newer", ("y",), True)
    with pytest.raises(Conflict, match="published"):
        client.call(DELETE_MODEL, model=made.id)
    with pytest.raises(Conflict, match="exists"):
        client.call(CREATE_MODEL, ModelCreate(model=Model(id=made.id)))
    assert complete(lasting, digest)


def test_old_bytes_of_an_edited_model_go(lasting: House) -> None:
    old, new = upload(lasting), upload(lasting)
    made = lasting.client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name="net", digest=old)))
    lasting.client.call(EDIT_MODEL, ModelEdit(digest=new), model=made.id)
    assert (complete(lasting, old), complete(lasting, new)) == (False, True)


@pytest.mark.parametrize(
    "model",
    [
        Model(id="nonsense"),
        Model(id="", name="x" * 1025),
        Model(id="", name="nul\0"),
        Model(id="", tags=("",)),
        Model(id="", digest="short"),
    ],
)
def test_what_no_model_can_be_is_refused(lasting: House, model: Model) -> None:
    with pytest.raises(BadInput):
        lasting.client.call(CREATE_MODEL, ModelCreate(model=model))


def test_a_viewer_only_looks(lasting: House) -> None:
    made = lasting.client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name="net")))
    viewer = lasting.client_of(lasting.make_key("viewer"))
    assert viewer.call(GET_MODEL, model=made.id).name == "net"
    with pytest.raises(Forbidden):
        viewer.call(DELETE_MODEL, model=made.id)


# --- reset and delete -----------------------------------------------------------------------------------------


def test_deleting_a_task_deletes_its_bytes_but_not_what_others_need(lasting: House) -> None:
    run, other = Run(lasting), Run(lasting)
    digests = {name: upload(lasting) for name in ("artifact", "model", "published", "used")}
    run.tell(ArtifactStored(artifact=Artifact("data", digest=digests["artifact"])))
    made = {name: model_of(run, name=name, digest=digests[name]) for name in ("model", "published", "used")}
    lasting.client.call(PUBLISH_MODEL, model=made["published"].id)
    other.tell(ModelStored(model=made["used"], link=ModelLink("start", made["used"].id, "input")))
    run.end()
    lasting.client.call(DELETE_TASK, query=TaskDelete(), task=run.id)
    assert {name: complete(lasting, digest) for name, digest in digests.items()} == {
        "artifact": False,
        "model": False,
        "published": True,
        "used": True,
    }
    with pytest.raises(NotFound):
        lasting.client.call(GET_MODEL, model=made["model"].id)
    assert other.task.models == (ModelLink("start", made["used"].id, "input"),)


def test_a_reset_leaves_no_results_and_keeps_what_goes_in(lasting: House) -> None:
    maker, run = Run(lasting), Run(lasting)
    into = model_of(maker, name="into", digest=upload(lasting))
    artifact, output = upload(lasting), upload(lasting)
    run.tell(
        ArtifactStored(artifact=Artifact("data", digest=artifact)),
        ModelStored(model=into, link=ModelLink("into", into.id, "input")),
    )
    model_of(run, name="out", digest=output)
    run.end()
    lasting.client.call(RESET_TASK, MoveRequest(), task=run.id)
    task = run.task
    assert (task.artifacts, task.models) == ((), (ModelLink("into", into.id, "input"),))
    assert (complete(lasting, artifact), complete(lasting, output)) == (False, False)
    assert complete(lasting, lasting.client.call(GET_MODEL, model=into.id).digest)

"""ClearML's models are our models: what either side registers, the other finds, reads and edits."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.conftest import House
from tests.unit.server.compat.test_files import FileHost
from tests.unit.server.compat.wire import ClearMLWire, Refused

from taskloom.domain.artifact import Model, ModelLink
from taskloom.domain.project import Project
from taskloom.domain.status import Status
from taskloom.wire.messages import (
    Finish,
    JournalBatch,
    ModelCreate,
    ModelEdit,
    ModelQuery,
    MoveRequest,
    ProjectCreate,
    ProjectEdit,
    TaskCreate,
)
from taskloom.wire.operations import (
    CREATE_MODEL,
    CREATE_PROJECT,
    CREATE_TASK,
    EDIT_MODEL,
    EDIT_PROJECT,
    END_TASK,
    GET_MODEL,
    GET_TASK,
    PUBLISH_MODEL,
    PUBLISH_TASK,
    QUERY_MODELS,
    SHIP_JOURNAL,
    START_TASK,
)
from taskloom.wire.records import ModelStored, Opened


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = House(tmp_path_factory.mktemp("models") / "house")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def wire(house: House) -> ClearMLWire:
    return ClearMLWire(house)


@pytest.fixture
def shelf(house: House) -> Project:
    """A project of the test's own."""
    return house.client.call(CREATE_PROJECT, ProjectCreate(name=f"shelf/{uuid.uuid4().hex}"))


def made(wire: ClearMLWire, shelf: Project, name: str = "net", **fields: Any) -> str:
    return wire.call("models.create", uri=f"s3://bucket/{name}", name=name, project=shelf.id, **fields)["id"]


def names(wire: ClearMLWire, shelf: Project, **fields: Any) -> list[str]:
    found = wire.call("models.get_all", project=[shelf.id], only_fields=["name"], **fields)["models"]
    assert all(model.keys() == {"id", "name"} for model in found)
    return [model["name"] for model in found]


def refused(wire: ClearMLWire, name: str, /, **fields: Any) -> tuple[int, int]:
    with pytest.raises(Refused) as raised:
        wire.call(name, **fields)
    return raised.value.code, raised.value.subcode


def running_task(house: House) -> str:
    task = house.client.call(CREATE_TASK, TaskCreate(name="a task", project="models")).id
    return house.client.call(START_TASK, MoveRequest(), task=task).id


def test_what_clearml_registers_is_a_model_of_ours(house: House, wire: ClearMLWire, shelf: Project) -> None:
    task = running_task(house)
    model = made(
        wire,
        shelf,
        task=task,
        framework="PyTorch",
        design={"design": "layers: 3"},
        labels={"cat": 1},
        tags=["a", "b", "a"],
        system_tags=["s"],
        comment="two\nlines",
        parent="0" * 32,
        public=True,
    )
    found = house.client.call(GET_MODEL, model=model)
    assert (found.name, found.project, found.task, found.framework) == ("net", shelf.name, task, "PyTorch")
    assert (found.design, found.labels, found.tags, found.system_tags) == (
        "layers: 3",
        {"cat": 1},
        ("a", "b"),
        ("s",),
    )
    assert (found.comment, found.parent, found.uri, found.user) == (
        "two\nlines",
        "0" * 32,
        "s3://bucket/net",
        "admin",
    )
    told = wire.call("models.get_by_id", model=model)["model"]
    assert told["design"] == {"design": "layers: 3"}
    assert (told["project"], told["task"], told["parent"], told["ready"]) == (shelf.id, task, "0" * 32, False)
    assert (told["labels"], told["tags"], told["uri"]) == ({"cat": 1}, ["a", "b"], "s3://bucket/net")
    assert told["created"].endswith("+00:00")
    assert told["user"] == wire.call("users.get_current_user")["user"]["id"]


def test_what_our_sdk_registers_is_found_by_clearml(house: House, wire: ClearMLWire, shelf: Project) -> None:
    files, data = FileHost(house), uuid.uuid4().bytes
    digest = hashlib.sha256(data).hexdigest()
    house.client.http.put(f"{house.url}/api/blobs/{digest}", content=data, headers=house.client.address.headers())
    task, model = uuid.uuid4().hex, uuid.uuid4().hex
    ours = Model(id=model, name="ours", digest=digest, filename="my weights.pt", metadata={"acc": 0.5, "on": True})
    records = [
        Opened(mode="new", name="a run", project=shelf.name, time=1.0),
        ModelStored(model=ours, link=ModelLink(name="ours", model=model)),
    ]
    house.client.call(SHIP_JOURNAL, JournalBatch(writer="w" * 32, events=records), task=task)
    found = wire.call("models.get_all", name="^ours$", project=[shelf.id])["models"]
    assert [m["id"] for m in found] == [model]
    assert found[0]["uri"] == f"{house.url}/files/blobs/{digest}/my%20weights.pt"
    assert files.http.get(found[0]["uri"]).content == data
    assert found[0]["metadata"] == {
        "acc": {"key": "acc", "type": "float", "value": "0.5"},
        "on": {"key": "on", "type": "bool", "value": "True"},
    }
    assert wire.call("models.get_by_task_id", task=task)["model"]["id"] == model
    same = wire.call("models.get_all", uri=[f"http://other.name:1/files/blobs/{digest}/x"])["models"]
    assert [m["id"] for m in same] == [model]
    wire.call("models.edit", model=model, uri=found[0]["uri"], comment="told again")
    assert house.client.call(GET_MODEL, model=model).digest == digest


def test_a_model_at_the_address_of_a_file_has_its_bytes(house: House, wire: ClearMLWire, shelf: Project) -> None:
    files, path = FileHost(house), f"/p/t.{uuid.uuid4().hex}/models/ä w.pt"
    files.put((path, b"weights"))
    address = f"http://other.name/files{quote(path)}"
    model = made(wire, shelf, "empty")
    fields = wire.call("models.edit", model=model, uri=address, iteration=7)
    assert fields == {"updated": 1, "fields": {"uri": address, "iteration": 7}}
    found = house.client.call(GET_MODEL, model=model)
    assert (found.digest, found.size, found.filename, found.iteration) == (
        hashlib.sha256(b"weights").hexdigest(),
        7,
        "ä w.pt",
        7,
    )
    told = wire.call("models.get_all", uri=[f"{house.url}/files{path}"])["models"]
    assert [(m["id"], m["uri"]) for m in told] == [(model, f"{house.url}/files{quote(path)}")]
    wire.call("models.edit", model=model, uri="s3://elsewhere/w.pt")
    assert house.client.call(GET_MODEL, model=model).digest == ""


def test_metadata_keep_their_types_and_come_back(house: House, wire: ClearMLWire, shelf: Project) -> None:
    model = made(wire, shelf)
    items = [
        {"key": "n", "type": "int", "value": "3"},
        {"key": "x", "type": "float", "value": "1e-05"},
        {"key": "long", "type": "float", "value": "0.50"},
        {"key": "flag", "type": "bool", "value": "False"},
        {"key": "list", "type": "list", "value": "[1, 2]"},
        {"key": "text", "type": "str", "value": "3"},
        {"key": "odd.key $", "type": "None", "value": "ü"},
    ]
    assert wire.call("models.add_or_update_metadata", model=model, metadata=items) == {"updated": 1}
    found = house.client.call(GET_MODEL, model=model).metadata
    assert (found["n"], found["x"], found["flag"], found["text"], found["odd.key $"]) == (
        3,
        1e-05,
        False,
        "3",
        "ü",
    )
    told = wire.call("models.get_by_id", model=model)["model"]["metadata"]
    assert told == {item["key"]: {**item, "type": item["type"].replace("None", "str")} for item in items}
    for item in items:
        assert names(wire, shelf, **{f"metadata.{item['key']}.value": item["value"]}) == ["net"]
    assert names(wire, shelf, **{"metadata.n.value": "4"}) == []
    wire.call("models.delete_metadata", model=model, keys=["n", "unknown"])
    wire.call("models.add_or_update_metadata", model=model, metadata=[{"key": "text", "value": "new"}])
    assert house.client.call(GET_MODEL, model=model).metadata["text"] == "new"
    assert "n" not in house.client.call(GET_MODEL, model=model).metadata
    wire.call("models.add_or_update_metadata", model=model, metadata=[{"key": "only"}], replace_metadata=True)
    assert house.client.call(GET_MODEL, model=model).metadata == {"only": ""}


def test_models_are_filtered_as_clearml_asks(wire: ClearMLWire, shelf: Project) -> None:
    made(wire, shelf, "first", tags=["a", "b"], framework="PyTorch", comment="Alpha")
    made(wire, shelf, "second", tags=["b"], framework="ONNX", system_tags=["archived"])
    made(wire, shelf, "a.b (c)", ready=True)
    assert names(wire, shelf) == ["first", "second", "a.b (c)"]
    assert names(wire, shelf, order_by=["-name"]) == ["second", "first", "a.b (c)"]
    assert names(wire, shelf, name=r"^a\.b\ \(c\)$") == ["a.b (c)"]
    assert names(wire, shelf, name="^(first|second)$") == ["first", "second"]
    assert names(wire, shelf, tags=["a"]) == ["first"]
    assert names(wire, shelf, tags=["b", "-a"]) == ["second"]
    assert names(wire, shelf, tags=["__$all", "a", "b"]) == ["first"]
    assert names(wire, shelf, tags=[None]) == ["a.b (c)"]
    assert names(wire, shelf, tags=[None, "a"]) == ["first", "a.b (c)"]
    assert names(wire, shelf, system_tags=["-archived"]) == ["first", "a.b (c)"]
    assert names(wire, shelf, ready=True) == ["a.b (c)"]
    assert names(wire, shelf, ready=False) == ["first", "second"]
    assert names(wire, shelf, framework=["ONNX", None]) == ["second", "a.b (c)"]
    assert names(wire, shelf, framework=["-ONNX"]) == ["first", "a.b (c)"]
    assert names(wire, shelf, uri=["s3://bucket/first", "s3://nothing"]) == ["first"]
    assert names(wire, shelf, created=[">2001-01-01"]) == ["first", "second", "a.b (c)"]
    assert names(wire, shelf, created=["<2001-01-01"]) == []
    assert names(wire, shelf, _any_={"pattern": "ALPHA|SEC", "fields": ["name", "comment"]}) == ["first", "second"]
    assert names(wire, shelf, _all_={"pattern": "first", "fields": ["name", "comment"]}) == []
    assert names(wire, shelf, search_text="alph") == ["first"]
    assert names(wire, shelf, user=[wire.call("users.get_current_user")["user"]["id"]], ready=True) == ["a.b (c)"]
    assert names(wire, shelf, never_heard_of=["x"], task=[None]) == ["first", "second", "a.b (c)"]
    assert wire.call("models.get_all", project=["0" * 32])["models"] == []
    assert wire.call("models.get_frameworks", projects=[shelf.id])["frameworks"] == ["ONNX", "PyTorch"]


def test_models_come_in_pages_and_scrolls(wire: ClearMLWire, shelf: Project) -> None:
    given = [made(wire, shelf, f"m{n}") for n in range(5)]
    pages = [names(wire, shelf, page=n, page_size=2, order_by=["-created"]) for n in range(4)]
    assert pages == [["m4", "m3"], ["m2", "m1"], ["m0"], []]
    seen: list[str] = []
    scroll: str | None = None
    while True:
        answer = wire.call("models.get_all", project=[shelf.id], size=2, scroll_id=scroll)
        if not answer["models"]:
            break
        seen += [model["id"] for model in answer["models"]]
        scroll = answer["scroll_id"]
    assert sorted(seen) == sorted(given)
    assert refused(wire, "models.get_all", size=2, scroll_id="nonsense") == (400, 1104)


@pytest.mark.parametrize(
    ("fields", "subcode"),
    [
        ({"name": "["}, 12),
        ({"name": ["a"]}, 12),
        ({"name": "x" * 5000}, 12),
        ({"tags": [{"a": 1}]}, 12),
        ({"created": ["yesterday"]}, 12),
        ({"uri": {"a": 1}}, 12),
        ({"_any_": ["x"]}, 12),
        ({"ready": "maybe"}, 12),
        ({"order_by": 3}, 12),
    ],
)
def test_filters_that_cannot_be_meant_are_refused(wire: ClearMLWire, fields: dict[str, Any], subcode: int) -> None:
    assert refused(wire, "models.get_all", **fields) == (400, subcode)


def test_what_is_published_keeps_its_weights_and_may_be_described(wire: ClearMLWire, shelf: Project) -> None:
    model = made(wire, shelf)
    assert wire.call("models.set_ready", model=model, publish_task=False) == {"updated": 1}
    assert wire.call("models.set_ready", model=model, publish_task=False) == {"updated": 0}
    whole = wire.call("models.get_by_id", model=model)["model"]
    wire.call("models.edit", **{**whole, "model": model, "tags": ["new"], "comment": "why", "name": "renamed"})
    told = wire.call("models.get_by_id", model=model)["model"]
    assert (told["tags"], told["comment"], told["name"], told["ready"]) == (["new"], "why", "renamed", True)
    assert refused(wire, "models.edit", model=model, uri="s3://other") == (400, 203)
    assert refused(wire, "models.update", model=model, framework="other") == (400, 203)
    wire.call("models.add_or_update_metadata", model=model, metadata=[{"key": "a", "value": "b"}])
    answer = wire.call("models.archive_many", ids=[model])
    assert (answer["succeeded"], answer["failed"]) == ([{"id": model, "archived": True}], [])
    assert wire.call("models.get_by_id", model=model)["model"]["system_tags"] == ["archived"]
    wire.call("models.unarchive_many", ids=[model])
    assert wire.call("models.get_by_id", model=model)["model"]["system_tags"] == []


def test_weights_that_were_on_their_way_arrive_after_the_model_was_published(
    wire: ClearMLWire, shelf: Project
) -> None:
    """The SDK uploads behind the script, which may publish at once."""
    model = wire.call("models.create", name="late", uri="http://host/files/uploading_file", project=shelf.id)["id"]
    wire.call("models.set_ready", model=model, publish_task=False)
    wire.call("models.edit", model=model, uri="s3://bucket/weights", framework="PyTorch")
    told = wire.call("models.get_by_id", model=model)["model"]
    assert (told["uri"], told["ready"], told["framework"]) == ("s3://bucket/weights", True, "PyTorch")
    assert refused(wire, "models.edit", model=model, uri="s3://bucket/others") == (400, 203)


def test_publishing_a_model_publishes_the_task_that_made_it(
    house: House, wire: ClearMLWire, shelf: Project
) -> None:
    task = running_task(house)
    model = made(wire, shelf, task=task)
    assert refused(wire, "models.set_ready", model=model) == (400, 110)
    assert not house.client.call(GET_MODEL, model=model).published
    house.client.call(END_TASK, Finish(outcome="completed"), task=task)
    answer = wire.call("models.publish_many", ids=[model, "0" * 32])
    assert [one["id"] for one in answer["succeeded"]] == [model]
    assert [(one["id"], one["error"]["codes"]) for one in answer["failed"]] == [("0" * 32, [400, 201])]
    assert house.client.call(GET_TASK, task=task).status is Status.PUBLISHED


def test_a_model_that_is_used_or_published_is_deleted_only_by_force(
    house: House, wire: ClearMLWire, shelf: Project
) -> None:
    files, path = FileHost(house), f"/p/t.{uuid.uuid4().hex}/models/w.pt"
    files.put((path, b"used weights"))
    model = made(wire, shelf)
    wire.call("models.edit", model=model, uri=f"{files.url}{path}")
    user = uuid.uuid4().hex
    records = [
        Opened(mode="new", name="a run", project=shelf.name, time=1.0),
        ModelStored(model=Model(id=model), link=ModelLink(name="in", model=model, direction="input")),
    ]
    house.client.call(SHIP_JOURNAL, JournalBatch(writer="w" * 32, events=records), task=user)
    assert refused(wire, "models.delete", model=model) == (400, 205)
    published = made(wire, shelf, "published", ready=True)
    assert refused(wire, "models.delete", model=published) == (400, 203)
    answer = wire.call("models.delete_many", ids=[published, model], force=True)
    assert answer["succeeded"] == [
        {"id": published, "deleted": True, "url": "s3://bucket/published"},
        {"id": model, "deleted": True, "url": f"{files.url}{path}"},
    ]
    assert refused(wire, "models.get_by_id", model=model) == (400, 201)
    assert house.client.call(GET_TASK, task=user).models == ()
    assert files.http.delete(files.url + path).status_code == 200  # as the client does afterwards


def test_a_model_of_a_published_task_is_deleted_only_by_force(
    house: House, wire: ClearMLWire, shelf: Project
) -> None:
    task = running_task(house)
    model = made(wire, shelf, task=task)
    house.client.call(END_TASK, Finish(outcome="completed"), task=task)
    house.client.call(PUBLISH_TASK, MoveRequest(), task=task)
    assert refused(wire, "models.delete", model=model) == (400, 206)
    assert wire.call("models.delete", model=model, force=True)["deleted"] is True


def test_the_output_model_of_a_task_is_made_once_and_updated(house: House, wire: ClearMLWire) -> None:
    task = running_task(house)
    first = wire.call("models.update_for_task", task=task, uri="s3://b/1", name="out", iteration=3)
    assert (first["created"], first["updated"]) == (True, 0)
    again = wire.call("models.update_for_task", task=task, uri="s3://b/2")
    assert (again["id"], again["created"], again["updated"]) == (first["id"], False, 1)
    found = house.client.call(GET_TASK, task=task).models
    assert [(link.model, link.direction) for link in found] == [(first["id"], "output")]
    assert house.client.call(GET_MODEL, model=first["id"]).uri == "s3://b/2"
    other = wire.call("models.create", uri="s3://b/3", name="other")["id"]
    wire.call("models.update_for_task", task=task, override_model_id=other)
    assert other in [link.model for link in house.client.call(GET_TASK, task=task).models]


def test_models_move_and_follow_the_name_of_their_project(house: House, wire: ClearMLWire, shelf: Project) -> None:
    model = made(wire, shelf)
    house.client.call(EDIT_PROJECT, ProjectEdit(name=f"{shelf.name} renamed"), project=shelf.id)
    assert house.client.call(GET_MODEL, model=model).project == f"{shelf.name} renamed"
    assert names(wire, shelf) == ["net"]
    target = f"moved/{uuid.uuid4().hex}"
    answer = wire.call("models.move", ids=[model], project_name=target)
    assert answer["moved"] == 1
    assert house.client.call(GET_MODEL, model=model).project == target
    assert wire.call("models.get_by_id", model=model)["model"]["project"] == answer["project_id"]
    wire.call("models.move", ids=[model], project=shelf.id)
    assert names(wire, shelf) == ["net"]


def test_viewers_read_models_and_change_none(house: House, wire: ClearMLWire, shelf: Project) -> None:
    viewer = ClearMLWire(house, house.make_key("viewer"))
    model = made(wire, shelf)
    assert viewer.call("models.get_by_id", model=model)["model"]["id"] == model
    for name in ("models.edit", "models.delete", "models.set_ready", "models.create"):
        assert refused(viewer, name, model=model)[0] == 403


def test_our_own_api_asks_by_conditions_too(house: House, wire: ClearMLWire, shelf: Project) -> None:
    from taskloom.wire.messages import Condition

    made(wire, shelf, "one", tags=["x"])
    ours = house.client.call(
        CREATE_MODEL, ModelCreate(model=Model(id="", name="two", project=shelf.name, metadata={"acc": 0.75}))
    )
    house.client.call(EDIT_MODEL, ModelEdit(iteration=5, system_tags=("s",)), model=ours.id)

    def found(*where: Condition, **fields: Any) -> list[str]:
        query = ModelQuery(project=shelf.name, where=list(where), order_by=["name"], **fields)
        return [model.name for model in house.client.call(QUERY_MODELS, query).models]

    assert found() == ["one", "two"]
    assert found(Condition(key="metadata.acc", value="0.75")) == ["two"]
    assert found(Condition(key="metadata.acc", is_="exists")) == ["two"]
    assert found(Condition(key="iteration", is_=">", value=4)) == ["two"]
    assert found(Condition(key="iteration", is_="in", value=[""])) == ["one"]
    assert found(Condition(key="name", is_="not in", value=["one"])) == ["two"]
    assert found(Condition(key="published", value="true")) == []
    assert found(system_tags=["s"]) == ["two"]
    house.client.call(PUBLISH_MODEL, model=ours.id)
    assert found(Condition(key="published", value="true")) == ["two"]

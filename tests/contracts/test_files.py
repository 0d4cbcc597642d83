"""Files by their paths, debug samples and lists of models mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
from tests.conftest import House

from taskloom.domain.artifact import Artifact, Model, Sample
from taskloom.wire.client import build_call
from taskloom.wire.messages import (
    Condition,
    JournalBatch,
    ModelCreate,
    ModelQuery,
    ProjectCreate,
    ProjectEdit,
    SamplesQuery,
    TaskCreate,
    TaskDelete,
)
from taskloom.wire.operations import (
    BLOB_STATUS,
    CREATE_MODEL,
    CREATE_PROJECT,
    CREATE_TASK,
    DELETE_TASK,
    EDIT_PROJECT,
    GET_MODEL,
    LIST_ARTIFACTS,
    LIST_SAMPLES,
    PUT_ARTIFACT,
    PUT_BLOB,
    QUERY_MODELS,
    SHIP_JOURNAL,
)
from taskloom.wire.records import Ended, Opened, Record, Sampled


def put(house: House, *files: tuple[str, bytes]) -> int:
    parts = [(path, (path, data)) for path, data in files]
    headers = {"authorization": f"Bearer {house.key}"}
    return httpx.post(f"{house.url}/files", files=parts, headers=headers, timeout=60).status_code


def get(house: House, path: str) -> bytes | None:
    answer = httpx.get(f"{house.url}/files{quote(path)}", headers={"authorization": f"Bearer {house.key}"})
    return answer.content if answer.status_code == 200 else None


def held(house: House, data: bytes) -> bool:
    return house.client.call(BLOB_STATUS, digest=hashlib.sha256(data).hexdigest()).complete


def test_files_are_replaced_named_and_go_with_their_task(any_house: House) -> None:
    task = any_house.client.call(CREATE_TASK, TaskCreate(name="a task", project="files")).id
    path = f"/files/a task.{task}/artifacts/ä 1.json"
    late = Artifact(name="late", uri=f"http://any.name/files{quote(path)}")
    any_house.client.call(PUT_ARTIFACT, late, task=task)
    assert put(any_house, (path, b"first"), ("/elsewhere", b"other")) == 200
    assert put(any_house, (path, b"second")) == 200
    kept = any_house.client.call(LIST_ARTIFACTS, task=task).artifacts[0]
    assert (kept.digest, kept.size) == (hashlib.sha256(b"second").hexdigest(), 6)
    assert (held(any_house, b"first"), held(any_house, b"second")) == (False, True)
    any_house.client.call(DELETE_TASK, query=TaskDelete(force=True), task=task)
    assert (get(any_house, path), get(any_house, "/elsewhere")) == (None, b"other")
    assert (held(any_house, b"second"), held(any_house, b"other")) == (False, True)


def test_a_path_that_many_store_at_once_has_the_bytes_of_one(any_house: House) -> None:
    given = [str(n).encode() * 1000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda data: put(any_house, ("/a/b", data)), given))
    assert codes == [200] * 8
    last = get(any_house, "/a/b")
    assert [data for data in given if held(any_house, data)] == [last]


def test_samples_are_listed_by_their_newest_iteration(any_house: House) -> None:
    task = uuid.uuid4().hex
    records = [
        Sampled(sample=Sample(title=title, series=series, iteration=n, name=name, time=1.0, uri=f"s3://b/{n}"))
        for title in ("b", "a")
        for series in ("x", "y")
        for n in (-1, 0, 2**40)
        for name in ("", "second")
        if (series, n) != ("y", 2**40)
    ]
    opened = Opened(mode="new", name="a run", project="samples", time=1.0)
    batch = JournalBatch(writer="w" * 32, events=[opened, *records, *records[:1]])
    any_house.client.call(SHIP_JOURNAL, batch, task=task)

    def listed(**query: object) -> list[tuple[str, str, int, str]]:
        found = any_house.client.call(LIST_SAMPLES, query=SamplesQuery(**query), task=task)  # pyright: ignore
        return [(s.title, s.series, s.iteration, s.name) for s in found.samples]

    newest = [
        (title, series, n, name)
        for title in ("a", "b")
        for series, n in (("x", 2**40), ("y", 0))
        for name in ("", "second")
    ]
    assert listed() == newest
    assert listed(title="b") == newest[4:]
    assert listed(limit=3, offset=2) == newest[2:5]
    every = listed(all_iterations=True, title="a")
    assert [n for _, _, n, _ in every] == [2**40, 2**40, 0, 0, -1, -1, 0, 0, -1, -1]
    assert len(listed(all_iterations=True)) == len(records)


def test_of_samples_only_the_newest_iterations_stay(any_house: House) -> None:
    task = uuid.uuid4().hex

    def sampled(series: str, iteration: int, data: bytes, history: int = 0, name: str = "") -> Sampled:
        digest = hashlib.sha256(data).hexdigest()
        call = build_call(any_house.client.address, PUT_BLOB, digest=digest)
        assert any_house.client.http.put(call.url, content=data, headers=call.headers).status_code == 200
        sample = Sample(title="t", series=series, iteration=iteration, name=name, time=1.0, digest=digest)
        return Sampled(sample=sample, history=history)

    def ship(start: int, *records: Record, offset: int = 0) -> None:
        batch = JournalBatch(writer="w" * 32, events_start=start, events=list(records), iteration_offset=offset)
        any_house.client.call(SHIP_JOURNAL, batch, task=task)

    def listed() -> list[tuple[str, int, str]]:
        query = SamplesQuery(all_iterations=True)
        found = any_house.client.call(LIST_SAMPLES, query=query, task=task).samples
        return [(s.series, s.iteration, s.name) for s in found]

    opened = Opened(mode="new", name="a run", project="samples", time=1.0)
    ship(0, opened, *(sampled("a", n, b"%d" % n, history=2) for n in (10, 20, 30)), sampled("b", 1, b"kept"))
    assert listed() == [("a", 30, ""), ("a", 20, ""), ("b", 1, "")]
    ship(5, sampled("a", 30, b"again", history=2, name="second"), sampled("a", 5, b"too old", history=2))
    assert listed() == [("a", 30, ""), ("a", 30, "second"), ("a", 20, ""), ("b", 1, "")]
    ship(7, sampled("a", 1, b"moved", history=2), offset=100)
    assert listed() == [("a", 101, ""), ("a", 30, ""), ("a", 30, "second"), ("b", 1, "")]
    ship(8, sampled("a", 40, b"all of them"), sampled("a", 41, b"one", history=1))
    assert listed() == [("a", 101, ""), ("b", 1, "")]
    ship(10, Ended(status="completed", time=2.0))
    gone = (b"10", b"20", b"30", b"again", b"too old", b"all of them", b"one")
    assert not any(held(any_house, data) for data in gone)
    assert held(any_house, b"moved")
    assert held(any_house, b"kept")


def test_models_are_found_by_their_fields(any_house: House) -> None:
    def made(name: str, **fields: object) -> str:
        model = Model(id="", name=name, project="shelf/below", **fields)  # pyright: ignore
        return any_house.client.call(CREATE_MODEL, ModelCreate(model=model)).id

    made("first", tags=("a", "b"), framework="PyTorch", comment="Alpha", iteration=3, uri="s3://b/1")
    made("second", tags=("b",), system_tags=("archived",), metadata={"acc": 0.5, "on": True, "text": "ü 100%"})
    made("Third", parent="0" * 32)

    def found(*where: Condition, **fields: object) -> list[str]:
        query = ModelQuery(where=list(where), order_by=["created"], **fields)  # pyright: ignore
        page = any_house.client.call(QUERY_MODELS, query)
        assert page.total == len(page.models)
        return [model.name for model in page.models]

    def one(key: str, is_: str, value: object = None) -> list[str]:
        return found(Condition(key=key, is_=is_, value=value))  # pyright: ignore

    assert found() == ["first", "second", "Third"]
    assert one("name", "matches", "^(f|T)") == ["first", "Third"]
    assert one("name", "matches", "(?i)t.*d") == ["Third"]
    assert one("name", "contains", "IR") == ["first", "Third"]
    assert one("comment", "=", "Alpha") == ["first"]
    assert one("framework", "in", ["PyTorch", ""]) == ["first", "second", "Third"]
    assert one("framework", "not in", [""]) == ["first"]
    assert one("parent", "exists") == ["Third"]
    assert one("iteration", "<=", 3) == ["first"]
    assert one("iteration", "not in", [3]) == ["second", "Third"]
    assert one("iteration", "!=", 4) == ["first", "second", "Third"]
    assert one("created", ">", 1e9) == ["first", "second", "Third"]
    assert one("published", "=", "false") == ["first", "second", "Third"]
    assert one("tags", "in", ["a", ""]) == ["first", "Third"]
    assert one("tags", "not in", ["a"]) == ["second", "Third"]
    assert one("system_tags", "=", "archived") == ["second"]
    assert one("metadata.acc", "=", "0.5") == ["second"]
    assert one("metadata.on", "in", ["True"]) == ["second"]
    assert one("metadata.text", "contains", "0%") == ["second"]
    assert one("metadata.text", "!=", "x") == ["first", "second", "Third"]
    assert one("metadata.text", "not in", [""]) == ["second"]
    assert found(system_tags=["-archived"], tags=["b"]) == ["first"]
    either = [[Condition(key="uri", is_="=", value="s3://b/1"), Condition(key="parent", is_="exists")]]
    assert found(any_of=either) == ["first", "Third"]
    assert found(any_of=[*either, [Condition(key="name", value="first")]]) == ["first"]
    ordered = any_house.client.call(QUERY_MODELS, ModelQuery(order_by=["-iteration", "-created"], limit=2))
    assert ([m.name for m in ordered.models], ordered.total) == (["first", "Third"], 3)


def test_models_follow_the_name_of_their_project(any_house: House) -> None:
    top = any_house.client.call(CREATE_PROJECT, ProjectCreate(name="shelf")).id
    any_house.client.call(CREATE_PROJECT, ProjectCreate(name="shelf/below"))
    model = Model(id="", name="net", project="shelf/below")
    made = any_house.client.call(CREATE_MODEL, ModelCreate(model=model)).id
    any_house.client.call(EDIT_PROJECT, ProjectEdit(name="renamed"), project=top)
    assert any_house.client.call(GET_MODEL, model=made).project == "renamed/below"
    query = ModelQuery(project="renamed/below")
    assert [m.project for m in any_house.client.call(QUERY_MODELS, query).models] == ["renamed/below"]

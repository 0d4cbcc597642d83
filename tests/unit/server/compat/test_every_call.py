"""Every call that is served, whatever it is: who may make it, and that no odd body is a fault of the server.

The calls come from the same table that the door reads, so that a new one cannot be forgotten; the names of their
fields are read off the modules that answer them.
"""

from __future__ import annotations

import inspect
import json
import logging
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import Clock, House

from taskloom.domain.artifact import Model
from taskloom.server import app
from taskloom.server.compat.clearml import documents, executions
from taskloom.server.compat.clearml.call import Endpoints
from taskloom.server.settings import read_settings
from taskloom.wire.messages import KeyCreate, ModelCreate, ProjectCreate, QueueCreate, TaskCreate
from taskloom.wire.operations import (
    CREATE_KEY,
    CREATE_MODEL,
    CREATE_PROJECT,
    CREATE_QUEUE,
    CREATE_TASK,
    REVOKE_KEY,
)


def served() -> Endpoints:
    with tempfile.TemporaryDirectory() as folder:
        house = app.House(read_settings(Path(folder), environ={}), time.time)
        house.close()
    return house.clearml.endpoints


ENDPOINTS = served()
CLOSED = sorted(ENDPOINTS)
READS = sorted(name for name in CLOSED if ENDPOINTS[name].role == "viewer")
WRITES = sorted(set(CLOSED) - set(READS))
BODIES = 60  # odd ones for each call
_FIELD = re.compile(r"""(?:\w+\(\s*[\w.\[\]"]+,\s*|\.get\(\s*|\[)"([a-z_]+)\"""")
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    10**30,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\x00",
    "a\nb\x07",
    "\ud800",
    "x" * 70_000,
    "^((a+)+$",
    "f" * 32,
    "2020-01-01",
    ">=nonsense",
    [],
    [None],
    [[]],
    ["x", 1, None],
    [{}],
    [{"section": 1, "name": [], "value": {}}],
    [{"key": None, "mode": 3, "uri": 4, "type_data": []}],
    [{"name": "\x00", "model": "f" * 32, "type": "output"}],
    ["-", "__$or", "__$not", "__$all", None],
    {},
    {"": ""},
    {"x": None},
    {"x": {"y": {"z": [1, {"deep": True}]}}},
    {"x": {"section": 5, "name": None, "value": [1], "type": {}, "description": 0}},
    {"input": [{}], "output": "x"},
    {"artifacts": [{"key": "a", "uri": 7}], "parameters": {"a": {"b": 1}}, "model_desc": [1], "docker_cmd": {}},
    {"big": 10**40, "\x00": "\ud800", "nan": float("nan")},
    {"pattern": "(", "fields": 3},
)


def fields_of(call: str) -> list[str]:
    """Names that the module behind a call looks for in bodies, with those of task documents."""
    respond = ENDPOINTS[call].respond
    sources = [
        inspect.getsource(sys.modules[respond.__module__]),
        inspect.getsource(documents),
        inspect.getsource(executions),
    ]
    return sorted({name for source in sources for name in _FIELD.findall(source)})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = House(tmp_path_factory.mktemp("calls") / "house", Clock())
    yield running
    running.stop()


@pytest.fixture(scope="module")
def web(house: House) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=house.url, trust_env=False, timeout=60) as client:
        yield client


def ask(web: httpx.Client, call: str, key: str, body: Any = None) -> tuple[int, int]:
    """Code and subcode; asserts the envelope."""
    content = json.dumps({} if body is None else body)
    kind = "application/json-lines" if ENDPOINTS[call].lines else "application/json"
    headers = {"content-type": kind, **({"authorization": f"Bearer {key}"} if key else {})}
    answer = web.request(
        "GET", f"/v2.23/{call}", content=content.encode("utf-8", "surrogatepass"), headers=headers
    )
    told = answer.json()
    assert set(told) == {"meta", "data"}
    meta = told["meta"]
    assert meta["endpoint"]["name"] == call
    assert meta["result_code"] == answer.status_code
    assert isinstance(told["data"], dict)
    return meta["result_code"], meta["result_subcode"]


@pytest.mark.parametrize("call", CLOSED)
def test_a_call_without_a_token_is_refused(web: httpx.Client, call: str) -> None:
    assert ask(web, call, "") == (401, 20)


@pytest.mark.parametrize("call", CLOSED)
def test_a_call_with_a_token_of_somebody_elses_making_is_refused(web: httpx.Client, call: str) -> None:
    assert ask(web, call, "eyJhbGciOiJub25lIn0.eyJrZXkiOiJ4IiwiZXhwIjo5OTk5OTk5OTk5fQ.") == (401, 30)


def test_a_revoked_key_opens_nothing_any_more(house: House, web: httpx.Client) -> None:
    made = house.client.call(CREATE_KEY, KeyCreate(label="to revoke"))
    access, _, secret = made.key.removeprefix("tl_").partition("_")
    token = web.get("/auth.login", auth=(access, secret)).json()["data"]["token"]
    assert ask(web, "users.get_current_user", token) == (200, 0)
    house.client.call(REVOKE_KEY, key=made.info.id)
    for call in CLOSED:
        assert ask(web, call, token)[0] == 401, call


def test_who_may_only_read_changes_nothing(house: House, web: httpx.Client) -> None:
    key = house.make_key("viewer")
    for call in WRITES:
        assert ask(web, call, key) == (403, 10), call
    for call in READS:
        assert ask(web, call, key)[0] in {200, 400}, call


class Things:
    """One of each noun, which calls may name, change and delete."""

    def __init__(self, house: House) -> None:
        client = house.client
        self.n = random.getrandbits(64)
        self.project = client.call(CREATE_PROJECT, ProjectCreate(name=f"odd {self.n:x}")).id
        self.task = client.call(CREATE_TASK, TaskCreate(name="odd task", project=f"odd {self.n:x}")).id
        self.queue = client.call(CREATE_QUEUE, QueueCreate(name=f"odd {self.n:x}")).id
        self.model = client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name="odd", uri="s3://a/b"))).id

    def named(self, call: str) -> dict[str, Any]:
        noun = call.partition(".")[0].removesuffix("s")
        own = {"task": self.task, "model": self.model, "project": self.project, "queue": self.queue}
        first = own.get(noun, self.task)
        lists = {"ids": [first], "tasks": [self.task], "id": [first], "queues": [self.queue]}
        rest = {"worker": "odd-worker", "name": f"odd {self.n:x}", "force": True, "batch_size": 10, "iters": 1}
        return {**own, **lists, **rest, "uri": "s3://a/b", "metrics": [{"task": self.task, "metric": "loss"}]}


@pytest.mark.parametrize("call", CLOSED)
def test_no_odd_body_is_a_fault_of_the_server(
    house: House, web: httpx.Client, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(call)
    things, fields = Things(house), fields_of(call)
    assert len(fields) > 10
    with caplog.at_level(logging.ERROR, "taskloom.server"):
        for number in range(BODIES):
            body = things.named(call)
            if number == 0:
                body = {}
            elif number < 4:
                body = {field: chance.choice(ODD) for field in fields}
            else:
                body |= {chance.choice(fields): chance.choice(ODD) for _ in range(chance.randint(1, 3))}
            code, _ = ask(web, call, house.key, body)
            assert code in {200, 400, 413}, (call, code, body, caplog.text)
    assert not caplog.records
    good(house, web)


@pytest.mark.parametrize("call", CLOSED)
def test_what_is_no_object_is_refused(house: House, web: httpx.Client, call: str) -> None:
    headers = {"authorization": f"Bearer {house.key}", "content-type": "application/json"}
    for content in (b"[]", b"7", b'"x"', b"{", b"\xff\xfe", b"[" * 5000, b'{"task": ' * 3000):
        answer = web.request("POST", f"/{call}", content=content, headers=headers)
        assert answer.json()["meta"]["result_code"] == answer.status_code
        assert answer.status_code in ({200, 400} if ENDPOINTS[call].lines else {400})
    good(house, web)


def test_deep_and_huge_values_are_refused_or_kept(house: House, web: httpx.Client) -> None:
    things = Things(house)
    deep: Any = {}
    for _ in range(400):
        deep = {"x": deep}
    for field in ("runtime", "execution", "container", "script", "hyperparams", "configuration", "input"):
        for value in (deep, {"x": deep}, {"x": 2**70}, {"x": "y" * 3_000_000}, {"requirements": deep}):
            code, _ = ask(web, "tasks.edit", house.key, {"task": things.task, field: value})
            assert code in {200, 400, 413}, field
            assert ask(web, "tasks.get_by_id", house.key, {"task": things.task}) == (200, 0)
    good(house, web)


def test_fields_that_nobody_knows_are_ignored(house: House, web: httpx.Client) -> None:
    things = Things(house)
    for call in ("tasks.get_by_id", "tasks.edit", "tasks.started", "tasks.completed", "tasks.reset"):
        body = {"task": things.task, "method": "get", "never_heard_of": {"a": [1]}}
        assert ask(web, call, house.key, body) == (200, 0)


def good(house: House, web: httpx.Client) -> None:
    """The server goes on as if nothing had been."""
    body = {"name": "good task", "type": "training", "hyperparams": {"Args": {"a": {"value": "1"}}}}
    headers = {"authorization": f"Bearer {house.key}"}
    made = web.post("/v2.23/tasks.create", json=body, headers=headers).json()
    found = web.post("/v2.23/tasks.get_by_id", json={"task": made["data"]["id"]}, headers=headers).json()
    assert found["data"]["task"]["hyperparams"]["Args"]["a"]["value"] == "1"

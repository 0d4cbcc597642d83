"""HUD's addresses: who is let in, what is served, and that nothing a client sends is the server's fault."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.conftest import House
from tests.unit.server.compat.hud_wire import Wire, span


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for all of them."""
    running = House(tmp_path_factory.mktemp("hud") / "house")
    yield running
    running.stop()


@pytest.fixture
def wire(house: House) -> Iterator[Wire]:
    wire = Wire(house.url, house.make_key("member"))
    yield wire
    wire.close()


def _rows(*slugs: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": slug, "env": {"name": "sums"}, "task_id": "add", "args": {"a": 1}, **more} for slug in slugs]


def test_a_taskset_is_uploaded_changed_and_exported_in_its_order(wire: Wire) -> None:
    wire.get("/v2/tasksets/by-name/sums%20of%20mine", 404)
    kept = {"runtime_config": {"image": "x"}, "verifier": {"env": "v", "id": "w"}, "columns": {"level": 1}}
    made = wire.post("/v2/tasks/upload", {"taskset_name": "sums of mine", "tasks": _rows("b", "a", **kept)})
    assert (made["tasks_created"], made["tasks_updated"]) == (2, 0)
    found = wire.get("/v2/tasksets/by-name/sums%20of%20mine")
    assert found == {"taskset_id": made["taskset_id"], "name": "sums of mine"}
    body = {"taskset_name": "ignored", "taskset_id": made["taskset_id"], "tasks": _rows("b", "c", **kept)}
    assert wire.post("/v2/tasks/upload", body)["tasks_created"] == 1
    record = wire.get(f"/v2/tasksets/{made['taskset_id']}")
    assert record["can_edit"] and uuid.UUID(record["id"])
    rows = wire.get(f"/v2/tasksets/{made['taskset_id']}/export")["tasks"]
    assert [row["name"] for row in rows] == ["b", "a", "c"]
    assert {name: rows[0][name] for name in kept} == kept
    assert (rows[0]["validation"], rows[0]["scenario"], rows[0]["env"]) == (None, "add", "sums")
    own = [{"kind": "mine"}]
    body["tasks"] = _rows("a", validation=own, **kept)
    assert wire.post("/v2/tasks/upload", body)["tasks_updated"] == 1
    assert wire.get(f"/v2/tasksets/{made['taskset_id']}/export")["tasks"][1]["validation"] == own


def test_an_empty_taskset_is_made_by_its_name(wire: Wire) -> None:
    made = wire.ask("POST", "/v2/tasksets", 201, json={"name": "empty"})
    assert wire.get(f"/v2/tasksets/{made['id']}/export")["tasks"] == []


def test_projects_are_listed_made_and_found(wire: Wire) -> None:
    made = wire.ask("POST", "/v2/projects", 201, json={"name": "vision"})
    assert made["capabilities"] == {"create": True}
    assert wire.get(f"/v2/projects/{made['id']}") == made
    found = wire.get("/v2/projects", search="visi", limit=500)
    assert found == {"items": [made], "total": 1}


def test_who_asks_is_a_uuid_that_stays(house: House, wire: Wire) -> None:
    first = wire.get("/v2/auth/me")
    assert uuid.UUID(first["user_id"]) and uuid.UUID(first["team_id"])
    assert wire.get("/v2/auth/me") == first


def test_a_key_is_needed_and_a_viewer_only_reads(house: House, wire: Wire) -> None:
    job = wire.enter_job()
    for key in ("tl_0000000000000000_" + "0" * 48, "nonsense"):
        stranger = Wire(house.url, key)
        assert stranger.get("/v2/auth/me", 401)
        assert stranger.post("/v2/tasks/upload", {}, 401)
        stranger.close()
    viewer = Wire(house.url, house.make_key("viewer"))
    assert viewer.get("/v2/jobs")["total"] >= 1
    assert viewer.get("/v2/projects", limit=1)["items"][0]["capabilities"] == {"create": False}
    for path in ("/v2/tasks/upload", f"/v2/trace/job/{job}/enter", f"/v2/trace/{job}/enter", "/v2/projects"):
        assert "role member" in viewer.post(path, {}, 403)
    viewer.close()


def test_what_is_not_served_says_so(wire: Wire) -> None:
    for method, path in [
        ("POST", "/v2/builds/upload-url"),
        ("GET", "/v2/qa/checks"),
        ("DELETE", "/v2/jobs"),
        ("GET", "/"),
        ("GET", "/v2/registry/../tasksets"),
        ("PUT", "/v2/models/x/head"),
    ]:
        assert "not served by Taskloom" in wire.ask(method, path, 404)


def test_without_a_gateway_there_are_no_models(wire: Wire) -> None:
    assert wire.get("/v2/models") == {"items": [], "total": 0}
    assert "evals.gateway_url" in wire.post("/gateway/chat/completions", {"model": "m", "messages": []}, 404)


GARBAGE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b'{"telemetry": {}}',
    b'{"telemetry": [{"span_id": 7, "attributes": {"hud.schema": "hud.step.v1", "hud.payload": {"source": "agent"}}}]}',
    b'{"tasks": [1], "taskset_name": "sums"}',
    b'{"tasks": [{"name": "", "env": {"name": ""}, "task_id": ""}], "taskset_name": "sums"}',
    b'{"tasks": [], "taskset_name": "\\u0000"}',
    b'{"tasks": [], "taskset_name": "' + b"x" * 5000 + b'"}',
    b'{"name": "\\u0000\\ud800", "group": -5}',
    b'{"name": "' + b"n" * 5000 + b'", "group": 99999999999999999999}',
    b'{"job_id": "nonsense", "task_slug": "\\u0000"}',
    b'{"status": "strange", "reward": 1e999}',
    b'{"status": "completed", "reward": 123456789012345678901234567890}',
    b'{"status": "error", "evaluation_result": {"score": "high", "subscores": [1, {"value": [], "children": "x"}]}}',
    b'{"reward": 1, "metadata": {"deep": ' + b"[" * 2000 + b"]" * 2000 + b"}}",
    b'{"evaluation_result": {"score": 1, "info": {"big": 99999999999999999999999}}}',
]


def test_garbage_is_never_the_servers_fault(house: House, wire: Wire) -> None:
    job = wire.enter_job()
    trace = wire.enter(job)
    paths = [
        f"/v2/trace/job/{uuid.uuid4().hex}/enter",
        f"/v2/trace/{uuid.uuid4().hex}/enter",
        f"/v2/trace/{trace}/exit",
        f"/telemetry/trace/{trace}/telemetry-upload",
        "/v2/tasks/upload",
        "/v2/tasksets",
        "/v2/projects",
        "/gateway/chat/completions",
    ]
    headers = {"Authorization": f"Bearer {house.key}"}
    with httpx.Client(base_url=f"{house.url}/hud", headers=headers, timeout=30) as client:
        for path in paths:
            for body in GARBAGE:
                answer = client.post(path, content=body)
                assert answer.status_code < 500, (path, body[:100], answer.text)
                assert answer.status_code < 400 or isinstance(json.loads(answer.content)["detail"], str)
        for path in (
            "/v2/jobs?limit=-1",
            "/v2/jobs?limit=x",
            "/v2/jobs?offset=99999999999",
            "/v2/tasksets/%ff",
            "/%00",
        ):
            assert 400 <= client.get(path).status_code < 500, path
        assert client.get("/v2/jobs?limit=100000").status_code == 200
    wire.exit(trace, reward=1.0)
    assert wire.get(f"/v2/trace/{trace}")["reward"] == 1.0


@pytest.mark.parametrize(
    "payload",
    [
        {"usage": {"prompt_tokens": -5, "completion_tokens": 10**18 * 4, "cost_usd": "much"}},
        {
            "usage": [],
            "sample": {"prompt_token_ids": "x", "output_token_ids": [1, None], "output_logprobs": [None]},
        },
        {"messages": "x", "tool_calls": [None, 5], "call": "x", "result": {"content": [1], "isError": "no"}},
        {"task_call": {"phase": "other"}, "error": 5, "extra": "x", "started_at": "yesterday", "step_id": "first"},
        {"started_at": "9999-12-31T23:59:59+00:00", "ended_at": "0001-01-01T00:00:00Z", "content": ["x"]},
    ],
)
def test_a_step_of_odd_parts_is_kept_without_them(wire: Wire, payload: dict[str, Any]) -> None:
    trace = wire.enter(wire.enter_job())
    assert wire.upload(trace, span(1, **payload))["accepted"] == 1
    assert len(wire.get(f"/v2/trace/{trace}/events")["events"]) == 1

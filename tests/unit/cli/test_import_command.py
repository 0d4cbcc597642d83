"""`taskloom import clearml` against a source as odd as old servers are: it fits, or it is told why it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.cli.clearml_server import Answer, Server, error, ok
from tests.unit.cli.conftest import Run

from taskloom.domain.metrics import SINGLE_VALUE
from taskloom.domain.status import Status
from taskloom.domain.task import Task, TaskType
from taskloom.wire import messages as m
from taskloom.wire import operations as op

ODD, PLAIN, REPORT, BROKEN = (letter * 32 for letter in "abcd")
USER, PROJECT = "1" * 32, "2" * 32
FIRST = "2020-01-02T03:04:05.678901+00:00"


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def odd_task() -> dict[str, Any]:
    return {
        "id": ODD,
        "name": "x\x00\ny",
        "type": "annotation_of_old",
        "status": "unheard_of",
        "project": None,
        "user": USER,
        "created": FIRST,
        "started": "no time",
        "last_update": "2021-01-02T03:04:05Z",
        "tags": ["", "fine", None, "l" * 400, "fine"],
        "system_tags": None,
        "comment": "c" * 100_000,
        "parent": "not an id",
        "hyperparams": {"Args": {"n": {"value": 3}, "none": {"value": None}}, "properties": {"p": {"value": "v"}}},
        "configuration": None,
        "script": {"entry_point": "a.py\x07", "requirements": {"pip": ["one", "two\x00"]}},
        "execution": {
            "artifacts": [{"uri": "s3://x/y"}, {"key": "kept", "uri": "s3://x/y", "timestamp": 5}, "what"]
        },
        "models": {"output": [{"model": "f" * 32, "name": "gone"}, {"model": 7}]},
        "runtime": {"progress": "55", "else": 1},
        "never_heard_of": {"a": 1},
        "last_iteration": 9,
    }


def plain_task() -> dict[str, Any]:
    return {
        "id": PLAIN,
        "name": "plain",
        "type": "training",
        "status": "queued",
        "project": PROJECT,
        "created": FIRST,
    }


def events(body: dict[str, Any], _: int) -> Answer:
    if body.get("scroll_id") or body["task"] != ODD:
        return ok({"events": [], "scroll_id": "1"})
    common = {
        "task": ODD,
        "type": body["event_type"],
        "timestamp": 1_600_000_000_500,
        "metric": "m",
        "variant": "v",
    }
    told: dict[str, list[Any]] = {
        "training_stats_scalar": [
            {**common, "iter": 1, "value": 0.5},
            {**common, "iter": 2, "value": float("nan")},
            {**common, "iter": SINGLE_VALUE, "variant": "single", "value": 3},
            {**common, "iter": "many", "value": 1.0},
            {**common, "task": PLAIN, "iter": 1, "value": 1.0},
            ["no event"],
        ],
        "log": [{**common, "msg": "said\ntwice"}, {**common, "msg": "failed", "level": "error"}],
    }
    return ok({"events": told.get(body["event_type"], []), "scroll_id": "1"})


def serve(server: Server, tasks: dict[str, dict[str, Any]]) -> None:
    def get_all(body: dict[str, Any], _: int) -> Answer:
        if body.get("scroll_id") or body["system_tags"] == ["archived"]:
            return ok({"tasks": [], "scroll_id": "s"})
        return ok({"tasks": list(tasks.values()), "scroll_id": "s"})

    server.calls |= {
        "users.get_all": lambda _b, _n: ok({"users": [{"id": USER, "name": "Ada Lovelace"}]}),
        "projects.get_all": lambda b, _: ok(
            {"projects": [] if b.get("scroll_id") else [{"id": PROJECT, "name": "shelf/deep", "created": FIRST}]}
        ),
        "tasks.get_all": get_all,
        "tasks.get_by_id": lambda b, _: ok({"task": tasks[b["task"]]}) if b["task"] in tasks else error(400, 101),
        "events.get_task_events": events,
        "models.get_all": lambda _b, _n: ok({"models": []}),
        "queues.get_all": lambda _b, _n: ok({"queues": [{"id": "3" * 32, "name": "gpu", "entries": [{}, {}]}]}),
    }


def bring(taskloom: Run, server: Server, *more: str) -> Any:
    words = ["import", "clearml", server.url, "--access-key", "a", "--secret-key", "s", "--json"]
    return taskloom(*words, *more)


def task_of(house: Any, task: str) -> Task:
    return house.client.call(op.GET_TASK, task=task)


def test_odd_documents_are_made_to_fit_and_it_is_told(taskloom: Run, house: Any, server: Server) -> None:
    report = {"id": REPORT, "name": "a report", "type": "report", "status": "created"}
    serve(server, {ODD: odd_task(), PLAIN: plain_task(), REPORT: report})
    ran = bring(taskloom, server)
    account = ran.json
    assert (ran.code, account["failed"]) == (0, [])
    assert account["tasks"]["new"] == 2
    odd = task_of(house, ODD)
    assert (odd.name, odd.type, odd.status, odd.user) == ("x  y", TaskType.CUSTOM, Status.ABORTED, "Ada Lovelace")
    assert (odd.tags, odd.parent, odd.progress, odd.runtime) == (("fine", "l" * 256), "", 55.0, {"else": 1})
    assert (odd.parameters["Args"]["n"].value, odd.properties["p"].value) == ("3", "v")
    assert (odd.created, odd.started, odd.last_iteration) == (1577934245.678901, 0.0, 9)
    assert [(a.name, a.uri, a.digest) for a in odd.artifacts] == [("kept", "s3://x/y", "")]
    assert odd.models == ()
    counts = {(s.title, s.series): (s.count, s.last) for s in odd.metrics}
    assert counts == {("m", "v"): (2, "NaN"), ("m", "single"): (1, 3.0)}
    console = house.client.call(op.GET_CONSOLE, query=m.ConsoleQuery(), task=ODD).entries
    assert [(e.stream, e.time, e.text) for e in console] == [
        ("stdout", 1_600_000_000.5, "said\ntwice\n"),
        ("stderr", 1_600_000_000.5, "failed\n"),
    ]
    plain = task_of(house, PLAIN)
    assert (plain.status, plain.project, plain.project_id) == (Status.DRAFT, "shelf/deep", PROJECT)
    assert "waited in a queue" in plain.status_reason
    left = {(item["what"], item["count"]) for item in account["left_out"]}
    assert {("reports", 1), ("queues' entries", 2), ("users' credentials", 1)} <= left
    assert sum(item["count"] for item in account["left_out"] if item["what"] == "events") == 3


def test_a_task_that_cannot_be_brought_does_not_keep_the_others(taskloom: Run, house: Any, server: Server) -> None:
    gone = {**plain_task(), "id": BROKEN}
    serve(server, {BROKEN: gone, PLAIN: plain_task()})
    served = server.calls["tasks.get_by_id"]
    server.calls["tasks.get_by_id"] = lambda b, n: (
        error(400, 101, "it is gone") if b["task"] == BROKEN else served(b, n)
    )
    ran = bring(taskloom, server)
    assert ran.code == 1
    assert [(f["task"], "it is gone" in f["error"]) for f in ran.json["failed"]] == [(BROKEN, True)]
    assert ran.json["tasks"] == {"new": 1, "changed": 0, "begun": 0, "known": 0, "left": 0, "failed": 1}
    server.calls["tasks.get_by_id"] = served
    assert bring(taskloom, server).json["tasks"]["new"] == 1


def test_for_people_the_report_is_a_table(taskloom: Run, server: Server) -> None:
    serve(server, {ODD: odd_task()})
    words = ["import", "clearml", server.url, "--access-key", "a", "--secret-key", "s"]
    dry = taskloom(*words, "--dry-run").out
    assert "Would be done" in dry
    told = taskloom(*words).out
    assert "1 new" in told
    assert "Left out or changed" in told
    assert "1 here already" in taskloom(*words).out


def test_filters_reach_the_source_as_it_knows_them(taskloom: Run, server: Server) -> None:
    serve(server, {PLAIN: plain_task()})
    seen: list[dict[str, Any]] = []
    served = server.calls["tasks.get_all"]
    server.calls["tasks.get_all"] = lambda body, n: (seen.append(body), served({"system_tags": [], **body}, n))[1]
    assert bring(taskloom, server, "--project", "shelf", "--since", "2025-01-31", "--archived").code == 0
    assert seen[0]["project"] == [PROJECT]
    assert seen[0]["last_update"][0].startswith(">=2025-01-3")
    assert "system_tags" not in seen[0]
    seen.clear()
    assert bring(taskloom, server, "--task", PLAIN).code == 0
    assert (seen[0]["id"], seen[0]["system_tags"]) == ([PLAIN], ["-archived"])
    assert bring(taskloom, server, "--project", "nowhere").code == 1
    assert bring(taskloom, server, "--since", "yesterday").code == 2
    assert taskloom("import", "clearml", "http://one", "http://two").code == 2


def test_keys_come_from_the_variables_or_from_a_file_that_points_at_the_source(
    taskloom: Run, server: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, {})
    file = tmp_path / "clearml.conf"
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(file))
    for name in ("API_HOST", "API_ACCESS_KEY", "API_SECRET_KEY", "FILES_HOST"):
        monkeypatch.delenv(f"CLEARML_{name}", raising=False)
    section = 'api {{ api_server: {}, credentials {{ "access_key" = "A", "secret_key" = "S" }} }}'
    file.write_text(section.format("http://other"))
    assert "no keys" in taskloom("import", "clearml", server.url).err
    file.write_text(section.format(server.url))
    assert taskloom("import", "clearml", server.url).code == 0
    file.write_text("")
    monkeypatch.setenv("CLEARML_API_ACCESS_KEY", "A")
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "S")
    assert taskloom("import", "clearml", server.url).code == 0
    assert json.loads(taskloom("import", "clearml", server.url, "--json").out)["finished"] is True

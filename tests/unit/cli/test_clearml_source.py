"""How a source is read: patiently, page by page, in its old and new forms, and never from where it only points to."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.cli.clearml_server import Answer, Server, error, ok

from taskloom.cli.clearml import patience as patience_module
from taskloom.cli.clearml.patience import Patience, Stopped
from taskloom.cli.clearml.source import Login, Refused, Source
from taskloom.domain.errors import BadInput, NotFound, ServerAway, Unauthorized


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Patience:
    """Without pauses."""
    monkeypatch.setattr(patience_module, "DELAYS", (0.0,) * 8)
    return Patience()


@pytest.fixture
def source(server: Server, patience: Patience) -> Iterator[Source]:
    made = Source(Login(server.url, "access", "secret"), patience)
    yield made
    made.close()


def test_calls_are_made_in_the_version_that_the_source_speaks(server: Server, source: Source) -> None:
    server.calls["tasks.get_by_id"] = lambda body, _: ok({"task": {"id": body["task"]}})
    assert source.call("tasks.get_by_id", task="x") == {"task": {"id": "x"}}
    assert server.seen == ["/auth.login", "/v2.30/tasks.get_by_id"]


def test_what_may_pass_is_tried_again(server: Server, source: Source) -> None:
    bad = [(503, {}, b"busy"), (429, {"Retry-After": "0"}, b"{}"), (502, {}, b"<html>"), error(500)]
    server.calls["users.get_all"] = lambda _, n: bad[n - 1] if n <= len(bad) else ok({"users": []})
    assert source.call("users.get_all") == {"users": []}


def test_a_fault_that_does_not_pass_and_a_refusal_are_told(server: Server, source: Source) -> None:
    server.calls["users.get_all"] = lambda _, n: error(500)
    with pytest.raises(Refused):
        source.call("users.get_all")
    assert len(server.seen) == 4
    server.calls["tasks.get_by_id"] = lambda _, n: error(400, 101, "invalid task id")
    with pytest.raises(Refused, match="invalid task id"):
        source.call("tasks.get_by_id", task="x")


def test_a_token_whose_time_is_over_is_renewed_once(server: Server, source: Source) -> None:
    server.calls["users.get_all"] = lambda _, n: error(401, 30) if n == 1 else ok({"users": [1]})
    assert source.call("users.get_all") == {"users": [1]}
    assert server.tokens == 2
    server.calls["users.get_all"] = lambda _, n: error(401, 30)
    with pytest.raises(Unauthorized):
        source.call("users.get_all")


def test_wrong_keys_other_programs_and_nobody_are_told_at_once(server: Server, patience: Patience) -> None:
    def enter(url: str = "") -> None:
        Source(Login(url or server.url, "access", "secret"), patience).enter()

    server.calls["auth.login"] = lambda _, n: error(401, 22, "wrong credentials")
    with pytest.raises(Unauthorized, match="wrong credentials"):
        enter()
    for answer in ((200, {}, b"<html>hello</html>"), (200, {}, b'{"data": {}}'), (404, {}, b"<html>"), ok([1])):
        server.calls["auth.login"] = lambda _body, _n, a=answer: a
        with pytest.raises(BadInput, match="ClearML"):
            enter()
    with pytest.raises(ServerAway):
        enter("http://127.0.0.1:9")


def test_lists_are_read_by_scroll_and_of_older_servers_by_page(server: Server, source: Source) -> None:
    ids = [f"{n:032x}" for n in range(1100)]

    def by_scroll(body: dict[str, Any], _: int) -> Answer:
        at = int(body.get("scroll_id") or 0)
        return ok({"tasks": [{"id": i} for i in ids[at : at + body["size"]]], "scroll_id": str(at + body["size"])})

    def by_page(body: dict[str, Any], _: int) -> Answer:
        at = body.get("page", 0) * 500
        return ok({"tasks": [{"id": i} for i in ids[at : at + 500]]})

    def shifting(body: dict[str, Any], _: int) -> Answer:
        at = max(0, body.get("page", 0) * 500 - 3)  # three were added in front while it was read
        return ok({"tasks": [{"id": i} for i in ids[at : at + 500]]})

    for answers in (by_scroll, by_page, shifting):
        server.calls["tasks.get_all"] = answers
        assert [task["id"] for task in source.every("tasks")] == ids


def test_events_are_read_page_by_page_and_nan_is_read(server: Server, source: Source) -> None:
    pages = [
        b'{"meta":{"result_code":200},"data":{"events":[{"type":"log","msg":"a"}],"scroll_id":"1"}}',
        b'{"meta":{"result_code":200},"data":{"events":[{"type":"x","value":NaN}],"scroll_id":"2"}}',
        b'{"meta":{"result_code":200},"data":{"events":[],"scroll_id":"2"}}',
    ]
    server.calls["events.get_task_events"] = lambda body, _: (200, {}, pages[int(body.get("scroll_id", 0))])
    found = [json.loads(page) for page in source.events("t", "log")]
    assert found[0] == {"type": "log", "msg": "a"}
    assert found[1]["value"] != found[1]["value"]


def test_files_come_from_the_source_and_from_nowhere_else(server: Server, patience: Patience) -> None:
    files = {"http://old-name:8081": server.url}
    source = Source(Login(server.url, "access", "secret", files), patience)
    assert source.fetchable("http://old-name:8081/a/b.txt") == f"{server.url}/a/b.txt"
    assert source.fetchable(f"{server.url}/files/a") == f"{server.url}/files/a"
    for elsewhere in ("http://old-name:80810/a", "http://169.254.169.254/x", "s3://bucket/x", "/etc/passwd", ""):
        assert source.fetchable(elsewhere) is None
    server.files["/a/b.txt"] = (200, {}, b"contents")
    server.files["/moved"] = (302, {"Location": "http://127.0.0.1:9/"}, b"")
    into = io.BytesIO(b"older and longer than the contents")
    source.fetch(f"{server.url}/a/b.txt", into)
    assert into.getvalue() == b"contents"
    for missing in ("/missing", "/moved"):
        with pytest.raises(NotFound):
            source.fetch(f"{server.url}{missing}", io.BytesIO())


def test_the_usual_places_of_files_are_known(patience: Patience) -> None:
    for api, files in (
        ("http://host:8008", "http://host:8081/x"),
        ("https://api.example.org", "https://files.example.org/x"),
        ("http://host:8080", "http://host:8080/files/x"),
    ):
        assert Source(Login(api, "a", "s"), patience).fetchable(files) == files


def test_nothing_more_is_asked_when_somebody_says_stop(server: Server, source: Source, patience: Patience) -> None:
    patience.stop()
    with pytest.raises(Stopped):
        source.call("users.get_all")
    assert server.seen == []

"""The door for ClearML's clients: addresses, tokens, bodies and the envelope, before any call is looked at."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import Clock, House

from taskloom.server.compat.clearml.tokens import DAY, LONGEST
from taskloom.wire.messages import KeyCreate
from taskloom.wire.operations import CREATE_KEY, LIST_UNSERVED, REVOKE_KEY

PING = "/debug.ping"


def basic(key: str) -> dict[str, str]:
    access, _, secret = key.removeprefix("tl_").partition("_")
    return {"authorization": "Basic " + base64.b64encode(f"{access}:{secret}".encode()).decode()}


def login(house: House, key: str | None = None, **query: str) -> str:
    answer = httpx.get(f"{house.url}/auth.login", headers=basic(key or house.key), params=query)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["token"])


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def claims(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))


def told(answer: httpx.Response) -> tuple[int, int]:
    meta = answer.json()["meta"]
    assert answer.status_code == meta["result_code"]
    return meta["result_code"], meta["result_subcode"]


@pytest.mark.parametrize("prefix", ["", "/v2.23", "/v2.34", "/v2", "/api", "/api/v2.13", "/v999.999"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_call_is_found_under_every_prefix_and_method(house: House, prefix: str, method: str) -> None:
    answer = httpx.request(
        method, f"{house.url}{prefix}{PING}", headers=bearer(login(house)), json={"method": "get"}
    )
    assert told(answer) == (200, 0)
    body = answer.json()
    assert body["data"] == {"msg": "pong"}
    assert body["meta"]["endpoint"]["name"] == "debug.ping"
    assert set(body["meta"]) >= {"id", "trx", "result_msg", "error_stack", "error_data"}


def test_our_own_addresses_come_first(house: House) -> None:
    """`/api/openapi.json` looks like a call; it is ours."""
    assert "openapi" in httpx.get(f"{house.url}/api/openapi.json").json()


def test_the_token_tells_what_clients_read_in_it(house: House) -> None:
    found = claims(login(house))
    assert found["api_version"] == "2.34"
    assert found["server_version"] == "2.3.0"
    assert found["feature_set"] == "basic"
    assert found["identity"]["user_name"] == "admin"
    assert set(found["identity"]) == {"user", "user_name", "company", "company_name", "role"}
    assert house.key.split("_")[2] not in json.dumps(found), "the secret stays out"


def test_a_token_ends_when_it_was_told_to(house: House, clock: Clock) -> None:
    token = login(house, expiration_sec="120")
    assert told(httpx.get(house.url + PING, headers=bearer(token))) == (200, 0)
    clock.advance(121)
    assert told(httpx.get(house.url + PING, headers=bearer(token))) == (401, 30)


def test_no_token_lives_longer_than_thirty_days(house: House) -> None:
    found = claims(login(house, expiration_sec=str(365 * DAY)))
    assert found["exp"] - found["iat"] == LONGEST


def test_a_token_renews_itself(house: House) -> None:
    answer = httpx.get(f"{house.url}/auth.login", headers=bearer(login(house)))
    assert told(answer) == (200, 0)
    assert told(httpx.get(house.url + PING, headers=bearer(answer.json()["data"]["token"]))) == (200, 0)


def test_a_revoked_key_ends_its_tokens(house: House, clock: Clock) -> None:
    made = house.client.call(CREATE_KEY, KeyCreate(label="for a while"))
    token = login(house, made.key)
    assert told(httpx.get(house.url + PING, headers=bearer(token))) == (200, 0)
    house.client.call(REVOKE_KEY, key=made.info.id)
    assert told(httpx.get(house.url + PING, headers=bearer(token))) == (401, 22)
    assert told(httpx.get(f"{house.url}/auth.login", headers=basic(made.key))) == (401, 22)


def test_tokens_outlive_a_restart_of_the_server(house: House) -> None:
    token = login(house)
    house.restart()
    assert told(httpx.get(house.url + PING, headers=bearer(token))) == (200, 0)


def test_tokens_of_another_house_are_worth_nothing(house: House, tmp_path: Path) -> None:
    other = House(tmp_path / "other")
    try:
        token = login(other)
    finally:
        other.stop()
    assert told(httpx.get(house.url + PING, headers=bearer(token))) == (401, 30)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (401, 20)),
        ({"authorization": "Bearer"}, (401, 20)),
        ({"authorization": "Digest x"}, (401, 20)),
        ({"authorization": "Bearer a.b.c"}, (401, 30)),
        ({"authorization": "Bearer eyJhbGciOiJub25lIn0.eyJrZXkiOiJ4IiwiZXhwIjo5OTk5OTk5OTk5fQ."}, (401, 30)),
        ({"authorization": "Basic %%%"}, (401, 22)),
        ({"authorization": "Basic " + base64.b64encode(b"nocolon").decode()}, (401, 22)),
        ({"authorization": "Basic " + base64.b64encode(b"a:b").decode()}, (401, 22)),
        ({"authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}, (401, 22)),
    ],
)
@pytest.mark.parametrize("call", ["/auth.login", PING, "/v2.23/tasks.get_all", "/never.heard_of"])
def test_who_does_not_say_who_they_are_is_told_how(
    house: House, call: str, headers: dict[str, str], expected: tuple[int, int]
) -> None:
    assert told(httpx.get(house.url + call, headers=headers)) == expected


def test_an_unknown_call_is_named_and_counted_with_its_client(house: House) -> None:
    headers = {**bearer(login(house)), "x-clearml-client": "clearml-9.9"}
    for _ in range(3):
        answer = httpx.post(f"{house.url}/v2.30/serving.register_container", headers=headers, json={})
        assert told(answer)[0] == 404
        assert "serving.register_container" in answer.json()["meta"]["result_msg"]
    found = house.client.call(LIST_UNSERVED).calls
    assert [(one.call, one.count, one.client) for one in found] == [
        ("serving.register_container", 3, "clearml-9.9")
    ]


def test_who_is_not_let_in_counts_nothing(house: House) -> None:
    httpx.get(f"{house.url}/made.up")
    assert house.client.call(LIST_UNSERVED).calls == []


def test_fields_of_the_query_string_count_as_fields_of_the_body(house: House) -> None:
    token = login(house)
    answer = httpx.get(f"{house.url}/auth.validate_token", headers=bearer(token), params={"token": token})
    assert answer.json()["data"] == {"valid": True, "msg": ""}
    answer = httpx.get(f"{house.url}/auth.validate_token", headers=bearer(token), params={"token": "x.y.z"})
    assert answer.json()["data"]["valid"] is False


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
def test_packed_bodies_are_read(house: House, encoding: str, pack: Any) -> None:
    token = login(house)
    headers = {**bearer(token), "content-encoding": encoding, "content-type": "application/json"}
    body = pack(json.dumps({"token": token}).encode())
    answer = httpx.post(f"{house.url}/auth.validate_token", headers=headers, content=body)
    assert answer.json()["data"]["valid"] is True


@pytest.mark.parametrize(
    ("headers", "content", "code"),
    [
        ({}, b"{", 400),
        ({}, b"[1]", 400),
        ({}, b"\xff\xfe", 400),
        ({}, b"[" * 100_000, 400),
        ({"content-type": "text/html"}, b"<p>", 400),
        ({"content-encoding": "gzip"}, b"no gzip", 400),
        ({"content-encoding": "gzip"}, gzip.compress(b'{"a": 1}', mtime=0)[:-6], 400),
        ({"content-encoding": "br"}, b"{}", 400),
        ({"content-encoding": "gzip"}, gzip.compress(bytes(65 * 2**20), mtime=0), 413),
    ],
)
def test_bodies_that_cannot_be_read_are_refused_in_clearmls_form(
    house: House, headers: dict[str, str], content: bytes, code: int
) -> None:
    headers = {"content-type": "application/json", **bearer(login(house)), **headers}
    answer = httpx.post(f"{house.url}{PING}", headers=headers, content=content)
    assert told(answer)[0] == code


def test_what_python_writes_and_json_does_not_know_is_read(house: House) -> None:
    body = b'{"a": NaN, "b": -Infinity, "c": "\\ud83d", "method": "get", "never_heard_of": {"x": [1]}}'
    headers = {**bearer(login(house)), "content-type": "application/json"}
    assert told(httpx.post(f"{house.url}{PING}", headers=headers, content=body)) == (200, 0)


def test_the_key_itself_is_taken_in_place_of_a_token(house: House) -> None:
    assert told(httpx.get(house.url + PING, headers=bearer(house.key))) == (200, 0)
    assert told(httpx.get(house.url + PING, headers=basic(house.key))) == (200, 0)


def test_a_page_of_another_site_cannot_call(house: House) -> None:
    headers = {**bearer(login(house)), "origin": "https://evil.example"}
    assert httpx.post(house.url + PING, headers=headers, json={}).status_code == 403


def test_credentials_can_be_made_listed_and_revoked(house: House) -> None:
    headers = bearer(login(house))

    def call(name: str, **fields: str) -> dict[str, Any]:
        answer = httpx.post(f"{house.url}/auth.{name}", headers=headers, json=fields)
        assert told(answer) == (200, 0)
        return answer.json()["data"]

    made = call("create_credentials", label="for the lab")["credentials"]
    key = f"tl_{made['access_key']}_{made['secret_key']}"
    assert login(house, key)
    assert {"access_key": made["access_key"], "label": "for the lab"} in call("get_credentials")["credentials"]
    assert call("revoke_credentials", access_key=made["access_key"]) == {"revoked": 1}
    assert httpx.get(f"{house.url}/auth.login", headers=basic(key)).status_code == 401


@pytest.mark.parametrize(("method", "path"), [("GET", PING), ("GET", "/nothing.here"), ("HEAD", "/files/nothing")])
def test_no_connection_is_kept_because_clients_fork_with_their_open_ones(
    house: House, method: str, path: str
) -> None:
    with httpx.Client(headers=bearer(house.key)) as client:
        assert client.request(method, f"{house.url}{path}").headers["connection"] == "close"

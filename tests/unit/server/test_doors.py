"""Who may knock at which door: derived from the table of operations, so that a new route cannot be forgotten."""

from __future__ import annotations

import hashlib
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import httpx
import msgspec
import pytest
from tests.conftest import House

from taskloom.domain.errors import NotFound, TooMany, Unauthorized
from taskloom.wire.messages import Fault, ProjectCreate
from taskloom.wire.operations import (
    CREATE_PROJECT,
    GET_PROJECT,
    LIST_PROJECTS,
    OPERATIONS,
    REVOKE_KEY,
    SERVER_INFO,
    Operation,
)

CLOSED = [operation for operation in OPERATIONS.values() if operation.role is not None]
WRITING = [operation for operation in CLOSED if operation.role in {"member", "admin"}]
ANY_ID = "0" * 32


def place(operation: Operation) -> str:
    return "/".join(ANY_ID if part.startswith("{") else part for part in operation.path.split("/"))


def named(operations: list[Operation]) -> dict[str, object]:
    return {"argvalues": operations, "ids": [operation.name for operation in operations]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for the tests that leave no trace in it."""
    running = House(tmp_path_factory.mktemp("doors") / "house")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def web(shared: House) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared.url, trust_env=False) as client:
        yield client


def code(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/json"
    return msgspec.json.decode(response.content, type=Fault).error.code


@pytest.mark.parametrize("operation", **named(CLOSED))
def test_every_route_is_closed_without_a_key(web: httpx.Client, operation: Operation) -> None:
    response = web.request(operation.method, place(operation), json={})
    assert (response.status_code, code(response)) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("operation", **named(CLOSED))
@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer x", "Bearer tl__", "Basic YWRtaW46YWRtaW4=", "Bearer tl_x_y_z"]
)
def test_what_is_no_key_opens_no_route(web: httpx.Client, operation: Operation, value: str) -> None:
    response = web.request(operation.method, place(operation), headers={"Authorization": value})
    assert response.status_code in {401, 429}


@pytest.mark.parametrize("operation", **named(WRITING))
def test_a_viewer_reads_only(shared: House, web: httpx.Client, operation: Operation) -> None:
    key = _viewer(shared)
    headers = {"Authorization": f"Bearer {key}"}
    response = web.request(operation.method, place(operation), headers=headers, json={})
    assert (response.status_code, code(response)) == (403, "forbidden")


_viewers: dict[str, str] = {}


def _viewer(house: House) -> str:
    if house.url not in _viewers:
        _viewers[house.url] = house.make_key("viewer")
    return _viewers[house.url]


def test_a_viewer_can_read(shared: House) -> None:
    assert shared.client_of(_viewer(shared)).call(LIST_PROJECTS).total == 0


@pytest.mark.parametrize(
    "path",
    [
        "/api/keys/",
        "//api/keys",
        "/api//keys",
        "/api/keys;x=1",
        "/API/keys",
        "/api/keys/../keys",
        "/api/./keys",
        "/api%2Fkeys",
        "/api/keys%00",
        "/api/keys.json",
        "/health/../api/keys",
        "/api/openapi.json/../keys",
    ],
)
def test_no_spelling_of_a_path_opens_it_without_a_key(shared: House, path: str) -> None:
    status, _ = raw(shared, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status in {400, 401, 404}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "TRACE", "OPTIONS", "CONNECT", "BREW", "get"])
def test_no_method_opens_a_route_without_a_key(shared: House, method: str) -> None:
    head = f"{method} /api/projects HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
    status, _ = raw(shared, f"{head}X-HTTP-Method-Override: GET\r\nConnection: close\r\n\r\n")
    assert status in {400, 401, 405}


def raw(house: House, text: str | bytes, wait: float = 10.0) -> tuple[int, bytes]:
    """Send exactly these bytes; status and everything that came back (status 0: the connection was closed)."""
    port = int(house.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as wire:
        wire.sendall(text.encode() if isinstance(text, str) else text)
        answer = b""
        while piece := wire.recv(65536):
            answer += piece
    return int(answer.split(b" ", 2)[1]) if answer else 0, answer


def test_unknown_addresses_and_methods_are_told_as_json(web: httpx.Client) -> None:
    assert (web.get("/nowhere").status_code, code(web.get("/nowhere"))) == (404, "not_found")
    wrong = web.delete("/health")
    assert (wrong.status_code, code(wrong), wrong.headers["allow"]) == (405, "method_not_allowed", "GET")


def test_head_is_answered_like_get_without_a_body(shared: House, web: httpx.Client) -> None:
    response = web.head("/api/server", headers={"Authorization": f"Bearer {shared.key}"})
    assert (response.status_code, response.content) == (200, b"")
    assert web.head("/api/server").status_code == 401


# --- browsers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "8.8.8.8", ""]
)
def test_a_name_that_is_not_ours_is_refused(web: httpx.Client, host: str) -> None:
    """A page can point its own name at this machine; its browser then sends that name."""
    assert web.get("/health", headers={"Host": host}).status_code in {400, 403}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8080", "127.8.9.1"])
def test_this_machine_is_known_under_its_loopback_names(web: httpx.Client, host: str) -> None:
    assert web.get("/health", headers={"Host": host}).status_code == 200


def test_two_hosts_in_one_request_are_refused(shared: House) -> None:
    status, _ = raw(shared, "GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n")
    assert status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_writes_from_other_pages_are_refused(shared: House, web: httpx.Client, headers: dict[str, str]) -> None:
    allowed = {"Authorization": f"Bearer {shared.key}"}
    response = web.post("/api/projects", json={"name": "from elsewhere"}, headers={**allowed, **headers})
    assert (response.status_code, code(response)) == (403, "forbidden")


def test_writes_from_our_own_page_pass(house: House) -> None:
    headers = {"Authorization": f"Bearer {house.key}", "Origin": house.url, "Sec-Fetch-Site": "same-origin"}
    response = httpx.post(f"{house.url}/api/projects", json={"name": "from here"}, headers=headers)
    assert response.status_code == 200


def test_no_origin_is_granted_anything(web: httpx.Client) -> None:
    for method in ("GET", "OPTIONS"):
        asking = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        response = web.request(method, "/health", headers=asking)
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_every_answer_forbids_sniffing_and_framing(web: httpx.Client) -> None:
    for path in ("/health", "/nowhere", "/api/keys"):
        headers = web.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "set-cookie" not in headers


# --- keys -------------------------------------------------------------------------------------------------


def test_a_revoked_key_is_refused_at_once_and_after_a_restart(house: House) -> None:
    key = house.make_key("member")
    client = house.client_of(key)
    assert client.call(SERVER_INFO).role == "member"
    info = house.client.call(REVOKE_KEY, key=key.split("_")[1])
    assert info.revoked
    with pytest.raises(Unauthorized):
        client.call(SERVER_INFO)
    house.restart()
    with pytest.raises(Unauthorized):
        house.client_of(key).call(SERVER_INFO)


def test_a_key_revoked_behind_the_servers_back_is_refused_within_two_seconds(house: House) -> None:
    """Another server on the same database, or a repair by hand: what is remembered is not remembered for long."""
    key = house.make_key("member")
    client = house.client_of(key)
    client.call(SERVER_INFO)
    house.listener.house.main.write_now(
        lambda tx: tx.exec_driver_sql("UPDATE keys SET revoked = 1 WHERE label = 'test member'")
    )
    house.clock.advance(2.0)
    with pytest.raises(Unauthorized):
        client.call(SERVER_INFO)


def test_secrets_are_not_in_the_database(house: House) -> None:
    key = house.make_key("member")
    secret = key.split("_")[2]
    with closing(sqlite3.connect(house.data / "server" / "main.db")) as database:
        kept = database.execute("SELECT secret_hash FROM keys WHERE label = 'test member'").fetchone()
    assert kept == (hashlib.sha256(secret.encode()).hexdigest(),)
    for path in (house.data / "server").glob("main.db*"):
        assert secret.encode() not in path.read_bytes()


def test_many_wrong_keys_are_sent_away_for_a_while_and_a_right_one_is_not(house: House) -> None:
    outcomes = []
    for number in range(40):
        wrong = house.client_of(f"tl_{number:016x}_{'0' * 48}")
        with pytest.raises((Unauthorized, TooMany)) as caught:
            wrong.call(SERVER_INFO)
        outcomes.append(caught.type)
    assert outcomes == [Unauthorized] * 30 + [TooMany] * 10
    assert int(caught.value.details["retry_after"]) > 0
    assert house.client.call(SERVER_INFO).role == "admin"
    house.clock.advance(61)
    with pytest.raises(Unauthorized):
        house.client_of(f"tl_{'a' * 16}_{'0' * 48}").call(SERVER_INFO)


def test_the_right_id_with_a_wrong_secret_is_no_key(house: House) -> None:
    key = house.make_key("admin")
    house.client_of(key).call(SERVER_INFO)  # now it is remembered
    head = key.rpartition("_")[0]
    for secret in ("", "0" * 48, key.rpartition("_")[2][:-1], key.rpartition("_")[2].upper() + "0"):
        with pytest.raises(Unauthorized):
            house.client_of(f"{head}_{secret}").call(SERVER_INFO)


# --- requests that are not what they should be ------------------------------------------------------------


def send(house: House, content: bytes, kind: str, **headers: str) -> httpx.Response:
    allowed = {"Authorization": f"Bearer {house.key}", "Content-Type": kind, **headers}
    return httpx.post(f"{house.url}/api/projects", content=content, headers=allowed)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b'{"name": 3}', "application/json", 400),
        (b'{"name": NaN}', "application/json", 400),
        (b'{"name": "abc", "rank": "admin"}', "application/json", 400),
        (b'{"name": "\\ud800abc"}', "application/json", 400),
        (b'{"name": "abc\\u0000"}', "application/json", 400),
        (b'{"name": "\xff\xfe\xfd"}', "application/json", 400),
        (b'{"name": "ab"}', "application/json", 400),
        (b'{"name": "abc//def"}', "application/json", 400),
        (b'{"name": "abc", "tags": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "application/json", 400),
        (b"\xc1", "application/msgpack", 400),
        (b"\x81\xa4name", "application/msgpack", 400),
        (b"\x81\xa4name\xa3\xff\xfe\xfd", "application/msgpack", 400),
        (b"\x91" * 50_000, "application/msgpack", 400),
        (b"name=abc", "application/x-www-form-urlencoded", 415),
        (b'{"name": "abc"}', "text/plain", 415),
        (b'{"name": "abc"}', "", 415),
    ],
    ids=range(20),
)
def test_a_body_that_is_not_what_was_expected_is_told_so(
    shared: House, content: bytes, kind: str, status: int
) -> None:
    response = send(shared, content, kind)
    assert response.status_code == status
    assert code(response) in {"bad_input", "unsupported_media_type"}


def test_a_compressed_body_is_refused_before_it_is_opened(shared: House) -> None:
    assert send(shared, b"\x1f\x8b", "application/json", **{"Content-Encoding": "gzip"}).status_code == 415


def test_a_body_over_the_limit_is_refused_before_it_is_read(shared: House) -> None:
    head = (
        f"POST /api/projects HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {shared.key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    )
    status, answer = raw(shared, head)
    assert status == 413
    assert b'"too_large"' in answer


def test_a_body_without_a_length_is_cut_off_at_the_limit(shared: House) -> None:
    limit = shared.listener.house.settings.max_body

    def endless() -> Iterator[bytes]:
        for _ in range(limit // 2**20 + 2):
            yield b"x" * 2**20

    headers = {"Authorization": f"Bearer {shared.key}", "Content-Type": "application/json"}
    try:
        response = httpx.post(f"{shared.url}/api/projects", content=endless(), headers=headers, timeout=60)
        assert response.status_code == 413
    except httpx.WriteError:  # the server hung up while we were still sending
        pass
    assert shared.client.call(LIST_PROJECTS).total == 0


def test_a_head_without_end_is_cut_off(shared: House) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X-Long: " + b"a" * 200_000
    try:
        status, _ = raw(shared, head)
    except ConnectionError:
        status = 0
    assert status in {0, 431}


def test_half_open_requests_do_not_stop_others(shared: House, web: httpx.Client) -> None:
    port = int(shared.url.rpartition(":")[2])
    half_open = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for wire in half_open:
        wire.sendall(b"GET /health HTTP/1.1\r\nHost: local")
    assert web.get("/health").status_code == 200
    for wire in half_open:
        wire.close()


@pytest.mark.parametrize(
    "query",
    ["limit=many", "limit=0", "limit=99999", "limit=-1", "offset=-1", "offset=1e400", "unknown=1", "limit=1&limit=2",
     "search=%00", "search=%ff", "limit=99999999999999999999999", "&".join(f"a{n}=1" for n in range(500))],
)  # fmt: skip
def test_a_query_string_that_makes_no_sense_is_told_so(shared: House, web: httpx.Client, query: str) -> None:
    response = web.get(f"/api/projects?{query}", headers={"Authorization": f"Bearer {shared.key}"})
    assert (response.status_code, code(response)) == (400, "bad_input")


@pytest.mark.parametrize("value", ["%00", "%0a", "%ff", "a" * 5000, "..%2f..%2fetc", "' OR 1=1 --", "%", "%zz"])
def test_a_strange_id_is_not_found(shared: House, web: httpx.Client, value: str) -> None:
    response = web.get(f"/api/projects/{value}", headers={"Authorization": f"Bearer {shared.key}"})
    assert response.status_code in {400, 404}
    assert code(response) in {"bad_input", "not_found"}


def test_names_with_slashes_stay_one_part_of_the_path(shared: House) -> None:
    with pytest.raises(NotFound, match="no project"):
        shared.client.call(GET_PROJECT, project="a/b/../../keys")


def test_a_fault_of_ours_tells_a_number_and_nothing_else(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "SELECT secret_hash FROM keys"

    async def broken(*_: object) -> None:
        raise RuntimeError(secret)

    monkeypatch.setattr(house.listener.house.accounts, "list_keys", broken)
    response = httpx.get(f"{house.url}/api/keys", headers={"Authorization": f"Bearer {house.key}"})
    assert (response.status_code, code(response)) == (500, "server_fault")
    assert secret not in response.text
    assert "Traceback" not in response.text
    number = response.json()["error"]["details"]["id"]
    assert number in caplog.text
    assert secret in caplog.text


def test_the_same_key_works_while_it_is_asked_from_many_threads(house: House) -> None:
    from concurrent.futures import ThreadPoolExecutor

    client = house.client_of(house.make_key("member"))
    with ThreadPoolExecutor(8) as threads:
        made = list(
            threads.map(lambda n: client.call(CREATE_PROJECT, ProjectCreate(name=f"thread {n}")), range(40))
        )
    assert len({project.id for project in made}) == 40
    assert client.call(LIST_PROJECTS).total == 40

"""The model gateway between HUD's client and a service of models."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from tests.conftest import House
from tests.unit.server.compat.hud_wire import Wire


class _Service(BaseHTTPRequestHandler):
    """Says what it was asked; streams when asked to; has no time for `busy`; lists no models that can be read."""

    protocol_version = "HTTP/1.1"
    more = threading.Event()  # until which the second piece of a stream waits

    def do_GET(self) -> None:
        self._tell(200, {"data": "nothing"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked.get("model") == "busy":
            self._tell(429, {"error": "busy"}, {"retry-after": "7"})
        elif asked.get("stream"):
            self._stream()
        else:
            key = self.headers["authorization"]
            self._tell(200, {"path": self.path, "key": key, "asked": asked})

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in (b"data: 1\n\n", b"data: 2\n\n"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            self.more.wait(30)
        self.wfile.write(b"0\r\n\r\n")

    def _tell(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def service() -> Iterator[ThreadingHTTPServer]:
    _Service.more = threading.Event()
    made = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def wire(house: House, service: ThreadingHTTPServer) -> Iterator[Wire]:
    house._environ["TASKLOOM_EVAL_GATEWAY_URL"] = f"http://127.0.0.1:{service.server_address[1]}/v1/"
    house._environ["TASKLOOM_EVAL_GATEWAY_KEY"] = "service's"
    house.restart()
    wire = Wire(house.url, house.key)
    yield wire
    wire.close()


def test_calls_go_on_with_the_services_key(wire: Wire) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    for path in ("chat/completions", "responses"):
        told = wire.post(f"/gateway/{path}", body)
        assert told == {"path": f"/v1/{path}", "key": "Bearer service's", "asked": body}


def test_a_stream_comes_piece_by_piece(house: House, wire: Wire) -> None:
    headers = {"Authorization": f"Bearer {house.key}"}
    url = f"{house.url}/hud/gateway/chat/completions"
    with httpx.stream("POST", url, json={"stream": True}, headers=headers, timeout=30) as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"data: 1\n\n"  # the second was not sent yet
        _Service.more.set()
        assert b"".join(pieces) == b"data: 2\n\n"
        assert answer.headers["content-type"] == "text/event-stream"


def test_what_the_service_refuses_is_told_as_it_says_it(house: House, wire: Wire) -> None:
    headers = {"Authorization": f"Bearer {house.key}"}
    answer = httpx.post(f"{house.url}/hud/gateway/chat/completions", json={"model": "busy"}, headers=headers)
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (429, {"error": "busy"}, "7")


def test_a_service_that_is_away_or_odd_is_said_in_words(
    house: House, wire: Wire, service: ThreadingHTTPServer
) -> None:
    assert "cannot be read" in wire.get("/v2/models", 503)
    service.shutdown()
    service.server_close()
    assert "does not answer" in wire.post("/gateway/chat/completions", {"model": "m"}, 503)
    viewer = Wire(house.url, house.make_key("viewer"))
    assert "role member" in viewer.post("/gateway/chat/completions", {}, 403)
    viewer.close()

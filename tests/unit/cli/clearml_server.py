"""A server that speaks ClearML's envelope and answers as a test tells it, well or badly."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]


class Server:
    """A server that answers as a test tells it: `calls[name] = function(body, number of the call) -> answer`."""

    def __init__(self) -> None:
        self.calls: dict[str, Callable[[dict[str, Any], int], Answer]] = {}
        self.files: dict[str, Answer] = {}
        self.seen: list[str] = []
        self.tokens = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                name = self.path.rpartition("/")[2]
                outer.seen.append(self.path)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                number = sum(path.endswith(f"/{name}") for path in outer.seen)
                self.say(*outer.calls[name](body, number))

            def do_GET(self) -> None:
                outer.seen.append(self.path)
                self.say(*outer.files.get(self.path, (404, {}, b"")))

            def say(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.calls["auth.login"] = lambda _body, _n: ok({"token": self.token()})
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def token(self) -> str:
        self.tokens += 1
        claims = base64.urlsafe_b64encode(json.dumps({"api_version": "2.30", "n": self.tokens}).encode()).decode()
        return f"x.{claims.rstrip('=')}.y"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def ok(data: Any) -> Answer:
    return 200, {}, json.dumps({"meta": {"result_code": 200}, "data": data}).encode()


def error(code: int, subcode: int = 0, message: str = "no") -> Answer:
    meta = {"result_code": code, "result_subcode": subcode, "result_msg": message}
    return code, {}, json.dumps({"meta": meta, "data": {}}).encode()

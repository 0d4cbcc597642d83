"""A real git server on the loopback that wants a password: http.server in front of `git http-backend`."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class GitServer:
    """Serves the repositories below `root` at `url`. `asked`: who asked for what; an empty user has no password."""

    def __init__(self, root: Path, user: str, password: str) -> None:
        self.root, self.asked = root, list[tuple[str, str]]()
        self._expected = base64.b64encode(f"{user}:{password}".encode()).decode()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._serve(b"")

            def do_POST(self) -> None:
                data = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self._body()
                self._serve(data)

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))

            def _chunks(self) -> bytes:
                data = b""
                while size := int(self.rfile.readline().strip(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data

            def _serve(self, body: bytes) -> None:
                kind, _, given = self.headers.get("Authorization", "").partition(" ")
                name = base64.b64decode(given).decode().partition(":")[0] if kind == "Basic" else ""
                outer.asked.append((name, self.path))
                if given != outer._expected:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                path, _, query = self.path.partition("?")
                environ = {
                    **os.environ, "GIT_PROJECT_ROOT": str(outer.root), "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "REMOTE_USER": name,
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                }  # fmt: skip
                done = subprocess.run(
                    ["git", "http-backend"], input=body, env=environ, capture_output=True, check=False
                )
                head, _, rest = done.stdout.partition(b"\r\n\r\n")
                fields = [line.partition(": ") for line in head.decode().split("\r\n") if line]
                status = next((value for key, _, value in fields if key == "Status"), "200 OK")
                self.send_response(int(status.split()[0]))
                for key, _, value in fields:
                    if key != "Status":
                        self.send_header(key, value)
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                self.wfile.write(rest)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

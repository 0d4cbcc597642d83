"""A real S3 server of its own on the loopback, and a proxy that cuts, stops and counts what goes through it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import obstore
from obstore.store import S3Store
from tests.scenarios.stage import wait_for

KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "a secret of tests"}


class S3:
    """A moto server. `bucket` makes one, `objects` tells what can be seen in it."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self.log = (folder / "moto.log").open("wb")
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(
            command,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "S3_IGNORE_SUBDOMAIN_BUCKETNAME": "1"},
        )
        wait_for(lambda: _answers(self.port) or self.process.poll() is not None, "the S3 server")

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def bucket(self, name: str) -> str:
        """Its address as a destination."""
        self._ask("PUT", name)
        return f"s3://{self.host}/{name}"

    def objects(self, bucket: str) -> dict[str, bytes]:
        store = S3Store(
            bucket,
            endpoint=f"http://{self.host}",
            region="us-east-1",
            access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True},
        )
        names = [one["path"] for page in obstore.list(store) for one in page]
        return {name: bytes(obstore.get(store, name).bytes()) for name in names}

    def ask_for_keys(self, wanted: bool) -> None:
        """From now on refuse keys that nobody made (or take any again)."""
        count = b"0" if wanted else b"999999999"
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"http://{self.host}/moto-api/reset-auth", count, plain, method="POST")
        urllib.request.urlopen(request).read()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()

    def _ask(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(f"http://{self.host}/{path}", method=method)
        with urllib.request.urlopen(request) as answer:
            return answer.read()


class Azurite:
    """Azure's emulator, whose program `azurite-blob` (npm install azurite) the caller found."""

    account = "devstoreaccount1"
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # public

    def __init__(self, program: str, folder: Path) -> None:
        self.port = _free_port()
        self.log = (folder / "azurite.log").open("wb")
        words = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", str(folder / "azurite")]
        self.process = subprocess.Popen(
            [program, *words, "--skipApiVersionCheck", "--disableTelemetry"],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        wait_for(lambda: _answers(self.port) or self.process.poll() is not None, "Azurite")

    def container(self, name: str) -> str:
        """Made by a request signed with the account's key; its address as a destination."""
        date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        about = (
            f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{self.account}/{self.account}/{name}\nrestype:container"
        )
        text = "PUT\n" + "\n" * 11 + about
        sign = hmac.new(base64.b64decode(self.key), text.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            "Authorization": f"SharedKey {self.account}:{base64.b64encode(sign).decode()}",
            "Content-Length": "0",
        }
        url = f"http://127.0.0.1:{self.port}/{self.account}/{name}?restype=container"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers)).read()
        return f"azure://127.0.0.1:{self.port}/{self.account}/{name}"

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


class Proxy:
    """Passes bytes to a port of this machine. Closing `gate` stops what large senders send; `cuts` connections are
    broken off after `after` bytes each; `passed` counts what was let through.
    """

    def __init__(self, port: int, *, cuts: int = 0, after: int = 1 << 20) -> None:
        self.target, self.cuts, self.after = port, cuts, after
        self.passed = 0
        self.gate = threading.Event()
        self.gate.set()
        self.held = threading.Event()  # something large waits at the gate
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self.gate.set()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, sending: bool) -> None:
        count = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                count += len(piece)
                if sending and count > self.after:
                    if self._cuts():
                        break
                    if not self.gate.is_set():
                        self.held.set()
                        self.gate.wait()
                sink.sendall(piece)
                if sending:
                    with self._lock:
                        self.passed += len(piece)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _cuts(self) -> bool:
        with self._lock:
            if self.cuts <= 0:
                return False
            self.cuts -= 1
            return True


@contextlib.contextmanager
def proxy(port: int, *, cuts: int = 0, after: int = 1 << 20) -> Iterator[Proxy]:
    made = Proxy(port, cuts=cuts, after=after)
    try:
        yield made
    finally:
        made.close()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])

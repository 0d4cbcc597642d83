"""Bytes from folders, the web and the server through one cache: checked, noticed when changed, within limits."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import House

from taskloom.domain.errors import DigestMismatch, Forbidden, NotFound, TooLarge
from taskloom.journal.post import Post
from taskloom.sdk import downloads
from taskloom.sdk.downloads import Cache, Wanted, fetch
from taskloom.sdk.sources import at_uri, from_file
from taskloom.wire.send import Client


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def nobody() -> Client:
    raise AssertionError("nobody was to be asked")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A plain server of files; below /moved it redirects, /secret is refused."""
    root = tmp_path / "web"
    root.mkdir()

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/data.txt")
                self.end_headers()
            elif self.path == "/secret":
                self.send_error(403)
            else:
                super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (root / "data.txt").write_bytes(b"from the web")
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# --- what lies here ----------------------------------------------------------------------------------------


def test_a_file_on_this_machine_is_given_where_it_lies_when_it_is_what_was_recorded(tmp_path: Path):
    path = tmp_path / "my weights.bin"
    path.write_bytes(b"weights")
    wanted = Wanted("model 'm'", uri=path.as_uri(), fingerprint=digest(b"weights"))
    assert fetch(wanted, nobody, tmp_path / "cache") == path
    path.write_bytes(b"other weights")
    with pytest.raises(DigestMismatch, match=r"model 'm': the file .* was changed since it was recorded"):
        fetch(wanted, nobody, tmp_path / "cache")


def test_bytes_that_still_wait_for_their_upload_are_there_at_once(tmp_path: Path):
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / digest(b"fresh")).write_bytes(b"fresh")
    wanted = Wanted("x", uri="s3://nobodys/x", fingerprint=digest(b"fresh"), filename="x.txt")
    path = fetch(wanted, nobody, tmp_path / "cache", spool=spool)
    assert (path.name, path.read_bytes()) == ("x.txt", b"fresh")


def test_bytes_that_a_destination_refused_come_from_the_server(house: House, tmp_path: Path):
    data = os.urandom(1000)
    (tmp_path / "x").write_bytes(data)
    post = Post(house.client.address)
    post.put_file(tmp_path / "x", digest(data))
    post.close()
    gone = (tmp_path / "not here").as_uri()
    wanted = Wanted("x", uri=gone, fingerprint=digest(data), filename="x")
    assert fetch(wanted, lambda: house.client, tmp_path / "cache").read_bytes() == data
    with pytest.raises(NotFound, match="not on this machine"):
        fetch(Wanted("x", uri=gone, fingerprint="0" * 64), lambda: house.client, tmp_path / "cache")


# --- a cached file that somebody changed -------------------------------------------------------------------


@pytest.mark.parametrize("small", [True, False])
def test_a_cached_file_that_was_changed_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
):
    """Also when its size and its time of change are as before."""
    monkeypatch.setattr(downloads, "SMALL", 1 << 20 if small else 0)
    source = tmp_path / "source"
    source.write_bytes(b"0123456789")
    cache, wanted = Cache(tmp_path / "cache", limit=1000), Wanted("x", filename="x.txt")
    path = cache.fetch(from_file(source, digest(b"0123456789")), wanted)
    before = path.stat()
    path.write_bytes(b"9876543210")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = cache.fetch(from_file(source, digest(b"0123456789")), wanted)
    assert again.read_bytes() == b"0123456789"


def test_a_large_file_that_nobody_touched_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = tmp_path / "source"
    source.write_bytes(b"0123456789")
    cache, wanted = Cache(tmp_path / "cache", limit=1000), Wanted("x", filename="x.txt")
    known = digest(b"0123456789")
    cache.fetch(from_file(source, known), wanted)
    monkeypatch.setattr(downloads, "SMALL", 0)
    monkeypatch.setattr(downloads, "_digest_of", lambda path: pytest.fail(f"{path} was read"))
    assert cache.fetch(from_file(source, known), wanted).read_bytes() == b"0123456789"
    monkeypatch.setattr(downloads, "TRUSTED_FOR", -1.0)
    with pytest.raises(pytest.fail.Exception, match="was read"):
        cache.fetch(from_file(source, known), wanted)


# --- the web -----------------------------------------------------------------------------------------------


def from_web(url: str, cache: Path, fingerprint: str = "", limit: int = 1000) -> Path:
    def unknown() -> Client:
        raise NotFound("no server")

    source = at_uri(url, fingerprint, unknown, "artifact 'x'", limit)
    return Cache(cache, limit).fetch(source, Wanted("artifact 'x'", filename="x.txt"))


def test_an_address_of_the_web_is_fetched_and_redirects_are_followed(web: str, tmp_path: Path):
    assert from_web(f"{web}/data.txt", tmp_path / "cache").read_bytes() == b"from the web"
    assert from_web(f"{web}/moved", tmp_path / "cache").read_bytes() == b"from the web"


def test_the_web_is_checked_and_bounded(web: str, tmp_path: Path):
    with pytest.raises(DigestMismatch):
        from_web(f"{web}/data.txt", tmp_path / "cache", fingerprint="0" * 64)
    with pytest.raises(TooLarge, match="more than 5 bytes"):
        from_web(f"{web}/data.txt", tmp_path / "cache", limit=5)
    with pytest.raises(NotFound, match="404"):
        from_web(f"{web}/missing", tmp_path / "cache")
    with pytest.raises(Forbidden, match="credentials"):
        from_web(f"{web}/secret", tmp_path / "cache")


def test_the_key_of_the_server_goes_to_the_server_only(web: str, house: House, tmp_path: Path):
    seen: list[str] = []

    class Listening(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(str(self.headers.get("Authorization")))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Listening)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/x"
    Cache(tmp_path / "cache").fetch(at_uri(url, "", lambda: house.client, "x", 100), Wanted("x", filename="x"))
    server.shutdown()
    server.server_close()
    assert seen == ["None"]

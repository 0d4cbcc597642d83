"""Pages, drawings and documents that a run showed: whatever bytes and media type they claim, the server hands them
out as nothing that a browser would run, over a real socket and by every address that they have.
"""

from __future__ import annotations

import hashlib
import socket
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from tests.conftest import House

from taskloom.domain.artifact import Sample
from taskloom.domain.errors import BadInput
from taskloom.server.artifacts.paths import blob_url
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.records import Opened, Sampled

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(2)</script></svg>'
CONTENT = [
    ("text/html", "page.html", b"<!doctype html><script>alert(1)</script>"),
    ("image/svg+xml", "drawing.svg", SVG),
    ("application/xml", "sheet.xml", b'<?xml version="1.0"?><?xml-stylesheet href="x.xsl" type="text/xsl"?><a/>'),
    ("application/xhtml+xml", "page.xhtml", b'<html xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></html>'),
    ("application/pdf", "form.pdf", b"%PDF-1.7 /OpenAction << /S /JavaScript /JS (app.alert(1)) >>"),
    ("text/javascript", "code.js", b"alert(1)"),
    ("image/png", "not an image.png", b"<script>alert(1)</script>"),
]  # fmt: skip


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = House(tmp_path_factory.mktemp("active") / "house")
    yield running
    running.stop()


def told(house: House, method: str, url: str, **headers: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body as they came over the socket."""
    place = urlsplit(url)
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((place.hostname or "", place.port or 0)) as raw:
        raw.sendall(
            f"{method} {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
            f"Authorization: Bearer {house.key}\r\n{more}\r\n".encode()
        )
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return int(status.split()[1]), pairs, body


def shown(house: House, media_type: str, name: str, data: bytes) -> Sample:
    """The sample as the server tells it, when a run has shown these bytes."""
    digest, task = hashlib.sha256(data).hexdigest(), uuid.uuid4().hex
    headers = house.client.address.headers()
    house.client.http.put(f"{house.url}/api/blobs/{digest}", content=data, headers=headers).raise_for_status()
    sample = Sample(title="t", series="s", iteration=1, time=1.0, name=name, digest=digest, media_type=media_type)
    records = [Opened(mode="new", name="a run", project="shows", time=1.0), Sampled(sample=sample)]
    house.client.call(op.SHIP_JOURNAL, m.JournalBatch(writer=uuid.uuid4().hex, events=records), task=task)
    (found,) = house.client.call(op.LIST_SAMPLES, query=m.SamplesQuery(), task=task).samples
    return found


@pytest.mark.parametrize(("media_type", "name", "data"), CONTENT)
def test_what_a_run_showed_never_runs_in_the_origin_of_the_server(
    lasting: House, media_type: str, name: str, data: bytes
) -> None:
    sample = shown(lasting, media_type, name, data)
    assert (sample.name, sample.media_type, sample.size) == (name, media_type, len(data))
    parts = {f"/shown/{name}": (f"/shown/{name}", data, media_type)}
    headers = {"authorization": f"Bearer {lasting.key}"}
    httpx.post(f"{lasting.url}/files", files=parts, headers=headers).raise_for_status()
    by_path = f"{lasting.url}/files/shown/{name.replace(' ', '%20')}"
    for url in (f"{lasting.url}/api/blobs/{sample.digest}", blob_url(lasting.url, sample.digest, name), by_path):
        for method, more, status, body in (
            ("GET", {}, 200, data),
            ("GET", {"Accept": "text/html", "Sec-Fetch-Dest": "document"}, 200, data),
            ("GET", {"Range": "bytes=0-3"}, 206, data[:4]),
            ("HEAD", {}, 200, b""),
        ):
            code, came, content = told(lasting, method, url.replace(" ", "%20"), **more)
            assert (code, content) == (status, body), (method, url)
            safe = {
                "content-type": ["application/octet-stream"],
                "content-disposition": ["attachment"],
                "x-content-type-options": ["nosniff"],
                "content-security-policy": ["default-src 'none'; frame-ancestors 'none'; sandbox"],
            }
            assert {key: [value for one, value in came if one == key] for key in safe} == safe, (method, url)


def test_a_media_type_with_a_line_break_is_refused(lasting: House) -> None:
    with pytest.raises(BadInput, match="media_type"):
        shown(lasting, "text/html\r\nx-evil: 1", "evil.html", b"<script>alert(3)</script>")

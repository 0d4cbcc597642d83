"""Paths that clients give to files, and the addresses by which those are reached.

A path is data: a text that begins with a slash. It is brought into the form in which HTTP clients send it (no
empty, `.` or `..` segments), so that what was stored under it is found again, and never joined to a folder.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes, urlsplit

from taskloom.domain.errors import BadInput

FILES = "/files"
"""Where files are served by their paths; `<origin>/files` is what clients are told as their files host."""
BLOBS = "blobs"
"""First segment of the addresses that name bytes by their digest: `/files/blobs/<digest>/<filename>`."""
LONGEST = 4096
_TASK = re.compile(r"/[^/]*\.([0-9a-f]{32})(?=/)")
_BLOB = re.compile(rf"/{BLOBS}/([0-9a-f]{{64}})(?:/[^/]*)?")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def clean_path(text: str) -> str:
    """The path as it is stored; BadInput when it is empty, too long, or holds what no address can."""
    if len(text) > LONGEST:
        raise BadInput(f"the path has {len(text)} characters; expected at most {LONGEST}")
    if _UNSAFE.search(text):
        raise BadInput(f"the path {text[:80]!a} holds control characters")
    segments: list[str] = []
    for segment in text.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in {"", "."}:
            segments.append(segment)
    if not segments:
        raise BadInput("the path of a file is empty")
    return "/" + "/".join(segments)


def read_path(raw: str) -> str:
    """The path that a percent-encoded one stands for, clean."""
    if len(raw) > 3 * 4 * LONGEST:
        raise BadInput(f"the path has more than {LONGEST} characters")
    try:
        return clean_path(unquote_to_bytes(raw).decode())
    except UnicodeError:
        raise BadInput("the path is not UTF-8") from None


def task_of(path: str) -> str:
    """Id of the task that a path belongs to: the last of its folders named `<name>.<id>`; empty when there is none."""
    found = _TASK.findall(path)
    return found[-1] if found else ""


def digest_in(path: str) -> str:
    """The digest that a path below `/blobs/` names; empty for other paths."""
    found = _BLOB.fullmatch(path)
    return found[1] if found else ""


def path_of(url: str) -> str | None:
    """Path of a file of ours, by whatever host the address reaches it; None when it can be none."""
    if FILES not in url:
        return None
    try:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.path.startswith(f"{FILES}/"):
            return None
        # File names may hold what an address would call a query; clients do not always quote it.
        rest = url.partition("://")[2].partition("/")[2]
        return read_path(f"/{rest}".removeprefix(FILES))
    except (ValueError, BadInput):
        return None


def url_of(origin: str, path: str) -> str:
    """The address of a path, such as `http://host:8080/files/project/task.id/artifacts/a/a.json`."""
    return f"{origin}{FILES}{quote(path.encode('utf-8', 'replace'), safe='/')}"


def blob_url(origin: str, digest: str, filename: str) -> str:
    """An address of bytes that have no path, with a name at its end for who looks at the extension."""
    return url_of(origin, f"/{BLOBS}/{digest}/{filename.replace('/', '_') or 'file'}")

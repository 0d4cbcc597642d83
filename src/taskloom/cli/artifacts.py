"""`taskloom task artifacts`: list them, bring their bytes here.

A download goes to a partial file first, is resumed by Range after a cut, and gets its name only when the
SHA-256 is right. The name that a script gave is data: only its last part is used, and an existing file is
never overwritten unasked. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from taskloom.cli import connect
from taskloom.cli.connect import TaskReference
from taskloom.cli.output import JsonFlag, ago, print_json, print_table, say, transfer
from taskloom.cli.terminal import plain
from taskloom.domain.errors import BadInput, Conflict, DigestMismatch, NotFound, ServerAway
from taskloom.domain.quantities import size
from taskloom.wire import operations as op
from taskloom.wire.client import build_call, read_fault
from taskloom.wire.send import Client, away

CHUNK = 1 << 20
TRIES = 5

app = typer.Typer(help="List a task's artifacts and download them.", no_args_is_help=True)


class Bytes(msgspec.Struct, frozen=True):
    """Bytes that the server holds: of an artifact or of a model."""

    name: str
    digest: str
    size: int
    filename: str
    uri: str


class Downloaded(msgspec.Struct, frozen=True):
    """The answer of `get --json`."""

    name: str
    path: str
    digest: str
    size: int


@app.command("list")
def list_artifacts(task: TaskReference, json: JsonFlag = False) -> None:
    """List the artifacts of a task."""
    with connect.server() as client:
        told = client.call(op.LIST_ARTIFACTS, task=connect.task_id(client, task))
    if json:
        print_json(told)
        return
    print_table(
        ["artifact", "kind", "size", "file", "made", "sha-256"],
        [
            (a.name, a.kind, size(a.size), a.filename or a.uri, ago(a.created), a.digest[:12])
            for a in told.artifacts
        ],
        empty="no artifacts",
        right=["size"],
    )


@app.command("get")
def get_artifact(
    task: TaskReference,
    name: Annotated[str, typer.Argument(help="Name of the artifact or model.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder to write to.", show_default=False)
    ] = None,
    model: Annotated[bool, typer.Option("--model", help="NAME is a model of the task: get its weights.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    json: JsonFlag = False,
) -> None:
    """Download an artifact (or with --model a model's weights) and check its SHA-256."""
    with connect.server() as client:
        wanted = _find(client, connect.task_id(client, task), name, model)
        if not wanted.digest:
            raise NotFound(f"{name!r} is not held by Taskloom; it is at {wanted.uri or 'no known place'}")
        target = choose_path(wanted, output)
        if target.exists() and not force:
            raise Conflict(f"{target} is already there; --force overwrites it, --output names another place")
        with transfer(wanted.name, wanted.size, quiet=json) as advance:
            download(client, wanted.digest, target, advance)
    if json:
        print_json(Downloaded(wanted.name, str(target), wanted.digest, target.stat().st_size))
        return
    say(plain(f"{target} ({size(target.stat().st_size)})"))


def choose_path(wanted: Bytes, output: Path | None) -> Path:
    """Where the bytes go: a file name from a script never leads out of the folder."""
    folder = output if output is not None and output.is_dir() else None
    if output is not None and folder is None:
        return output
    last = plain((wanted.filename or wanted.name).replace("\\", "/").rstrip("/").rpartition("/")[2])
    if last in {"", ".", ".."}:
        last = wanted.digest
    return (folder or Path()) / last


def download(client: Client, digest: str, target: Path, advance: Any) -> None:
    """Fetch the bytes of a digest; goes on after a cut, raises DigestMismatch when they are not the announced ones."""
    partial = target.with_name(f".{target.name}.{digest[:8]}.part")
    checked = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            for attempt in range(1, TRIES + 1):
                try:
                    _fetch(client, digest, file, checked, advance)
                    break
                except ServerAway:
                    if attempt == TRIES:
                        raise
        if checked.hexdigest() != digest:
            raise DigestMismatch(f"the bytes received for {target.name} do not have the SHA-256 {digest}")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _fetch(client: Client, digest: str, file: Any, checked: Any, advance: Any) -> None:
    import httpx

    call = build_call(client.address, op.GET_BLOB, digest=digest)
    start = file.tell()
    headers = {**call.headers, **({"Range": f"bytes={start}-"} if start else {})}
    try:
        with client.http.stream(call.method, call.url, headers=headers) as response:
            if response.status_code >= 400:
                raise read_fault(response.status_code, response.read(), response.headers.get("Content-Type", ""))
            if start and response.status_code != 206:
                raise BadInput("the server sent the whole file where a part was asked for")
            for chunk in response.iter_bytes(CHUNK):
                file.write(chunk)
                checked.update(chunk)
                advance(len(chunk))
    except httpx.TransportError as error:
        raise away(call, error) from error


def _find(client: Client, task: str, name: str, model: bool) -> Bytes:
    if model:
        links = client.call(op.GET_TASK, task=task).models
        for link in links:
            if name in {link.name, link.model}:
                found = client.call(op.GET_MODEL, model=link.model)
                return Bytes(link.name or found.name, found.digest, found.size, found.filename, found.uri)
        known = ", ".join(link.name for link in links) or "none"
        raise NotFound(f"the task has no model {name!r}; it has: {known}")
    artifacts = client.call(op.LIST_ARTIFACTS, task=task).artifacts
    for item in artifacts:
        if item.name == name:
            return Bytes(item.name, item.digest, item.size, item.filename, item.uri)
    known = ", ".join(item.name for item in artifacts) or "none"
    raise NotFound(f"the task has no artifact {name!r}; it has: {known}")

"""ClearML's file server below `/files`: forms in, ranges out, deletion by path.

    POST    /files               a form; each field's name is the path of its file -> [paths]
    GET     /files/PATH          the bytes, or a range of them; HEAD the same without
    DELETE  /files/PATH          gone, also when there was none: who deletes a task deletes its files once more
    POST    /files/delete_many   {"files": [paths]} -> {"deleted": {...}, "errors": {...}}

Addresses `/files/blobs/<digest>/<name>` name bytes that have no path: what our own SDK stored. They are only
read; such bytes go with their last name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from taskloom.domain.artifact import StoredFile
from taskloom.domain.errors import BadInput, Conflict, Forbidden, NotFound
from taskloom.server.artifacts.paths import clean_path, digest_in, read_path, task_of
from taskloom.server.artifacts.routes import download, read_length
from taskloom.server.call import Caller
from taskloom.server.compat.clearml import bodies
from taskloom.server.compat.clearml.call import FILES, Rooms, texts
from taskloom.server.compat.clearml.errors import Refusal
from taskloom.server.compat.clearml.forms import Begun, Ended, Piece, read_form
from taskloom.server.foreign import read_limited
from taskloom.wire.messages import Role

if TYPE_CHECKING:
    from taskloom.server.artifacts.holdings import Gathering

DELETE_MANY = "/delete_many"
_ROLES: dict[str, Role] = {"GET": "viewer", "HEAD": "viewer", "POST": "member", "DELETE": "member"}


async def answer(rooms: Rooms, caller: Caller, request: Request, path: str, origin: str) -> Response:
    """`path` is what follows `/files`, still percent-encoded."""
    method = request.method
    role = _ROLES.get(method)
    if role is None:
        raise Refusal(f"{method[:20]} is not possible here; expected GET, HEAD, POST or DELETE", 405)
    if not caller.may(role):
        raise Forbidden(f"{method} of a file needs a key of role {role}; this one is of role {caller.role}")
    try:
        if method in {"GET", "HEAD"}:
            return await _download(rooms, request, read_path(path))
        if method == "DELETE":
            return await _delete(rooms, read_path(path))
        if method == "POST" and path.rstrip("/") == DELETE_MANY:
            return await _delete_many(rooms, request)
        if method == "POST" and path.strip("/") == "":
            return await _upload(rooms, caller, request)
    except Conflict as error:
        raise Refusal(error.message, 409) from None
    raise Refusal(f"{method} is not possible at this address; files are stored by a form sent to {FILES}", 405)


async def _download(rooms: Rooms, request: Request, path: str) -> Response:
    digest = digest_in(path)
    if not digest:
        found = await rooms.artifacts.find_file(path)
        if found is None:
            raise Refusal(f"no file {path[:200]!r}", 404)
        digest = found.digest
    try:
        return await download(rooms.artifacts.holdings, digest, request)
    except NotFound as error:
        raise Refusal(error.message, 404) from None


async def _delete(rooms: Rooms, path: str) -> Response:
    if not digest_in(path) and await rooms.artifacts.files.delete_file(path):
        await rooms.artifacts.delete_unnamed_bytes()
    return _json(path)


async def _delete_many(rooms: Rooms, request: Request) -> Response:
    body = bodies.fields(await read_limited(request, rooms.settings.max_body))
    deleted: dict[str, str] = {}
    errors: dict[str, list[str]] = {}
    for given in texts(body, "files"):
        try:
            path = clean_path(_pathlike(given))
            if digest_in(path) or await rooms.artifacts.files.delete_file(path):
                deleted[given] = path
            else:
                errors.setdefault("not found", []).append(given)
        except (BadInput, Conflict) as error:
            errors.setdefault(error.message, []).append(given)
    await rooms.artifacts.delete_unnamed_bytes()
    return _json({"deleted": deleted, "errors": errors})


def _pathlike(given: str) -> str:
    """Addresses are taken for their paths."""
    if given.startswith(("http://", "https://")):
        try:
            return read_path(urlsplit(given).path.removeprefix(FILES))
        except ValueError:
            raise BadInput(f"{given[:80]!a} is no address") from None
    return given


# --- uploads ----------------------------------------------------------------------------------------------


async def _upload(rooms: Rooms, caller: Caller, request: Request) -> Response:
    headers = request.headers
    length = read_length(headers) or 0
    files: list[StoredFile] = []
    gathering: Gathering | None = None
    begun = Begun("", "", "")
    try:
        async for event in read_form(headers.get("content-type", ""), request.stream()):
            match event:
                case Begun():
                    begun = event
                    _path_in(begun)
                    gathering = await rooms.artifacts.holdings.gather(length)
                case Piece():
                    if gathering is not None:
                        await gathering.write(event.data)
                case Ended():
                    if gathering is not None:
                        status = await gathering.keep()
                        gathering = None
                        files.append(_stored(begun, status.digest, status.size, caller, rooms.clock()))
    except BaseException:
        if gathering is not None:
            await gathering.drop()
        raise
    if not files:
        raise BadInput("the form holds no file; the name of a field is the path of its file")
    if await rooms.artifacts.files.put_files(_last_of_each(files)):
        await rooms.artifacts.delete_unnamed_bytes()
    return _json([file.path for file in files])


def _path_in(begun: Begun) -> str:
    path = clean_path(begun.name or begun.filename)
    if digest_in(path):
        raise BadInput(f"the path {path[:80]!r} is an address of bytes; it takes no file")
    return path


def _stored(begun: Begun, digest: str, size: int, caller: Caller, now: float) -> StoredFile:
    path = _path_in(begun)
    kind = begun.media_type.partition(";")[0].strip().lower()
    return StoredFile(
        path=path,
        digest=digest,
        size=size,
        media_type=kind if kind.isascii() and kind.isprintable() and len(kind) < 128 else "",
        task=task_of(path),
        user=caller.user,
        created=now,
    )


def _last_of_each(files: Sequence[StoredFile]) -> list[StoredFile]:
    return list({file.path: file for file in files}.values())


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")

"""Calls about artifacts and models, and the byte streams of uploads and downloads in HTTP's words.

Downloads never run in a browser: attachment, no sniffing, a sandbox without anything (see binding). A range is
one range; several in one request are answered with the whole, because that cannot be used to multiply work.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, BinaryIO

from taskloom.domain.artifact import Model
from taskloom.domain.errors import BadInput
from taskloom.server.artifacts.holdings import Holdings, Part
from taskloom.server.artifacts.service import ArtifactService
from taskloom.server.blobs import PIECE
from taskloom.server.call import Call, Handlers
from taskloom.wire.messages import ArtifactList, BlobStatus, Done, ModelDelete, ModelList, SampleList

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import Request
    from starlette.responses import Response

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def handlers(artifacts: ArtifactService) -> Handlers:
    async def list_artifacts(call: Call) -> ArtifactList:
        return ArtifactList(artifacts=list(await artifacts.list_artifacts(call.path["task"])))

    async def list_samples(call: Call) -> SampleList:
        found, total = await artifacts.list_samples(call.path["task"], call.query)
        return SampleList(samples=found, total=total)

    async def blob_status(call: Call) -> BlobStatus:
        return await artifacts.holdings.blob_status(call.path["digest"])

    async def put_blob(call: Call) -> BlobStatus:
        headers = call.request.headers
        return await artifacts.holdings.put_blob(
            call.path["digest"], read_part(headers), read_length(headers), call.request.stream()
        )

    async def get_blob(call: Call) -> Response:
        return await download(artifacts.holdings, call.path["digest"], call.request)

    async def query_models(call: Call) -> ModelList:
        found, total = await artifacts.query_models(call.body)
        return ModelList(models=found, total=total)

    async def create_model(call: Call) -> Model:
        return await artifacts.create_model(call.caller, call.body)

    async def get_model(call: Call) -> Model:
        return await artifacts.get_model(call.path["model"])

    async def import_model(call: Call) -> Model:
        return await artifacts.import_model(call.path["model"], call.body)

    async def edit_model(call: Call) -> Model:
        return await artifacts.edit_model(call.path["model"], call.body)

    async def publish_model(call: Call) -> Model:
        return await artifacts.publish_model(call.path["model"])

    async def delete_model(call: Call) -> Done:
        query: ModelDelete = call.query
        await artifacts.delete_model(call.path["model"], force=query.force)
        return Done()

    return {
        "list_artifacts": list_artifacts,
        "list_samples": list_samples,
        "blob_status": blob_status,
        "put_blob": put_blob,
        "get_blob": get_blob,
        "query_models": query_models,
        "create_model": create_model,
        "get_model": get_model,
        "import_model": import_model,
        "edit_model": edit_model,
        "publish_model": publish_model,
        "delete_model": delete_model,
    }


# --- uploads ----------------------------------------------------------------------------------------------


def read_part(headers: Headers) -> Part | None:
    text = headers.get("content-range")
    if text is None:
        return None
    found = _CONTENT_RANGE.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"Content-Range {text[:80]!r}: expected 'bytes FIRST-LAST/SIZE'")
    return Part(*(int(number) for number in found.groups()))


def read_length(headers: Headers) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


# --- downloads --------------------------------------------------------------------------------------------


async def download(holdings: Holdings, digest: str, asked: Request) -> Response:
    from starlette.responses import Response, StreamingResponse

    file, size = await holdings.open_blob(digest)
    request = asked.headers
    tag = f'"{digest}"'
    headers = {
        "accept-ranges": "bytes",
        "etag": tag,
        "cache-control": "private, no-cache",
        "content-disposition": "attachment",
        "content-type": "application/octet-stream",
    }
    if _names(request.get("if-none-match", ""), tag):
        file.close()
        return Response(status_code=304, headers=headers)
    whole = request.get("if-range", tag).strip() != tag
    wanted = None if whole else read_range(request.get("range", ""), size)
    if wanted is not None and wanted[1] == 0:
        file.close()
        headers.pop("etag")
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
    first, length = wanted or (0, size)
    headers["content-length"] = str(length)
    if wanted is not None:
        headers["content-range"] = f"bytes {first}-{first + length - 1}/{size}"
    status = 200 if wanted is None else 206
    if asked.method == "HEAD":
        file.close()
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_pieces(file, first, length), status_code=status, headers=headers)


def read_range(text: str, size: int) -> tuple[int, int] | None:
    """First byte and length of a single range, length 0 when it lies outside; None: the whole is wanted."""
    found = _RANGE.fullmatch(text.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), size)
        return size - length, length
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    return start, max(0, end - start + 1)


def _names(text: str, tag: str) -> bool:
    return text.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in text.split(","))


async def _pieces(file: BinaryIO, first: int, length: int) -> AsyncIterator[bytes]:
    """Read one piece ahead in a thread. A file that ends too early breaks the connection off."""
    with file:
        await asyncio.to_thread(file.seek, first)
        while length:
            piece = await asyncio.to_thread(file.read, min(PIECE, length))
            if not piece:
                raise OSError("stored bytes are shorter than they were")
            length -= len(piece)
            yield piece

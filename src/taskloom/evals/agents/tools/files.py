"""Files over SFTP as tools: read, write, list. Paths are the server's; one without a slash before it is its own folder's."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from taskloom.domain.evaluation import ToolResult
from taskloom.evals.agents.tools.tool import MAX_TEXT, Tool, WrongArguments, count_of, tell, text_of
from taskloom.evals.failures import InfrastructureFailure

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SSHClientConnection

MAX_READ = MAX_TEXT // 2  # bytes of one read
MAX_WRITE = 8 * 2**20  # bytes of one write
MAX_ENTRIES = 1000  # of one listing
MAX_SIZE = 2**60

Act = Callable[["SFTPClient", dict[str, Any]], Awaitable[ToolResult]]
_PATH = {"type": "string", "description": "Path of the file"}


def make_file_tools(connection: SSHClientConnection, capability: str) -> list[Tool]:
    return [
        _make_tool(
            connection,
            capability,
            "read_file",
            f"Read a file's text, at most {MAX_READ} bytes at a time.",
            {
                "path": _PATH,
                "offset": {"type": "integer", "description": "Begin at this byte; 0 by default"},
                "limit": {"type": "integer", "description": "Read at most so many bytes"},
            },
            ["path"],
            _read,
        ),
        _make_tool(
            connection,
            capability,
            "write_file",
            "Write a text file; folders that are missing are made.",
            {
                "path": _PATH,
                "content": {"type": "string", "description": "The whole text"},
                "append": {"type": "boolean", "description": "Add to the file's end; false by default"},
            },
            ["path", "content"],
            _write,
        ),
        _make_tool(
            connection,
            capability,
            "list_files",
            "List a folder: names, sizes in bytes, a slash behind folders.",
            {"path": {"type": "string", "description": "Path of the folder; the working folder by default"}},
            [],
            _list,
        ),
    ]


def _make_tool(
    connection: SSHClientConnection,
    capability: str,
    name: str,
    description: str,
    properties: dict[str, Any],
    required: list[str],
    act: Act,
) -> Tool:
    async def call(arguments: dict[str, Any]) -> ToolResult:
        import asyncssh

        try:
            async with connection.start_sftp_client() as client:
                return await act(client, arguments)
        except asyncssh.SFTPConnectionLost as error:
            raise InfrastructureFailure(f"the files are gone: {error}") from None
        except asyncssh.SFTPError as error:
            return tell(
                f"{name}: {arguments.get('path', '')}: {error.reason or type(error).__name__}", is_error=True
            )
        except (asyncssh.Error, OSError) as error:
            raise InfrastructureFailure(f"the files are gone: {error}") from None

    schema = {"type": "object", "properties": properties, "required": required}
    return Tool(name, description, schema, capability, call)


async def _read(client: SFTPClient, arguments: dict[str, Any]) -> ToolResult:
    path = text_of(arguments, "path")
    offset = count_of(arguments, "offset", 0, MAX_SIZE)
    limit = count_of(arguments, "limit", MAX_READ, MAX_READ)
    if await client.isdir(path):
        raise WrongArguments(f"{path} is a folder")
    size = await client.getsize(path) or 0
    async with client.open(path, "rb") as file:
        content = cast("bytes", await file.read(limit, offset))  # pyright: ignore[reportUnknownMemberType]
    text = content.decode("utf-8", "replace")
    left = size - offset - len(content)
    if left > 0:
        text += f"\n[{left} more bytes from offset {offset + len(content)} on]"
    return tell(text or "[the file is empty]" if not offset else text)


async def _write(client: SFTPClient, arguments: dict[str, Any]) -> ToolResult:
    path, content = text_of(arguments, "path"), text_of(arguments, "content").encode("utf-8", "surrogatepass")
    if len(content) > MAX_WRITE:
        raise WrongArguments(f"content: {len(content)} bytes: at most {MAX_WRITE} at a time")
    folder = posixpath.dirname(path)
    if folder and not await client.isdir(folder):
        await client.makedirs(folder, exist_ok=True)
    async with client.open(path, "ab" if arguments.get("append") is True else "wb") as file:
        await file.write(content)
    return tell(f"wrote {len(content)} bytes to {path}")


async def _list(client: SFTPClient, arguments: dict[str, Any]) -> ToolResult:
    path = text_of(arguments, "path", ".")
    lines: list[str] = []
    for entry in await client.readdir(path):
        name = str(entry.filename)
        if name in {".", ".."}:
            continue
        folder = stat.S_ISDIR(entry.attrs.permissions or 0)
        lines.append(f"{name}/" if folder else f"{name}  {entry.attrs.size or 0}")
    lines.sort()
    told = lines[:MAX_ENTRIES]
    if len(lines) > len(told):
        told.append(f"[{len(lines) - len(told)} more]")
    return tell("\n".join(told) or "[the folder is empty]")

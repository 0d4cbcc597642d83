"""A shell and files over SSH as tools: run a command, read, write and list files.

The host is known by its key alone, the agent by the key that the capability hands out; nothing of this machine's own
SSH is looked at. Each command is a channel of its own: nothing but files stays between two of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from taskloom.domain.evaluation import ToolResult
from taskloom.evals.agents.tools.files import make_file_tools
from taskloom.evals.agents.tools.tool import MAX_TEXT, Tool, WrongArguments, count_of, tell, text_of
from taskloom.evals.capabilities import Capability
from taskloom.evals.failures import AgentFailure, InfrastructureFailure

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection, SSHClientProcess, SSHReader

COMMAND_TIMEOUT = 120  # seconds of a command that says nothing else
COMMAND_TIMEOUT_MOST = 3600
MAX_OUTPUT = MAX_TEXT  # bytes of each stream that are kept, half of them from its end
LOGIN_TIMEOUT = 30.0
KEEPALIVE = 30  # seconds
PIECE = 32 * 1024


@asynccontextmanager
async def open_shell(capability: Capability, trace_id: str) -> AsyncGenerator[list[Tool]]:
    """InfrastructureFailure when the host cannot be reached or is another one."""
    connection = await _connect(capability)
    try:
        yield [_make_shell(connection, capability), *make_file_tools(connection, capability.name)]
    finally:
        connection.abort()
        await connection.wait_closed()


async def _connect(capability: Capability) -> SSHClientConnection:
    try:
        import asyncssh
    except ImportError:
        raise AgentFailure("tools over SSH need the package asyncssh: install taskloom[evals]") from None
    parts, params = urlsplit(capability.url), capability.params
    if not params.get("host_pubkey"):
        raise InfrastructureFailure(f"capability {capability.name!r}: no host_pubkey, so its host cannot be known")
    try:
        host_key = asyncssh.import_public_key(str(params["host_pubkey"]))
        keys = [asyncssh.import_private_key(str(params["client_key"]))] if params.get("client_key") else []
        if not keys and params.get("client_key_path"):
            keys = [asyncssh.read_private_key(str(params["client_key_path"]))]
        return await asyncssh.connect(
            parts.hostname or "",
            parts.port or 22,
            username=str(params.get("user") or parts.username or "agent"),
            client_keys=keys or None,
            known_hosts=([host_key], [], []),
            config=None,
            agent_path=None,
            login_timeout=LOGIN_TIMEOUT,
            keepalive_interval=KEEPALIVE,
        )
    except (OSError, ValueError, asyncssh.Error) as error:
        told = str(error) or type(error).__name__
        raise InfrastructureFailure(
            f"capability {capability.name!r}: the SSH server cannot be used: {told}"
        ) from None


def _make_shell(connection: SSHClientConnection, capability: Capability) -> Tool:
    async def call(arguments: dict[str, Any]) -> ToolResult:
        command = text_of(arguments, "command")
        if not command.strip():
            raise WrongArguments("command: expected something to run")
        seconds = count_of(arguments, "timeout_seconds", COMMAND_TIMEOUT, COMMAND_TIMEOUT_MOST)
        return await run_command(connection, command, max(1, seconds))

    schema = {
        "type": "object",
        "properties": {
            "command": {"type": "string", "description": "What the shell runs"},
            "timeout_seconds": {
                "type": "integer",
                "description": f"Stop it after so long; {COMMAND_TIMEOUT} by default",
            },
        },
        "required": ["command"],
    }
    text = (
        "Run a command in a shell and get its output and exit code. Each command has a shell of its own: directory and "
        "variables do not stay. Put a program that shall go on into the background, with its output in a file."
    )
    return Tool(capability.name, text, schema, capability.name, call)


async def run_command(connection: SSHClientConnection, command: str, seconds: float) -> ToolResult:
    """Output, errors and the exit code; is_error for another one than 0, and when it was stopped."""
    import asyncssh

    try:
        process = await connection.create_process(command, stdin=asyncssh.DEVNULL, encoding=None)
    except (asyncssh.Error, OSError) as error:
        raise InfrastructureFailure(f"the shell is gone: {error}") from None
    kept = Kept(), Kept()
    timed_out = False
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(_drain(process.stdout, kept[0]), _drain(process.stderr, kept[1]))
            await process.wait_closed()
    except TimeoutError:
        timed_out = True
    except (asyncssh.Error, OSError) as error:
        raise InfrastructureFailure(f"the shell is gone: {error}") from None
    finally:
        _end(process)
    if not timed_out and process.exit_status is None and process.exit_signal is None:
        raise InfrastructureFailure("the shell is gone: the line broke while a command ran")
    return _tell(kept, timed_out, seconds, process)


def _tell(
    kept: tuple[Kept, Kept], timed_out: bool, seconds: float, process: SSHClientProcess[bytes]
) -> ToolResult:
    out, err = kept[0].text(), kept[1].text()
    parts = [out] if out else []
    if err:
        parts.append(f"[stderr]\n{err}")
    if timed_out:
        parts.append(f"[stopped after {seconds:g} s]")
    elif process.exit_signal is not None:
        parts.append(f"[ended by signal {process.exit_signal[0]}]")
    else:
        parts.append(f"[exit code {process.exit_status}]")
    return tell("\n".join(parts), is_error=timed_out or process.exit_status != 0)


def _end(process: SSHClientProcess[bytes]) -> None:
    """What still runs is killed; a server that cannot do that sees its channel closed."""
    with suppress(OSError):
        if process.exit_status is None and process.exit_signal is None:
            process.kill()
        process.close()


async def _drain(reader: SSHReader[bytes], kept: Kept) -> None:
    while piece := await reader.read(PIECE):
        kept.add(piece)


class Kept:
    """The first and the last bytes of a stream, however long it is."""

    def __init__(self, most: int = MAX_OUTPUT) -> None:
        self._half = most // 2
        self._head, self._tail = bytearray(), bytearray()
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        room = self._half - len(self._head)
        self._head += piece[:room] if room > 0 else b""
        self._tail += piece[room:] if room > 0 else piece
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    def text(self) -> str:
        tail = self._tail[-self._half :]
        cut = self._size - len(self._head) - len(tail)
        between = f"\n[{cut} bytes were cut out here]\n".encode() if cut else b""
        return bytes(self._head + between + tail).decode("utf-8", "replace").rstrip("\n")

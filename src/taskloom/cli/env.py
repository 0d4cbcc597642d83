"""`taskloom env`: environments that agents act in; serve one, see what it has, start and grade one task by hand.

`serve` goes on as `python -m taskloom.evals.serving` in the same process. `start` hangs up without ending the task, which
is parked under its session until `grade` comes back for it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import msgspec
import typer

from taskloom.cli.output import JsonFlag, print_fields, print_json, print_table, say
from taskloom.cli.terminal import plain_lines
from taskloom.domain.errors import BadInput, Conflict, NotFound, Unavailable

if TYPE_CHECKING:
    from taskloom.evals.channel.client import Client

T = TypeVar("T")
Address = Annotated[
    str, typer.Argument(metavar="URL", help="Where it is served, tcp://HOST:PORT.", show_default=False)
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds until it has to answer.")]
Session = Annotated[
    str, typer.Option("--session", help="Session that `env start` named; else the only parked task.")
]

app = typer.Typer(help="Environments: worlds that agents act in.", no_args_is_help=True)


@app.command("serve")
def serve(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .py file or a folder.", show_default=False)],
    env: Annotated[str, typer.Option("--env", help="Its name, when the source has several.")] = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; the channel has no authentication.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8765,
    json: JsonFlag = False,
) -> None:
    """Serve an environment until SIGTERM or Ctrl-C."""
    words = [str(file), "--env", env, "--host", host, "--port", str(port), *(["--json"] if json else [])]
    command = [sys.executable, "-m", "taskloom.evals.serving", *words]
    os.execv(sys.executable, command)  # noqa: S606 - our own, no shell


@app.command("list")
def list_templates(
    source: Annotated[
        str,
        typer.Argument(metavar="URL|FILE", help="tcp://HOST:PORT, a .py file or a folder.", show_default=False),
    ],
    timeout: Timeout = 10.0,
    json: JsonFlag = False,
) -> None:
    """List the templates of an environment with their arguments."""
    found = _in_file(Path(source)) if Path(source).exists() else _run(_at_address(source, timeout))
    if json:
        print_json({"environments": found})
        return
    print_table(
        ["environment", "template", "arguments", "description"],
        [
            (environment["name"], entry["id"], _arguments(entry.get("args")), entry.get("description") or "")
            for environment in found
            for entry in environment["templates"]
        ],
        empty="no templates",
    )


@app.command("start")
def start(
    url: Address,
    template: Annotated[str, typer.Argument(metavar="TEMPLATE", help="Id of the template.", show_default=False)],
    args: Annotated[str, typer.Option("--args", help="Its arguments, a JSON object.")] = "{}",
    timeout: Timeout = 10.0,
    json: JsonFlag = False,
) -> None:
    """Start a task and leave it to `env grade`: prints its session and its prompt."""
    session, frame = _run(_start(url, template, _read_args(args), timeout))
    if json:
        print_json({"session": session, "template": template, **frame})
        return
    print_fields([("session", session)])
    say(plain_lines(_prompt_text(frame.get("prompt"))))


@app.command("grade")
def grade(
    url: Address,
    session: Session = "",
    answer: Annotated[str | None, typer.Option("--answer", help="The answer, as a text.")] = None,
    answer_file: Annotated[
        Path | None, typer.Option("--answer-file", help="File that holds the answer; - is standard input.")
    ] = None,
    timeout: Timeout = 10.0,
    json: JsonFlag = False,
) -> None:
    """Grade a task that waits in its session: prints the grade."""
    if answer is not None and answer_file is not None:
        raise BadInput("--answer and --answer-file: expected one of them")
    text = answer if answer_file is None else _read_answer(answer_file)
    frame = _run(_grade(url, session, text, timeout))
    if json:
        print_json(frame)
        return
    parts = cast("list[dict[str, Any]]", frame.get("subscores") or [])
    print_fields([("score", frame.get("score")), ("content", frame.get("content") or "")])
    if parts:
        print_table(
            ["part", "value", "weight"],
            [(part.get("name"), part.get("value"), part.get("weight", 1.0)) for part in parts],
            right=["value", "weight"],
        )


# --- over the channel -----------------------------------------------------------------------------------------


def _run(work: Coroutine[Any, Any, T]) -> T:
    """The result; failures of the channel in the words of the command line."""
    from taskloom.evals.channel.contract import ChannelLost, Refused

    try:
        return asyncio.run(work)
    except ChannelLost as error:
        raise Unavailable(str(error)) from None
    except Refused as error:
        text = error.message or "the environment failed without a message"
        raise (Conflict(text) if error.code == -32600 else BadInput(text)) from None


def _connect(url: str, timeout: float, session: str = "") -> Any:
    from taskloom.evals.channel.client import connect
    from taskloom.evals.runtimes.contract import Runtime

    try:
        return connect(Runtime(url), ready_timeout=timeout, session_id=session)
    except ValueError as error:
        raise BadInput(str(error)) from None


async def _start(url: str, template: str, args: dict[str, Any], timeout: float) -> tuple[str, dict[str, Any]]:
    async with _connect(url, timeout) as client:
        opened: Client = client
        return opened.session_id, await opened.start(template, args)


async def _grade(url: str, session: str, answer: Any, timeout: float) -> dict[str, Any]:
    async with _connect(url, timeout, session) as client:
        opened: Client = client
        return await opened.grade(answer)


async def _at_address(url: str, timeout: float) -> list[dict[str, Any]]:
    async with _connect(url, timeout) as client:
        opened: Client = client
        templates = await opened.list_tasks()
        return [{"name": opened.env_name, "version": opened.env_version, "templates": templates}]


# --- what people type and see -----------------------------------------------------------------------------------


def _in_file(path: Path) -> list[dict[str, Any]]:
    from taskloom.evals.environment.loading import load_environments

    with redirect_stdout(sys.stderr):
        found = load_environments(path).values()
    if not found:
        raise NotFound(f"{path}: no environment there; expected `env = Environment(...)` in the module")
    return [
        {
            "name": environment.name,
            "version": environment.version,
            "templates": [template.manifest for template in environment.templates.values()],
        }
        for environment in found
    ]


def _read_args(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadInput(f"--args {text[:80]!r}: expected a JSON object, {error}") from None


def _read_answer(file: Path) -> str:
    return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8", "replace")


def _arguments(schema: Any) -> str:
    """`a: integer, b: integer = 2`, out of a JSON Schema."""
    if not isinstance(schema, dict):
        return ""
    described = cast("dict[str, Any]", schema)
    shown: list[str] = []
    for name, entry in cast("dict[str, dict[str, Any]]", described.get("properties") or {}).items():
        kind = f": {entry['type']}" if isinstance(entry.get("type"), str) else ""
        default = f" = {msgspec.json.encode(entry['default']).decode()}" if "default" in entry else ""
        shown.append(f"{name}{kind}{default}")
    return ", ".join([*shown, *(["..."] if described.get("additionalProperties") else [])])


def _prompt_text(prompt: Any) -> str:
    if prompt is None:
        return "(no prompt)"
    if isinstance(prompt, str):
        return prompt
    messages = cast("list[dict[str, Any]]", prompt if isinstance(prompt, list) else [prompt])
    return "\n\n".join(
        f"{message.get('role', '?')}: {_content_text(message.get('content'))}" for message in messages
    )


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    blocks = cast("list[Any]", content if isinstance(content, list) else [content])
    texts = [cast("dict[str, Any]", block).get("text") for block in blocks if isinstance(block, dict)]
    return "\n".join(text for text in texts if isinstance(text, str)) or msgspec.json.encode(content).decode()

"""Writes api.md from the table of operations, commands.md from the command line itself, clearml-calls.md.

`make docs` runs it; a test compares what it would write with what is committed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import msgspec
import typer

from taskloom.wire.operations import OPERATIONS, Operation

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py; `make docs` renews it. -->\n"


def api() -> str:
    """One heading an operation, by feature, with its role, query, body and answer."""
    lines = [
        "# HTTP API",
        NOTE,
        "The machine-readable form is `/api/openapi.json` of every server. Bodies are msgpack or JSON by",
        "`Content-Type`; answers are JSON unless `Accept` asks for `application/msgpack`. The key travels as",
        "`Authorization: Bearer KEY`. Errors have the status of their kind and the body",
        '`{"error": {"code", "message", "details"}}`. Numbers that are not finite are the words `NaN`, `Infinity`',
        "and `-Infinity`. Times are seconds since the epoch, UTC.",
    ]
    features = dict.fromkeys(operation.feature for operation in OPERATIONS.values())
    for feature in features:
        lines += ["", f"## {'server' if feature == 'app' else feature}"]
        for operation in OPERATIONS.values():
            if operation.feature == feature:
                lines += ["", *_operation(operation)]
    return "\n".join(lines) + "\n"


def _operation(operation: Operation[Any, Any]) -> list[str]:
    role = "no key" if operation.role is None else operation.role
    lines = [
        f"### {operation.name}",
        "",
        f"`{operation.method} {operation.path}` ({role})",
        "",
        f"{operation.summary}.",
    ]
    for title, kind in (("Query", operation.query), ("Body", operation.body)):
        if kind is not None:
            lines += ["", f"{title}: {_fields(kind)}"]
    if operation.stream:
        lines += ["", "Raw bytes or a stream."]
    else:
        lines += ["", f"Answer: `{operation.answer.__name__}` {_fields(operation.answer)}"]
    return lines


def _fields(kind: Any) -> str:
    names = [f"`{field.encode_name}`" + ("" if field.required else "?") for field in msgspec.structs.fields(kind)]
    return ", ".join(names) if names else "nothing"


def commands() -> str:
    """One heading a command, with its help text and options."""
    from taskloom.cli.main import build_app

    lines = [
        "# Commands",
        NOTE,
        "Every command takes `--json`. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A task is named",
        "by its id, by the unique beginning of it, or by `PROJECT/NAME` (the one changed last).",
    ]
    lines += _command(typer.main.get_command(build_app()), ["taskloom"])
    return "\n".join(lines).rstrip() + "\n"


def _command(command: Any, path: list[str]) -> list[str]:
    context = click.Context(command, info_name=path[-1])
    lines = ["", f"{'#' * min(len(path) + 1, 4)} {' '.join(path)}", "", (command.help or "").strip()]
    rows: list[str] = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            rows.append(f"| `{record[0]}` | {' '.join(record[1].split())} |".replace("||", "|"))
        elif parameter.param_type_name == "argument":
            text = " ".join((getattr(parameter, "help", None) or "").split())
            rows.append(f"| `{parameter.make_metavar(context)}` | {text} |")
    if rows:
        lines += ["", "| Option | Meaning |", "|---|---|", *rows]
    names = command.list_commands(context) if hasattr(command, "list_commands") else []
    for name in names:
        child = command.get_command(context, name)
        if child is not None and not child.hidden:
            lines += _command(child, [*path, name])
    return lines


def clearml_calls() -> str:
    """Every call of ClearML's clients that the server serves, by service."""
    from taskloom.server.app import House
    from taskloom.server.settings import read_settings

    with tempfile.TemporaryDirectory() as folder:
        house = House(read_settings(Path(folder), environ={}), time.time)
        endpoints = house.clearml.endpoints
        house.close()
    services: dict[str, list[str]] = {}
    for name in sorted(endpoints):
        service, _, action = name.partition(".")
        role = endpoints[name].role
        services.setdefault(service, []).append(action if role == "member" else f"{action} ({role})")
    lines = [
        "# ClearML's calls",
        NOTE,
        "What unmodified clients of ClearML may call, under every version prefix. Calls need a key of role member",
        "unless another is named. Every other call is answered with 404 in ClearML's form and counted:",
        "`taskloom doctor` tells which. Files are served below `/files`.",
        "",
        "| Service | Calls |",
        "|---|---|",
    ]
    lines += [f"| {service} | {', '.join(calls)} |" for service, calls in services.items()]
    return "\n".join(lines) + "\n"


PAGES = {"api.md": api, "commands.md": commands, "clearml-calls.md": clearml_calls}


def main() -> int:
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

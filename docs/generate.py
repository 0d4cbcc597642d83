"""Writes api.md from the table of operations, commands.md from the command line itself, clearml-calls.md,
frameworks.md from the declarations of the bindings, examples.md from what the examples say of themselves,
task-yaml.schema.json from the declaration of the task file's fields.

`make docs` runs it; a test compares what it would write with what is committed.
"""

from __future__ import annotations

import ast
import json
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import msgspec
import typer

from taskloom.domain.taskfile import parse
from taskloom.domain.taskfile.schema import json_schema
from taskloom.sdk.binding import Binding
from taskloom.sdk.frameworks import BINDINGS
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


def frameworks() -> str:
    """What every binding hooks, by its own declaration."""
    lines = [
        "# Frameworks that are hooked",
        NOTE,
        "What a task records without being asked, as soon as the script imports it: one file of `sdk/bindings/` each.",
        "The switch is the name in `Task.init(auto_connect_frameworks={...})`. `taskloom doctor` lists what holds in an",
        "environment, `taskloom task show` what was hooked in a task, and what went wrong with it.",
        "",
        "| Framework | Switch | From version | Hooked |",
        "|---|---|---|---|",
    ]
    for name in BINDINGS:
        binding: Binding = import_module(f"taskloom.sdk.bindings.{name}").BINDING
        hooks = ", ".join(f"`{hook}`" for hook in binding.hooks)
        lines.append(f"| {binding.package} | `{binding.switch}` | {binding.since} | {hooks} |")
    return "\n".join(lines) + "\n"


def examples() -> str:
    """The first paragraph of every example."""
    folder = HERE.parent / "examples"
    lines = [
        "# Examples",
        NOTE,
        "Scripts as their users write them. Each runs by itself and is run by the tests: recorded, compared with what is",
        "expected, cloned, edited, and run again by a worker. `make demo` shows the first one with everything around it.",
    ]
    for room in sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))
    ):
        words = room.name.split("-", 1)[1].replace("-", " ")
        lines += ["", f"## {words[0].upper()}{words[1:]}", ""]
        for script in sorted(path for path in room.iterdir() if path.suffix in {".py", ".ipynb"}):
            lines.append(f"- [{script.name}](../examples/{room.name}/{script.name}): {_said(script)}")
        for file in sorted(room.glob("*/task.yaml")):
            place = f"{room.name}/{file.parent.name}"
            lines.append(f"- [{file.parent.name}](../examples/{place}/task.yaml): {_described(file)}")
    return "\n".join(lines) + "\n"


def _said(script: Path) -> str:
    if script.suffix == ".ipynb":
        cells = json.loads(script.read_text("utf-8"))["cells"]
        words = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown").lstrip("# ")
    else:
        words = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    return " ".join(words.split("\n\n")[0].split())


def _described(file: Path) -> str:
    """What a task file says that it shows."""
    return " ".join(parse(file.read_text("utf-8"), str(file)).description.split())


def task_schema() -> str:
    """The JSON Schema of task files, for editors."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


PAGES = {
    "api.md": api,
    "commands.md": commands,
    "clearml-calls.md": clearml_calls,
    "frameworks.md": frameworks,
    "examples.md": examples,
    "task-yaml.schema.json": task_schema,
}


def main() -> int:
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

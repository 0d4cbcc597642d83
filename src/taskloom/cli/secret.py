"""`taskloom secret`: values that tasks may use and nobody reads: set, listed, deleted, encrypted anew.

A value is never an argument: arguments are seen in the list of processes and kept in the shell's history. It comes
from a file, from a variable, from the standard input, or is typed without being shown.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from taskloom.cli import connect
from taskloom.cli.output import JsonFlag, YesFlag, ago, confirm, hint, print_json, print_table, say
from taskloom.wire import messages as m
from taskloom.wire import operations as op

app = typer.Typer(help="Secrets of users and projects.", no_args_is_help=True)

SecretName = Annotated[
    str, typer.Argument(metavar="NAME", help="Letters, digits, underscores.", show_default=False)
]
ProjectOption = Annotated[
    str, typer.Option("--project", "-p", help="Of this project and those below it, instead of one's own.")
]


@app.command("set")
def set_secret(
    name: SecretName,
    project: ProjectOption = "",
    from_file: Annotated[
        Path | None, typer.Option("--from-file", help="Take the content of a file, without a last line end.")
    ] = None,
    from_env: Annotated[str, typer.Option("--from-env", help="Take the value of this environment variable.")] = "",
    url: Annotated[
        str, typer.Option("--url", help="What it is a password for: where addresses of repositories begin so.")
    ] = "",
    username: Annotated[str, typer.Option("--username", help="Who git says that it is there.")] = "",
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    json: JsonFlag = False,
) -> None:
    """Set a secret. Without --from-file and --from-env it is read from the standard input, or typed unseen."""
    if from_file is not None and from_env:
        raise typer.BadParameter("--from-file and --from-env: expected one of them")
    body = m.SecretPut(
        value=_value(name, from_file, from_env),
        scope="project" if project else "user",
        project=project,
        description=description,
        url=url,
        username=username,
    )
    with connect.server() as client:
        told = client.call(op.PUT_SECRET, body, name=name)
    if json:
        print_json(told)
        return
    say(f"secret {told.name} of {told.scope} {told.owner}: set")
    hint(f"tasks use it as {{{{secret.{told.name}}}}}; it is not shown again")


@app.command("list")
def list_secrets(json: JsonFlag = False) -> None:
    """List one's own secrets and those of projects, without their values."""
    with connect.server() as client:
        told = client.call(op.LIST_SECRETS)
    if json:
        print_json(told)
        return
    print_table(
        ["name", "of", "for", "changed", "by", "description"],
        [
            (s.name, f"{s.scope} {s.owner}", _for(s), ago(s.changed), s.changed_by, s.description)
            for s in told.secrets
        ],
        empty="no secrets",
    )


@app.command("delete")
def delete_secret(
    name: SecretName, project: ProjectOption = "", yes: YesFlag = False, json: JsonFlag = False
) -> None:
    """Delete a secret; tasks that run keep what they were given."""
    confirm(f"Delete the secret {name}?", yes)
    query = m.SecretPlace(scope="project" if project else "user", project=project)
    with connect.server() as client:
        told = client.call(op.DELETE_SECRET, query=query, name=name)
    if json:
        print_json(told)
        return
    say(f"secret {told.name} of {told.scope} {told.owner}: deleted")


@app.command("rotate")
def rotate_secrets(yes: YesFlag = False, json: JsonFlag = False) -> None:
    """Encrypt every secret with a new key; for an administrator. Older copies of the database need the older key."""
    confirm("Make a new key and forget the older ones?", yes)
    with connect.server() as client:
        told = client.call(op.ROTATE_SECRETS)
    if json:
        print_json(told)
        return
    say(f"{told.secrets} secrets encrypted with a new key")


def _value(name: str, from_file: Path | None, from_env: str) -> str:
    if from_env:
        found = os.environ.get(from_env)
        if found is None:
            raise typer.BadParameter(f"--from-env: there is no variable {from_env}")
        return found
    if from_file is None and sys.stdin.isatty():
        return str(typer.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True, err=True))
    data = sys.stdin.buffer.read() if from_file is None else from_file.read_bytes()
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise typer.BadParameter("the value is not text in UTF-8") from None


def _for(secret: m.SecretInfo) -> str:
    return f"{secret.username}@{secret.url}" if secret.url and secret.username else secret.url

"""`taskloom clearml-config`: point ClearML's unmodified clients on this machine at the server.

Makes an API key for them (its own, so that it can be revoked alone) and writes the section that holds it; what
the section looks like stands in clearml.conf.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer

from taskloom.cli import connect
from taskloom.cli.clearml import conf
from taskloom.cli.output import JsonFlag, hint, print_json, say
from taskloom.cli.terminal import plain
from taskloom.wire import messages as m
from taskloom.wire import operations as op

LABEL = "clearml"


class Written(msgspec.Struct, frozen=True):
    """The answer of --json. `text` is the section; `path` is empty when it was only printed."""

    path: str
    kept: str
    url: str
    key: str
    role: str
    text: str


def clearml_config(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; by default ~/clearml.conf.", show_default=False),
    ] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Print the section, write nothing.")] = False,
    role: Annotated[str, typer.Option("--role", help="Of the key: viewer, member or admin.")] = "member",
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is there; the old one is kept beside it.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Write the section of clearml.conf that points ClearML's clients here, with a key of their own."""
    if role not in {"viewer", "member", "admin"}:
        raise typer.BadParameter(f"--role {role!r}: expected viewer, member or admin")
    path = (output or Path.home() / conf.CONFIG_FILE).expanduser().absolute()
    if not only_print:
        conf.check_target(path, force=force)  # before a key is made
    with connect.server() as client:
        made = client.call(op.CREATE_KEY, m.KeyCreate(label=LABEL, role=cast("m.Role", role)))
        url = client.address.url
    text = conf.section(url, made.key)
    kept = None if only_print else conf.write_file(path, text, force=force)
    if json:
        place = "" if only_print else str(path)
        print_json(Written(place, str(kept or ""), url, made.info.id, made.info.role, text))
        return
    if only_print:
        sys.stdout.write(text)
    else:
        say(plain(f"{path}: ClearML's clients on this machine now go to {url}"))
    if kept is not None:
        say(plain(f"{kept}: what was there before"))
    hint(f"key {made.info.id} for {made.info.user} ({made.info.role}); `taskloom key revoke` ends it")

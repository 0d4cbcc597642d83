"""`taskloom key`: API keys with a role, made, listed and revoked. A secret is shown once, when it is made."""

from __future__ import annotations

import re
import time
from typing import Annotated, cast

import typer

from taskloom.cli import connect
from taskloom.cli.output import JsonFlag, YesFlag, ago, confirm, hint, local_time, print_json, print_table, say
from taskloom.wire import messages as m
from taskloom.wire import operations as op

_SPAN = re.compile(r"(\d+)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

app = typer.Typer(help="API keys.", no_args_is_help=True)


@app.command("list")
def list_keys(json: JsonFlag = False) -> None:
    """List one's own keys; an administrator sees all."""
    with connect.server() as client:
        told = client.call(op.LIST_KEYS)
    if json:
        print_json(told)
        return
    print_table(
        ["key", "label", "user", "role", "state", "created", "used", "expires"],
        [
            (
                k.id,
                k.label,
                k.user,
                k.role,
                _state(k),
                ago(k.created),
                ago(k.last_used) or "never",
                local_time(k.expires) or "never",
            )
            for k in told.keys
        ],
        empty="no keys",
    )


@app.command("create")
def create_key(
    label: Annotated[str, typer.Argument(help="What it is for.", show_default=False)],
    role: Annotated[str, typer.Option("--role", help="viewer, member or admin.")] = "member",
    user: Annotated[str, typer.Option("--user", help="Whose; by default one's own.")] = "",
    expires: Annotated[str, typer.Option("--expires", help="After this span: 12h, 30d, 8w.")] = "",
    json: JsonFlag = False,
) -> None:
    """Make a key; it is shown this once."""
    if role not in {"viewer", "member", "admin"}:
        raise typer.BadParameter(f"--role {role!r}: expected viewer, member or admin")
    body = m.KeyCreate(label=label, role=cast("m.Role", role), user=user, expires=read_span(expires))
    with connect.server() as client:
        made = client.call(op.CREATE_KEY, body)
    if json:
        print_json(made)
        return
    say(made.key)
    hint(f"key {made.info.id} for {made.info.user} ({made.info.role}); it is not shown again")


@app.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="Id of the key, as `list` shows it.", show_default=False)],
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Revoke a key at once."""
    confirm(f"Revoke the key {key}?", yes)
    with connect.server() as client:
        told = client.call(op.REVOKE_KEY, key=key)
    if json:
        print_json(told)
        return
    say(f"key {told.id} ({told.label}): revoked")


def read_span(text: str) -> float:
    """`30d` as an epoch time so far from now; empty: 0, never."""
    if not text:
        return 0.0
    parts = _SPAN.fullmatch(text)
    if parts is None:
        raise typer.BadParameter(f"--expires {text!r}: expected a number and s, m, h, d or w, such as 30d")
    return time.time() + int(parts[1]) * _SECONDS[parts[2]]


def _state(key: m.KeyInfo) -> str:
    if key.revoked:
        return "revoked"
    return "expired" if key.expires and key.expires < time.time() else "valid"

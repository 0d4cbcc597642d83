"""Typer, where it carries a copy of click; its commands are told and read edited values as click's are.

An older Typer uses click itself, and the binding of click sees it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, cast

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.click_lines import ClickLines


def install(hooks: Hooks, module: ModuleType) -> None:
    if not hooks.line.on:
        return
    lines = ClickLines(hooks, module)
    hooks.around(cast("Any", module).Command, "make_context", lines.make_context)
    lines.look_back()


BINDING = Binding(
    switch="typer",
    modules=("typer._click.core",),
    package="typer",
    since="0.12",
    hooks=("typer._click.Command.make_context",),
    install=install,
)

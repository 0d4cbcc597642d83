"""click: the user's commands are told as parameters and read edited values; see click_lines.

Only `Command.make_context` is replaced: all ways to run a command pass it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, cast

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.click_lines import ClickLines


def install(hooks: Hooks, module: ModuleType) -> None:
    if not hooks.line.on:
        return
    lines = ClickLines(hooks, module)
    hooks.around(cast("Any", module).Command, "make_context", lines.make_context)
    lines.look_back()


BINDING = Binding(
    switch="click",
    modules=("click.core",),
    package="click",
    since="8.0",
    hooks=("click.Command.make_context",),
    install=install,
)

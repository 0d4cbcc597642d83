"""`taskloom eval`: run tasksets under agents, go on with what was interrupted, read and compare what came out.

A first word that is no command of the group is a source, so that `taskloom eval rows.jsonl --agent openai` runs it.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from taskloom.cli.evals import exchange, figures, reading, running

RUN = "run"
HELP = frozenset({"--help", "-h"})


class SourceGroup(TyperGroup):
    """Whatever does not begin with a command begins with what is run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in HELP:
            args = [RUN, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    help="Run evaluations of AI agents and read what came out; `taskloom eval SOURCE` is `taskloom eval run SOURCE`.",
    no_args_is_help=True,
    cls=SourceGroup,
)


for name, command in (
    (RUN, running.run),
    ("list", reading.list_jobs),
    ("show", reading.show_job),
    ("trace", reading.show_trace),
    ("report", figures.report),
    ("leaderboard", figures.leaderboard),
    ("tasksets", reading.list_tasksets),
    ("export", exchange.export),
    ("import", exchange.import_),
):
    app.command(name)(command)

"""`taskloom sync tasks`: bring a taskset on the server to what a file or folder here says, or write it to a file.

Nothing is deleted on the server unless it is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from taskloom.cli.output import JsonFlag, YesFlag, confirm, hint, print_json, say, screen
from taskloom.cli.terminal import plain
from taskloom.domain.errors import BadInput, NotFound, TaskloomError
from taskloom.wire.messages import TasksetInfo

if TYPE_CHECKING:
    from taskloom.evals.sync import Progress, Pushed, SyncPlan
    from taskloom.evals.task import Task
    from taskloom.evals.taskset import Taskset

SHOWN = 20  # slugs of each kind that a plan lists for people

app = typer.Typer(help="Bring tasksets on the server and files here together.", no_args_is_help=True)


class SyncOutcome(msgspec.Struct, frozen=True):
    """What `--json` tells: the plan by slugs, and what was done of it (nothing with `--dry-run`)."""

    taskset: TasksetInfo | None
    to_create: list[str]
    to_update: list[str]
    remote_only: list[str]
    unchanged: int
    created: int = 0
    updated: int = 0
    removed: int = 0


@app.callback()
def sync() -> None:
    """A group of one command so far."""


@app.command("tasks")
def sync_tasks(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name or id of the taskset on the server.", show_default=False)
    ],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A .json, .jsonl or .py file, or a folder of Python files.", show_default="."
        ),
    ] = Path(),
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write the server's rows to this .json, .jsonl or .csv file instead."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Upload every row without a look at what the server has.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove the rows from the server that are not here.")
    ] = False,
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Upload the eval tasks of SOURCE that the taskset does not have, or has otherwise; it is made when it is new."""
    if export is not None:
        if source != Path() or force or prune:
            raise typer.BadParameter(
                "--export writes a file from the server; it takes no source, --force or --prune"
            )
        _export(name, export, dry_run=dry_run, json=json)
        return
    if force and prune:
        raise typer.BadParameter("--force does not look at what the server has, so --prune finds nothing")
    _upload(name, _load(source), dry_run=dry_run, force=force, prune=prune, yes=yes, json=json)


def _upload(name: str, local: Taskset, *, dry_run: bool, force: bool, prune: bool, yes: bool, json: bool) -> None:
    from taskloom.evals.sync import Pushed, SyncPlan, diff, fetch, push

    plan = SyncPlan(to_create=list(local), to_apply=list(local)) if force else diff(local, fetch(name))
    if not json:
        say(f"{plain(name)}: {plan.summary()}")
    if dry_run:
        _tell(plan, Pushed(), json=json)
        if not json:
            _show(plan)
        return
    if prune and plan.remote_only:
        confirm(f"Remove {len(plan.remote_only)} rows from {plain(name)}?", yes)
    rows = len(plan.to_apply) + (len(plan.remote_only) if prune else 0)
    try:
        with _rows_done(rows, quiet=json) as progress:
            done = push(name, plan, prune=prune, progress=progress)
    except (ValueError, TypeError) as error:  # arguments that no JSON can hold
        if isinstance(error, TaskloomError):
            raise
        raise BadInput(str(error)) from None
    _tell(plan, done, json=json)
    if not json:
        _say_done(plan, done, prune=prune)


def _tell(plan: SyncPlan, done: Pushed, *, json: bool) -> None:
    if json:
        print_json(
            SyncOutcome(
                done.taskset,
                _slugs(plan.to_create),
                _slugs(plan.to_update),
                _slugs(plan.remote_only),
                len(plan.unchanged) + done.unchanged,
                done.created,
                done.updated,
                done.removed,
            )
        )


def _say_done(plan: SyncPlan, done: Pushed, *, prune: bool) -> None:
    if done.taskset is not None:
        say(f"{done.summary()}; version {done.taskset.version} has {done.taskset.rows} rows")
    if plan.remote_only and not prune:
        hint(f"only on the server, where they stay: {len(plan.remote_only)}; --prune removes them")


def _show(plan: SyncPlan) -> None:
    for mark, tasks in (("+", plan.to_create), ("~", plan.to_update), ("?", plan.remote_only)):
        for slug in _slugs(tasks)[:SHOWN]:
            say(f"{mark} {plain(slug)}")
        if len(tasks) > SHOWN:
            say(f"{mark} and {len(tasks) - SHOWN} more")


def _slugs(tasks: list[Task]) -> list[str]:
    return [task.slug or task.default_slug() for task in tasks]


def _load(source: Path) -> Taskset:
    from taskloom.cli.evals.words import Wish, load_taskset

    if not source.exists():
        raise NotFound(f"{source}: there is no such file or folder")
    return load_taskset(Wish(source=str(source)))


@contextmanager
def _rows_done(total: int, *, quiet: bool) -> Generator[Progress]:
    """A bar over rows on standard error, where somebody looks and there are many."""
    from taskloom.evals.sync import PART_ROWS

    if quiet or total <= PART_ROWS or not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    parts = (TextColumn("uploading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*parts, console=screen(stderr=True), transient=True) as bars:
        line = bars.add_task("rows", total=total)
        yield lambda count: bars.update(line, advance=count)


def _export(name: str, path: Path, *, dry_run: bool, json: bool) -> None:
    from taskloom.evals.sources import check_suffix
    from taskloom.evals.sync import fetch

    remote = fetch(name)
    if remote is None:
        raise NotFound(f"no taskset {name!r} on the server")
    try:
        check_suffix(path)
        if not dry_run:
            remote.to_file(path)
    except ValueError as error:
        raise BadInput(str(error)) from None
    if json:
        print_json({"file": str(path), "rows": len(remote), "version": remote.version, "written": not dry_run})
    else:
        would = " would be written" if dry_run else ""
        say(f"{plain(str(path))}: {len(remote)} rows of version {remote.version}{would}")

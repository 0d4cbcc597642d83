"""`taskloom task samples`: list what a run showed, bring its bytes here.

How bytes come, and where a name from a script may lead, is the business of `artifacts`. A page or picture is only
written to a file, never opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taskloom.cli import connect
from taskloom.cli.artifacts import Bytes, Downloaded, choose_path, download
from taskloom.cli.connect import TaskReference
from taskloom.cli.output import JsonFlag, ago, print_json, print_table, say, transfer
from taskloom.cli.terminal import plain
from taskloom.domain.artifact import Sample
from taskloom.domain.errors import Conflict, NotFound
from taskloom.domain.quantities import size
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.send import Client

PAGE = 500

app = typer.Typer(help="List a task's debug samples and download them.", no_args_is_help=True)


@app.command("list")
def list_samples(
    task: TaskReference,
    title: Annotated[str, typer.Option("--title", help="Only of this title.", show_default=False)] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Every iteration, not only the newest of each series.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """List the debug samples of a task: images, sounds, pages."""
    with connect.server() as client:
        found = _samples(client, connect.task_id(client, task), title, every)
    if json:
        print_json(m.SampleList(samples=found, total=len(found)))
        return
    print_table(
        ["title", "series", "iteration", "type", "size", "made", "file"],
        [
            (s.title, s.series, str(s.iteration), s.media_type, size(s.size), ago(s.time), s.uri or s.name)
            for s in found
        ],
        empty="no samples",
        right=["iteration", "size"],
    )


@app.command("get")
def get_sample(
    task: TaskReference,
    title: Annotated[str, typer.Argument(help="Title of the sample.", show_default=False)],
    series: Annotated[str, typer.Argument(help="Series of the sample.", show_default=False)],
    iteration: Annotated[
        int | None, typer.Option("--iteration", help="Which iteration; the newest by default.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder to write to.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    json: JsonFlag = False,
) -> None:
    """Download a debug sample and check its SHA-256."""
    with connect.server() as client:
        wanted = _find(client, connect.task_id(client, task), title, series, iteration)
        if not wanted.digest:
            raise NotFound(f"the sample is not held by Taskloom; it is at {wanted.uri or 'no known place'}")
        name = wanted.name or f"{series}_{wanted.iteration}"
        held = Bytes(name, wanted.digest, wanted.size, name, wanted.uri)
        target = choose_path(held, output)
        if target.exists() and not force:
            raise Conflict(f"{target} is already there; --force overwrites it, --output names another place")
        with transfer(name, wanted.size, quiet=json) as advance:
            download(client, wanted.digest, target, advance)
    if json:
        print_json(Downloaded(name, str(target), wanted.digest, target.stat().st_size))
        return
    say(plain(f"{target} ({size(target.stat().st_size)})"))


def _samples(client: Client, task: str, title: str, every: bool) -> list[Sample]:
    found: list[Sample] = []
    while True:
        query = m.SamplesQuery(title=title, all_iterations=every, limit=PAGE, offset=len(found))
        page = client.call(op.LIST_SAMPLES, query=query, task=task)
        found += page.samples
        if not page.samples or len(found) >= page.total:
            return found


def _find(client: Client, task: str, title: str, series: str, iteration: int | None) -> Sample:
    known = _samples(client, task, title, every=iteration is not None)
    for sample in known:
        if sample.series == series and iteration in {None, sample.iteration}:
            return sample
    raise NotFound(
        f"the task has no sample {title!r} / {series!r}" + ("" if iteration is None else f" at {iteration}")
    )

"""`taskloom eval export, import`: jobs as logs of other systems, and back. How those look stands in `evals.formats`."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from taskloom.cli import connect
from taskloom.cli.evals.reading import JobReference, read_runs
from taskloom.cli.output import JsonFlag, print_json, say
from taskloom.domain.errors import BadInput, Conflict, NotFound
from taskloom.domain.evaluation import EvalRun, Step
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.send import Client

EVERY = 1_000_000  # runs of one job, at most
STEPS_TOGETHER = 100  # in one record
BY_SUFFIX = {".eval": "inspect", ".json": "inspect-json", ".jsonl": "dataset", "": "verifiers"}


class Exported(msgspec.Struct, frozen=True):
    job: str
    file: str
    format: str
    runs: int


class Imported(msgspec.Struct, frozen=True):
    """`rows`: of a folder of Harbor's tasks, which become files instead of a job."""

    job: str = ""
    runs: int = 0
    rows: int = 0
    files: list[str] = []


def export(
    job: JobReference,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write.", show_default=False)],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="inspect, inspect-json, verifiers (a folder) or dataset (a row a run, for trainers); else as FILE ends.",
        ),
    ] = "",
    json: JsonFlag = False,
) -> None:
    """Write a job as a log of another system, or as data for a trainer."""
    from taskloom.evals.formats import FORMATS, write_log

    chosen = format or BY_SUFFIX.get(file.suffix.lower(), "")
    if chosen not in FORMATS:
        raise BadInput(f"format {chosen or file.suffix!r}: expected --format with one of {', '.join(FORMATS)}")
    with connect.server() as client:
        record = client.call(op.GET_JOB, job=connect.task_id(client, job))
        runs = read_runs(client, record.job.id, EVERY)
        whole = [(run, list(_steps(client, run))) for run in runs]
    try:
        write_log(file, record.job, whole, chosen)
    except ValueError as error:
        raise BadInput(str(error)) from None
    if json:
        print_json(Exported(record.job.id, str(file), chosen, len(whole)))
        return
    say(f"{file}: {len(whole)} runs of {record.job.name or record.job.id} ({chosen})")


def _steps(client: Client, run: EvalRun) -> Generator[Step]:
    start = 0
    while True:
        page = client.call(op.GET_STEPS, query=m.StepsQuery(start=start), run=run.id)
        yield from page.steps
        start = page.start + len(page.steps)
        if not page.steps or start >= page.total:
            return


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Inspect's .eval or .json, verifiers' results, or a folder of Harbor's tasks.",
            show_default=False,
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the job.", show_default=False)] = "",
    project: Annotated[str, typer.Option("--project", "-p", help="Project of the job.", show_default=False)] = "",
    json: JsonFlag = False,
) -> None:
    """Make a job of another system's log; or rows and an environment of a folder of Harbor's tasks."""
    if not file.exists():
        raise NotFound(f"{file}: there is no such file or folder")
    try:
        done = _import_tasks(file) if _holds_tasks(file) else _import_log(file, name, project)
    except ValueError as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(str(error)) from None
    if json:
        print_json(done)
    elif done.job:
        say(f"{done.job}: {done.runs} runs")
    else:
        say(
            f"{done.rows} tasks in {done.files[0]}, served by {done.files[-1]}; the environment runs in their images"
        )


def _holds_tasks(file: Path) -> bool:
    return file.is_dir() and ((file / "task.toml").is_file() or any(file.glob("*/task.toml")))


def _import_tasks(folder: Path) -> Imported:
    from taskloom.evals import Taskset
    from taskloom.evals.formats.harbor import read_harbor, write_environment

    rows = Taskset(folder.resolve().name, read_harbor(folder)).to_file(folder / "tasks.jsonl")
    try:
        source = write_environment(folder)
    except FileExistsError:
        source = folder / "environment.py"
    return Imported(rows=len(Taskset.from_file(rows)), files=[str(rows), str(source)])


def _import_log(file: Path, name: str, project: str) -> Imported:
    """By a journal, as if it had been run here; a log that is there already is refused."""
    from taskloom.evals.formats import read_log
    from taskloom.evals.naming import default_project
    from taskloom.evals.recording import JobRecorder

    log = read_log(file)
    job = msgspec.structs.replace(log.job, name=name or log.job.name or file.stem)
    with connect.server() as client:
        if _is_there(client, job.id):
            raise Conflict(f"{file} is on the server already: job {job.id}")
    recorder = JobRecorder.open(job, project=project or default_project(job.taskset or job.name), capture=False)
    recorder.store_job(job, {"imported from": file.name, "agent": job.agent or None, "model": job.model or None})
    for run, steps in log.runs:
        recorder.store_value(run)
        for start in range(0, len(steps), STEPS_TOGETHER):
            recorder.store_steps(run.id, run.job, start, steps[start : start + STEPS_TOGETHER])
    recorder.end("completed")
    recorder.hand_over()
    return Imported(job=job.id, runs=len(log.runs))


def _is_there(client: Client, job: str) -> bool:
    try:
        client.call(op.GET_JOB, job=job)
    except NotFound:
        return False
    return True

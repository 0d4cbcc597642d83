"""`taskloom eval list, show, trace, tasksets`: what the server has of evaluations."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, get_args

import msgspec
import typer

from taskloom.cli import connect
from taskloom.cli.evals.display import cost
from taskloom.cli.output import (
    JsonFlag,
    ago,
    duration,
    local_time,
    number,
    print_fields,
    print_json,
    print_json_line,
    print_table,
    say,
    short,
)
from taskloom.domain.errors import BadInput, NotFound
from taskloom.domain.evaluation import Boundary, EvalRun, RunStatus, Step, SubScore
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.send import Client

PAGE = 200
WIDTH = 160  # characters of an error in a table
_RUN = re.compile(r"[0-9a-f]{32}")

JobReference = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="Id, the beginning of an id (at least 4 characters), or PROJECT/NAME.",
        show_default=False,
    ),
]


def list_jobs(
    project: Annotated[str, typer.Option("--project", "-p", help="Only of this project.")] = "",
    taskset: Annotated[str, typer.Option("--taskset", help="Only of this taskset.")] = "",
    agent: Annotated[str, typer.Option("--agent", help="Only of this agent.")] = "",
    model: Annotated[str, typer.Option("--model", help="Only of this model.")] = "",
    search: Annotated[str, typer.Option("--search", help="A part of the name.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    json: JsonFlag = False,
) -> None:
    """List evaluation jobs, newest first."""
    query = m.JobQuery(project=project, taskset=taskset, agent=agent, model=model, search=search, limit=limit)
    with connect.server() as client:
        found = client.call(op.LIST_JOBS, query=query)
    if json:
        print_json(found)
        return
    columns = ["id", "status", "job", "taskset", "agent", "runs", "failed", "reward", "began"]
    rows = [
        (
            short(one.job.id),
            one.status,
            one.job.name,
            one.job.taskset,
            " ".join(filter(None, (one.job.agent, one.job.model))),
            f"{one.runs}/{one.job.expected}" if one.job.expected else one.runs,
            sum(one.failures.values()) or "",
            number(one.reward) if one.runs else "",
            ago(one.started or one.job.created),
        )
        for one in found.jobs
    ]
    narrowed = any((project, taskset, agent, model, search))
    empty = "no evaluation that fits" if narrowed else "no evaluation yet: taskloom eval SOURCE"
    print_table(columns, rows, empty=empty, right=["runs", "failed", "reward"])
    if found.total > len(found.jobs):
        say(f"{len(found.jobs)} of {found.total}; more with --limit", style="dim")


def show_job(
    job: JobReference,
    by_slug: Annotated[bool, typer.Option("--by-slug", help="A line for each task instead of each run.")] = False,
    slug: Annotated[str, typer.Option("--slug", "-s", help="Only the tries at this task.")] = "",
    status: Annotated[str, typer.Option("--status", help="running, completed, error or cancelled.")] = "",
    boundary: Annotated[
        str, typer.Option("--boundary", help="infrastructure, environment, agent or grader.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many runs.")] = 1000,
    json: JsonFlag = False,
) -> None:
    """Show a job with its runs."""
    _one_of("status", status, get_args(RunStatus))
    _one_of("boundary", boundary, get_args(Boundary)[1:])
    with connect.server() as client:
        record = client.call(op.GET_JOB, job=connect.task_id(client, job))
        runs = read_runs(client, record.job.id, limit, status=status, boundary=boundary, slug=slug)
    if json:
        print_json({"job": record, "runs": runs})
        return
    _show_record(record)
    print_table(
        *(_slug_rows(runs) if by_slug else _run_rows(runs)), empty="no run", right=["try", "runs", "reward"]
    )
    if record.runs > len(runs) and not (status or boundary or slug):
        say(f"{len(runs)} of {record.runs} runs; more with --limit", style="dim")


def _one_of(name: str, word: str, known: Sequence[str]) -> None:
    if word and word not in known:
        raise BadInput(f"{name} {word!r}: expected one of {', '.join(known)}")


def read_runs(
    client: Client, job: str, limit: int, *, status: str = "", boundary: str = "", slug: str = ""
) -> list[EvalRun]:
    """By position, page by page."""
    runs: list[EvalRun] = []
    while len(runs) < limit:
        query = m.RunQuery(
            status=status, boundary=boundary, slug=slug, limit=min(PAGE, limit - len(runs)), offset=len(runs)
        )
        page = client.call(op.LIST_RUNS, query=query, job=job)
        runs += page.runs
        if not page.runs or len(runs) >= page.total:
            break
    return runs


def _show_record(record: m.JobRecord) -> None:
    job = record.job
    counts = ", ".join(f"{name} {count}" for name, count in sorted(record.counts.items()))
    print_fields(
        [
            ("job", job.id),
            ("name", job.name),
            ("project", record.project),
            ("status", record.status),
            ("taskset", f"{job.taskset} (version {job.taskset_version})" if job.taskset_version else job.taskset),
            ("agent", " ".join(filter(None, (job.agent, job.model)))),
            ("trained by", job.trained_by),
            ("tries of each", job.group if job.group > 1 else ""),
            ("runs", f"{record.runs} of {job.expected}: {counts}" if job.expected else counts),
            ("failures", ", ".join(f"{name} {count}" for name, count in sorted(record.failures.items()))),
            ("reward", f"{number(record.reward)} (failures as 0)" if record.runs else ""),
            ("graded alone", number(record.graded) if record.failures and record.graded is not None else ""),
            ("began", local_time(record.started or job.created)),
            ("ended", local_time(record.completed)),
        ]
    )


def _run_rows(runs: list[EvalRun]) -> tuple[list[str], list[tuple[object, ...]]]:
    rows: list[tuple[object, ...]] = [
        (
            run.id,
            run.slug,
            run.status,
            "" if run.reward is None else number(run.reward),
            run.stop_reason,
            duration(run.ended - run.started) if run.ended and run.started else "",
            f"{run.boundary}: {run.error}".replace("\n", " ")[:WIDTH] if run.error else "",
        )
        for run in runs
    ]
    return ["id", "task", "status", "reward", "stopped", "time", "error"], rows


def _slug_rows(runs: list[EvalRun]) -> tuple[list[str], list[tuple[object, ...]]]:
    by_slug: defaultdict[str, list[EvalRun]] = defaultdict(list)
    for run in runs:
        by_slug[run.slug].append(run)
    rows: list[tuple[object, ...]] = []
    for slug, tries in by_slug.items():
        graded = [run.reward for run in tries if run.reward is not None]
        mean = number(sum(graded) / len(tries)) if graded else ""
        rows.append((slug, len(tries), len(graded), mean, " ".join(number(reward) for reward in graded[:10])))
    return ["task", "runs", "graded", "reward", "rewards"], rows


# --- a trace ----------------------------------------------------------------------------------------------


def show_trace(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Id of the run, or JOB:SLUG for its first try.", show_default=False),
    ],
    json: JsonFlag = False,
) -> None:
    """Show a run step by step; with --json a document for each step."""
    with connect.server() as client:
        found = _find_run(client, run)
        if not json:
            _show_run(found)
        start = 0
        while True:
            page = client.call(op.GET_STEPS, query=m.StepsQuery(start=start), run=found.id)
            for number_, step in enumerate(page.steps, page.start):
                if json:
                    print_json_line(step)
                else:
                    _show_step(number_, step)
            start = page.start + len(page.steps)
            if not page.steps or start >= page.total:
                break
        if not json:
            _show_end(found)


def _find_run(client: Client, reference: str) -> EvalRun:
    job, colon, slug = reference.partition(":")
    if colon:
        runs = client.call(
            op.LIST_RUNS, query=m.RunQuery(slug=slug, limit=1), job=connect.task_id(client, job)
        ).runs
        if not runs:
            raise NotFound(f"job {job} has no run of the task {slug!r}")
        return runs[0]
    if not _RUN.fullmatch(reference):
        raise BadInput(f"run {reference!r}: expected its id, 32 hexadecimal digits, or JOB:SLUG")
    return client.call(op.GET_RUN, run=reference)


def _show_run(run: EvalRun) -> None:
    print_fields(
        [
            ("run", run.id),
            ("job", run.job),
            ("task", f"{run.slug} ({run.env}/{run.template})"),
            ("agent", " ".join(filter(None, (run.agent, run.model)))),
            ("runtime", run.runtime),
            ("attempt", run.attempt if run.attempt > 1 else ""),
        ]
    )


def _show_step(place: int, step: Step) -> None:
    took = f"  {duration(step.ended - step.started)}" if step.ended and step.started else ""
    model = f"  {step.model}" if step.model else ""
    tokens = f"  {step.usage.prompt_tokens}+{step.usage.completion_tokens} tokens" if step.usage else ""
    cached = "  cached" if step.cached else ""
    say(f"\n[{place}] {step.source}{model}{took}{tokens}{cached}", style="bold")
    for line in step_lines(step):
        say(f"    {line}")


def step_lines(step: Step) -> list[str]:
    """What a step says, for people."""
    from taskloom.cli.terminal import plain_lines

    parts: list[str] = [f"{message.get('role', '')}: {_text(message.get('content'))}" for message in step.messages]
    if step.reasoning:
        parts.append(f"(thinks) {step.reasoning}")
    parts += [step.content] if step.content else []
    parts += [f"-> {call.name}({_json(call.arguments)})" for call in step.tool_calls]
    if step.call is not None:
        parts.append(f"{step.call.name}({_json(step.call.arguments)})")
    if step.result is not None:
        parts += [f"{'error: ' if step.result.is_error else ''}{_text(list(step.result.content))}"]
    if step.task_call is not None:
        call = step.task_call
        what = f"{call.name}({_json(call.arguments)})" if call.phase == "setup" else _json(call.result)
        parts.append(f"{call.phase}: {what}")
    if step.refusal:
        parts.append(f"refused: {step.refusal}")
    if step.error:
        parts.append(f"error: {step.error}")
    return [line for part in parts for line in plain_lines(part).splitlines()]


def _show_end(run: EvalRun) -> None:
    usage = run.usage
    say("")
    print_fields(
        [
            (
                "answer",
                run.answer if isinstance(run.answer, str) else "" if run.answer is None else _json(run.answer),
            ),
            ("status", run.status),
            ("stopped", run.stop_reason),
            ("reward", "" if run.reward is None else number(run.reward)),
            ("error", f"{run.boundary}: {run.error}" if run.error else ""),
            ("tokens", usage.prompt_tokens + usage.completion_tokens or ""),
            ("cost", cost(usage.cost_usd) if usage.cost_usd else ""),
        ]
    )
    if run.grade is not None:
        _show_scores(run.grade.subscores)


def _show_scores(scores: Sequence[SubScore], deep: int = 1) -> None:
    for score in scores:
        say(f"{'    ' * deep}{score.name}: {number(score.value)} (weight {number(score.weight)})")
        _show_scores(score.children, deep + 1)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_text(block) for block in content)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(content, dict) and "text" in content:
        return str(content["text"])  # pyright: ignore[reportUnknownArgumentType]
    return "" if content is None else _json(content)


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


# --- tasksets ---------------------------------------------------------------------------------------------


def list_tasksets(
    search: Annotated[str, typer.Option("--search", help="A part of the name.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 100,
    json: JsonFlag = False,
) -> None:
    """List the tasksets of the server."""
    with connect.server() as client:
        found = client.call(op.LIST_TASKSETS, query=m.TasksetQuery(search=search, limit=limit))
    if json:
        print_json(found)
        return
    rows = [
        (one.name, one.rows, one.version, ", ".join(one.facets), ago(one.changed), one.description)
        for one in found.tasksets
    ]
    columns = ["name", "tasks", "version", "columns", "changed", "description"]
    print_table(columns, rows, empty="no taskset yet: taskloom sync tasks NAME", right=["tasks", "version"])
    if found.total > len(found.tasksets):
        say(f"{len(found.tasksets)} of {found.total}; more with --limit", style="dim")

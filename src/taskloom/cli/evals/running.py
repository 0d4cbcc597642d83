"""`taskloom eval SOURCE` and `taskloom eval --resume JOB`: run a taskset, show how it goes, tell what came out.

Exit codes: 0 when every run was graded, 1 when some were not, 130 when it was interrupted. Ctrl-C takes down what runs and
leaves a job that can be resumed; a second one hurries that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from taskloom.cli import connect
from taskloom.cli.evals.display import Display, cost
from taskloom.cli.evals.words import (
    EXPECTED_AGENT,
    EXPECTED_RUNTIME,
    Wish,
    check_key,
    load_taskset,
    make_agent,
    make_limits,
    make_runtime,
    read_wish,
    script_of,
    whole_agent,
    whole_path,
    whole_runtime,
)
from taskloom.cli.output import JsonFlag, duration, number, print_fields, print_json, print_table, say
from taskloom.domain.errors import BadInput
from taskloom.domain.evaluation import EvalJob, Usage

if TYPE_CHECKING:
    from taskloom.evals.job import Job
    from taskloom.evals.taskset import Taskset

OK, SOME_FAILED, INTERRUPTED = 0, 1, 130
AT_ONCE = 30  # runs at a time, where nobody says
LEFT_PATIENCE = 1.0  # seconds that what agents left running has to end
SHOWN = 20  # slugs and errors in the tables at the end


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints at the end."""

    job: EvalJob
    status: str
    runs: int
    graded: int
    reward: float
    graded_reward: float | None
    failures: dict[str, int]
    usage: Usage
    seconds: float


def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A .py, .json or .jsonl file, a folder, or a taskset of the server.",
            show_default=False,
        ),
    ] = "",
    agent: Annotated[str, typer.Option("--agent", "-a", help=f"{EXPECTED_AGENT}.", show_default=False)] = "",
    model: Annotated[str, typer.Option("--model", "-m", help="The model of the agent.", show_default=False)] = "",
    runtime: Annotated[
        str,
        typer.Option("--runtime", "-r", help=f"{EXPECTED_RUNTIME}; else what is known of the rows decides."),
    ] = "",
    environment: Annotated[
        str,
        typer.Option(
            "--environment",
            "-e",
            metavar="PATH",
            help="Source of the rows' environments, a file or folder, where they do not know it.",
            show_default=False,
        ),
    ] = "",
    setup: Annotated[
        str, typer.Option("--setup", help="Shell lines that a worker runs before, such as pip install.")
    ] = "",
    secret: Annotated[
        list[str] | None, typer.Option("--secret", metavar="NAME", help="A secret for a worker; may be repeated.")
    ] = None,
    group: Annotated[int, typer.Option("--group", "-g", min=1, help="Tries of each task.")] = 1,
    max_concurrent: Annotated[
        int, typer.Option("--max-concurrent", "-c", min=1, help="Runs at a time.")
    ] = AT_ONCE,
    slug: Annotated[
        list[str] | None, typer.Option("--slug", "-s", help="Only this task; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Only the first so many tasks.")] = 0,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds of one run up to its answer.")] = 0,
    agent_timeout: Annotated[
        float, typer.Option("--agent-timeout", min=0, help="Seconds of the agent; its answer so far is graded.")
    ] = 0,
    max_steps: Annotated[int, typer.Option("--max-steps", min=0, help="Model calls of one run.")] = 0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=0, help="Tokens of one run.")] = 0,
    max_cost: Annotated[float, typer.Option("--max-cost", min=0, help="US dollars of one run.")] = 0,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="More attempts after failures of the infrastructure.")
    ] = 0,
    name: Annotated[str, typer.Option("--name", help="Name of the job.", show_default=False)] = "",
    project: Annotated[str, typer.Option("--project", "-p", help="Project of the job.", show_default=False)] = "",
    trained_by: Annotated[
        str,
        typer.Option(
            "--trained-by", metavar="TASK", help="The task that made the evaluated model.", show_default=False
        ),
    ] = "",
    version: Annotated[
        int, typer.Option("--version", min=0, help="Of a taskset of the server; by default the newest.")
    ] = 0,
    resume: Annotated[
        str, typer.Option("--resume", metavar="JOB", help="Go on with this job.", show_default=False)
    ] = "",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume: also runs that the agent failed.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Run a taskset under an agent, or go on with a job."""
    if resume:
        if source or agent or slug:
            raise typer.BadParameter("--resume takes everything else from the job: give nothing but JOB")
        raise typer.Exit(_resume(resume, retry_failed=retry_failed, json=json))
    if not source:
        raise typer.BadParameter("give a SOURCE: a file, a folder, or a taskset of the server")
    wish = Wish(
        source=whole_path(source),
        version=version,
        agent=whole_agent(agent),
        model=model,
        runtime=whole_runtime(runtime),
        environment=whole_path(environment),
        setup=setup,
        secrets=tuple(secret or ()),
        group=group,
        max_concurrent=max_concurrent,
        slugs=tuple(slug or ()),
        limit=limit,
        run_timeout=timeout,
        agent_timeout=agent_timeout,
        max_steps=max_steps,
        max_tokens=max_tokens,
        max_cost=max_cost,
        retries=retries,
        name=name,
        project=project,
        trained_by=_task(trained_by),
    )
    raise typer.Exit(_run(wish, "", json=json))


def _task(reference: str) -> str:
    if not reference:
        return ""
    with connect.server() as client:
        return connect.find_task(client, reference).id


def _resume(reference: str, *, retry_failed: bool, json: bool) -> int:
    from taskloom.evals.resume import wait_for_journal
    from taskloom.wire.operations import GET_JOB

    with connect.server() as client:
        identifier = connect.task_id(client, reference)
        wait_for_journal(identifier)
        found = client.call(GET_JOB, job=identifier)
    return _run(read_wish(found.job.spec), found.job.id, json=json, retry_failed=retry_failed)


def _run(wish: Wish, resume: str, *, json: bool, retry_failed: bool = False) -> int:
    taskset = load_taskset(wish)
    agent = make_agent(wish.agent, wish.model)
    check_key(agent, wish)
    provider = make_runtime(wish, taskset)
    run = _Evaluation(wish, taskset, agent, provider, resume, retry_failed=retry_failed)
    began = time.monotonic()
    runner = asyncio.Runner()
    try:
        code = runner.run(run.go())
    except BaseException as error:
        runner.close()
        if isinstance(error, ValueError | TypeError) and not isinstance(error, BadInput):
            raise BadInput(str(error)) from None  # of the API's calls: what was asked for does not go together
        raise
    assert run.job is not None
    _tell(run.job, run.status, time.monotonic() - began, json=json)
    if run.status == "aborted" and run.job.value.spec:  # without it no run had begun
        print(f"taskloom: go on with: taskloom eval --resume {run.job.id}", file=sys.stderr)
    _close(runner, code)
    return code


def _close(runner: asyncio.Runner, code: int) -> None:
    """End what agents left running. One that takes no notice of its end must not hold up that of the command."""
    loop = runner.get_loop()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left and loop.run_until_complete(asyncio.wait(left, timeout=LEFT_PATIENCE))[1]:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    runner.close()


class _Evaluation:
    """One command's run: the job, its display, and what Ctrl-C does."""

    def __init__(
        self, wish: Wish, taskset: Taskset, agent: Any, provider: Any, resume: str, *, retry_failed: bool
    ) -> None:
        self.wish, self.taskset, self.agent, self.provider = wish, taskset, agent, provider
        self.resume, self.retry_failed = resume, retry_failed
        self.job: Job | None = None
        self.status = "completed"
        self._signal = 0
        self._task: asyncio.Task[Any] | None = None

    async def go(self) -> int:
        from taskloom.evals.engine import title
        from taskloom.evals.job import Job

        wish = self.wish
        limits = make_limits(wish)
        if self.resume:
            job = await Job.resume(self.resume, retry_failed=self.retry_failed)
        else:
            name = wish.name or title(self.taskset.name, list(self.taskset), wish.group)
            job = await Job.start(
                name,
                wish.group,
                project=wish.project,
                taskset=self.taskset.name,
                trained_by=wish.trained_by,
                script=script_of(wish),
            )
        self.job = job
        total = len(self.taskset) * wish.group
        display = Display(job, total)
        self._watch_signals()
        try:
            with display:
                self._task = asyncio.ensure_future(
                    self.taskset.run(
                        self.agent,
                        self.provider,
                        wish.group,
                        wish.max_concurrent or None,
                        job,
                        limits=limits,
                        retries=wish.retries,
                        keep_traces=False,
                        progress=display.ended,
                        spec={"command": msgspec.to_builtins(wish)},
                    )
                )
                await self._task
        except asyncio.CancelledError:
            self.status = "aborted"
        except BaseException as error:
            await job.close("failed", reason=f"{type(error).__name__}: {error}")
            raise
        await job.close("aborted" if self.status == "aborted" else "completed", reason=self._reason())
        if self.status == "aborted":
            return INTERRUPTED if self._signal in {0, signal.SIGINT} else 128 + self._signal
        return OK if all(run.graded for run in job.runs) else SOME_FAILED

    def _reason(self) -> str:
        return "interrupted (Ctrl-C)" if self._signal == signal.SIGINT else "terminated" if self._signal else ""

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self._interrupted, one)

    def _interrupted(self, number: int) -> None:
        """The first one stops; another hurries what is being taken down."""
        first = not self._signal
        self._signal = number
        if first:
            print("taskloom: stopping; what runs is taken down (once more hurries)", file=sys.stderr)
        if self._task is not None:
            self._task.cancel()


# --- what came out ----------------------------------------------------------------------------------------


def outcome(job: Job, status: str, seconds: float) -> Outcome:
    runs = job.runs
    usage = Usage()
    for run in runs:
        usage = usage + run.trace.usage
    return Outcome(
        job=job.value,
        status=status,
        runs=len(runs),
        graded=sum(run.graded for run in runs),
        reward=job.reward,
        graded_reward=job.graded_reward,
        failures=dict(Counter(run.boundary or run.status for run in runs if run.status != "completed")),
        usage=usage,
        seconds=seconds,
    )


def _tell(job: Job, status: str, seconds: float, *, json: bool) -> None:
    found = outcome(job, status, seconds)
    if json:
        print_json(found)
        return
    _tell_slugs(job)
    _tell_errors(job)
    usage = found.usage
    tokens = usage.prompt_tokens + usage.completion_tokens
    graded = "" if found.graded_reward is None else number(found.graded_reward)
    print_fields(
        [
            ("job", job.id),
            ("status", status),
            ("runs", f"{found.runs} of {job.value.expected}, {found.graded} graded"),
            ("reward", f"{number(found.reward)} (failures as 0)"),
            ("graded alone", graded if found.graded != found.runs else ""),
            ("failures", ", ".join(f"{name} {count}" for name, count in sorted(found.failures.items()))),
            ("tokens", tokens or ""),
            ("cost", cost(usage.cost_usd) if usage.cost_usd else ""),
            ("time", duration(seconds)),
        ]
    )


def _tell_slugs(job: Job) -> None:
    rows = [
        (slug, len(runs), sum(run.graded for run in runs), number(sum(run.reward for run in runs) / len(runs)))
        for slug, runs in job.results.items()
    ]
    print_table(["task", "runs", "graded", "reward"], rows[:SHOWN], right=["runs", "graded", "reward"])
    if len(rows) > SHOWN:
        say(f"... and {len(rows) - SHOWN} more tasks: taskloom eval show {job.id} --by-slug", style="dim")


def _tell_errors(job: Job) -> None:
    """The kinds of failures, the most frequent first."""
    kinds = Counter(
        (run.boundary, run.error.partition("\n")[0].removesuffix("; its last lines:")[:200])
        for run in job.runs
        if run.error
    )
    if kinds:
        rows = [(boundary, count, text) for (boundary, text), count in kinds.most_common(SHOWN)]
        print_table(["boundary", "runs", "error"], rows, right=["runs"])

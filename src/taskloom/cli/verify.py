"""`taskloom task verify`: run a task again on a worker, or take a second run, and say whether the same came out.

Exit codes: 0 reproduced, 1 differs, 2 could not run, be compared, or was used wrongly. What is compared stands in
`domain.verification`; here is only how it is followed and shown.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Annotated

import typer

from taskloom.cli import connect
from taskloom.cli.connect import TaskReference
from taskloom.cli.follow import look, patiently, state_line
from taskloom.cli.main import FAILED, OK, WRONG_USAGE, report_error
from taskloom.cli.output import JsonFlag, ago, hint, print_json, say, screen, short
from taskloom.cli.terminal import plain
from taskloom.domain.errors import BadInput, TaskloomError
from taskloom.domain.status import ENDED, Status
from taskloom.domain.task import Task
from taskloom.domain.verification import (
    DIFFERS,
    REPRODUCED,
    Difference,
    Tolerance,
    Verification,
    read_verification,
)
from taskloom.sdk import verifying
from taskloom.wire.send import Client

LOOK = 1.0  # seconds between two looks at the run
CODES = {REPRODUCED: OK, DIFFERS: FAILED}
COLOURS = {REPRODUCED: "green", DIFFERS: "red"}
SHOWN = 40  # differences that the table shows


def verify_task(
    task: TaskReference,
    queue: Annotated[str, typer.Option("--queue", "-q", help="Where it runs; by default 'default'.")] = "",
    against: Annotated[
        str, typer.Option("--against", help="A second run that has ended, instead of a new one.")
    ] = "",
    rtol: Annotated[float, typer.Option("--rtol", min=0, help="Tolerance, of the first run's value.")] = 0.0,
    atol: Annotated[float, typer.Option("--atol", min=0, help="Tolerance, of all values.")] = 0.0,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="TITLE/SERIES or KIND:NAME with wildcards; repeat for more."),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait; 0 without end.")] = 0.0,
    json: JsonFlag = False,
) -> None:
    """Run a task again on a worker and compare: scalars point by point, digests, parameters. Exit code 0 reproduced,
    1 differs, 2 could not run.
    """
    if not (math.isfinite(rtol) and math.isfinite(atol)):
        raise typer.BadParameter("--rtol and --atol: expected finite numbers")
    tolerance = Tolerance(rtol, atol, tuple(ignore or ()))
    try:
        with connect.server() as client:
            code = _verify(client, task, queue, against, tolerance, timeout, json)
    except TaskloomError as error:  # 1 would say that the runs differ
        report_error(error, as_json=json)
        code = WRONG_USAGE
    raise typer.Exit(code)


def _verify(
    client: Client, task: str, queue: str, against: str, tolerance: Tolerance, timeout: float, json: bool
) -> int:
    original = connect.find_task(client, task)
    if against:
        other = connect.task_id(client, against)
        if other == original.id:
            raise BadInput("--against names the task itself: give another run")
    else:
        other = _run(client, original, queue, timeout, json)
        if not other:
            return WRONG_USAGE
    verification = verifying.compare(client, original.id, other, tolerance)
    if why := verifying.keep(client, verification):
        hint(f"the verdict could not be written to the tasks: {why}")
    if json:
        print_json(verification)
    else:
        show_verification(verification, original)
    return CODES.get(verification.verdict, WRONG_USAGE)


# --- the run ----------------------------------------------------------------------------------------------


def _run(client: Client, original: Task, queue: str, timeout: float, quiet: bool) -> str:
    """The id of the clone once it has ended; '' when it has not."""
    clone = verifying.run_again(client, original, queue)
    hint(f"task {clone.id} runs it again")
    deadline = time.monotonic() + timeout if timeout else float("inf")
    compare_later = f"`taskloom task verify {short(original.id)} --against {short(clone.id)}` compares it later"
    try:
        with _display(original, quiet) as show:
            while True:
                found = look(client, clone.id)
                if found.status in ENDED:
                    return clone.id
                if found.status is Status.DRAFT:
                    raise BadInput(f"task {clone.id} was taken out of its queue: nothing was verified")
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                show(found, patiently(lambda found=found: state_line(client, found)))
                time.sleep(min(LOOK, left))
    except KeyboardInterrupt:
        hint(f"task {clone.id} goes on; {compare_later}")
        raise
    hint(f"task {clone.id} is still {found.status.value} after {timeout:g} seconds; {compare_later}")
    return ""


@contextmanager
def _display(original: Task, quiet: bool) -> Generator[Callable[[Task, str], None]]:
    """A bar on a terminal, as long as the first run's iterations; a line for each change elsewhere."""
    told = ""

    def tell(_: Task, line: str) -> None:
        nonlocal told
        status = line.partition(" iteration")[0]  # not a line for every iteration
        if status != told and not quiet:
            hint(f"{time.strftime('%H:%M:%S')} {line}")
        told = status

    if quiet or not sys.stderr.isatty():
        yield tell
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    words = TextColumn("{task.description}", markup=False)
    with Progress(words, BarColumn(), TimeElapsedColumn(), console=screen(stderr=True), transient=True) as bar:
        line = bar.add_task("pending", total=None)

        def move(found: Task, text: str) -> None:
            last = original.last_iteration
            total = last + 1 if last is not None and last >= 0 else None
            done = found.last_iteration + 1 if found.last_iteration is not None else 0
            bar.update(line, description=plain(text), total=total, completed=done)

        yield move


# --- the verdict ------------------------------------------------------------------------------------------


def show_verification(told: Verification, original: Task) -> None:
    """The verdict, what was looked at, and the first place of each difference."""
    name = plain(f"{original.project}/{original.name}")
    say(f"{name}: {told.verdict}{f' ({plain(told.reason)})' if told.reason else ''}",
        style=COLOURS.get(told.verdict, "yellow"))  # fmt: skip
    seen = told.compared
    looked = [
        (seen.scalars, f"scalars with {seen.points} points"),
        (seen.parameters, "parameters"),
        (seen.configuration, "configuration objects"),
        (seen.artifacts, "artifacts"),
        (seen.models, "models"),
    ]
    words = ", ".join(f"{count} {what}" for count, what in looked if count) or "nothing but the end"
    within = f" within rtol {told.rtol:g}, atol {told.atol:g}" if told.rtol or told.atol else ""
    say(f"compared {words}{within}{f', {seen.ignored} ignored' if seen.ignored else ''}", style="dim")
    for one in seen.unknown:
        say(f"{plain(one)}: not compared, since nobody knows its bytes", style="yellow")
    if told.differences:
        say(f"\n{told.total} {'differs' if told.total == 1 else 'differ'}", style="bold")
    for one in told.differences[:SHOWN]:  # lines, since numbers in full do not fit the columns of a table
        say(f"{one.kind} {plain(one.name)}: {_first(one)}")
        if one.largest is not None:
            say(
                f"    {one.points} points differ, the largest distance is {one.largest!r} at {one.largest_at}",
                style="dim",
            )
    if told.total > SHOWN:
        say(f"... and {told.total - SHOWN} more; --json lists them", style="dim")


def _first(one: Difference) -> str:
    """Where it first differs, and both values there."""
    place = "" if one.iteration is None else f"at iteration {one.iteration} "
    if one.what == "value":
        return f"{place}{_value(one.first)} in the first run, {_value(one.second)} in the second"
    return f"{place}only the {'first' if one.what == 'missing' else 'second'} run has it"


def _value(value: float | str | None) -> str:
    """Numbers in full: they may differ in the last digit only. Digests by their beginning."""
    if isinstance(value, str):
        is_digest = len(value) == 64 and set(value) <= set("0123456789abcdef")
        return f"{value[:12]}..." if is_digest else value
    return "" if value is None else repr(value)


def verdict_line(task: Task) -> str:
    """What the task says of its last verification, from its own side; '' when there was none."""
    told = read_verification(task.runtime)
    if told is None:
        return ""
    others = f" by {short(told.by)}" if task.id == told.task else f", verifying {short(told.task)}"
    count = f", {told.total} differ" if told.total and told.verdict == DIFFERS else ""
    return f"{told.verdict}{others}{count} ({ago(told.when)})"

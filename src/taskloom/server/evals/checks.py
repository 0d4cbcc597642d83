"""What evaluations may hold: ids, sizes, finite numbers. Raises BadInput or TooLarge that names the thing.

Pure values: no database, no state. A record is looked at before anything of its batch is written, so that both
databases take it or neither does; whatever passes here can be stored by both and told as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from taskloom.domain.errors import BadInput, TooLarge
from taskloom.domain.evaluation import EvalJob, EvalRow, EvalRun, Grade, Step, SubScore, Usage
from taskloom.domain.intervals import LARGEST
from taskloom.domain.project import check_text
from taskloom.server.settings import MIB
from taskloom.wire.records import JobStored, Record, RunStored, StepsTaken

MAX_RUN = 32 * MIB  # bytes of a run, and of a job, as JSON; a journal takes records of 8 MiB
MAX_STEP = 32 * MIB  # bytes of one step as JSON
MAX_ROW = MIB  # bytes of a taskset's row
MAX_SLUG = 500  # characters of a slug, an environment's name
MAX_NAME = 256  # characters of the name of a job, a taskset, an agent, a model
MAX_COLUMN = 200  # characters of a column's name
MAX_COUNT = 2**31 - 1  # of attempts, of versions
MAX_NUMBER = 2**62  # of a position, a step
MAX_TIME = 1e12  # seconds since the epoch, or of a run
_ID = re.compile(r"[0-9a-f]{32}")
_json = msgspec.json.Encoder().encode


def check_record(number: int, record: Record, task_id: str) -> None:
    """A record of the journal of `task_id`. `number`: its place there, for the message."""
    try:
        if isinstance(record, JobStored):
            _check_job(record.job, task_id)
        elif isinstance(record, RunStored):
            check_run(record.run)
        elif isinstance(record, StepsTaken):
            _check_steps(record)
    except (BadInput, TooLarge) as error:
        raise type(error)(f"record {number}: {error.message}", **error.details) from None


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def check_id(text: str, what: str) -> str:
    if not is_id(text):
        raise BadInput(f"{what} {text[:80]!a}: expected 32 lower-case hexadecimal digits")
    return text


def check_run(run: EvalRun) -> None:
    check_id(run.id, "run")
    check_id(run.job, "job")
    _short(run.slug, "slug", MAX_SLUG)
    _short(run.env, "env", MAX_SLUG)
    for what, text in (("agent", run.agent), ("model", run.model), ("group", run.group)):
        _short(text, what, MAX_NAME)
    _whole(run.position, "position", 0, MAX_NUMBER)
    _whole(run.attempt, "attempt", 1, MAX_COUNT)
    _whole(run.steps, "steps", 0, MAX_NUMBER)
    for what, time in (("started", run.started), ("ended", run.ended)):
        _time(time, what)
    _check_usage(run.usage)
    if run.grade is not None:
        _check_grade(run.grade)
    check_size(run, "the run", MAX_RUN)


def check_size(value: Any, what: str, limit: int) -> int:
    """The value's bytes as JSON: what cannot be told as JSON is refused, too."""
    try:
        size = len(_json(value))
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeError) as error:
        raise BadInput(f"{what} cannot be stored: {str(error)[:200]}") from None
    if size > limit:
        raise TooLarge(f"{what} has {size} bytes; expected at most {limit}", limit=limit)
    return size


def check_job(job: EvalJob) -> None:
    check_id(job.id, "job")
    for what, text in (("name", job.name), ("taskset", job.taskset), ("agent", job.agent), ("model", job.model)):
        _short(text, what, MAX_NAME)
    if job.trained_by:
        check_id(job.trained_by, "trained_by")
    _whole(job.taskset_version, "taskset_version", 0, MAX_COUNT)
    _whole(job.group, "group", 1, MAX_COUNT)
    _whole(job.expected, "expected", 0, MAX_NUMBER)
    _time(job.created, "created")
    check_size(job, "the job", MAX_RUN)


def check_row(row: EvalRow) -> None:
    """A row of a taskset; the message names its slug."""
    what = f"row {row.slug[:80]!r}"
    for name, text in (("slug", row.slug), ("env", row.env), ("id", row.id)):
        if not text:
            raise BadInput(f"{what}: {name} is empty")
        check_text(_short(text, f"{what}: {name}", MAX_SLUG), f"{what}: {name}")
    for column in row.columns or ():
        _short(column, f"{what}: a column's name", MAX_COLUMN)
    check_size(row, what, MAX_ROW)


def check_slug(slug: str) -> None:
    _short(slug, "slug", MAX_SLUG)


def check_long(text: str, what: str, limit: int) -> None:
    if len(text) > limit:
        raise TooLarge(f"{what} has {len(text)} characters; expected at most {limit}", limit=limit)
    _short(text, what, limit)


def check_taskset_name(name: str) -> str:
    """A name as it is kept; one that looks like an id is refused, because both are accepted as addresses."""
    name = check_text(name.strip(), "taskset name")
    if not 1 <= len(name) <= MAX_NAME:
        raise BadInput(f"taskset name {name[:80]!r} has {len(name)} characters; expected 1 to {MAX_NAME}")
    if is_id(name):
        raise BadInput(f"taskset name {name}: 32 hexadecimal digits are an id; choose another name")
    return name


def check_share(value: float, what: str) -> float:
    if not 0 < value < 1:
        raise BadInput(f"{what} {value}: expected a number between 0 and 1, such as 0.95")
    return value


def check_finite(value: float, what: str) -> float:
    if not -LARGEST <= value <= LARGEST:
        raise BadInput(f"{what} {value}: expected a finite number of at most {LARGEST:g}")
    return value


def check_page(limit: int, offset: int, most: int) -> None:
    _whole(limit, "limit", 1, most)
    _whole(offset, "offset", 0, MAX_NUMBER)


# --- parts ------------------------------------------------------------------------------------------------


def _check_job(job: EvalJob, task_id: str) -> None:
    if job.id != task_id:
        raise BadInput(f"job {job.id[:80]!a}: expected the id of its task, {task_id}")
    check_job(job)


def _check_steps(record: StepsTaken) -> None:
    check_id(record.run, "run")
    check_id(record.job, "job")
    _whole(record.start, "start", 0, MAX_NUMBER - len(record.steps))
    for number, step in enumerate(record.steps, record.start):
        _check_step(step, f"step {number}")


def _check_step(step: Step, what: str) -> None:
    _time(step.started, f"{what}: started")
    _time(step.ended, f"{what}: ended")
    if step.usage is not None:
        _check_usage(step.usage)
    check_size(step, what, MAX_STEP)


def _check_usage(usage: Usage) -> None:
    for what in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        _whole(getattr(usage, what), what, 0, MAX_NUMBER)
    if not 0 <= usage.cost_usd <= MAX_TIME:
        raise BadInput(f"cost_usd {usage.cost_usd}: expected a finite number from 0 on")


def _check_grade(grade: Grade) -> None:
    check_finite(grade.reward, "reward")
    for score in _every(grade.subscores):
        check_finite(score.value, f"value of subscore {score.name[:80]!r}")
        check_finite(score.weight, f"weight of subscore {score.name[:80]!r}")


def _every(scores: tuple[SubScore, ...]) -> Iterator[SubScore]:
    waiting = list(scores)
    while waiting:
        score = waiting.pop()
        yield score
        waiting.extend(score.children)


def _short(text: str, what: str, limit: int) -> str:
    if len(text) > limit:
        raise BadInput(f"{what} {text[:40]!r} has {len(text)} characters; expected at most {limit}")
    if "\0" in text:
        raise BadInput(f"{what} {text[:80]!a} holds a NUL character")
    return text


def _whole(value: int, what: str, least: int, most: int) -> None:
    if not least <= value <= most:
        raise BadInput(f"{what} {value}: expected a whole number from {least} to {most}")


def _time(value: float, what: str) -> None:
    if not 0 <= value <= MAX_TIME:
        raise BadInput(f"{what} {value}: expected seconds since the epoch, or 0")

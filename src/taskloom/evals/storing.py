"""What a server takes of jobs, runs and steps, looked at before it is written down.

An agent is any function: it may leave anything in its trace. One value that no server takes would hold up the whole
journal, so what cannot be stored is reduced to what can, and says so in its place. The server checks the same again.
"""

from __future__ import annotations

import re
from typing import get_args

import msgspec

from taskloom.domain.evaluation import (
    Boundary,
    EvalJob,
    EvalRun,
    Grade,
    RunStatus,
    Step,
    StepSource,
    SubScore,
    Usage,
)
from taskloom.domain.intervals import LARGEST
from taskloom.wire.records import Record, RunStored, StepsTaken

MAX_SLUG = 500  # characters of a slug, of an environment's name
MAX_NAME = 256  # characters of the name of a job, a taskset, an agent, a model
MAX_ERROR = 100_000  # characters of an error, of which the beginning and the end stay
MAX_COUNT = 2**62
MAX_ATTEMPT = 2**31 - 1
MAX_TIME = 1e12
_ID = re.compile(r"[0-9a-f]{32}")

_encode = msgspec.msgpack.Encoder().encode
_as_json = msgspec.json.Encoder().encode
_decode = msgspec.msgpack.Decoder(RunStored | StepsTaken).decode


def storable_job(job: EvalJob) -> EvalJob:
    """With names that are short enough, and without a task that can be none."""
    names = {what: _short(getattr(job, what), MAX_NAME) for what in ("name", "taskset", "agent", "model")}
    trained_by = job.trained_by if _ID.fullmatch(job.trained_by) else ""
    return msgspec.structs.replace(job, trained_by=trained_by, **names)


def check(record: RunStored | StepsTaken) -> Record:
    """The record; ValueError or TypeError, with what is wrong, for one that no server takes."""
    _decode(_encode(record))  # types, and what no wire has
    _as_json(record)  # which every value is told as: its keys are texts or numbers
    if isinstance(record, RunStored):
        _check_run(record.run)
    else:
        for step in record.steps:
            _check_step(step)
    return record


def reduced_run(run: EvalRun, why: Exception) -> EvalRun:
    """What is left of a run that cannot be stored: where it stands, how it ended, its reward."""
    reward = getattr(run.grade, "reward", None)
    graded = isinstance(reward, float) and abs(reward) <= LARGEST
    return EvalRun(
        id=run.id,
        job=run.job,
        task=run.task,
        position=int(_number(run.position, MAX_COUNT)),
        group=run.group,
        slug=_short(run.slug, MAX_SLUG),
        env=_short(run.env, MAX_SLUG),
        template=_short(run.template, MAX_SLUG),
        status=run.status if run.status in get_args(RunStatus) else "error",
        boundary=run.boundary if run.boundary in get_args(Boundary) else "",
        error=_short(run.error, MAX_ERROR),
        grade=Grade(reward=reward) if graded and reward is not None else None,
        steps=int(_number(run.steps, MAX_COUNT)),
        attempt=max(1, int(_number(run.attempt, MAX_ATTEMPT))),
        agent=_short(run.agent, MAX_NAME),
        model=_short(run.model, MAX_NAME),
        runtime=_short(run.runtime, MAX_ERROR),
        started=_number(run.started, MAX_TIME),
        ended=_number(run.ended, MAX_TIME),
        extra={"not recorded": f"parts of this run cannot be recorded: {_reason(why)}"},
    )


def reduced_step(step: Step, why: Exception) -> Step:
    """In the place of a step that cannot be stored."""
    return Step(
        source=step.source if step.source in get_args(StepSource) else "system",
        error=f"this step cannot be recorded: {_reason(why)}",
    )


def _check_run(run: EvalRun) -> None:
    for what, text, most in (
        ("slug", run.slug, MAX_SLUG),
        ("env", run.env, MAX_SLUG),
        ("agent", run.agent, MAX_NAME),
        ("model", run.model, MAX_NAME),
    ):
        if len(text) > most or "\0" in text:
            raise ValueError(f"{what} {text[:40]!a}: expected at most {most} characters, and no NUL")
    for what, number, least, most in (
        ("position", run.position, 0, MAX_COUNT),
        ("attempt", run.attempt, 1, MAX_ATTEMPT),
        ("steps", run.steps, 0, MAX_COUNT),
    ):
        if not least <= number <= most:
            raise ValueError(f"{what} {number}: expected a whole number from {least} on")
    _check_usage(run.usage)
    _check_time(run.started)
    _check_time(run.ended)
    if run.grade is not None:
        _check_number(run.grade.reward, "reward")
        _check_scores(run.grade.subscores)


def _check_step(step: Step) -> None:
    _check_time(step.started)
    _check_time(step.ended)
    if step.usage is not None:
        _check_usage(step.usage)


def _check_usage(usage: Usage) -> None:
    for count in (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens):
        if not 0 <= count <= MAX_COUNT:
            raise ValueError(f"{count} tokens: expected 0 or more")
    if not 0 <= usage.cost_usd <= MAX_TIME:
        raise ValueError(f"cost {usage.cost_usd}: expected a finite number from 0 on")


def _check_scores(scores: tuple[SubScore, ...]) -> None:
    for score in scores:
        _check_number(score.value, f"value of {score.name[:80]!r}")
        _check_number(score.weight, f"weight of {score.name[:80]!r}")
        _check_scores(score.children)


def _check_number(value: float, what: str) -> None:
    if not -LARGEST <= value <= LARGEST:
        raise ValueError(f"{what} {value}: expected a finite number of at most {LARGEST:g}")


def _check_time(value: float) -> None:
    if not 0 <= value <= MAX_TIME:
        raise ValueError(f"time {value}: expected seconds since the epoch")


def _number(value: object, most: float) -> float:
    """The number, or 0 for what is none from 0 on."""
    return value if isinstance(value, int | float) and 0 <= value <= most else 0


def _short(text: object, most: int) -> str:
    """The text, or its beginning; without what no text on a wire has."""
    words = str(text).replace("\0", "\N{REPLACEMENT CHARACTER}")[:most]
    return words.encode("utf-8", "replace").decode("utf-8", "replace")


def _reason(why: Exception) -> str:
    return _short(f"{type(why).__name__}: {why}", 500)

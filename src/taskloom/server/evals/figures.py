"""What jobs come to: reports, comparisons and leaderboards, made by `domain.statistics` of the runs' columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import TooLarge
from taskloom.domain.evaluation import EvalJob, EvalRun, Figures
from taskloom.domain.statistics import compare, summarise
from taskloom.server.evals import store
from taskloom.wire.messages import (
    CompareQuery,
    JobComparison,
    JobReport,
    Leaderboard,
    LeaderboardEntry,
    LeaderboardQuery,
    ReportQuery,
)

MAX_RUNS = 500_000  # in one report, comparison or leaderboard
MAX_VALUES = 200  # of a column that gets figures of its own; the others come together
OTHERS = "(others)"
NOT_SET = "(not set)"


def report(tx: Connection, job: EvalJob, query: ReportQuery) -> JobReport:
    runs = _runs(tx, [job.id], columns=bool(query.column))
    figures = summarise(runs, threshold=query.threshold, level=query.level)
    return JobReport(
        job=job, figures=figures, by_column=_by_column(runs, query.column, query.threshold, query.level)
    )


def comparison(tx: Connection, first: EvalJob, second: EvalJob, query: CompareQuery) -> JobComparison:
    runs = [_runs(tx, [job.id], columns=False) for job in (first, second)]
    told = [
        JobReport(job=job, figures=_short(own, query.threshold, query.level))
        for job, own in zip((first, second), runs, strict=True)
    ]
    compared = compare(
        runs[0],
        runs[1],
        first_id=first.id,
        second_id=second.id,
        threshold=query.threshold,
        level=query.level,
        limit=query.limit,
    )
    return JobComparison(first=told[0], second=told[1], comparison=compared)


def leaderboard(tx: Connection, taskset: str, query: LeaderboardQuery) -> Leaderboard:
    """Agent and model of a run are its own; where it tells none, its job's."""
    jobs = store.jobs_on(tx, taskset, query.version)
    if query.newest:
        jobs = _newest(jobs)
    named = {job.id: job for job in jobs}
    entries: dict[tuple[str, str], list[EvalRun]] = {}
    for run in _runs(tx, list(named), columns=bool(query.column)):
        of = named[run.job]
        entries.setdefault((run.agent or of.agent, run.model or of.model), []).append(run)
    ranked = sorted(
        (_entry(agent, model, list(named), runs, query) for (agent, model), runs in entries.items()),
        key=lambda entry: (-_mean(entry.figures), entry.agent, entry.model),
    )
    return Leaderboard(taskset=taskset, version=query.version, entries=ranked[: query.limit])


def _newest(jobs: Sequence[store.Made]) -> list[store.Made]:
    """Of each agent and model the newest job. They come newest first."""
    kept: dict[tuple[str, str], store.Made] = {}
    for job in jobs:
        kept.setdefault((job.agent, job.model), job)
    return list(kept.values())


def _entry(
    agent: str, model: str, order: Sequence[str], runs: list[EvalRun], query: LeaderboardQuery
) -> LeaderboardEntry:
    own = {run.job for run in runs}
    return LeaderboardEntry(
        agent=agent,
        model=model,
        jobs=[job for job in order if job in own],
        figures=_short(runs, query.threshold, query.level),
        by_column=_by_column(runs, query.column, query.threshold, query.level),
    )


def _mean(figures: Figures) -> float:
    return figures.reward.mean if figures.reward is not None else float("-inf")


def _by_column(runs: Iterable[EvalRun], column: str, threshold: float, level: float) -> dict[str, Figures]:
    """Figures for each value of a column, the most frequent first; a text stands for itself, the rest as JSON."""
    if not column:
        return {}
    groups: dict[str, list[EvalRun]] = {}
    for run in runs:
        groups.setdefault(_value(run, column), []).append(run)
    ranked = sorted(groups, key=lambda value: (-len(groups[value]), value))
    kept = {value: groups[value] for value in ranked[:MAX_VALUES]}
    others = [run for value in ranked[MAX_VALUES:] for run in groups[value]]
    if others:
        kept[OTHERS] = others
    return {value: _short(own, threshold, level) for value, own in kept.items()}


def _short(runs: Sequence[EvalRun], threshold: float, level: float) -> Figures:
    """Figures without those of each eval task, which only the report of a job tells."""
    return msgspec.structs.replace(summarise(runs, threshold=threshold, level=level), by_slug=[])


def _value(run: EvalRun, column: str) -> str:
    value = run.columns.get(column)
    if value is None:
        return NOT_SET
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _runs(tx: Connection, job_ids: Sequence[str], *, columns: bool) -> list[EvalRun]:
    count = store.count_of(tx, job_ids)
    if count > MAX_RUNS:
        raise TooLarge(f"{count} runs; figures are made of at most {MAX_RUNS}", limit=MAX_RUNS)
    return store.outlines(tx, job_ids, columns=columns)

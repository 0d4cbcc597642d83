"""`taskloom eval report, leaderboard`: what jobs come to, with intervals, and beside one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from taskloom.cli import connect
from taskloom.cli.evals.display import cost
from taskloom.cli.evals.reading import JobReference
from taskloom.cli.output import JsonFlag, number, print_fields, print_json, print_table, say
from taskloom.domain.evaluation import Comparison, Estimate, Figures
from taskloom.wire import messages as m
from taskloom.wire import operations as op

SHOWN = 20  # slugs that differ most

ThresholdOption = Annotated[float, typer.Option("--threshold", help="A reward from it on is a pass.")]
LevelOption = Annotated[float, typer.Option("--level", min=0.5, max=0.999, help="Of the intervals.")]
ColumnOption = Annotated[str, typer.Option("--column", help="Also for each value of this column.")]


def report(
    job: JobReference,
    other: Annotated[str, typer.Argument(metavar="JOB", help="Another job to compare with.")] = "",
    threshold: ThresholdOption = 1.0,
    level: LevelOption = 0.95,
    column: ColumnOption = "",
    json: JsonFlag = False,
) -> None:
    """Report a job's figures with intervals, or compare two jobs on the tasks that both have."""
    with connect.server() as client:
        first = connect.task_id(client, job)
        if not other:
            found = client.call(
                op.REPORT_JOB, query=m.ReportQuery(threshold=threshold, level=level, column=column), job=first
            )
            if json:
                print_json(found)
            else:
                _show_figures({found.job.name or found.job.id: found.figures})
                if found.by_column:
                    say(f"\nby {column}", style="bold")
                    _show_figures(found.by_column)
            return
        query = m.CompareQuery(
            first=first, second=connect.task_id(client, other), threshold=threshold, level=level
        )
        both = client.call(op.COMPARE_JOBS, query=query)
    if json:
        print_json(both)
        return
    names = [both.first.job.name or "first", both.second.job.name or "second"]
    if names[0] == names[1]:
        names = [f"{name} {one.job.id[:8]}" for name, one in zip(names, (both.first, both.second), strict=True)]
    _show_figures(dict(zip(names, (both.first.figures, both.second.figures), strict=True)))
    _show_comparison(both.comparison, names)


def _show_figures(columns: Mapping[str, Figures]) -> None:
    """A column for each, a line for each figure that one of them has."""
    shown = {name: dict(_lines(figures)) for name, figures in columns.items()}
    lines = list(dict.fromkeys(line for lines in shown.values() for line in lines))
    rows = [(line, *(shown[name].get(line, "") for name in shown)) for line in lines]
    print_table(["", *shown], rows, right=shown)


def _lines(figures: Figures) -> list[tuple[str, str]]:
    usage = figures.usage
    tokens = usage.prompt_tokens + usage.completion_tokens
    lines = [
        ("runs", str(figures.runs)),
        ("tasks", str(figures.slugs)),
        ("runs that count", str(figures.counted)),
        ("reward", estimate(figures.reward)),
        ("reward, failures as 0", number(figures.reward_all)),
        ("reward, graded alone", number(figures.graded)),
        *((f"pass@{k}", estimate(value)) for k, value in sorted(figures.pass_at.items())),
        *((f"pass^{k}", estimate(value)) for k, value in sorted(figures.pass_all.items()) if k > 1),
        *((f"failed: {name}", str(count)) for name, count in sorted(figures.failures.items()) if count),
        ("cancelled", str(figures.cancelled) if figures.cancelled else ""),
        ("running", str(figures.running) if figures.running else ""),
        ("seconds", estimate(figures.seconds)),
        ("tokens", str(tokens) if tokens else ""),
        ("cost", cost(usage.cost_usd) if usage.cost_usd else ""),
    ]
    return [(name, value) for name, value in lines if value]


def estimate(value: Estimate | None) -> str:
    """`0.52 (0.41 to 0.63)`."""
    if value is None:
        return ""
    if value.low is None or value.high is None:
        return number(round(value.mean, 4))
    return f"{number(round(value.mean, 4))} ({number(round(value.low, 4))} to {number(round(value.high, 4))})"


def _show_comparison(comparison: Comparison, names: list[str]) -> None:
    said = {} if comparison.p_value is None else {"p-value": f"{comparison.p_value:.4g} ({comparison.method})"}
    print_fields(
        [
            ("tasks that both have", comparison.paired),
            ("difference", estimate(comparison.difference)),
            *said.items(),
            ("better, worse, equal", f"{comparison.better}, {comparison.worse}, {comparison.equal}"),
            (f"only in {names[0]}", len(comparison.only_first) or ""),
            (f"only in {names[1]}", len(comparison.only_second) or ""),
        ],
        title=f"{names[1]} minus {names[0]}",
    )
    rows = [
        (one.slug, number(one.first), number(one.second), f"{one.difference:+.4g}")
        for one in comparison.slugs[:SHOWN]
        if one.difference
    ]
    if rows:
        print_table(["task", *names, "difference"], rows, right=[*names, "difference"])


def leaderboard(
    taskset: Annotated[str, typer.Argument(metavar="TASKSET", help="Name of the taskset.", show_default=False)],
    version: Annotated[int, typer.Option("--version", min=0, help="Only jobs of this version; 0: all.")] = 0,
    column: ColumnOption = "",
    every: Annotated[bool, typer.Option("--all", help="All jobs of an agent, not the newest alone.")] = False,
    threshold: ThresholdOption = 1.0,
    level: LevelOption = 0.95,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many entries.")] = 100,
    json: JsonFlag = False,
) -> None:
    """Rank agents and models on a taskset."""
    query = m.LeaderboardQuery(
        taskset=taskset,
        version=version,
        column=column,
        newest=not every,
        threshold=threshold,
        level=level,
        limit=limit,
    )
    with connect.server() as client:
        found = client.call(op.LEADERBOARD, query=query)
    if json:
        print_json(found)
        return
    values = list(dict.fromkeys(value for entry in found.entries for value in entry.by_column))
    rows = [
        (
            place,
            entry.agent,
            entry.model,
            estimate(entry.figures.reward),
            entry.figures.counted,
            *(estimate(_reward(entry.by_column.get(value))) for value in values),
        )
        for place, entry in enumerate(found.entries, 1)
    ]
    columns = ["", "agent", "model", "reward", "runs", *values]
    print_table(columns, rows, empty=f"no job on {taskset!r} yet", right=["", "reward", "runs", *values])


def _reward(figures: Figures | None) -> Estimate | None:
    return None if figures is None else figures.reward

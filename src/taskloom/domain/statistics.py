"""Figures of runs: what a job comes to, and how two jobs differ. Formulas, reasons and doubts: docs, statistics.

Here is decided which runs count; the numbers are made in `intervals` and `permutation`. A run ended in one of five
ways, and each is told apart:

    graded                       counts with its reward, also where the agent failed after its answer
    the agent failed, no grade   counts with the reward 0; so does one that ran into a limit of its own
    other failures, no grade     excluded, by boundary; "ungraded": ended well without a grade; "unknown": no boundary
    cancelled                    apart, whatever it has
    running                      apart
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from taskloom.domain.evaluation import (
    Comparison,
    Estimate,
    EvalRun,
    Figures,
    SlugDifference,
    SlugFigures,
    Usage,
)
from taskloom.domain.intervals import LARGEST, cluster_estimate, mean_estimate
from taskloom.domain.permutation import sign_flip

CLOSE = 1e-9  # below the threshold, and still a pass: sums of weights round
EQUAL = 1e-12  # differences up to this are none

UNGRADED = "ungraded"
UNKNOWN = "unknown"

RUNNING = "running"
CANCELLED = "cancelled"
COUNTED = "counted"


def standing(run: EvalRun) -> tuple[str, float | None]:
    """How a run counts: COUNTED with its reward; RUNNING, CANCELLED, or why it is excluded, without one."""
    if run.status in (RUNNING, CANCELLED):
        return run.status, None
    grade = run.grade
    if grade is not None:
        # An untold size: NaN and infinity, which a file may hold, compare false.
        return (
            (COUNTED, grade.reward)
            if not grade.is_error and -LARGEST <= grade.reward <= LARGEST
            else ("grader", None)
        )
    if run.boundary == "agent" or (not run.boundary and run.stop_reason not in ("", "done")):
        return COUNTED, 0.0
    if run.boundary:
        return run.boundary, None
    return (UNKNOWN if run.status == "error" else UNGRADED), None


def summarise(runs: Sequence[EvalRun], *, threshold: float = 1.0, level: float = 0.95) -> Figures:
    """The figures of one job's runs, each id once. threshold: a reward from it on is a pass. level: of the intervals.

    Slugs stand in the order of their first run. ValueError for a threshold or level that is none.
    """
    _check(threshold, level)
    counted: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    tries: dict[str, int] = {}
    excluded: dict[str, int] = {}
    failures: dict[str, int] = {}
    graded: list[float] = []
    for run in runs:
        slug = run.slug
        tries[slug] = tries.get(slug, 0) + 1
        how, reward = standing(run)
        if run.status == "error":
            boundary = run.boundary or UNKNOWN
            failures[boundary] = failures.get(boundary, 0) + 1
        if reward is None:
            excluded[how] = excluded.get(how, 0) + 1
            continue
        counted.setdefault(slug, []).append(reward)
        if run.grade is not None:
            graded.append(reward)
        if 0.0 < run.started <= run.ended <= LARGEST:
            seconds.setdefault(slug, []).append(run.ended - run.started)
    running, cancelled = excluded.pop(RUNNING, 0), excluded.pop(CANCELLED, 0)
    least = threshold - CLOSE * max(1.0, abs(threshold))
    by_slug = [_slug_figures(slug, count, counted.get(slug, ()), least) for slug, count in tries.items()]
    pairs = Counter((one.counted, one.passed) for one in by_slug if one.counted)
    ended, number = len(runs) - running, sum(map(len, counted.values()))
    numbers = _numbers_of_tries(pairs)
    return Figures(
        runs=len(runs),
        slugs=len(tries),
        counted=number,
        excluded=excluded,
        failures=failures,
        cancelled=cancelled,
        running=running,
        threshold=threshold,
        reward=cluster_estimate(list(counted.values()), level),
        reward_all=math.fsum(graded) / ended if ended else 0.0,
        graded=math.fsum(graded) / len(graded) if graded else None,
        pass_at={k: _of_tries(pairs, k, level, _pass_at) for k in numbers},
        pass_all={k: _of_tries(pairs, k, level, _pass_all) for k in numbers},
        usage=sum_usage(runs),
        seconds=cluster_estimate(list(seconds.values()), level, most=math.inf),
        by_slug=by_slug,
    )


def compare(
    first: Sequence[EvalRun],
    second: Sequence[EvalRun],
    *,
    first_id: str,
    second_id: str,
    threshold: float = 1.0,
    level: float = 0.95,
    limit: int = 100,
) -> Comparison:
    """Two jobs on the slugs with runs that count in both: mean over the tries of each, second minus first.

    limit: of the slugs that are listed with their difference, those that differ most. threshold: only checked, so that
    it can be given as to `summarise`; what is compared are rewards.
    """
    _check(threshold, level)
    left, right = _mean_by_slug(first), _mean_by_slug(second)
    both = [slug for slug in left if slug in right]
    differences = [_difference(left[slug], right[slug]) for slug in both]
    shares = all(0.0 <= means[slug] <= 1.0 for means in (left, right) for slug in both)
    widest = 1.0 if shares else math.inf  # two shares differ by no more
    p_value, method = sign_flip(differences) if differences else (None, "no eval task in both")
    better = sum(value > 0.0 for value in differences)
    worse = sum(value < 0.0 for value in differences)
    differing = [pair for pair in zip(both, differences, strict=True) if pair[1]]
    differing.sort(key=lambda pair: (-abs(pair[1]), pair[0]))
    return Comparison(
        first=first_id,
        second=second_id,
        paired=len(both),
        difference=mean_estimate(differences, level, -widest, widest),
        p_value=p_value,
        method=method,
        better=better,
        worse=worse,
        equal=len(both) - better - worse,
        slugs=[
            SlugDifference(slug=slug, first=left[slug], second=right[slug], difference=value)
            for slug, value in differing[: max(0, limit)]
        ],
        only_first=[slug for slug in left if slug not in right],
        only_second=[slug for slug in right if slug not in left],
    )


def sum_usage(runs: Iterable[EvalRun]) -> Usage:
    """Tokens and money of all runs, also those that do not count: they were paid for."""
    prompt = completion = cached = 0
    cost: list[float] = []
    for run in runs:
        usage = run.usage
        prompt += usage.prompt_tokens
        completion += usage.completion_tokens
        cached += usage.cached_tokens
        if usage.cost_usd and -LARGEST <= usage.cost_usd <= LARGEST:
            cost.append(usage.cost_usd)
    return Usage(prompt, completion, cached, math.fsum(cost))


def _check(threshold: float, level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level {level}: expected a number between 0 and 1, as 0.95")
    if not math.isfinite(threshold):
        raise ValueError(f"threshold {threshold}: expected a finite number")


def _slug_figures(slug: str, runs: int, rewards: Sequence[float], least: float) -> SlugFigures:
    count = len(rewards)
    if count == 1:
        return SlugFigures(slug=slug, runs=runs, counted=1, passed=int(rewards[0] >= least), mean=rewards[0])
    if not count:
        return SlugFigures(slug=slug, runs=runs, counted=0, passed=0)
    mean = math.fsum(rewards) / count
    alike = min(rewards) == max(rewards)
    deviation = 0.0 if alike else math.sqrt(math.fsum((one - mean) ** 2 for one in rewards) / (count - 1))
    passed = sum(reward >= least for reward in rewards)
    return SlugFigures(slug=slug, runs=runs, counted=count, passed=passed, mean=mean, deviation=deviation)


# --- passes of several tries ------------------------------------------------------------------------------------

Tries = tuple[int, int]  # at one eval task: those that count, those that passed


def _numbers_of_tries(pairs: Counter[Tries]) -> list[int]:
    """1, 2, 4, 8, ... and the most, n. A k counts as long as at least half the eval tasks have as many tries: what the
    few come to that were tried oftener says nothing of the set."""
    most, reached = 0, 0
    for (count, _), slugs in sorted(pairs.items(), reverse=True):
        most, reached = count, reached + slugs
        if 2 * reached >= pairs.total():
            break
    return sorted({most, *(2**power for power in range(most.bit_length()))}) if most else []


def _of_tries(pairs: Counter[Tries], k: int, level: float, share: Callable[[int, int, int], float]) -> Estimate:
    shares = [(share(*pair, k), slugs) for pair, slugs in pairs.items() if pair[0] >= k]
    estimate = mean_estimate([value for value, slugs in shares for _ in range(slugs)], level)
    assert estimate is not None  # k is one of `_numbers_of_tries`, which some eval task reaches
    return estimate


def _pass_at(count: int, passed: int, k: int) -> float:
    """Chance that k tries, drawn from those made, hold a pass."""
    return 1.0 - _pass_all(count, count - passed, k)


def _pass_all(count: int, passed: int, k: int) -> float:
    """Chance that k tries, drawn from those made, are all passes: C(passed, k) / C(count, k)."""
    return math.comb(passed, k) / math.comb(count, k)


# --- pairs ------------------------------------------------------------------------------------------------------


def _mean_by_slug(runs: Sequence[EvalRun]) -> dict[str, float]:
    counted: dict[str, list[float]] = {}
    for run in runs:
        reward = standing(run)[1]
        if reward is not None:
            counted.setdefault(run.slug, []).append(reward)
    return {slug: math.fsum(rewards) / len(rewards) for slug, rewards in counted.items()}


def _difference(first: float, second: float) -> float:
    difference = second - first
    return 0.0 if abs(difference) <= EQUAL * max(1.0, abs(first), abs(second)) else difference

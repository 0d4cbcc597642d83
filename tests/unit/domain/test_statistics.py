"""Figures of runs against formulas written out here, against scipy, and against simulated jobs whose truth is known."""

from __future__ import annotations

import itertools
import math
import random

import msgspec
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.domain.eval_runs import failed, graded, job

from taskloom.domain.evaluation import Estimate, EvalRun, Figures, Grade, Usage
from taskloom.domain.intervals import cluster_estimate, incomplete_beta, t_quantile, two_sided
from taskloom.domain.permutation import ENUMERATED, MANY, sign_flip
from taskloom.domain.statistics import compare, summarise

# --- Student's t ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 29, 100, 9_999, 10_001, 1_000_000])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.999, 0.999999])
def test_the_quantile_of_t_is_scipys(freedom: int, level: float):
    assert t_quantile(freedom, level) == pytest.approx(scipy.stats.t.ppf(0.5 + level / 2, freedom), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.5, 1e4), st.floats(0.5, 1e4), st.floats(0.0, 1.0))
def test_the_incomplete_beta_function_is_scipys(a: float, b: float, x: float):
    assert incomplete_beta(a, b, x) == pytest.approx(scipy.special.betainc(a, b, x), rel=1e-8, abs=1e-12)


def test_tails_of_t_are_scipys():
    for t, freedom in itertools.product([0.0, 0.3, 2.0, 40.0], [1, 5, 1000]):
        assert two_sided(t, freedom) == pytest.approx(2 * scipy.stats.t.sf(t, freedom), rel=1e-9)


@pytest.mark.parametrize(("freedom", "level"), [(0, 0.95), (3, 0.0), (3, 1.0)])
def test_no_quantile_without_freedom_or_level(freedom: int, level: float):
    with pytest.raises(ValueError, match="expected 1 degree of freedom"):
        t_quantile(freedom, level)


# --- which runs count -------------------------------------------------------------------------------------------


def test_each_way_to_end_is_told_apart():
    figures = summarise(
        [
            graded("a", 1.0),
            graded("a", 0.5),
            failed("b", "agent"),
            failed("b", "", stop_reason="timeout"),
            failed("c", "infrastructure"),
            failed("c", "environment"),
            failed("c", "grader"),
            failed("c", ""),
            EvalRun(id="1", job="j", slug="d", status="completed"),
            EvalRun(id="2", job="j", slug="d", status="cancelled", grade=Grade(reward=1.0)),
            EvalRun(id="3", job="j", slug="e"),
        ]
    )
    assert (figures.runs, figures.slugs, figures.counted) == (11, 5, 4)
    assert figures.excluded == {"infrastructure": 1, "environment": 1, "grader": 1, "unknown": 1, "ungraded": 1}
    assert figures.failures == {"agent": 1, "unknown": 2, "infrastructure": 1, "environment": 1, "grader": 1}
    assert (figures.cancelled, figures.running) == (1, 1)
    assert figures.reward is not None
    assert figures.reward.mean == pytest.approx(1.5 / 4)
    assert figures.reward_all == pytest.approx(1.5 / 10)  # all that ended, failures and cancelled ones as 0
    assert figures.graded == pytest.approx(0.75)
    assert [(one.slug, one.runs, one.counted) for one in figures.by_slug] == [
        ("a", 2, 2),
        ("b", 2, 2),
        ("c", 4, 0),
        ("d", 2, 0),
        ("e", 1, 0),
    ]


def test_a_grade_counts_although_its_agent_failed():
    run = msgspec.structs.replace(failed("a", "agent"), grade=Grade(reward=0.25))
    figures = summarise([run])
    assert (figures.counted, figures.graded, figures.failures) == (1, 0.25, {"agent": 1})


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf, 1e200])
def test_a_reward_that_is_no_number_is_the_graders_failure(reward: float):
    figures = summarise([graded("a", reward), graded("a", 1.0)])
    assert (figures.counted, figures.excluded, figures.reward_all) == (1, {"grader": 1}, 0.5)


def test_a_grade_that_is_an_error_is_the_graders_failure():
    run = EvalRun(id="1", job="j", slug="a", status="error", grade=Grade(reward=1.0, is_error=True))
    assert summarise([run]).excluded == {"grader": 1}


# --- means and intervals ----------------------------------------------------------------------------------------


def test_one_try_each_is_the_usual_t_interval():
    values = [0.1, 0.4, 0.35, 0.8, 0.6]
    reward = summarise(job({str(i): [value] for i, value in enumerate(values)})).reward
    assert reward is not None
    low, high = scipy.stats.t.interval(0.95, 4, scipy.stats.tmean(values), scipy.stats.sem(values))
    assert (reward.mean, reward.stderr) == pytest.approx((0.45, scipy.stats.sem(values)))
    assert (reward.low, reward.high) == pytest.approx((low, high))


def test_as_many_tries_each_is_the_interval_of_the_slugs_means():
    tries = {"a": [0.0, 1.0, 1.0], "b": [0.0, 0.0, 1.0], "c": [1.0, 1.0, 1.0], "d": [0.0, 0.0, 0.0]}
    reward = summarise(job(tries)).reward
    assert reward is not None
    assert reward.stderr == pytest.approx(scipy.stats.sem([2 / 3, 1 / 3, 1.0, 0.0]))


def test_repeating_every_try_makes_no_interval_narrower():
    once = {str(i): [float(i % 3 == 0)] for i in range(30)}
    often = {slug: tries * 50 for slug, tries in once.items()}
    first, second = summarise(job(once)).reward, summarise(job(often)).reward
    assert first is not None
    assert second is not None
    assert (first.mean, first.stderr, first.low) == pytest.approx((second.mean, second.stderr, second.low))


def test_no_runs_give_no_figures():
    figures = summarise([])
    assert (figures.reward, figures.graded, figures.reward_all, figures.pass_at) == (None, None, 0.0, {})


@pytest.mark.parametrize("rewards", [{"a": [0.5]}, {"a": [0.5, 0.7, 0.1]}])
def test_one_slug_has_a_mean_and_no_interval(rewards: dict[str, list[float]]):
    reward = summarise(job(rewards)).reward
    assert reward is not None
    assert reward.mean == pytest.approx(sum(rewards["a"]) / len(rewards["a"]))
    assert (reward.stderr, reward.low, reward.high) == (None, None, None)


def test_where_all_pass_the_interval_is_the_exact_binomial_one():
    reward = summarise(job({str(i): [1.0, 1.0] for i in range(10)})).reward
    assert reward is not None
    exact = scipy.stats.binomtest(10, 10).proportion_ci(0.95, method="exact")
    assert (reward.stderr, reward.low, reward.high) == pytest.approx((0.0, exact.low, exact.high))
    none = summarise(job({str(i): [0.0] for i in range(10)})).reward
    assert none is not None
    assert (none.low, none.high) == pytest.approx((0.0, 1 - exact.low))


def test_equal_rewards_make_no_spread_by_rounding():
    reward = summarise(job({str(i): [0.1] * 3 for i in range(7)})).reward
    assert reward is not None
    assert (reward.mean, reward.stderr, reward.low, reward.high) == (0.1, 0.0, 0.1, 0.1)


def test_an_interval_leaves_0_to_1_only_where_rewards_do():
    shares = cluster_estimate([[1.0], [1.0], [0.0]])
    points = cluster_estimate([[2.0], [1.0], [0.0]])
    assert shares is not None
    assert points is not None
    assert (shares.low, shares.high) == (0.0, 1.0)
    assert points.high is not None
    assert points.high > 2.0


@pytest.mark.parametrize(("tries", "likely"), [(1, 0.3), (4, 0.5), (4, 0.8)])
def test_the_interval_covers_the_truth_as_often_as_it_says(tries: int, likely: float):
    """Eval tasks differ in how hard they are; the truth is the mean over all that might have been drawn."""
    generator, covered, jobs = random.Random(7), 0, 800
    for _ in range(jobs):
        clusters: list[list[float]] = []
        for _ in range(40):
            chance = generator.betavariate(2 * likely, 2 * (1 - likely))
            clusters.append([float(generator.random() < chance) for _ in range(tries)])
        estimate = cluster_estimate(clusters)
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= likely <= estimate.high
    assert 0.925 <= covered / jobs <= 0.975


# --- passes -----------------------------------------------------------------------------------------------------


def test_pass_at_and_pass_all_are_the_shares_of_all_draws():
    """Against enumeration: every way to draw k of the tries."""
    tries = {"a": [1.0, 0.0, 0.0, 1.0, 0.0], "b": [0.0] * 5, "c": [1.0] * 5, "d": [1.0, 1.0, 1.0, 0.0, 1.0]}
    figures = summarise(job(tries))
    assert list(figures.pass_at) == [1, 2, 4, 5]
    for k in figures.pass_at:
        draws = [list(itertools.combinations(rewards, k)) for rewards in tries.values()]
        some = [sum(any(draw) for draw in one) / len(one) for one in draws]
        every = [sum(all(draw) for draw in one) / len(one) for one in draws]
        assert figures.pass_at[k].mean == pytest.approx(sum(some) / 4)
        assert figures.pass_all[k].mean == pytest.approx(sum(every) / 4)
        assert figures.pass_at[k].stderr == pytest.approx(scipy.stats.sem(some))


def test_only_tasks_with_k_tries_say_something_of_k():
    figures = summarise(job({"a": [1.0, 0.0, 0.0], "b": [1.0], "c": [0.0, 0.0, 0.0]}))
    assert list(figures.pass_at) == [1, 2, 3]
    assert figures.pass_at[1].mean == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert figures.pass_at[3].mean == pytest.approx(0.5)


def test_a_k_that_few_tasks_reach_is_not_told():
    tries = {str(i): [1.0, 0.0] for i in range(9)} | {"often": [1.0] * 50}
    assert list(summarise(job(tries)).pass_at) == [1, 2]


def test_the_threshold_makes_a_pass():
    runs = job({"a": [0.5, 0.7], "b": [0.49, 0.1 + 0.2 + 0.2 - 1e-12]})
    assert [one.passed for one in summarise(runs, threshold=0.5).by_slug] == [2, 1]
    assert [one.passed for one in summarise(runs).by_slug] == [0, 0]


def test_time_and_usage_are_summed_of_what_tells_them():
    one = graded("a", 1.0, started=10.0, ended=14.0, usage=Usage(1, 2, 3, 0.5))
    other = graded("b", 1.0, started=10.0, ended=12.0, usage=Usage(10, 20, 30, 0.25))
    lost = failed("c", "infrastructure", started=10.0, ended=900.0, usage=Usage(100, 0, 0, 0.0))
    figures = summarise([one, other, lost, graded("d", 1.0)])
    assert figures.usage == Usage(111, 22, 33, 0.75)
    assert figures.seconds is not None
    assert figures.seconds.mean == 3.0


def test_times_below_a_second_are_no_shares():
    def took(*seconds: float) -> Estimate:
        runs = [graded(str(n), 1.0, started=10.0, ended=10.0 + one) for n, one in enumerate(seconds)]
        estimate = summarise(runs).seconds
        assert estimate is not None
        return estimate

    spread = took(0.25, 0.75)
    assert (spread.mean, spread.low) == (0.5, 0.0)
    assert spread.high == pytest.approx(0.5 + 12.7062 * 0.25, rel=1e-4)
    assert (took(1.0, 1.0).low, took(1.0, 1.0).high) == (1.0, 1.0)


@pytest.mark.parametrize("wrong", [{"level": 1.0}, {"level": 0.0}, {"threshold": math.nan}])
def test_a_wrong_level_or_threshold_says_what_was_expected(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="expected"):
        summarise([], **wrong)
    with pytest.raises(ValueError, match="expected"):
        compare([], [], first_id="a", second_id="b", **wrong)


Runs = st.lists(
    st.builds(
        lambda slug, reward, how: (
            graded(slug, reward)
            if how == "graded"
            else EvalRun(id="1", job="j", slug=slug, status=how)
            if how in ("running", "cancelled", "completed")
            else failed(slug, how)
        ),
        st.sampled_from("abcdef"),
        st.one_of(st.sampled_from([0.0, 0.1, 1.0, -3.0]), st.floats()),
        st.sampled_from(
            ["graded", "graded", "agent", "grader", "infrastructure", "", "running", "cancelled", "completed"]
        ),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(Runs)
def test_every_run_is_somewhere_and_no_figure_is_nan(runs: list[EvalRun]):
    figures = summarise(runs)
    assert figures.counted + sum(figures.excluded.values()) + figures.cancelled + figures.running == len(runs)
    assert sum(one.runs for one in figures.by_slug) == len(runs)
    assert (
        msgspec.json.decode(msgspec.json.encode(figures), type=Figures) == figures
    )  # NaN would come back as null
    for k in figures.pass_at:
        assert 0.0 <= figures.pass_all[k].mean <= figures.pass_at[k].mean <= 1.0 or k == 1
    if figures.reward is not None and figures.reward.low is not None:
        assert figures.reward.low <= figures.reward.mean <= (figures.reward.high or 0.0)


@settings(max_examples=30, deadline=None)
@given(Runs, st.randoms(use_true_random=False))
def test_the_order_of_runs_changes_no_figure(runs: list[EvalRun], generator: random.Random):
    shuffled = list(runs)
    generator.shuffle(shuffled)
    one, other = summarise(runs), summarise(shuffled)
    assert (one.counted, one.excluded, one.reward_all) == (
        other.counted,
        other.excluded,
        pytest.approx(other.reward_all),
    )
    assert (one.reward is None) == (other.reward is None)
    if one.reward is not None and other.reward is not None:
        assert one.reward.mean == pytest.approx(other.reward.mean)


# --- two jobs ---------------------------------------------------------------------------------------------------


def both(first: dict[str, list[float]], second: dict[str, list[float]], **options: int):
    return compare(job(first), job(second), first_id="1", second_id="2", **options)


def test_two_jobs_are_compared_on_the_slugs_of_both():
    comparison = both(
        {"a": [0.0, 1.0], "b": [1.0], "c": [0.5], "x": [1.0]},
        {"a": [1.0, 1.0], "b": [0.0], "c": [0.5], "y": [0.0]},
    )
    assert (comparison.paired, comparison.better, comparison.worse, comparison.equal) == (3, 1, 1, 1)
    assert [(one.slug, one.difference) for one in comparison.slugs] == [("b", -1.0), ("a", 0.5)]
    assert (comparison.only_first, comparison.only_second) == (["x"], ["y"])
    assert comparison.difference is not None
    assert comparison.difference.mean == pytest.approx(-0.5 / 3)
    assert comparison.difference.stderr == pytest.approx(scipy.stats.sem([0.5, -1.0, 0.0]))
    assert comparison.method == "exact sign-flip permutation test over 2 differing eval tasks, 1 ties left out"


def test_a_slug_without_a_run_that_counts_is_on_one_side_only():
    comparison = compare([graded("a", 1.0)], [failed("a", "infrastructure")], first_id="1", second_id="2")
    assert (comparison.paired, comparison.only_first, comparison.p_value) == (0, ["a"], None)


def test_a_job_does_not_differ_from_itself():
    comparison = both({"a": [0.1, 0.2], "b": [1.0]}, {"a": [0.2, 0.1], "b": [1.0]})
    assert (comparison.p_value, comparison.equal, comparison.slugs) == (1.0, 2, [])
    assert comparison.method == "no eval task differs"


def test_no_more_slugs_are_listed_than_asked_for():
    comparison = both({str(i): [0.0] for i in range(9)}, {str(i): [float(i)] for i in range(9)}, limit=3)
    assert [one.slug for one in comparison.slugs] == ["8", "7", "6"]
    assert comparison.better == 8


def test_the_difference_of_shares_is_no_wider_than_they_are():
    def difference(first: dict[str, list[float]], second: dict[str, list[float]]) -> Estimate:
        found = compare(job(first), job(second), first_id="1", second_id="2").difference
        assert found is not None
        return found

    shares = difference({"a": [1.0], "b": [0.0]}, {"a": [0.0], "b": [1.0]})
    assert (shares.low, shares.high) == (-1.0, 1.0)
    points = difference({"a": [2.0], "b": [0.0]}, {"a": [0.0], "b": [1.0]})
    assert points.low is not None and points.low < -2.0


def enumerated(differences: list[float]) -> float:
    """The p-value by looking at every pattern of signs."""
    seen = abs(math.fsum(differences)) - 1e-9
    sums = [
        abs(math.fsum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(one >= seen for one in sums) / len(sums)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.25, -1 / 3]), st.floats(-1, 1)), min_size=1, max_size=9)
)
def test_the_exact_test_is_the_enumeration_of_all_signs(differences: list[float]):
    differences = [0.0 if abs(value) < 1e-6 else value for value in differences]
    assert sign_flip(differences)[0] == pytest.approx(enumerated(differences), rel=1e-12)


def test_differences_of_one_size_are_the_exact_test_of_mcnemar():
    for better, worse in [(8, 2), (5, 5), (0, 1), (900, 800)]:
        p_value, method = sign_flip([1.0] * better + [-1.0] * worse)
        assert p_value == pytest.approx(scipy.stats.binomtest(better, better + worse).pvalue, rel=1e-9)
        assert method.startswith("exact")


def test_halves_and_the_lattice_give_the_same_p():
    generator = random.Random(3)
    lattice = [generator.randint(-12, 12) / 12 for _ in range(24)]
    bent = [value * (1 + 1e-10 * math.sqrt(position)) for position, value in enumerate(lattice)]  # no common unit
    assert sign_flip(lattice)[0] == pytest.approx(sign_flip(bent)[0], rel=1e-9)


def test_beyond_it_is_drawn_with_a_seed_and_never_0():
    generator = random.Random(4)
    differences = [generator.gauss(0.1, 1.0) for _ in range(ENUMERATED + 10)]
    p_value, method = sign_flip(differences)
    assert "19,999 draws" in method
    assert sign_flip(differences) == (p_value, method)  # a fixed seed
    expected = scipy.stats.permutation_test(
        (differences,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", n_resamples=20_000, random_state=1,
        vectorized=True,
    ).pvalue  # fmt: skip
    assert p_value == pytest.approx(expected, abs=0.02)
    assert sign_flip([abs(value) + 1 for value in differences])[0] == pytest.approx(1 / 20_000)


def test_very_many_even_differences_take_the_normal_limit_and_uneven_ones_are_drawn():
    generator = random.Random(5)
    differences = [generator.gauss(0.01, 1.0) for _ in range(MANY)]
    p_value, method = sign_flip(differences)
    squares = math.fsum(value * value for value in differences)
    z = math.fsum(differences) / math.sqrt(squares)
    assert p_value == pytest.approx(2 * scipy.stats.norm.sf(abs(z)))
    assert "normal limit" in method
    assert "draws" in sign_flip([*differences, 1e6])[1]


def test_a_p_value_of_jobs_that_do_not_differ_is_small_as_seldom_as_it_says():
    generator, small, pairs = random.Random(11), 0, 600
    for _ in range(pairs):
        differences = [float(generator.random() < 0.5) - float(generator.random() < 0.5) for _ in range(40)]
        small += sign_flip(differences)[0] <= 0.05
    assert small / pairs <= 0.065

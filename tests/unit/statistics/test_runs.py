"""The statistics of runs agree with SciPy where it has them, and with their definition where it has not."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.support.samples import SAMPLES

from tracekeeper.statistics import (
    average,
    bootstrap_mean,
    bootstrap_p,
    holm,
    mcnemar,
    paired_booleans,
    paired_numbers,
    pass_at_k,
    pass_hat_k,
    sign_test,
    spread,
    student_quantile,
    student_tail,
)
from tracekeeper.statistics.bootstrap import SMALL

finite = st.floats(-1e300, 1e300)
ordinary = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))

# -- the bootstrap -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 40])
@pytest.mark.parametrize("name", SAMPLES)
def test_the_bootstrap_without_drawing_is_that_of_scipy(name: str, n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    numpy = pytest.importorskip("numpy")
    values = SAMPLES[name](random.Random(n), n)
    # The widened level (Hesterberg 2015) at which SciPy is asked for its percentile interval.
    tail = stats.norm.cdf(-student_quantile(0.975, n - 1) * math.sqrt(n / (n - 1)))
    theirs = stats.bootstrap(
        (values,),
        numpy.mean,
        confidence_level=1 - 2 * tail,
        n_resamples=40_000,
        method="percentile",
        rng=1,
        batch=10_000,
    ).confidence_interval
    ours = bootstrap_mean(values)
    assert ours is not None
    # Its draws are off by chance; steps between few values are passed in the middle.
    within = 0.04 * (theirs.high - theirs.low) + (0.5 / n if name == "few values" else 0) * 0.5
    assert ours.low == pytest.approx(theirs.low, abs=within)
    assert ours.high == pytest.approx(theirs.high, abs=within)


@given(st.lists(ordinary, min_size=SMALL, max_size=40))
def test_the_interval_holds_the_mean_and_stays_within_the_values(values: list[float]) -> None:
    interval = bootstrap_mean(values)
    assert interval is not None
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) <= interval.low <= average(values) + slack
    assert average(values) - slack <= interval.high <= max(values)
    assert bootstrap_mean(values) == interval


@given(st.lists(finite, max_size=12))
def test_no_number_is_too_large_or_too_small(values: list[float]) -> None:
    interval, p = bootstrap_mean(values), bootstrap_p(values)
    assert interval is None or (math.isfinite(interval.low) and math.isfinite(interval.high))
    assert (p is None) == (len(values) < 2)
    assert p is None or 0 <= p <= 1


@given(st.lists(st.sampled_from([-1.0, -0.25, 0.0, 0.1, 0.5, 2.0]), min_size=2, max_size=30))
def test_p_is_below_5_percent_just_when_the_interval_excludes_the_hypothesis(values: list[float]) -> None:
    assume(len(set(values)) > 1)
    interval, p = bootstrap_mean(values), bootstrap_p(values)
    assert interval is not None
    assert p is not None
    assume(abs(p - 0.05) > 1e-6)
    assert (p < 0.05) == (not interval.low <= 0 <= interval.high)


def test_the_bootstrap_changes_scale_and_sign_with_the_values() -> None:
    values = SAMPLES["skewed"](random.Random(3), 30)
    interval, turned = bootstrap_mean(values), bootstrap_mean([-1000 * value for value in values])
    assert interval is not None
    assert turned is not None
    assert (-turned.high / 1000, -turned.low / 1000) == pytest.approx((interval.low, interval.high), rel=1e-6)


def test_few_values_are_left_to_students_t() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = [0.2, 0.9, 0.4, 0.7, 0.1]
    theirs = stats.ttest_1samp(values, 0.1)
    assert bootstrap_p(values, 0.1) == pytest.approx(theirs.pvalue, rel=1e-9)
    assert bootstrap_mean(values) == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-9)


def test_very_many_values_are_put_together_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [round(value, 7) for value in SAMPLES["skewed"](random.Random(8), 9_000)]
    together, p = bootstrap_mean(values), bootstrap_p(values, 0.83)
    monkeypatch.setattr("tracekeeper.statistics.bootstrap.CELLS", 10**9)
    single = bootstrap_mean(values)
    assert together is not None
    assert single is not None
    assert together == pytest.approx(single, abs=1e-7)
    assert together != single
    assert p == pytest.approx(bootstrap_p(values, 0.83), rel=1e-3)


def test_values_that_are_all_the_same() -> None:
    assert bootstrap_mean([0.7] * 9) == (0.7, 0.7)
    assert bootstrap_p([0.0] * 9) == 1.0
    assert bootstrap_p([0.1] * 9) == 2**-8
    assert bootstrap_mean([0.7]) is None
    assert bootstrap_p([]) is None
    for wrong in ([math.nan] * 9, [math.inf, 1.0]):
        with pytest.raises(ValueError, match="finite"):
            bootstrap_mean(wrong)
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([1.0, 2.0], level=1)


# -- exact tests ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_is_scipys_binomial_test(above: int, below: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(above, above + below, 0.5).pvalue if above + below else 1.0
    assert sign_test(above, below) == mcnemar(above, below) == pytest.approx(expected, rel=1e-9)


def test_the_sign_test_of_very_many() -> None:
    stats = pytest.importorskip("scipy.stats")
    assert sign_test(5_200, 4_800) == pytest.approx(stats.binomtest(5_200, 10_000).pvalue, rel=1e-6)
    with pytest.raises(ValueError, match="cannot be"):
        mcnemar(-1, 2)


@pytest.mark.parametrize(("t", "degrees"), [(0.0, 3), (1.5, 7), (-2.0, 30), (40.0, 2), (2.0, 1e8)])
def test_tails_of_students_t_are_scipys(t: float, degrees: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert student_tail(t, degrees) == pytest.approx(stats.t.sf(t, degrees), rel=1e-6)
    with pytest.raises(ValueError, match="number"):
        student_tail(math.nan, 2)
    with pytest.raises(ValueError, match="degrees"):
        student_tail(1.0, 0)


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_all_choices_of_k_calls(given_: tuple[int, int, int]) -> None:
    n, right, k = given_
    chosen = list(itertools.combinations([True] * right + [False] * (n - right), k))
    assert pass_at_k(right, n, k) == pytest.approx(sum(map(any, chosen)) / len(chosen))
    assert pass_hat_k(right, n, k) == pytest.approx(sum(map(all, chosen)) / len(chosen))


@pytest.mark.parametrize(("right", "n", "k"), [(3, 2, 1), (1, 2, 3), (1, 2, 0), (-1, 2, 1)])
def test_impossible_repeats_are_errors(right: int, n: int, k: int) -> None:
    for formula in (pass_at_k, pass_hat_k):
        with pytest.raises(ValueError, match=r"cannot be|must lie"):
            formula(right, n, k)


def test_the_spread_within_items_is_the_root_of_anovas_mean_square() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = random.Random(2)
    groups = [[rng.gauss(item, 0.5) for _ in range(2 + item % 3)] for item in range(6)]
    # F = between / within, and the mean square between is known from the means.
    every = [value for group in groups for value in group]
    between = sum(len(group) * (average(group) - average(every)) ** 2 for group in groups) / (len(groups) - 1)
    assert spread(groups) == pytest.approx(math.sqrt(between / stats.f_oneway(*groups).statistic))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_and_keeps_the_order(p_values: Sequence[float]) -> None:
    adjusted = holm(p_values)
    assert all(
        p <= new <= min(1.0, p * len(p_values) + 1e-12) or new >= p for p, new in zip(p_values, adjusted, strict=True)
    )
    ordered = [new for _, new in sorted(zip(p_values, adjusted, strict=True))]
    assert ordered == sorted(ordered)
    assert adjusted[min(range(len(p_values)), key=p_values.__getitem__)] == min(1.0, min(p_values) * len(p_values))


def test_pairs_of_different_length_are_an_error() -> None:
    wrong: list[Any] = [paired_numbers, paired_booleans]
    for function in wrong:
        with pytest.raises(ValueError, match="zip"):
            function([1.0], [1.0, 0.0])
        assert function([], []).difference is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_newcombes_interval_turns_with_the_runs_and_stays_possible(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [one for one, _ in pairs], [other for _, other in pairs]
    found, turned = paired_booleans(first, second), paired_booleans(second, first)
    assert found.interval is not None
    assert turned.interval is not None
    assert found.difference is not None
    assert (-turned.interval.high, -turned.interval.low) == pytest.approx(tuple(found.interval), abs=1e-12)
    assert -1 - 1e-12 <= found.interval.low <= found.difference <= found.interval.high <= 1 + 1e-12


def test_nothing_changed_still_leaves_room_for_a_difference() -> None:
    found = paired_booleans([True] * 50, [True] * 50)
    assert (found.difference, found.p) == (0.0, 1.0)
    assert found.interval is not None
    assert found.interval.low < -0.03
    assert found.interval.high > 0.03

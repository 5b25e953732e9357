"""Intervals and quantiles agree with published tables."""

from __future__ import annotations

import math
from statistics import NormalDist, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeeper.statistics import mean_interval, quantile, student_quantile, wilson

# NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, upper critical values of Student's t distribution.
TABLE = {
    1: (3.078, 6.314, 12.706, 31.821, 63.657),
    2: (1.886, 2.920, 4.303, 6.965, 9.925),
    3: (1.638, 2.353, 3.182, 4.541, 5.841),
    5: (1.476, 2.015, 2.571, 3.365, 4.032),
    10: (1.372, 1.812, 2.228, 2.764, 3.169),
    18: (1.330, 1.734, 2.101, 2.552, 2.878),
    30: (1.310, 1.697, 2.042, 2.457, 2.750),
    60: (1.296, 1.671, 2.000, 2.390, 2.660),
    100: (1.290, 1.660, 1.984, 2.364, 2.626),
}
LEVELS = (0.90, 0.95, 0.975, 0.99, 0.995)


@pytest.mark.parametrize("degrees", TABLE)
def test_student_quantiles_are_those_of_the_table(degrees: int) -> None:
    for level, expected in zip(LEVELS, TABLE[degrees], strict=True):
        assert student_quantile(level, degrees) == pytest.approx(expected, abs=1e-3)
        assert student_quantile(1 - level, degrees) == pytest.approx(-expected, abs=1e-3)


def test_student_quantiles_near_their_limits() -> None:
    assert student_quantile(0.5, 3) == 0.0
    # One degree of freedom is the Cauchy distribution, two have a closed form as well.
    assert student_quantile(0.999, 1) == pytest.approx(math.tan(math.pi * 0.499), rel=1e-9)
    p = 0.9999
    assert student_quantile(p, 2) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)), rel=1e-9)
    for degrees in (1e5, 1e6, 1e8):
        assert student_quantile(0.975, degrees) == pytest.approx(NormalDist().inv_cdf(0.975), abs=1e-4)


@pytest.mark.parametrize(("p", "degrees"), [(0, 3), (1, 3), (0.5, 0), (0.9, -1), (math.nan, 3), (0.9, math.nan)])
def test_student_quantiles_outside_their_range_are_errors(p: float, degrees: float) -> None:
    with pytest.raises(ValueError, match="must"):
        student_quantile(p, degrees)


def test_the_interval_of_a_mean() -> None:
    interval = mean_interval(19, 0.83, 0.0069)
    assert interval is not None
    assert interval.margin == pytest.approx(0.0400, abs=1e-4)
    assert mean_interval(2, 1.0, 0.0) == (1.0, 1.0)
    assert mean_interval(5, 1.0, -1e-17) == (1.0, 1.0)  # rounding of a sum of squares
    assert mean_interval(1, 1.0, 0.0) is None
    assert mean_interval(0, 0.0, 0.0) is None


def test_impossible_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval(3, math.nan, 1.0)
    with pytest.raises(ValueError, match="level"):
        mean_interval(3, 1.0, 1.0, level=95)
    with pytest.raises(ValueError, match="cannot be"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="q must"):
        quantile([1], 2)
    with pytest.raises(ValueError, match="NaN"):
        quantile([1, math.nan], 0.5)


def test_wilson_agrees_with_published_values() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3.
    for successes, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((1 - 0.1611, 1.0), abs=1e-4)
    assert wilson(0, 0) is None


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.01, 0.999))
def test_a_proportion_lies_in_its_interval(counts: tuple[int, int], level: float) -> None:
    successes, n = counts
    interval = wilson(successes, n, level)
    assert interval is not None
    assert 0 <= interval.low <= successes / n <= interval.high <= 1


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=30))
def test_quantiles_agree_with_the_standard_library(values: list[float]) -> None:
    cuts = quantiles(values, n=20, method="inclusive")
    for index, expected in enumerate(cuts, start=1):
        assert quantile(values, index / 20) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert quantile(values, 0) == min(values)
    assert quantile(values, 1) == max(values)


def test_a_quantile_of_nothing_is_nothing() -> None:
    assert quantile([], 0.5) is None
    assert quantile([7], 0.95) == 7

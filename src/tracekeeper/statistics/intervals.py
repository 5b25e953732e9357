"""Confidence intervals: how far a mean or a proportion of a few scores can be trusted."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

from tracekeeper.statistics.student import student_quantile


class Interval(NamedTuple):
    """Where the true value probably lies."""

    low: float
    high: float

    @property
    def margin(self) -> float:
        """Half its width: the number after ``±`` of an interval that is symmetric."""
        return (self.high - self.low) / 2


def mean_interval(n: int, mean: float, variance: float, level: float = 0.95) -> Interval | None:
    """The confidence interval of a mean, by Student's t distribution.

    Source: mean ± t(1 − α/2; n − 1) · √(variance / n), e.g. NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2.

    Parameters
    ----------
    n:
        Number of values.
    mean, variance:
        Of the values; the variance with n − 1 in its denominator. One just below zero, as rounding makes it, is zero.
    level:
        Confidence, between 0 and 1.

    Returns
    -------
    Interval or None
        ``None`` for fewer than two values: they say nothing about how much the values vary.

    Raises
    ------
    ValueError
        When ``level`` is not between 0 and 1, or ``mean`` or ``variance`` is not finite.

    Example
    -------
    >>> interval = mean_interval(10, 0.8, 0.04)
    >>> round(interval.low, 3), round(interval.high, 3), round(interval.margin, 3)
    (0.657, 0.943, 0.143)
    """
    _check_level(level)
    if not (math.isfinite(mean) and math.isfinite(variance)):
        raise ValueError(f"mean and variance must be finite, not {mean} and {variance}")
    if n < 2:
        return None
    margin = student_quantile((1 + level) / 2, n - 1) * math.sqrt(max(variance, 0.0) / n)
    return Interval(mean - margin, mean + margin)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval | None:
    """The confidence interval of a proportion, by Wilson's score method (right also for few values, 0 % and 100 %).

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927), 209-212.

    Parameters
    ----------
    successes, n:
        How many of how many.
    level:
        Confidence, between 0 and 1.

    Returns
    -------
    Interval or None
        Within 0 and 1; ``None`` when ``n`` is 0.

    Raises
    ------
    ValueError
        When ``successes`` is not between 0 and ``n``, or ``level`` not between 0 and 1.

    Example
    -------
    >>> low, high = wilson(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    _check_level(level)
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} cannot be")
    if n == 0:
        return None
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    center = share + z * z / (2 * n)
    margin = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (center - margin) / scale
    high = 1.0 if successes == n else (center + margin) / scale
    return Interval(low, high)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not be {level}")

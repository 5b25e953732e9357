"""Quantiles of Student's t distribution, without SciPy.

The distribution function is an incomplete beta function, computed by its continued fraction; its inverse is found by
bisection, which cannot miss.

Sources: NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov/8.17 (8.17.22 the continued fraction,
8.17.4 the symmetry), evaluated by Lentz's method (W. J. Lentz, Applied Optics 15 (1976), 668); M. Abramowitz and
I. Stegun, Handbook of Mathematical Functions, 26.7.1 (Student's t as an incomplete beta function).
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

LARGE = 1e7
"""Degrees of freedom from which on the normal distribution is the same to more digits than anybody prints."""

_TINY = 1e-300


@lru_cache(maxsize=4096)
def student_quantile(p: float, degrees: float) -> float:
    """The number that a Student's t variable stays below with probability ``p``.

    Parameters
    ----------
    p:
        Between 0 and 1, both excluded.
    degrees:
        Degrees of freedom, above 0.

    Raises
    ------
    ValueError
        Outside these ranges.

    Example
    -------
    >>> round(student_quantile(0.975, 10), 4)
    2.2281
    """
    if not 0 < p < 1:
        raise ValueError(f"p must lie between 0 and 1, not be {p}")
    if not degrees > 0:
        raise ValueError(f"degrees of freedom must be above 0, not {degrees}")
    if p == 0.5:
        return 0.0
    if degrees >= LARGE:
        return NormalDist().inv_cdf(p)
    if p < 0.5:
        return -student_quantile(1 - p, degrees)
    # t is found through x = degrees / (degrees + t²), which lies in (0, 1) and falls as t grows.
    tail = 2 * (1 - p)
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _incomplete_beta(middle, degrees / 2, 0.5) < tail:
            low = middle
        else:
            high = middle
    x = (low + high) / 2
    return math.sqrt(degrees * (1 - x) / x) if x > 0 else math.inf


def student_tail(t: float, degrees: float) -> float:
    """The probability that a Student's t variable exceeds ``t``.

    Parameters
    ----------
    t:
        Any number.
    degrees:
        Degrees of freedom, above 0.

    Raises
    ------
    ValueError
        When ``t`` is NaN or ``degrees`` not above 0.

    Example
    -------
    >>> round(student_tail(2.2281, 10), 4)
    0.025
    """
    if not degrees > 0:
        raise ValueError(f"degrees of freedom must be above 0, not {degrees}")
    if math.isnan(t):
        raise ValueError("t must be a number")
    if t < 0:
        return 1 - student_tail(-t, degrees)
    if degrees >= LARGE:
        return math.erfc(t / math.sqrt(2)) / 2
    return _incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(logarithm)
    # The fraction converges fast on one side of the mean; the other side follows by symmetry.
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, _inverse(1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for coefficient in (even, odd):
            d = _inverse(1 + coefficient * d)
            c = 1 + coefficient / c
            c = c if abs(c) > _TINY else _TINY
            change = c * d
            result *= change
        if abs(change - 1) < 1e-15:
            break
    return result


def _inverse(value: float) -> float:
    return 1 / (value if abs(value) > _TINY else _TINY)

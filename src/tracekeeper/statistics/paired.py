"""Two runs on the same items: whether what changed says something, for numbers and for yes or no."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tracekeeper.statistics.bootstrap import SMALL, average, bootstrap_mean, bootstrap_p
from tracekeeper.statistics.intervals import Interval, wilson


class PairedDifference(NamedTuple):
    """By how much the second of two runs is above the first, on the same items.

    Attributes
    ----------
    n:
        Pairs.
    difference:
        Mean of the differences, second minus first; ``None`` without pairs.
    interval:
        Its confidence interval; ``None`` when there are too few pairs.
    p:
        How probable a difference of at least that size, in either direction, would be if there were none.
    method:
        How interval and p were calculated, in words.
    """

    n: int
    difference: float | None
    interval: Interval | None
    p: float | None
    method: str


def paired_numbers(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> PairedDifference:
    """The paired difference of two means: the bootstrap of the items' differences.

    Raises
    ------
    ValueError
        When the runs are of different lengths, or a value or a difference is not finite.

    Example
    -------
    >>> found = paired_numbers([0.1, 0.5, 0.2, 0.6, 0.4, 0.3, 0.8, 0.1], [0.4, 0.6, 0.5, 0.7, 0.4, 0.6, 0.9, 0.1])
    >>> round(found.difference, 2), found.interval.low > 0, found.p < 0.05
    (0.15, True, True)
    """
    differences = [after - before for before, after in zip(first, second, strict=True)]
    n = len(differences)
    if not n:
        return PairedDifference(0, None, None, None, "paired bootstrap")
    method = "paired bootstrap" if n >= SMALL else "paired t test"
    return PairedDifference(
        n, average(differences), bootstrap_mean(differences, level), bootstrap_p(differences), method
    )


def paired_booleans(first: Sequence[bool], second: Sequence[bool], level: float = 0.95) -> PairedDifference:
    """The paired difference of two proportions: exact McNemar test, Newcombe's interval.

    Source of the interval: R. G. Newcombe, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", Statistics in Medicine 17 (1998), 2635-2650, method 10. It is right also for few
    pairs and for pairs of which none changed.

    Raises
    ------
    ValueError
        When the runs are of different lengths.

    Example
    -------
    >>> found = paired_booleans([True] * 6 + [False] * 10, [True] * 15 + [False])
    >>> found.difference, round(found.p, 4)
    (0.5625, 0.0039)
    """
    both = sum(a and b for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    won = sum(b and not a for a, b in zip(first, second, strict=True))
    n = len(first)
    method = "exact McNemar test, Newcombe's interval"
    if not n:
        return PairedDifference(0, None, None, None, method)
    interval = _newcombe(both, won, lost, n - both - won - lost, level)
    return PairedDifference(n, (won - lost) / n, interval, mcnemar(won, lost), method)


def mcnemar(won: int, lost: int) -> float:
    """The exact McNemar test: are changes from no to yes and from yes to no equally probable?

    It is the sign test of the pairs that changed: with n = won + lost, two times the probability of at most min(won,
    lost) heads in n throws of a coin, at most 1.

    Source: Q. McNemar, Psychometrika 12 (1947), 153-157; its exact form, e.g. A. Agresti, Categorical Data Analysis,
    3rd edition (2013), 11.1.4.

    Raises
    ------
    ValueError
        When a count is negative.

    Example
    -------
    >>> round(mcnemar(9, 1), 6), mcnemar(0, 0)
    (0.021484, 1.0)
    """
    if won < 0 or lost < 0:
        raise ValueError(f"{won} and {lost} changes cannot be")
    return sign_test(won, lost)


def sign_test(above: int, below: int) -> float:
    """The exact sign test, two-sided: are so many differences above zero, and so many below it, a matter of chance?

    Differences of exactly zero say nothing and are left out.

    Source: W. J. Dixon and A. M. Mood, "The statistical sign test", Journal of the American Statistical Association 41
    (1946), 557-566.

    Example
    -------
    >>> round(sign_test(5, 0), 4)
    0.0625
    """
    n, few = above + below, min(above, below)
    if 2 * few >= n:
        return 1.0
    # In logarithms: 2 to the power of -n is 0 in floating point from 1,075 on.
    logarithms = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(few + 1)]
    return min(1.0, 2 * math.fsum(math.exp(one - n * math.log(2)) for one in logarithms))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several questions, enlarged so that asking many of them does not find something by chance.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
    (1979), 65-70.

    Example
    -------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def _newcombe(both: int, won: int, lost: int, neither: int, level: float) -> Interval:
    n = both + won + lost + neither
    after, before = both + won, both + lost
    wilson_after, wilson_before = wilson(after, n, level), wilson(before, n, level)
    assert wilson_after is not None
    assert wilson_before is not None
    margins = after * (n - after) * before * (n - before)
    excess: float = both * neither - won * lost
    if excess > 0:
        excess = max(excess - n / 2, 0)
    phi = excess / math.sqrt(margins) if margins else 0.0
    share, other = after / n, before / n
    down, up = share - wilson_after.low, wilson_after.high - share
    other_down, other_up = other - wilson_before.low, wilson_before.high - other
    below = math.sqrt(max(down * down - 2 * phi * down * other_up + other_up * other_up, 0.0))
    above = math.sqrt(max(up * up - 2 * phi * up * other_down + other_down * other_down, 0.0))
    return Interval(share - other - below, share - other + above)

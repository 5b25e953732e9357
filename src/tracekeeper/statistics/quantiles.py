"""Quantiles of values: the median, the 95th percentile of latencies."""

from __future__ import annotations

import math
from collections.abc import Iterable


def quantile(values: Iterable[float], q: float) -> float | None:
    """The value below which a share ``q`` of the values lies, interpolated between neighbours.

    Source: definition 7 of R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages", The American
    Statistician 50 (1996), 361-365; the default of NumPy, R and spreadsheets.

    Parameters
    ----------
    values:
        Finite numbers, in any order.
    q:
        Between 0 (the smallest) and 1 (the largest).

    Returns
    -------
    float or None
        ``None`` when there are no values.

    Raises
    ------
    ValueError
        When ``q`` is not between 0 and 1, or a value is NaN (it has no place in an order).

    Example
    -------
    >>> quantile([4, 1, 3, 2], 0.5)
    2.5
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q must lie between 0 and 1, not be {q}")
    ordered = sorted(float(value) for value in values)
    if any(math.isnan(value) for value in ordered):
        raise ValueError("quantiles of NaN are not defined")
    if not ordered:
        return None
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    rest = position - below
    if rest == 0:
        return ordered[below]
    # In this form the result never leaves the range of its neighbours by rounding.
    return min(max(ordered[below] * (1 - rest) + ordered[below + 1] * rest, ordered[below]), ordered[below + 1])

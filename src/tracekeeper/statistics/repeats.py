"""Several calls of the same item: how often at least one is right, and how often all are.

Calls of one item are no independent draws of the population of items. Whatever is said of the population is said of
the items' means, one value an item.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import comb


def pass_at_k(successes: int, n: int, k: int) -> float:
    """The probability that at least one of ``k`` calls is right, estimated without bias from ``n`` calls of one item.

    pass@k = 1 - C(n - c, k) / C(n, k). Source: M. Chen et al., "Evaluating large language models trained on code"
    (2021), https://arxiv.org/abs/2107.03374, equation 1.

    Raises
    ------
    ValueError
        Unless 0 ≤ ``successes`` ≤ ``n`` and 1 ≤ ``k`` ≤ ``n``.

    Example
    -------
    >>> pass_at_k(1, 4, 1), pass_at_k(1, 4, 2)
    (0.25, 0.5)
    """
    _check(successes, n, k)
    return 1 - comb(n - successes, k) / comb(n, k)


def pass_hat_k(successes: int, n: int, k: int) -> float:
    """The probability that ``k`` calls are all right, estimated without bias from ``n`` calls of one item.

    pass^k = C(c, k) / C(n, k). Source: S. Yao et al., "τ-bench: a benchmark for tool-agent-user interaction in
    real-world domains" (2024), https://arxiv.org/abs/2406.12045, section 3.

    Raises
    ------
    ValueError
        Unless 0 ≤ ``successes`` ≤ ``n`` and 1 ≤ ``k`` ≤ ``n``.

    Example
    -------
    >>> pass_hat_k(3, 4, 1), pass_hat_k(3, 4, 2)
    (0.75, 0.5)
    """
    _check(successes, n, k)
    return comb(successes, k) / comb(n, k)


def spread(groups: Sequence[Sequence[float]]) -> float | None:
    """How far calls of one item differ: the standard deviation within items, pooled over them.

    s = √(Σ over items Σ over calls (x - item's mean)² / Σ over items (calls - 1)), the root of the within-groups mean
    square of a one-way analysis of variance (NIST/SEMATECH e-Handbook, 7.4.3.3). ``None`` when no item has two calls.

    Example
    -------
    >>> spread([[1, 1], [0, 1]]), spread([[1], [0]])
    (0.5, None)
    """
    largest = max((abs(value) for group in groups for value in group), default=0.0)
    scale = largest if largest > 1e100 else 1.0  # squares of huge values would overflow
    squares: list[float] = []
    degrees = 0
    for group in groups:
        if len(group) > 1:
            mean = math.fsum(value / scale for value in group) / len(group)
            squares += [(value / scale - mean) ** 2 for value in group]
            degrees += len(group) - 1
    return math.sqrt(math.fsum(squares) / degrees) * scale if degrees else None


def _check(successes: int, n: int, k: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} cannot be")
    if not 1 <= k <= n:
        raise ValueError(f"k must lie between 1 and the number of calls, {n}, not be {k}")

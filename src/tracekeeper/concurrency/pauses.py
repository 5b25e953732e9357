"""How long to pause before something is tried again."""

from __future__ import annotations


def back_off(retry: int) -> float:
    """Seconds to pause before the ``retry``-th retry (1 is the first): 0.25, 0.5, 1, … at most 8.

    Example
    -------
    >>> [back_off(retry) for retry in (1, 2, 3, 20)]
    [0.25, 0.5, 1.0, 8.0]
    """
    return float(min(8.0, 0.25 * 2 ** min(retry - 1, 10)))

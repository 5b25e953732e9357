"""A sample of items: the same meaning wherever one is asked for, of a dataset, of a list, in a run.

Each item is drawn by the hash of the seed and its id, whatever else there is and in whatever order it came. So a sample
is the same on every machine, and a larger one of the same seed contains every smaller one. When a dataset grows, what
was in a share of it stays there, and what was not stays out.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Iterable

from tracekeeper.types import DatasetError


def checked_sample(sample: float | None) -> float | None:
    """The same, if a sample can be so large.

    Raises
    ------
    DatasetError
        It is neither a whole number from 1 on nor a share above 0, up to 1.0.

    Example
    -------
    >>> checked_sample(5), checked_sample(0.5), checked_sample(None)
    (5, 0.5, None)
    """
    if sample is None:
        return None
    good = isinstance(sample, int | float) and not isinstance(sample, bool) and math.isfinite(sample) and sample > 0
    if not good or (isinstance(sample, float) and sample > 1):
        raise DatasetError(
            f"sample={sample!r}: expected a number of items, or a share of them: 1, 2, … or above 0.0, up to 1.0"
        )
    return sample


def drawn(ids: Iterable[str], sample: int | float, seed: int = 0) -> frozenset[str]:
    """The sample of some ids: so many of them (``int``), or each with this chance (``float``).

    In memory are those that are drawn, however many there are.

    Example
    -------
    >>> ids = [f"i{n}" for n in range(1000)]
    >>> len(drawn(ids, 10)), 60 < len(drawn(ids, 0.1)) < 140, drawn(ids, 5) < drawn(ids, 10)
    (10, True, True)
    >>> drawn(ids, 0.1) == drawn([*ids, "another"], 0.1) - {"another"}
    True
    """

    def draw(id: str) -> float:
        digest = hashlib.blake2b(f"{seed}:{id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / (1 << 64)

    if isinstance(sample, float):
        return frozenset(each for each in ids if draw(each) < sample)
    return frozenset(heapq.nsmallest(sample, ids, key=draw))

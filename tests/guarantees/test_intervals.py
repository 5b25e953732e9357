"""An interval of 95 % holds the truth in 95 % of cases: 10,000 draws at the stated counts, fewer in the short form."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from tests.conftest import FULL
from tests.support.samples import MEANS, SAMPLES

from tracekeeper.statistics import bootstrap_mean, paired_booleans, paired_numbers, wilson

DRAWS = 10_000 if FULL else 400


def covered(draws: int, seed: str, held: Callable[[random.Random], bool]) -> float:
    rng = random.Random(seed)
    return sum(held(rng) for _ in range(draws)) / draws


def within_95(share: float, draws: int) -> bool:
    """95 % ± 1 at the stated count; in the short form four standard deviations of chance more."""
    return abs(share - 0.95) <= 0.01 + (0 if draws >= 10_000 else 4 * math.sqrt(0.95 * 0.05 / draws))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_bootstrap_of_a_mean_covers_95_percent(name: str) -> None:
    def held(rng: random.Random) -> bool:
        interval = bootstrap_mean(SAMPLES[name](rng, 50))
        assert interval is not None
        return interval.low <= MEANS[name] <= interval.high

    assert within_95(covered(DRAWS, name, held), DRAWS)


def test_wilson_covers_95_percent_on_average() -> None:
    def held(rng: random.Random) -> bool:
        share = rng.uniform(0.05, 0.95)
        interval = wilson(sum(rng.random() < share for _ in range(40)), 40)
        assert interval is not None
        return interval.low <= share <= interval.high

    assert within_95(covered(DRAWS, "wilson", held), DRAWS)


def test_paired_differences_cover_95_percent() -> None:
    def held(rng: random.Random) -> bool:
        hard = [rng.random() for _ in range(40)]
        found = paired_numbers([one + rng.gauss(0, 0.2) for one in hard], [one + rng.gauss(0.1, 0.2) for one in hard])
        assert found.interval is not None
        return found.interval.low <= 0.1 <= found.interval.high

    assert within_95(covered(DRAWS, "pairs", held), DRAWS)


def test_newcombes_interval_covers_95_percent_on_average() -> None:
    def held(rng: random.Random) -> bool:
        both, won, lost = (rng.uniform(0.1, 0.5), rng.uniform(0.02, 0.3), rng.uniform(0.02, 0.2))
        pairs = rng.choices([(1, 1), (0, 1), (1, 0), (0, 0)], [both, won, lost, 1 - both - won - lost], k=60)
        found = paired_booleans([bool(old) for old, _ in pairs], [bool(new) for _, new in pairs])
        assert found.interval is not None
        return found.interval.low <= won - lost <= found.interval.high

    assert within_95(covered(DRAWS, "newcombe", held), DRAWS)


def test_a_difference_that_is_none_is_significant_in_one_of_twenty() -> None:
    def held(rng: random.Random) -> bool:
        found = paired_numbers([rng.random() for _ in range(30)], [rng.random() for _ in range(30)])
        assert found.p is not None
        return found.p >= 0.05

    assert within_95(covered(DRAWS, "null", held), DRAWS)

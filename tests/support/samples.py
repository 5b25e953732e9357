"""Populations of scores, of which the means are known."""

from __future__ import annotations

import random
from collections.abc import Callable

SAMPLES: dict[str, Callable[[random.Random, int], list[float]]] = {
    "uniform": lambda rng, n: [rng.random() for _ in range(n)],
    "skewed": lambda rng, n: [rng.betavariate(5, 1) for _ in range(n)],
    "ends": lambda rng, n: [rng.betavariate(0.5, 0.5) for _ in range(n)],
    "few values": lambda rng, n: rng.choices([0.0, 0.5, 1.0], [1, 2, 7], k=n),
}
MEANS = {"uniform": 0.5, "skewed": 5 / 6, "ends": 0.5, "few values": 0.8}

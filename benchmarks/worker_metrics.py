"""Metrics that workers of the benchmark import."""

from __future__ import annotations

import time


def trivial(output: str) -> float:
    return 1.0


def sleeps(output: str) -> float:
    time.sleep(0.05)
    return 1.0

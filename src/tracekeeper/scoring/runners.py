"""The deadline runners that metrics run on: behind the calls, in processes apart, and inline."""

from __future__ import annotations

import functools
import os

from tracekeeper.concurrency.runner import Runner
from tracekeeper.configuration.settings import base_settings

INLINE_CONCURRENCY = 10_000
"""Inline metrics are bounded by their callers, each of which waits for its own."""

_runners: dict[str, Runner] = {}


def scoring_runner() -> Runner:
    """The runner of background metrics: one for the process, since ``scoring_concurrency`` is the process's."""
    runner = _runners.get("scoring") or _runners.setdefault("scoring", Runner(name="scoring", concurrency=1))
    runner.concurrency = base_settings().scoring_concurrency
    return runner


def isolated_places() -> int:
    """Metrics that run at a time in processes of their own."""
    return base_settings().isolated_concurrency or min(8, 2 * _processors())


@functools.cache  # it is asked for each score, and the system's answer takes 10 microseconds
def _processors() -> int:
    return os.cpu_count() or 1


def isolated_runner() -> Runner:
    """The runner of metrics with ``isolation="process"``, each of which holds a thread while it waits for its process.

    As many as there are processes, so that none waits for a free one within its own time; apart from the others, which
    so never wait behind them.
    """
    runner = _runners.get("isolated") or _runners.setdefault("isolated", Runner(name="isolated", concurrency=1))
    runner.concurrency = isolated_places()
    return runner


def inline_runner() -> Runner:
    """The runner of inline metrics, apart from the other: a caller must not wait behind a queue of background work."""
    return _runners.get("inline") or _runners.setdefault(
        "inline", Runner(name="inline", concurrency=INLINE_CONCURRENCY)
    )

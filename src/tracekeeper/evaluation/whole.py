"""Metrics of a run as a whole: functions of all its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tracekeeper.concurrency.maps import Parallel
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.judging import Metric
from tracekeeper.judging.checks import check_callable
from tracekeeper.judging.making import check_listed
from tracekeeper.types import MetricError, Score, ScoreStatus

RunMetric = Callable[[Sequence[ItemResult]], Any]
"""Gets the results in dataset order; gives what a metric may give. Sync or async."""


def run_metrics(given: Iterable[RunMetric]) -> tuple[Metric, ...]:
    """As metrics, for their names, deadlines and reading of results.

    Raises
    ------
    MetricError
        Something that cannot be called, or two of one name.
    """
    check_listed(given, "experiment_metrics")
    made = []
    for one in given:
        if not isinstance(one, Metric):
            check_callable(one)
        made.append(one if isinstance(one, Metric) else Metric(one))
    names = names_of(made)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise MetricError(f"experiment_metrics: two are named {twice!r}")
    return tuple(made)


def names_of(metrics: Iterable[Metric]) -> list[str]:
    """Of the scores that they give."""
    return [name for one in metrics for name in one.names]


def scores_of_run(metrics: Sequence[Metric], results: Sequence[ItemResult]) -> dict[str, Score]:
    """Judge a run. Whatever a metric does, each of its names has a score with a state."""
    found: dict[str, Score] = {}
    for one in metrics:
        (outcome,) = Parallel(concurrency=1, timeout=one.timeout)([(one.function, (results,))])
        if outcome.ok:
            found.update(one.scores(outcome.value))
            continue
        status = ScoreStatus.TIMED_OUT if outcome.status == "timed_out" else ScoreStatus.FAILED
        why = outcome.reason or f"the metric raised {type(outcome.error).__name__}: {outcome.error}"
        found.update(
            {name: Score(status=status, reason=why, name=name, metric_version=one.version) for name in one.names}
        )
    return found

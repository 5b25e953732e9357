"""Calls of an evaluation as plain data, for what is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracekeeper.evaluation.facts import MetricFacts, RunFacts
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.results import Results
from tracekeeper.types import ItemStatus, Score, ScoreStatus


def score(value: Any) -> Score:
    """A score of a value; of a status, one without."""
    if isinstance(value, Score):
        return value
    if isinstance(value, ScoreStatus):
        return Score(status=value, reason=f"said {value}")
    return Score(value)


def call(item_id: str, status: ItemStatus = ItemStatus.OK, *, repeat: int = 0, **other: Any) -> ItemResult:
    """One call; ``scores`` as plain values."""
    scores = {name: score(value) for name, value in other.pop("scores", {}).items()}
    fields = other.pop("fields", {"question": f"what is {item_id}?"})
    return ItemResult(item_id=item_id, repeat=repeat, status=status, fields=fields, scores=scores, **other)


def run(
    values: Mapping[str, Sequence[Any]], *, name: str = "run", metrics: Mapping[str, MetricFacts] | None = None
) -> Results:
    """A run with an item for each place of the values, which are given by metric."""
    n = len(next(iter(values.values())))
    calls = [
        call(f"i{place}", output=f"answer {place}", scores={metric: given[place] for metric, given in values.items()})
        for place in range(n)
    ]
    return Results(calls, RunFacts(name=name), metrics=metrics or {})

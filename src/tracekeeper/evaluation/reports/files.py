"""Results as JSON and as CSV: everything, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tracekeeper.evaluation.accounts import score_of
from tracekeeper.evaluation.facts import MetricFacts, RunFacts
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.reading.columns import json_text
from tracekeeper.reading.storable import storable
from tracekeeper.types import Score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracekeeper.evaluation.results import Results

FORMAT = "tracekeeper.results/1"
"""Name and version of the format; the number grows when a reader of the old one would misread the new one."""

_SCORE_FIELDS = (
    "value",
    "status",
    "reason",
    "error",
    "seconds",
    "cost",
    "metric_version",
    "source",
    "author",
    "metadata",
)


def as_json(results: Results, *, indent: int = 0) -> str:
    """Facts, summary and calls as one JSON object."""
    return json_text(storable(document(results)), indent=indent) + "\n"


def as_csv(results: Results, *, formulas: bool = False) -> str:
    """A row for each call."""
    return storable(results.table.to_csv(formulas=formulas)) or ""


def from_json(text: str | bytes) -> tuple[list[ItemResult], RunFacts, dict[str, MetricFacts], dict[str, Score]]:
    """Calls, facts, metrics and the scores of the run as a whole, of a file that ``as_json`` wrote.

    Raises
    ------
    ValueError
        When it is no such file, or one of a newer format.
    """
    try:
        found = msgspec.json.decode(text, type=_Document)
    except msgspec.DecodeError as error:  # a ValidationError is one
        raise ValueError(f"these are no results that to_json() wrote: {error}") from error
    if found.format != FORMAT:
        raise ValueError(f"the format of these results is {found.format!r}; this version reads {FORMAT!r}")
    return found.items, found.experiment, found.metrics, found.scores


class _Document(msgspec.Struct):
    format: str
    experiment: RunFacts
    metrics: dict[str, MetricFacts]
    items: list[ItemResult]
    scores: dict[str, Score] = {}


def document(results: Results) -> dict[str, Any]:
    """What the JSON file holds, as plain data."""
    names = results.metric_names
    return {
        "format": FORMAT,
        "experiment": {
            **msgspec.to_builtins(results.facts),
            "missing": results.missing,
            "complete": results.complete,
        },
        "metrics": {name: msgspec.to_builtins(facts) for name, facts in results.metrics.items()},
        "summary": summary_document(results),
        "scores": {name: score_document(score) for name, score in results.scores.items()},
        "items": [item_document(result, names) for result in results.items],
    }


def summary_document(results: Results) -> dict[str, Any]:
    """The summary as plain data, each metric with its n."""
    found = results.summary()
    plain: dict[str, Any] = msgspec.to_builtins(found)
    for name, metric in found.metrics.items():
        plain["metrics"][name]["n"] = metric.n
        if metric.interval is not None:
            plain["metrics"][name]["interval"] = {"low": metric.interval.low, "high": metric.interval.high}
    return plain


def item_document(result: ItemResult, names: Sequence[str]) -> dict[str, Any]:
    """One call as plain data, with a score for every metric of the run."""
    fields = {field: getattr(result, field) for field in ItemResult.__struct_fields__ if field != "scores"}
    fields["earlier"] = msgspec.to_builtins(result.earlier)
    scores = {name: score_document(score_of(result, name)) for name in names}
    return {**fields, "status": str(result.status), "scores": scores}


def score_document(score: Score) -> dict[str, Any]:
    """One score as plain data."""
    return {field: getattr(score, field) for field in _SCORE_FIELDS} | {"status": str(score.status)}

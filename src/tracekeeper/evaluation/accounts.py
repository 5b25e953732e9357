"""Every call has, for every metric, a score with a state: also where the metric never ran.

Aggregates are made from these, so n is always the number of calls, and a metric that could not judge anything is
there with its reasons (guarantee "no blank").
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from tracekeeper.evaluation.result import ItemResult
from tracekeeper.types import ItemStatus, Score, ScoreStatus

Kind = Literal["number", "boolean", "label", "none"]
"""What the values of a metric are; ``none``: there is no value."""

_ABSENT = {
    ItemStatus.PENDING: (ScoreStatus.PENDING, "the call has not begun"),
    ItemStatus.RUNNING: (ScoreStatus.PENDING, "the call is running"),
    ItemStatus.OK: (ScoreStatus.SKIPPED, "not measured"),
    ItemStatus.ERROR: (ScoreStatus.SKIPPED, "the task failed"),
    ItemStatus.TIMED_OUT: (ScoreStatus.SKIPPED, "the task timed out"),
    ItemStatus.CANCELLED: (ScoreStatus.CANCELLED, "the call was cancelled"),
    ItemStatus.SKIPPED: (ScoreStatus.SKIPPED, "the item was skipped"),
}


def score_of(result: ItemResult, name: str) -> Score:
    """The score of one call by one metric; one that was never given has the status and the reason that follow from
    the call.

    Example
    -------
    >>> failed = ItemResult(item_id="a", status=ItemStatus.ERROR, error="ValueError: no")
    >>> score_of(failed, "exact").status, score_of(failed, "exact").reason
    (<ScoreStatus.SKIPPED: 'skipped'>, 'the task failed')
    """
    score = result.scores.get(name)
    if score is None:
        status, reason = _ABSENT[result.status]
        return Score(status=status, name=name, reason=reason)
    if score.status is ScoreStatus.SCORED and not _good(score.value):
        reason = f"its value is {score.value!r}, no finite number"
        return score.replace(status=ScoreStatus.FAILED, value=None, reason=reason)
    return score


def without(status: ItemStatus, reason: str | None, versions: Mapping[str, str]) -> dict[str, Score]:
    """The scores of a call that has no record, or whose record came too late: a status and a reason for each.

    ``versions``: of each metric, by its name. What did not come to an end (``cancelled``) is the rest of a run.

    Example
    -------
    >>> without(ItemStatus.TIMED_OUT, "timed out after 1 s", {"exact": "1"})["exact"].reason
    'the task: timed out after 1 s'
    """
    ended = status in (ItemStatus.ERROR, ItemStatus.TIMED_OUT)
    left = ScoreStatus.SKIPPED if ended else ScoreStatus.PENDING
    why = because(reason)
    return {name: Score(status=left, reason=why, name=name, metric_version=each) for name, each in versions.items()}


def because(reason: str | None) -> str:
    """Why the scores of a call are not there, given what became of it."""
    return f"the task: {reason or 'the call has no record'}"


def metric_names(results: Iterable[ItemResult], declared: Iterable[str] = ()) -> list[str]:
    """The metrics that were declared, then those that scores name besides, in alphabetical order."""
    first = list(dict.fromkeys(declared))
    others = {name for result in results for name in result.scores} - set(first)
    return [*first, *sorted(others)]


def kind_of(values: Sequence[Any]) -> Kind:
    """What values are together. Numbers beside truth values are numbers, anything beside a label is a label.

    Example
    -------
    >>> kind_of([True, False]), kind_of([True, 0.5]), kind_of(["good", 1]), kind_of([])
    ('boolean', 'number', 'label', 'none')
    """
    kinds = {type(value) for value in values}
    if not kinds:
        return "none"
    if any(issubclass(kind, str) for kind in kinds):
        return "label"
    return "boolean" if kinds == {bool} else "number"


def by_item(results: Iterable[ItemResult]) -> dict[str, list[ItemResult]]:
    """The calls of each item, in order."""
    found: dict[str, list[ItemResult]] = {}
    for result in results:
        found.setdefault(result.item_id, []).append(result)
    return found


def failing(result: ItemResult) -> bool:
    """Whether a call ended other than well, or a metric could not judge it (a metric that declined is no failure)."""
    if result.status in (ItemStatus.ERROR, ItemStatus.TIMED_OUT, ItemStatus.CANCELLED):
        return True
    return any(
        score.status in (ScoreStatus.FAILED, ScoreStatus.TIMED_OUT, ScoreStatus.CANCELLED)
        for name in result.scores
        for score in (score_of(result, name),)
    )


def why(result: ItemResult) -> list[str]:
    """What went wrong with a call and its scores, a line each."""
    lines = []
    if result.status not in (ItemStatus.OK, ItemStatus.PENDING, ItemStatus.RUNNING):
        said = result.error or result.reason
        lines.append(f"{result.status}: {said}" if said else str(result.status))
    for name in result.scores:
        score = score_of(result, name)
        if score.status in (ScoreStatus.FAILED, ScoreStatus.TIMED_OUT, ScoreStatus.CANCELLED):
            said = score.error or score.reason
            lines.append(f"{name} {score.status}: {said}" if said else f"{name} {score.status}")
    return lines


def _good(value: Any) -> bool:
    if isinstance(value, int):  # of any length, in Python
        return abs(value) <= sys.float_info.max
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))

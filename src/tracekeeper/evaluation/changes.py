"""What became different for one item between two runs: status, scores, output. Plain data, and which of it is worse."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from tracekeeper.evaluation.accounts import score_of
from tracekeeper.evaluation.facts import MetricFacts
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.reading.columns import json_text
from tracekeeper.statistics import average
from tracekeeper.types import ItemStatus, ScoreStatus

Verdict = Literal["regressed", "improved", "changed", "same"]

DIFF_LINES = 2_000
"""Lines of an output that a difference looks at; comparing takes time that grows with their square."""

_SAME = 1e-9


class ScoreChange(msgspec.Struct, frozen=True, kw_only=True):
    """One metric on one item, before and after.

    Attributes
    ----------
    before, after:
        The value; the mean of several calls. ``None`` beside a status other than ``scored``.
    status_before, status_after:
        ``scored`` where there is a value, else the status of the first call's score.
    size:
        How much better it became (negative: worse), as a share of the metric's range; ``None`` where that cannot be
        said (a label, a value that is missing on one side).
    verdict:
        A value that was there and is not any more is ``regressed``, the contrary ``improved``; another label
        ``changed``.
    """

    name: str
    before: float | bool | str | None
    after: float | bool | str | None
    status_before: ScoreStatus
    status_after: ScoreStatus
    size: float | None
    verdict: Verdict


class ItemChange(msgspec.Struct, frozen=True, kw_only=True):
    """One item in both runs.

    Attributes
    ----------
    item_id:
        Of the item.
    before, after:
        Its calls in the baseline and in the run.
    scores:
        By metric.
    verdict:
        ``regressed`` when anything became worse (a call that failed, a score that fell or is missing), else
        ``improved`` when anything became better, else ``changed`` when labels or the output differ, else ``same``.
    size:
        Of the worst of it for a regressed item, of the best for an improved one, as a share of the metric's range.
    """

    item_id: str
    before: tuple[ItemResult, ...]
    after: tuple[ItemResult, ...]
    scores: dict[str, ScoreChange]
    verdict: Verdict
    size: float

    @property
    def diff(self) -> str:
        """What is different in the output of the first call, as a unified diff; empty when it is the same."""
        return output_diff(self.before[0], self.after[0])


def item_change(
    before: Sequence[ItemResult],
    after: Sequence[ItemResult],
    facts: Mapping[str, MetricFacts],
    names: Sequence[str],
    widths: Mapping[str, float],
) -> ItemChange:
    """Compare the calls of one item. ``widths``: the range of each metric, which sizes are shares of."""
    scores = {name: score_change(before, after, name, facts.get(name), widths.get(name, 0.0)) for name in names}
    # A score that was lost or found weighs as much as the whole range of its metric.
    lost = [-1.0 if change.after is None else 1.0 for change in scores.values() if _one_sided(change)]
    sizes = [*(change.size for change in scores.values() if change.size is not None), *lost]
    verdicts = {change.verdict for change in scores.values()}
    # A call that failed before and does not now is an improvement of the whole range, and the other way round.
    ended = _ok_share(after) - _ok_share(before)
    if abs(ended) > _SAME:
        sizes.append(ended)
        verdicts.add("improved" if ended > 0 else "regressed")
    verdict: Verdict = "same"
    if "regressed" in verdicts:
        verdict = "regressed"
    elif "improved" in verdicts:
        verdict = "improved"
    elif "changed" in verdicts or before[0].output != after[0].output:
        verdict = "changed"
    size = {"regressed": min([*sizes, 0.0]), "improved": max([*sizes, 0.0])}.get(verdict, 0.0)
    return ItemChange(
        item_id=after[0].item_id, before=tuple(before), after=tuple(after), scores=scores, verdict=verdict, size=size
    )


def score_change(
    before: Sequence[ItemResult], after: Sequence[ItemResult], name: str, facts: MetricFacts | None, width: float
) -> ScoreChange:
    """Compare one metric on the calls of one item."""
    old, old_status = value_of(before, name)
    new, new_status = value_of(after, name)
    size: float | None = None
    verdict: Verdict = "same"
    if isinstance(old, str) or isinstance(new, str):
        verdict = "changed" if old != new else "same"
    elif old is not None and new is not None:
        better = (float(old) - float(new)) if facts is not None and facts.lower_is_better else (float(new) - float(old))
        size = better / width if width else 0.0
        if not math.isfinite(size):  # numbers whose difference no float holds
            size = math.copysign(1.0, better)
        verdict = "same" if abs(better) <= _SAME else "improved" if better > 0 else "regressed"
    if (old is None) != (new is None):
        verdict = "regressed" if new is None else "improved"
    return ScoreChange(
        name=name, before=old, after=new, status_before=old_status, status_after=new_status, size=size, verdict=verdict
    )


def value_of(calls: Sequence[ItemResult], name: str) -> tuple[float | bool | str | None, ScoreStatus]:
    """One value for the calls of an item: the only one, the mean of several, the most frequent label."""
    scores = [score_of(call, name) for call in calls]
    values: list[Any] = [score.value for score in scores if score.status is ScoreStatus.SCORED]
    if not values:
        return None, scores[0].status
    if any(isinstance(value, str) for value in values):
        labels = [str(value) for value in values]
        return max(labels, key=labels.count), ScoreStatus.SCORED
    if len(values) == 1:
        return values[0], ScoreStatus.SCORED
    return average([*map(float, values)]), ScoreStatus.SCORED


def output_text(result: ItemResult) -> str:
    """An output as text with lines: text as it is, anything else as indented JSON, of a failed call its error."""
    if result.status is not ItemStatus.OK:
        said = result.error or result.reason
        return f"{result.status}: {said}" if said else str(result.status)
    return result.output if isinstance(result.output, str) else json_text(result.output, indent=2)


def output_diff(before: ItemResult, after: ItemResult) -> str:
    """A unified diff of two outputs; of long ones the first ``DIFF_LINES`` lines, and it says so.

    Example
    -------
    >>> old = ItemResult(item_id="a", status=ItemStatus.OK, output="Dublin")
    >>> print(output_diff(old, ItemResult(item_id="a", status=ItemStatus.OK, output="Cork")))
    --- baseline
    +++ this run
    @@ -1 +1 @@
    -Dublin
    +Cork
    """
    old, new = output_text(before), output_text(after)
    if old == new:
        return ""
    first, second = old.splitlines(), new.splitlines()
    cut = max(len(first), len(second)) > DIFF_LINES
    lines = difflib.unified_diff(first[:DIFF_LINES], second[:DIFF_LINES], "baseline", "this run", lineterm="", n=2)
    return "\n".join([*lines, *([f"(only the first {DIFF_LINES:,} lines were compared)"] if cut else [])])


def _one_sided(change: ScoreChange) -> bool:
    return (change.before is None) != (change.after is None)


def _ok_share(calls: Sequence[ItemResult]) -> float:
    return sum(call.ok for call in calls) / len(calls)

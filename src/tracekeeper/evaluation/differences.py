"""One metric in two runs: by how much it differs over the items of both, and whether that is more than noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from tracekeeper.evaluation.accounts import Kind, kind_of
from tracekeeper.evaluation.changes import value_of
from tracekeeper.evaluation.facts import MetricFacts
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.statistics import Interval, PairedDifference, average, holm, mcnemar, paired_booleans, paired_numbers

ALPHA = 0.05
"""A difference with a smaller p is said to be more than noise."""


Pair = tuple[Sequence[ItemResult], Sequence[ItemResult]]
"""The calls of one item, before and after."""


class MetricComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One metric in two runs, over the items that both have a value for.

    Attributes
    ----------
    name, direction:
        The metric's; ``None``: its direction is not known and taken as higher is better.
    kind:
        ``number``, ``boolean``, ``label`` or ``none``.
    pairs:
        Items with a value in both runs.
    before, after, difference:
        Means over these items, and by how much the second is above the first; ``None`` for labels and without pairs.
    interval:
        Of the difference, 95 % confidence.
    p, p_adjusted:
        How probable such a difference would be without a true one; the second allows for the number of metrics compared
        (Holm).
    method:
        How interval and p were found.
    improved, regressed, same:
        Items by what became of their value; of labels ``same`` and ``changed``.
    only_before, only_after, neither:
        Items in both runs that have a value in one of them, or in none.
    labels:
        Of labels: how often each was given before and after.
    versions:
        The metric's versions in both runs when they differ: the difference may be the metric's.
    """

    name: str
    direction: str | None = None
    kind: Kind = "none"
    pairs: int = 0
    before: float | None = None
    after: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    p: float | None = None
    p_adjusted: float | None = None
    method: str = ""
    improved: int = 0
    regressed: int = 0
    changed: int = 0
    same: int = 0
    only_before: int = 0
    only_after: int = 0
    neither: int = 0
    labels: dict[str, tuple[int, int]] = {}
    versions: tuple[str, str] | None = None

    @property
    def gain(self) -> float | None:
        """By how much it became better: the difference, with its sign turned where lower is better."""
        if self.difference is None:
            return None
        return -self.difference if self.direction == "minimize" else self.difference

    @property
    def significant(self) -> bool:
        """Whether the difference is more than noise: p is below 0.05."""
        return self.p is not None and self.p < ALPHA

    @property
    def statement(self) -> str:
        """What the difference says, in words."""
        if not self.pairs:
            return "nothing to compare"
        if self.p is None:
            return "too few items to tell"
        if self.difference == 0 or (self.kind == "label" and not self.changed):
            return "no difference"
        if not self.significant:
            return "a difference within noise"
        if self.gain is None:
            return "more than noise"
        return "better, more than noise" if self.gain > 0 else "worse, more than noise"


def metric_comparison(
    pairs: Sequence[Pair], name: str, facts: MetricFacts | None = None, versions: tuple[str, str] | None = None
) -> MetricComparison:
    """Compare one metric over the items of both runs."""
    values = [(value_of(before, name)[0], value_of(after, name)[0]) for before, after in pairs]
    known: list[tuple[Any, Any]] = [(old, new) for old, new in values if old is not None and new is not None]
    kind = kind_of([value for pair in known for value in pair])
    common = MetricComparison(
        name=name,
        direction=facts.direction if facts else None,
        kind=kind,
        pairs=len(known),
        only_before=sum(old is not None and new is None for old, new in values),
        only_after=sum(old is None and new is not None for old, new in values),
        neither=sum(old is None and new is None for old, new in values),
        versions=versions,
    )
    if kind == "none":
        return common
    if kind == "label":
        return msgspec.structs.replace(common, **_of_labels([(str(old), str(new)) for old, new in known]))
    old, new = [before for before, _ in known], [after for _, after in known]
    found = paired_booleans(old, new) if kind == "boolean" else _paired([*map(float, old)], [*map(float, new)])
    ups = sum(after - before > 1e-9 for before, after in zip(map(float, old), map(float, new), strict=True))
    downs = sum(before - after > 1e-9 for before, after in zip(map(float, old), map(float, new), strict=True))
    lower = facts is not None and facts.lower_is_better
    return msgspec.structs.replace(
        common,
        before=average([*map(float, old)]),
        after=average([*map(float, new)]),
        difference=found.difference,
        interval=found.interval,
        p=found.p,
        method=found.method,
        improved=downs if lower else ups,
        regressed=ups if lower else downs,
        same=len(known) - ups - downs,
    )


def _paired(old: list[float], new: list[float]) -> PairedDifference:
    """Numbers that are all yes or no (1, 0) are compared as such."""
    if all(value in (0.0, 1.0) for value in (*old, *new)):
        return paired_booleans([*map(bool, old)], [*map(bool, new)])
    return paired_numbers(old, new)


def _of_labels(known: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Labels have no better and worse; each is tested by itself (exact McNemar), times their number (Bonferroni)."""
    before, after = Counter(old for old, _ in known), Counter(new for _, new in known)
    labels = list(dict.fromkeys([label for label, _ in (before + after).most_common()]))
    tests = [
        mcnemar(sum(new == label != old for old, new in known), sum(old == label != new for old, new in known))
        for label in labels
    ]
    same = sum(old == new for old, new in known)
    return {
        "labels": {label: (before[label], after[label]) for label in labels},
        # Two labels are two sides of one question.
        "p": min(1.0, min(tests) * (1 if len(labels) <= 2 else len(labels))),
        "method": "exact McNemar test of each label, Bonferroni",
        "changed": len(known) - same,
        "same": same,
    }


def adjusted(metrics: Sequence[MetricComparison]) -> list[MetricComparison]:
    """The same with p-values that allow for the number of metrics."""
    tested = [metric for metric in metrics if metric.p is not None]
    adjusted = dict(
        zip(
            (metric.name for metric in tested),
            holm([metric.p for metric in tested if metric.p is not None]),
            strict=True,
        )
    )
    return [msgspec.structs.replace(metric, p_adjusted=adjusted.get(metric.name)) for metric in metrics]


def width(pairs: Sequence[Pair], name: str, facts: MetricFacts | None) -> float:
    """The range that sizes are shares of: the metric's, else that of the values seen."""
    if facts is not None and facts.low is not None and facts.high is not None:
        return facts.high - facts.low
    values = [value_of(calls, name)[0] for pair in pairs for calls in pair]
    numbers = [float(value) for value in values if value is not None and not isinstance(value, str)]
    return max(numbers) - min(numbers) if numbers else 0.0

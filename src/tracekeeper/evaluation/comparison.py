"""Two runs over the same items: what became better or worse, and whether that is more than noise.

Items are matched by id, and only items whose fields are the same count: with another input another result is no news.
Of each metric the *differences of the items* are looked at, not the two means: what is hard for both runs cancels
out, and a difference shows with far fewer items.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import msgspec

from tracekeeper.evaluation.accounts import Kind, by_item, kind_of, metric_names
from tracekeeper.evaluation.changes import ItemChange, item_change, value_of
from tracekeeper.evaluation.facts import MetricFacts, RunFacts
from tracekeeper.evaluation.reports import difference
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.reading.columns import json_text
from tracekeeper.reading.storable import storable
from tracekeeper.render import should_color
from tracekeeper.statistics import Interval, PairedDifference, average, holm, mcnemar, paired_booleans, paired_numbers

if TYPE_CHECKING:
    from tracekeeper.evaluation.results import Results

ALPHA = 0.05
"""A difference with a smaller p is said to be more than noise."""


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


class Comparison:
    """What is different between a run and its baseline.

    Attributes
    ----------
    facts, baseline:
        Of the run and of its baseline.
    metrics:
        A ``MetricComparison`` for each metric of either run.
    items:
        An ``ItemChange`` for each item of both runs with the same fields: regressed ones first, the worst first, then
        improved ones, the best first, then changed ones, then the others.
    added, removed:
        Ids of items that only the run, or only the baseline, has.
    changed_inputs:
        Ids of items whose fields differ; they are in no difference.
    """

    def __init__(
        self,
        facts: RunFacts,
        baseline: RunFacts,
        metrics: Mapping[str, MetricComparison],
        items: Sequence[ItemChange],
        *,
        added: Sequence[str] = (),
        removed: Sequence[str] = (),
        changed_inputs: Sequence[str] = (),
    ) -> None:
        self.facts = facts
        self.baseline = baseline
        self.metrics = dict(metrics)
        self.items = list(items)
        self.added = list(added)
        self.removed = list(removed)
        self.changed_inputs = list(changed_inputs)

    @property
    def regressed(self) -> list[ItemChange]:
        """Items of which anything became worse, the worst first."""
        return [change for change in self.items if change.verdict == "regressed"]

    @property
    def improved(self) -> list[ItemChange]:
        """Items of which something became better and nothing worse, the best first."""
        return [change for change in self.items if change.verdict == "improved"]

    @property
    def significant(self) -> list[MetricComparison]:
        """Metrics whose difference is more than noise."""
        return [metric for metric in self.metrics.values() if metric.significant]

    def text(self, *, rows: int = 10, width: int | None = None, color: bool | None = None) -> str:
        """What ``print`` prints; of the regressed and of the improved items at most ``rows``."""
        return difference.text(self, rows=rows, width=width, color=color)

    def print(
        self, *, rows: int = 10, file: IO[str] | None = None, width: int | None = None, color: bool | None = None
    ) -> None:
        """Print the metrics, then the regressed and the improved items, at most ``rows`` of each."""
        file = file or sys.stdout
        print(self.text(rows=rows, width=width, color=should_color(file) if color is None else color), file=file)

    def to_markdown(self, *, rows: int = 10) -> str:
        """The same as Markdown, e.g. for a pull request."""
        return difference.markdown(self, rows=rows)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, items as ids with their sizes."""
        return difference.plain(self)

    def __repr__(self) -> str:
        return self.text(rows=5, color=False)

    def _repr_html_(self) -> str:
        return difference.notebook(self)


def compare(current: Results, baseline: Results) -> Comparison:
    """Compare a run with its baseline; see ``Results.compare``.

    Example
    -------
    >>> from tracekeeper.evaluation.results import Results
    >>> from tracekeeper.types import ItemStatus, Score
    >>> def run(*values):
    ...     return Results([
    ...         ItemResult(item_id=f"{n}", status=ItemStatus.OK, scores={"exact": Score(value)})
    ...         for n, value in enumerate(values)
    ...     ])
    >>> found = compare(run(True, True, False, True), run(True, False, True, True))
    >>> found.metrics["exact"].difference, found.metrics["exact"].statement
    (0.0, 'no difference')
    >>> [change.item_id for change in found.regressed], [change.item_id for change in found.improved]
    (['2'], ['1'])
    """
    now, then = by_item(current.items), by_item(baseline.items)
    both = [item for item in now if item in then]
    changed = [item for item in both if not _alike(now[item][0].fields, then[item][0].fields)]
    left_out = set(changed)
    pairs = [(then[item], now[item]) for item in both if item not in left_out]
    facts = {**baseline.metrics, **current.metrics}
    names = metric_names([*current.items, *baseline.items], facts)
    metrics = _adjusted(
        [metric_comparison(pairs, name, facts.get(name), _versions(current, baseline, name)) for name in names]
    )
    widths = {name: _width(pairs, name, facts.get(name)) for name in names}
    items = [item_change(before, after, facts, names, widths) for before, after in pairs]
    return Comparison(
        current.facts,
        baseline.facts,
        {metric.name: metric for metric in metrics},
        sorted(items, key=_rank),
        added=[item for item in now if item not in then],
        removed=[item for item in then if item not in now],
        changed_inputs=changed,
    )


Pair = tuple[Sequence[ItemResult], Sequence[ItemResult]]


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


def _alike(one: Any, other: Any) -> bool:
    """Whether fields are the same; as text where they are not equal, because NaN equals nothing."""
    return bool(one == other) or json_text(storable(one)) == json_text(storable(other))


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


def _adjusted(metrics: Sequence[MetricComparison]) -> list[MetricComparison]:
    tested = [metric for metric in metrics if metric.p is not None]
    adjusted = dict(
        zip(
            (metric.name for metric in tested),
            holm([metric.p for metric in tested if metric.p is not None]),
            strict=True,
        )
    )
    return [msgspec.structs.replace(metric, p_adjusted=adjusted.get(metric.name)) for metric in metrics]


def _versions(current: Results, baseline: Results, name: str) -> tuple[str, str] | None:
    old, new = (_version(run, name) for run in (baseline, current))
    return (old, new) if old and new and old != new else None


def _version(run: Results, name: str) -> str:
    facts = run.metrics.get(name)
    if facts is not None and facts.version:
        return facts.version
    found = (result.scores[name].metric_version for result in run.items if name in result.scores)
    return next((version for version in found if version), "")


def _width(pairs: Sequence[Pair], name: str, facts: MetricFacts | None) -> float:
    """The range that sizes are shares of: the metric's, else that of the values seen."""
    if facts is not None and facts.low is not None and facts.high is not None:
        return facts.high - facts.low
    values = [value_of(calls, name)[0] for pair in pairs for calls in pair]
    numbers = [float(value) for value in values if value is not None and not isinstance(value, str)]
    return max(numbers) - min(numbers) if numbers else 0.0


_ORDER = {"regressed": 0, "improved": 1, "changed": 2, "same": 3}


def _rank(change: ItemChange) -> tuple[int, float]:
    """Regressed ones first; in each part the largest first. Sorting keeps dataset order among equals."""
    return _ORDER[change.verdict], -abs(change.size)

"""Two runs over the same items: what became better or worse, and whether that is more than noise.

Items are matched by id, and only items whose fields are the same count: with another input another result is no news.
Of each metric the *differences of the items* are looked at, not the two means: what is hard for both runs cancels
out, and a difference shows with far fewer items.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from tracekeeper.evaluation.accounts import by_item, metric_names
from tracekeeper.evaluation.changes import ItemChange, item_change
from tracekeeper.evaluation.differences import MetricComparison, adjusted, metric_comparison, width
from tracekeeper.evaluation.facts import RunFacts
from tracekeeper.evaluation.reports import difference
from tracekeeper.reading.columns import json_text
from tracekeeper.reading.storable import storable
from tracekeeper.render import should_color

if TYPE_CHECKING:
    from tracekeeper.evaluation.results import Results


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
    >>> from tracekeeper.evaluation.result import ItemResult
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
    metrics = adjusted(
        [metric_comparison(pairs, name, facts.get(name), _versions(current, baseline, name)) for name in names]
    )
    widths = {name: width(pairs, name, facts.get(name)) for name in names}
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


def _alike(one: Any, other: Any) -> bool:
    """Whether fields are the same; as text where they are not equal, because NaN equals nothing."""
    return bool(one == other) or json_text(storable(one)) == json_text(storable(other))


def _versions(current: Results, baseline: Results, name: str) -> tuple[str, str] | None:
    old, new = (_version(run, name) for run in (baseline, current))
    return (old, new) if old and new and old != new else None


def _version(run: Results, name: str) -> str:
    facts = run.metrics.get(name)
    if facts is not None and facts.version:
        return facts.version
    found = (result.scores[name].metric_version for result in run.items if name in result.scores)
    return next((version for version in found if version), "")


_ORDER = {"regressed": 0, "improved": 1, "changed": 2, "same": 3}


def _rank(change: ItemChange) -> tuple[int, float]:
    """Regressed ones first; in each part the largest first. Sorting keeps dataset order among equals."""
    return _ORDER[change.verdict], -abs(change.size)

"""What the scores of a run say: for each metric a mean with its interval, and over how many calls it could be said.

Pure functions of results. With several calls an item (repeats) everything that is said of the population of items
rests on one value an item, their mean: calls of the same item are no independent draws.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tracekeeper.evaluation.accounts import Kind, by_item, kind_of, metric_names, score_of
from tracekeeper.evaluation.facts import MetricFacts
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.statistics import Interval, average, bootstrap_mean, pass_at_k, pass_hat_k, quantile, spread, wilson
from tracekeeper.statistics.bootstrap import SMALL
from tracekeeper.types import ItemStatus, ScoreStatus

REASONS = 5
"""Different reasons that are kept for scores without a value, the most frequent first."""

LEVEL = 0.95
"""Confidence of every interval."""


class Reason(msgspec.Struct, frozen=True):
    """Why some scores have no value, and how many."""

    status: ScoreStatus
    text: str
    n: int


class MetricSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one metric says of a run.

    Attributes
    ----------
    name, version, direction:
        The metric's.
    kind:
        ``number``; ``boolean``: the mean is the share that is true; ``label``: see ``labels``; ``none``: no value.
    mean:
        Of the items' means; ``None`` for labels and without a value.
    interval, method:
        Of the mean with 95 % confidence, and how it was found: ``Wilson`` where each item has one value and all are
        yes or no (true, false, 1, 0), else ``bootstrap`` over the items, ``Student's t`` for fewer than 8 items.
        ``None``: too few.
    low, high:
        The smallest and the largest value.
    counts:
        Scores by status. Their sum, ``n``, is the number of calls.
    reasons:
        Why scores have no value, the most frequent first.
    labels:
        How often each label was given.
    items:
        Items that have a value.
    spread:
        Of calls of the same item: standard deviation within items. ``None``: no item has two values.
    pass_at, pass_hat:
        Of yes or no with repeats: the probability that at least one of k calls is true, that all k are, by k.
    pass_items:
        Over how many items, by k: those with at least k values.
    cost:
        Of judging, in US dollars; ``None``: nothing was reported.
    """

    name: str
    version: str = ""
    direction: str | None = None
    kind: Kind = "none"
    mean: float | None = None
    interval: Interval | None = None
    method: str = ""
    low: float | None = None
    high: float | None = None
    counts: dict[str, int] = {}
    reasons: tuple[Reason, ...] = ()
    labels: dict[str, int] = {}
    items: int = 0
    spread: float | None = None
    pass_at: dict[int, float] = {}
    pass_hat: dict[int, float] = {}
    pass_items: dict[int, int] = {}
    cost: float | None = None

    @property
    def n(self) -> int:
        """All calls, whatever the status of their score."""
        return sum(self.counts.values())

    @property
    def scored(self) -> int:
        """Calls that have a value."""
        return self.counts.get(ScoreStatus.SCORED.value, 0)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What a run, or a group of its items, was and said.

    Attributes
    ----------
    items, calls, repeats:
        Different items, calls of the task, and the largest number of calls of one item.
    statuses:
        Calls by status.
    latency_p50, latency_p95:
        Of calls that returned, in seconds; ``None``: none did.
    cost, cost_calls, input_tokens, output_tokens:
        Sums of what was reported (US dollars), by so many calls; ``None``: by none.
    called, called_again:
        How often the task was called, retries and calls that were made again counted; with how many of the calls here
        more than once.
    earlier_cost:
        Of calls that were made again, in US dollars, which ``cost`` has not; ``None``: nothing was reported.
    metrics:
        By name.
    """

    items: int
    calls: int
    repeats: int
    statuses: dict[str, int] = {}
    latency_p50: float | None = None
    latency_p95: float | None = None
    cost: float | None = None
    cost_calls: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    called: int = 0
    called_again: int = 0
    earlier_cost: float | None = None
    metrics: dict[str, MetricSummary] = {}


def totals(
    results: Sequence[ItemResult], facts: Mapping[str, MetricFacts] | None = None, names: Iterable[str] | None = None
) -> Totals:
    """Sum up calls.

    Parameters
    ----------
    results:
        Calls, in any order.
    facts:
        Of the metrics of the run, by name. A metric that is named here is in the result though no call was judged by
        it.
    names:
        Which metrics; default: those of ``facts`` and all that scores name.

    Example
    -------
    >>> from tracekeeper.types import Score
    >>> def call(id, value): return ItemResult(item_id=id, status=ItemStatus.OK, scores={"exact": Score(value)})
    >>> found = totals([call("a", True), call("b", False), call("c", True)])
    >>> exact = found.metrics["exact"]
    >>> exact.kind, round(exact.mean, 2), exact.method, exact.n
    ('boolean', 0.67, 'Wilson', 3)
    """
    facts = facts or {}
    grouped = by_item(results)
    chosen = metric_names(results, facts) if names is None else list(names)
    seconds = [result.seconds for result in results if result.ok and result.seconds is not None]
    costs = [result.cost for result in results if result.cost is not None]
    called = [result.called for result in results]
    before = [one.cost for result in results for one in result.earlier if one.cost is not None]
    return Totals(
        called=sum(called),
        called_again=sum(n > 1 for n in called),
        earlier_cost=math.fsum(before) if before else None,
        items=len(grouped),
        calls=len(results),
        repeats=max(map(len, grouped.values()), default=0),
        statuses=_ordered(Counter(str(result.status) for result in results), ItemStatus),
        latency_p50=quantile(seconds, 0.5),
        latency_p95=quantile(seconds, 0.95),
        cost=math.fsum(costs) if costs else None,
        cost_calls=len(costs),
        input_tokens=_sum(result.input_tokens for result in results),
        output_tokens=_sum(result.output_tokens for result in results),
        metrics={name: metric_summary(grouped, name, facts.get(name)) for name in chosen},
    )


def metric_summary(
    grouped: Mapping[str, Sequence[ItemResult]], name: str, facts: MetricFacts | None = None
) -> MetricSummary:
    """What one metric says of calls, given by item."""
    scores = [[score_of(result, name) for result in calls] for calls in grouped.values()]
    every = [score for of_item in scores for score in of_item]
    values: list[list[Any]] = [
        [score.value for score in of_item if score.status is ScoreStatus.SCORED] for of_item in scores
    ]
    values = [of_item for of_item in values if of_item]
    kind = kind_of([value for of_item in values for value in of_item])
    costs = [score.cost for score in every if score.cost is not None]
    why = Counter(
        (score.status, score.error or score.reason or "no reason given")
        for score in every
        if score.status is not ScoreStatus.SCORED
    )
    common = MetricSummary(
        name=name,
        version=facts.version if facts else next((score.metric_version for score in every if score.metric_version), ""),
        direction=facts.direction if facts else None,
        kind=kind,
        counts=_ordered(Counter(str(score.status) for score in every), ScoreStatus, first=ScoreStatus.SCORED),
        reasons=tuple(Reason(status, text, n) for (status, text), n in why.most_common(REASONS)),
        items=len(values),
        cost=math.fsum(costs) if costs else None,
    )
    if kind == "label":
        labels = Counter(str(value) for of_item in values for value in of_item)
        return msgspec.structs.replace(common, labels=dict(labels.most_common()))
    if kind == "none":
        return common
    return msgspec.structs.replace(common, **_of_numbers([[float(value) for value in of_item] for of_item in values]))


def _of_numbers(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """What is said of numbers, given by item."""
    means = [average(of_item) for of_item in values]
    yes_or_no = all(value in (0.0, 1.0) for of_item in values for value in of_item)
    interval, method = interval_of(means, yes_or_no=yes_or_no and all(len(of_item) == 1 for of_item in values))
    found: dict[str, Any] = {
        "mean": average(means),
        "interval": interval,
        "method": method,
        "low": min(map(min, values)),
        "high": max(map(max, values)),
        "spread": spread(values),
    }
    if yes_or_no:
        found.update(_passes([(sum(map(int, of_item)), len(of_item)) for of_item in values]))
    return found


def interval_of(values: Sequence[float], *, yes_or_no: bool) -> tuple[Interval | None, str]:
    """The interval of the mean of one value an item, and the name of its method."""
    if yes_or_no:
        return wilson(sum(map(int, values)), len(values), LEVEL), "Wilson"
    from_t = len(values) < SMALL
    return bootstrap_mean(values, LEVEL), "Student's t" if from_t else "bootstrap"


def _passes(counted: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """pass@k and pass^k from (true, calls) of each item; for k beyond 8 only powers of two and the largest."""
    most = max(n for _, n in counted)
    if most < 2:
        return {}
    ks = [k for k in range(1, most + 1) if k <= 8 or k == most or k & (k - 1) == 0]
    pass_at, pass_hat, items = {}, {}, {}
    for k in ks:
        enough = [(true, n) for true, n in counted if n >= k]
        items[k] = len(enough)
        pass_at[k] = math.fsum(pass_at_k(true, n, k) for true, n in enough) / len(enough)
        pass_hat[k] = math.fsum(pass_hat_k(true, n, k) for true, n in enough) / len(enough)
    return {"pass_at": pass_at, "pass_hat": pass_hat, "pass_items": items}


def _ordered(counted: Counter[str], statuses: type[Any], first: Any = None) -> dict[str, int]:
    order = [*([str(first)] if first else []), *(str(status) for status in statuses)]
    return {status: counted[status] for status in dict.fromkeys(order) if counted[status]}


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None

"""What a rule would make of everything that is stored: counted, with nothing judged or written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tracekeeper.scoring.rules.plans import PlannedMetric, plan_of
from tracekeeper.scoring.rules.sampling import is_sampled, key_of

if TYPE_CHECKING:
    from tracekeeper.store.rules.definitions import RuleRow
    from tracekeeper.tracing.keeper import Keeper


class Matching(NamedTuple):
    """What a rule would make of everything that is stored."""

    records: int
    """Records that are stored."""
    matched: int
    """Targets (records, spans or sessions) that its filter selects."""
    sampled: int
    """Of these, how many its sample selects."""
    evaluations: int
    """Evaluations that they would take, without a budget; what has its score already takes none."""


def preview(keeper: Keeper, row: RuleRow) -> Matching:
    """What a rule would make of everything that is stored; see :meth:`Rule.matching`."""
    plan = plan_of(row)
    store = keeper.store()
    if plan.searches:
        store.index_search(limit=1 << 62, seconds=None)
    names = [(name, metric.version, metric.source) for metric in plan.metrics for name in metric.scores]
    matched = sampled = evaluations = 0
    with store.rules.targets(row, plan.node, plan.spans, names) as found:
        for target in found:
            matched += 1
            if is_sampled(row.name, key_of(row.target, *target[:3]), row.sample):
                sampled += 1
                evaluations += len(plan.metrics) if not target.have else _lacking(plan.metrics, target.have)
    return Matching(store.rules.matches_all(None), matched, sampled, evaluations)


def _lacking(metrics: Sequence[PlannedMetric], have: int) -> int:
    """Metrics that lack a score, of a target that has some: exact where each metric has one score."""
    lacking = sum(len(metric.scores) for metric in metrics) - have
    return min(lacking, len(metrics))

"""A stored rule, read: its filter parsed, its metrics as plain data. Nothing is imported and nobody's code is run.

A process that only applies rules need not have the metrics: it writes pending scores with the metrics' names and
versions, and whoever can compute them claims them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from tracekeeper.store.filter import Node, parse
from tracekeeper.store.filter.nodes import And, Compare, Not, OneOf, Or, Presence
from tracekeeper.types import MetricError, TracekeeperError

if TYPE_CHECKING:
    from tracekeeper.store.rules.definitions import RuleRow

EVERYTHING = "*"
"""The filter of a rule that judges everything."""


class PlannedMetric(NamedTuple):
    """What a rule has to know of a metric."""

    name: str
    version: str
    source: str
    scores: tuple[str, ...]
    priority: int


class Plan(NamedTuple):
    """A rule that can be applied."""

    node: Node | None
    """``None``: everything."""
    score_names: frozenset[str]
    """Scores that the filter speaks about."""
    searches: bool
    """Whether it searches for words."""
    spans: dict[str, str]
    metrics: tuple[PlannedMetric, ...]

    @property
    def scores(self) -> int:
        """Scores of one target."""
        return sum(len(metric.scores) for metric in self.metrics)


def plan_of(row: RuleRow) -> Plan:
    """The plan of a stored rule.

    Raises
    ------
    FilterError
        Its filter does not parse (a newer version wrote it).
    MetricError
        Its metrics cannot be read.
    """
    node = node_of(row.filter)
    leaves = [] if node is None else list(leaves_of(node))
    return Plan(
        node,
        frozenset(leaf.field.keys[0] for leaf in leaves if leaf.field.name == "score"),
        any(_searches(leaf) for leaf in leaves),
        orjson.loads(row.spans),
        metrics_of(row),
    )


def node_of(filter: str) -> Node | None:
    """A rule's filter as a tree; ``None`` for everything."""
    return None if filter.strip() == EVERYTHING else parse(filter)


def leaves_of(node: Node) -> Iterator[Compare | OneOf | Presence]:
    """The comparisons of a filter."""
    match node:
        case And(terms) | Or(terms):
            for term in terms:
                yield from leaves_of(term)
        case Not(term):
            yield from leaves_of(term)
        case _:
            yield node


def metrics_of(row: RuleRow) -> tuple[PlannedMetric, ...]:
    """The metrics of a stored rule."""
    try:
        return tuple(_metric(data) for data in orjson.loads(row.metrics))
    except (ValueError, KeyError, TypeError) as error:
        raise MetricError(
            f"the metrics of rule {row.name!r} cannot be read ({type(error).__name__}: {error}); make it again"
        ) from error


def before(row: RuleRow, plan: Plan, rules: Iterable[RuleRow]) -> list[RuleRow]:
    """The rules that must have decided on a record before this one can: older ones that give scores it speaks about.

    Only older ones, so that two rules that speak about each other's scores do not wait for each other for ever. Those
    that are paused or cannot be applied are among them: they go on one day, and lose nothing, and nor does this one.
    """
    if not plan.score_names:
        return []
    found = []
    for other in rules:
        if other.id >= row.id or other.target != "record":
            continue
        try:
            given = {name for metric in metrics_of(other) for name in metric.scores}
        except MetricError:  # it is told where that rule itself is applied
            continue
        if given & plan.score_names:
            found.append(other)
    return found


def held_up_by(row: RuleRow, rules: Iterable[RuleRow]) -> list[str]:
    """Names of the rules that this one waits for, and that decide on nothing at present."""
    try:
        plan = plan_of(row)
    except TracekeeperError:  # it cannot be applied itself, and its own error says why
        return []
    return [other.name for other in before(row, plan, rules) if not other.enabled or other.error is not None]


def _metric(data: dict[str, Any]) -> PlannedMetric:
    return PlannedMetric(
        data["name"], data["version"], data["source"], tuple(data["scores"]), int(data.get("priority", 0))
    )


def _searches(leaf: Compare | OneOf | Presence) -> bool:
    return isinstance(leaf, Compare) and leaf.operator in ("~", "!~") and leaf.field.name in ("input", "output")

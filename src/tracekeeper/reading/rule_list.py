"""``tk.rules``: the rules that are stored, with what they decided and what they spent today."""

from __future__ import annotations

from tracekeeper.reading.columns import Column
from tracekeeper.reading.tables import Table
from tracekeeper.scoring.rules.rule import Rule
from tracekeeper.tracing import runtime


def rules() -> Table[Rule]:
    """Every rule, in the order in which they were made.

    Raises
    ------
    StoreError
        The database cannot be read.

    Example
    -------
    >>> import tracekeeper as tk
    >>> _ = tk.rule("answers", filter='app = "doc-rules"', metrics=["Length"], daily_evaluations=100)
    >>> [(rule.name, rule.daily_evaluations) for rule in tk.rules()]
    [('answers', 100)]
    >>> tk.rules()[0].remove()
    """
    keeper = runtime.keeper()
    return Table([Rule(keeper, row) for row in keeper.store().rules.all()], RULE_COLUMNS, noun="rule")


def state_of(rule: Rule) -> str:
    """Whether it is applied, and why not.

    A rule that cannot be applied says so here, so that no list of rules hides it.
    """
    if not rule.enabled:
        return "paused"
    if rule.error:
        return f"error: {rule.error}"
    others = rule.held_up_by
    return f"waits for {', '.join(map(repr, others))}" if others else "active"


def budget_of(rule: Rule) -> str:
    """What it has spent today, of what it may."""
    parts = []
    if rule.daily_evaluations is not None:
        parts.append(f"{rule.today.evaluations:,} of {rule.daily_evaluations:,} evaluations")
    if rule.daily_cost is not None:
        parts.append(f"${rule.today.cost:.4g} of ${rule.daily_cost:g}")
    return ", ".join(parts) or "no limit"


def budget_cell(rule: Rule) -> str:
    """The same, as short as a table wants it."""
    return budget_of(rule).replace(" evaluations", "")


def metrics_of(rule: Rule) -> str:
    """Its metrics by name."""
    return ", ".join(metric["name"] for metric in rule.metrics)


RULE_COLUMNS: tuple[Column[Rule], ...] = (
    Column("name", lambda rule: rule.name),
    Column("state", state_of),
    Column("target", lambda rule: rule.target, rank=4),
    Column("filter", lambda rule: rule.filter, rank=2),
    Column("metrics", lambda rule: [metric["name"] for metric in rule.metrics], "any", text=metrics_of, rank=1),
    Column("sample", lambda rule: rule.sample, "number", rank=3),
    Column("today", budget_of, text=budget_cell, rank=1),
    Column("matched", lambda rule: rule.matched, "integer", rank=3),
    Column("judged", lambda rule: rule.judged, "integer"),
    Column("not_sampled", lambda rule: rule.not_sampled, "integer", rank=5),
    Column("over_budget", lambda rule: rule.over_budget, "integer", rank=3),
    Column("open", lambda rule: rule.today.open, "integer", rank=3),
    Column("evaluations_today", lambda rule: rule.today.evaluations, "integer", shown=False),
    Column("cost_today", lambda rule: rule.today.cost, "number", shown=False),
    Column("daily_evaluations", lambda rule: rule.daily_evaluations, "integer", shown=False),
    Column("daily_cost", lambda rule: rule.daily_cost, "number", shown=False),
    Column("idle_after", lambda rule: rule.idle_after or None, "number", shown=False),
    Column("spans", lambda rule: rule.spans, "any", shown=False),
    Column("enabled", lambda rule: rule.enabled, "boolean", shown=False),
    Column("error", lambda rule: rule.error, shown=False),
    Column("created", lambda rule: rule.created, "time", shown=False),
    Column("changed", lambda rule: rule.changed, "time", shown=False),
)

"""A comparison as text for a terminal, as Markdown, as HTML for a notebook and as plain data."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tracekeeper.evaluation.changes import ItemChange, ScoreChange, output_text
from tracekeeper.evaluation.reports.markdown import fenced, inline, table_of
from tracekeeper.evaluation.tables import interval_text, value_text
from tracekeeper.reading.columns import Column
from tracekeeper.reading.tables import Table
from tracekeeper.render import clean, plural, show, truncate

if TYPE_CHECKING:
    from tracekeeper.evaluation.comparison import Comparison
    from tracekeeper.evaluation.differences import MetricComparison

NAMED = 5
"""Ids of added, removed and changed items that are named."""

DIFFS = 3
"""Regressed items whose outputs are shown as a difference."""


def text(found: Comparison, *, rows: int, width: int | None, color: bool | None) -> str:
    """Metrics, then regressed items, then improved ones."""
    parts = [headline(found)]
    if found.metrics:
        parts += ["", metrics_table(found).text(width=width, color=color), *closing(found)]
    for title, changes in (("regressed", found.regressed), ("improved", found.improved)):
        if changes:
            shown = changes_table(changes).text(rows=rows, width=width, color=color)
            parts += ["", f"{title} ({len(changes):,}):", shown]
    for change in found.regressed[: min(DIFFS, rows)]:
        if change.diff:
            parts += ["", f"output of {clean(change.item_id)}:", *map(clean, change.diff.splitlines())]
    return "\n".join(parts)


def markdown(found: Comparison, *, rows: int) -> str:
    """The same as Markdown."""
    parts = [f"### {inline(headline(found))}", ""]
    if found.metrics:
        parts += [table_of(metrics_table(found)), "", *(f"{inline(line)}\n" for line in closing(found) if line)]
    for title, changes in (("Regressed", found.regressed), ("Improved", found.improved)):
        if changes:
            parts += [f"#### {title} ({len(changes):,})", "", table_of(changes_table(changes[:rows])), ""]
            if len(changes) > rows:
                parts += [f"… and {len(changes) - rows:,} more", ""]
    for change in found.regressed[: min(DIFFS, rows)]:
        if change.diff:
            parts += [f"Output of {inline(change.item_id)}:", "", fenced(change.diff, "diff"), ""]
    return "\n".join(parts).rstrip() + "\n"


def notebook(found: Comparison) -> str:
    """The same as HTML for a notebook."""
    parts = [f"<p><b>{html.escape(headline(found))}</b></p>"]
    if found.metrics:
        parts.append(metrics_table(found)._repr_html_())
    parts += [f"<p>{html.escape(line)}</p>" for line in closing(found) if line]
    for title, changes in (("regressed", found.regressed), ("improved", found.improved)):
        if changes:
            parts.append(f"<p>{title} ({len(changes):,}):</p>{changes_table(changes)._repr_html_()}")
    return "".join(parts)


def plain(found: Comparison) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "run": msgspec.to_builtins(found.facts),
        "baseline": msgspec.to_builtins(found.baseline),
        "metrics": {
            name: {
                **msgspec.to_builtins(metric),
                "gain": metric.gain,
                "significant": metric.significant,
                "statement": metric.statement,
            }
            for name, metric in found.metrics.items()
        },
        "items": [
            {
                "item_id": change.item_id,
                "verdict": change.verdict,
                "size": change.size,
                "scores": msgspec.to_builtins(change.scores),
            }
            for change in found.items
            if change.verdict != "same"
        ],
        "same": sum(change.verdict == "same" for change in found.items),
        "added": found.added,
        "removed": found.removed,
        "changed_inputs": found.changed_inputs,
    }


def headline(found: Comparison) -> str:
    """Which runs, and over how many items."""
    new, old = found.facts, found.baseline
    names = (new.title, old.title) if new.title != old.title or not (new.id and old.id) else (new.id, old.id)
    return (
        f"{clean(names[0])} against {clean(names[1])}: {plural(len(found.items), 'item')}, "
        f"{len(found.regressed):,} regressed, {len(found.improved):,} improved"
    )


def closing(found: Comparison) -> list[str]:
    """What must be known of the figures."""
    lines = []
    for ids, said in (
        (found.added, "only in this run"),
        (found.removed, "only in the baseline"),
        (found.changed_inputs, "with other fields than in the baseline, left out"),
    ):
        if ids:
            more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
            lines.append(f"{plural(len(ids), 'item')} {said}: {', '.join(map(clean, ids[:NAMED]))}{more}")
    for metric in found.metrics.values():
        if metric.versions:
            old, new = metric.versions
            lines.append(f"{metric.name} itself changed (version {old}, now {new}): the difference may be the metric's")
        if metric.only_before or metric.only_after:
            lines.append(
                f"{metric.name} has a value only in the baseline on {plural(metric.only_before, 'item')}, "
                f"only in this run on {metric.only_after:,}"
            )
        if metric.direction is None and metric.kind == "number":
            lines.append(f"{metric.name} does not say its direction: higher is taken as better")
    tested = [metric for metric in found.metrics.values() if metric.p is not None]
    lost = [metric.name for metric in tested if metric.significant and (metric.p_adjusted or 0) >= 0.05]
    if lost:
        lines.append(
            f"{len(tested)} metrics were compared; allowing for that (Holm), {', '.join(lost)} could be chance"
        )
    return ["", *lines] if lines else []


def metrics_table(found: Comparison) -> Table[MetricComparison]:
    """A row for each metric."""
    columns: list[Column[MetricComparison]] = [
        Column("metric", lambda row: row.name),
        Column("baseline", lambda row: row.before, "number", lambda row: _side(row, 0)),
        Column("this run", lambda row: row.after, "number", lambda row: _side(row, 1)),
        Column("difference", lambda row: row.difference, "number", _difference),
        Column("95 % interval", lambda row: None, text=_interval, rank=1, whole=True),
        Column("p", lambda row: row.p, "number", lambda row: p_text(row.p), rank=1),
        Column("items", lambda row: row.pairs, "integer", rank=3),
        Column("worse", lambda row: row.regressed, "integer", rank=2),
        Column("better", lambda row: row.improved, "integer", rank=4),
        Column("so", lambda row: row.statement, whole=True),
    ]
    return Table(list(found.metrics.values()), columns, noun="metric")


def changes_table(changes: Sequence[ItemChange]) -> Table[ItemChange]:
    """A row for each item."""
    columns: list[Column[ItemChange]] = [
        Column("item", lambda row: row.item_id),
        Column("what", what_changed),
        Column("baseline", lambda row: truncate(clean(output_text(row.before[0])), 200), rank=1),
        Column("this run", lambda row: truncate(clean(output_text(row.after[0])), 200), rank=1),
    ]
    return Table(changes, columns, noun="item")


def what_changed(change: ItemChange) -> str:
    """Status and scores that differ, in words."""
    parts = []
    old, new = change.before[0], change.after[0]
    if old.status is not new.status:
        parts.append(f"{old.status} → {new.status}")
    order = {"regressed": 0, "improved": 1, "changed": 2}
    moved = [score for score in change.scores.values() if score.verdict != "same"]
    parts += [_score_text(score) for score in sorted(moved, key=lambda score: order[score.verdict])]
    return ", ".join(parts) or "output"


def p_text(p: float | None) -> str:
    """A p-value as people read it.

    >>> p_text(0.0321), p_text(0.00002), p_text(None)
    ('0.032', '<0.001', 'none')
    """
    if p is None:
        return "none"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _score_text(score: ScoreChange) -> str:
    before = show(score.before) if score.before is not None else str(score.status_before)
    after = show(score.after) if score.after is not None else str(score.status_after)
    return f"{score.name} {before} → {after}"


def _side(row: MetricComparison, side: int) -> str:
    if row.kind == "label":
        counted = [f"{clean(label) or 'empty'} {pair[side]:,}" for label, pair in list(row.labels.items())[:4]]
        return ", ".join(counted)
    value = row.after if side else row.before
    return "no value" if value is None else value_text(value, row.kind)


def _difference(row: MetricComparison) -> str:
    if row.kind == "label":
        return f"{row.changed:,} changed"
    return "none" if row.difference is None else value_text(row.difference, row.kind, sign=True)


def _interval(row: MetricComparison) -> str:
    if row.kind == "label" or row.difference is None:
        return "none"
    return interval_text(row.interval, row.kind, sign=True)

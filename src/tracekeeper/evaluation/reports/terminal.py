"""Results as people read them in a terminal or a notebook: what the run was, what the metrics say, what went wrong."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tracekeeper.evaluation.accounts import why
from tracekeeper.evaluation.facts import RunFacts
from tracekeeper.evaluation.failing import call_name
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.summary import Totals
from tracekeeper.evaluation.tables import inputs_of, metrics_table, value_text
from tracekeeper.reading.columns import Column, text_of
from tracekeeper.reading.tables import Table
from tracekeeper.render import clean, format_cost, format_duration, format_time, plural, render_key_values, show
from tracekeeper.types import Score

if TYPE_CHECKING:
    from tracekeeper.evaluation.results import Results

FAILURES = 10
"""Failures that are shown unless more are asked for."""


def text(results: Results, *, rows: int | None = None, width: int | None = None, color: bool | None = None) -> str:
    """Facts, metrics, failures."""
    found = results.summary()
    parts = [
        headline(results.facts, found),
        render_key_values(facts_of(results, found), width=width, color=color),
    ]
    if found.metrics:
        parts += ["", metrics_table(found).text(width=width, color=color)]
    failures = results.failures
    if failures:
        table = failures_table(failures)
        shown = FAILURES if rows is None else rows
        parts += ["", f"failures ({len(failures):,}):", table.text(rows=shown, width=width, color=color)]
    if results.facts.note:
        parts += ["", f"note: {clean(results.facts.note)}"]
    return "\n".join(parts)


def notebook(results: Results) -> str:
    """The same as HTML for a notebook."""
    found = results.summary()
    pairs = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(clean(value))}</td></tr>"
        for name, value in facts_of(results, found)
    )
    parts = [f"<p><b>{html.escape(headline(results.facts, found))}</b></p><table>{pairs}</table>"]
    if found.metrics:
        parts.append(metrics_table(found)._repr_html_())
    failures = results.failures
    if failures:
        parts.append(f"<p>failures ({len(failures):,}):</p>{failures_table(failures)._repr_html_()}")
    if results.facts.note:
        parts.append(f"<p>note: {html.escape(results.facts.note)}</p>")
    return "".join(parts)


def headline(facts: RunFacts, found: Totals) -> str:
    """Name, task, dataset and size in a line."""
    task = " ".join(filter(None, (facts.task, facts.task_version)))
    dataset = " ".join(filter(None, (facts.dataset, facts.dataset_version)))
    said = clean(facts.title) + (f": {clean(task)}" if task else "") + (f" over {clean(dataset)}" if dataset else "")
    calls = f", {plural(found.calls, 'call')}" if found.calls != found.items else ""
    return f"{said} · {plural(found.items, 'item')}{calls}"


def facts_of(results: Results, found: Totals, *, kept: bool = False) -> list[tuple[str, str]]:
    """What the run was, and its scores as a whole, as names and values; what was not reported is left out.

    ``kept``: for a file that is read later, to which "5m ago" would be a lie the next day.
    """
    facts, missing = results.facts, results.missing
    statuses = ", ".join(f"{n:,} {status.replace('_', ' ')}" for status, n in found.statuses.items()) or "no calls"
    pairs = [("calls", statuses)]
    if missing:
        pairs.append(("incomplete", f"{missing:,} have not ended"))
    if facts.started is not None:
        took = "" if facts.seconds is None else f", took {format_duration(facts.seconds)}"
        at = datetime.fromtimestamp(facts.started, UTC).strftime("%Y-%m-%d %H:%M UTC")
        pairs.append(("started", f"{at if kept else format_time(facts.started)}{took}"))
    elif facts.seconds is not None:
        pairs.append(("took", format_duration(facts.seconds)))
    if found.called_again:
        more = f"{plural(found.called, 'call')} of the task in all"
        cost = "" if found.earlier_cost is None else f"; those before cost {format_cost(found.earlier_cost)}"
        pairs.append(("called again", f"{found.called_again:,} of {found.calls:,}, {more}{cost}"))
    if found.latency_p50 is not None:
        latency = f"p50 {format_duration(found.latency_p50)}, p95 {format_duration(found.latency_p95)}"
        pairs.append(("latency", latency))
    if found.cost is not None:
        partly = (
            f" (reported by {found.cost_calls:,} of {found.calls:,} calls)" if found.cost_calls < found.calls else ""
        )
        pairs.append(("cost", f"{format_cost(found.cost)}{partly}"))
    if found.input_tokens is not None or found.output_tokens is not None:
        pairs.append(("tokens", f"{show(found.input_tokens)} in, {show(found.output_tokens)} out"))
    if facts.id:
        pairs.append(("id", clean(facts.id)))
    pairs += [(f"{clean(name)} (whole run)", run_score_text(score)) for name, score in results.scores.items()]
    return pairs


def run_score_text(score: Score) -> str:
    """A score of a run as a whole.

    >>> from tracekeeper.types import ScoreStatus
    >>> run_score_text(Score(0.8312)), run_score_text(Score(True, reason="enough"))
    ('0.83', 'true: enough')
    >>> run_score_text(Score(status=ScoreStatus.FAILED, reason="the metric raised KeyError: 'x'"))
    "failed: the metric raised KeyError: 'x'"
    """
    if score.value is None:
        said = str(score.status).replace("_", " ")
    elif isinstance(score.value, bool | str):
        said = show(score.value)
    else:
        said = value_text(score.value, "number")
    why = score.error or score.reason
    return clean(f"{said}: {why}" if why else said)


def times_text(result: ItemResult) -> str:
    """How often the task was called with an item."""
    return plural(result.called, "time")


def failures_table(failures: Sequence[ItemResult]) -> Table[ItemResult]:
    """Which calls failed, and why; how often they were made, where that is more than once."""
    again = any(result.called > 1 for result in failures)
    columns: list[Column[ItemResult]] = [
        Column("item", call_name),
        Column("status", lambda row: str(row.status)),
        Column("why", lambda row: "; ".join(why(row))),
        Column("called", lambda row: row.called, "integer", times_text, shown=again, rank=1),
        Column("input", inputs_of, "any", lambda row: text_of(inputs_of(row)), rank=1),
    ]
    return Table(failures, columns, noun="failure")

"""Results and what they say as tables: for people, and as columns with types for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tracekeeper.evaluation.accounts import score_of
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.summary import MetricSummary, Totals
from tracekeeper.reading.columns import Column, text_of
from tracekeeper.reading.receipts import ACCOUNT_ORDER, counts_text
from tracekeeper.reading.tables import Table
from tracekeeper.render import clean, format_cost, format_duration, format_number, show, truncate
from tracekeeper.statistics import Interval

_LABELS_SHOWN = 4


def mean_text(metric: MetricSummary) -> str:
    """The mean as people read it: a number, a share of yes, or the distribution of labels.

    >>> mean_text(MetricSummary(name="a", kind="boolean", mean=0.8312)), mean_text(MetricSummary(name="a"))
    ('83.1 %', 'no value')
    >>> mean_text(MetricSummary(name="a", kind="label", labels={"good": 3, "bad": 1}))
    'good 75 %, bad 25 %'
    """
    if metric.kind == "label":
        total = sum(metric.labels.values())
        shown = [f"{clean(label) or 'empty'} {n / total:.0%}".replace("%", " %") for label, n in metric.labels.items()]
        more = len(shown) - _LABELS_SHOWN
        return ", ".join(shown[:_LABELS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    if metric.mean is None:
        return "no value"
    return value_text(metric.mean, metric.kind)


def value_text(value: float, kind: str, *, sign: bool = False) -> str:
    """One number of a metric; of yes or no a percentage.

    >>> value_text(0.5, "boolean"), value_text(0.5, "number", sign=True), value_text(-0.021, "boolean", sign=True)
    ('50.0 %', '+0.50', '-2.1 %')
    """
    text = (
        f"{value * 100:.1f} %" if kind == "boolean" else format_number(float(value), 3 if 0 < abs(value) < 0.1 else 2)
    )
    return f"+{text}" if sign and value > 0 else text


def interval_text(interval: Interval | None, kind: str, *, sign: bool = False) -> str:
    """Where the true mean probably lies.

    >>> interval_text(Interval(0.7512, 0.89), "number"), interval_text(None, "number")
    ('0.75 to 0.89', 'too few')
    """
    if kind in ("label", "none"):
        return "none"
    if interval is None:
        return "too few"
    return f"{value_text(interval.low, kind, sign=sign)} to {value_text(interval.high, kind, sign=sign)}"


def reasons_text(metric: MetricSummary) -> str:
    """Why scores have no value, the most frequent first.

    >>> from tracekeeper.evaluation.summary import Reason
    >>> from tracekeeper.types import ScoreStatus
    >>> reasons_text(MetricSummary(name="a", reasons=(Reason(ScoreStatus.FAILED, "KeyError: 'x'", 3),)))
    "3 failed: KeyError: 'x'"
    """
    shown = [f"{reason.n:,} {reason.status}: {truncate(clean(reason.text), 100)}" for reason in metric.reasons]
    return "; ".join(shown) or "none"


def passes_text(metric: MetricSummary) -> str:
    """pass@k and pass^k for the largest k.

    >>> passes_text(MetricSummary(name="a", pass_at={1: 0.5, 4: 0.9}, pass_hat={1: 0.5, 4: 0.1}))
    'pass@4 90.0 %, pass^4 10.0 %'
    """
    if not metric.pass_at:
        return "none"
    k = max(metric.pass_at)
    return f"pass@{k} {metric.pass_at[k] * 100:.1f} %, pass^{k} {metric.pass_hat[k] * 100:.1f} %"


def metrics_table(found: Totals, note: str | None = None) -> Table[MetricSummary]:
    """A row for each metric."""
    return Table(list(found.metrics.values()), summary_columns(found.metrics.values()), noun="metric", note=note)


def summary_columns(metrics: Any) -> list[Column[MetricSummary]]:
    """The columns of metrics: those that people see, then every figure on its own."""
    metrics = list(metrics)
    repeats = any(metric.spread is not None for metric in metrics)
    passes = sorted({k for metric in metrics for k in metric.pass_at})
    reasons = any(metric.reasons for metric in metrics)

    def hidden(name: str, value: Callable[[MetricSummary], Any], type: Any) -> Column[MetricSummary]:
        return Column(name, value, type, shown=False)

    return [
        Column("metric", lambda row: row.name),
        Column("mean", lambda row: row.mean, "number", mean_text),
        Column("95 % interval", lambda row: interval_text(row.interval, row.kind), rank=1, whole=True),
        Column("n", lambda row: row.n, "integer", lambda row: counts_text(row.counts)),
        Column("spread", lambda row: row.spread, "number", shown=repeats, rank=3),
        Column("repeats", passes_text, shown=bool(passes), rank=2),
        Column("without a value", reasons_text, shown=reasons, rank=4),
        hidden("kind", lambda row: row.kind, "text"),
        hidden("low", lambda row: None if row.interval is None else row.interval.low, "number"),
        hidden("high", lambda row: None if row.interval is None else row.interval.high, "number"),
        hidden("method", lambda row: row.method or None, "text"),
        hidden("items", lambda row: row.items, "integer"),
        hidden("cost", lambda row: row.cost, "number"),
        *(hidden(str(status), partial(_count, str(status)), "integer") for status in ACCOUNT_ORDER),
        *(hidden(f"pass@{k}", partial(_pass, "pass_at", k), "number") for k in passes),
        *(hidden(f"pass^{k}", partial(_pass, "pass_hat", k), "number") for k in passes),
    ]


def groups_table(by: str, groups: Mapping[str, Totals], note: str | None) -> Table[tuple[str, MetricSummary]]:
    """A row for each group and metric, groups of one metric side by side."""
    rows = [
        (name, found.metrics[metric])
        for metric in dict.fromkeys(metric for found in groups.values() for metric in found.metrics)
        for name, found in groups.items()
        if metric in found.metrics
    ]
    inner = summary_columns(metric for _, metric in rows)
    columns: list[Column[tuple[str, MetricSummary]]] = [_second(inner[0]), Column(by, lambda row: row[0])]
    columns += [_second(column) for column in inner[1:]]
    return Table(rows, columns, noun="group", note=note)


def items_table(results: Sequence[ItemResult], names: Sequence[str], note: str | None = None) -> Table[ItemResult]:
    """A row for each call: for each metric its value, status and reason."""
    repeats = any(result.repeat for result in results)
    again = any(result.called > 1 for result in results)
    columns: list[Column[ItemResult]] = [
        Column("item", lambda row: row.item_id),
        Column("repeat", lambda row: row.repeat, "integer", shown=repeats),
        Column("status", lambda row: str(row.status)),
        Column("input", inputs_of, "any", rank=1),
        Column("expected", lambda row: row.expected, "any", rank=2),
        Column("output", lambda row: row.output, "any", _output_text, rank=1),
        *(column for name in names for column in _score_columns(name)),
        Column("seconds", lambda row: row.seconds, "number", lambda row: format_duration(row.seconds), rank=3),
        Column("cost", lambda row: row.cost, "number", lambda row: format_cost(row.cost), shown=False),
        Column("input_tokens", lambda row: row.input_tokens, "integer", shown=False),
        Column("output_tokens", lambda row: row.output_tokens, "integer", shown=False),
        Column("attempts", lambda row: row.attempts, "integer", shown=False),
        Column("called", lambda row: row.called, "integer", shown=again, rank=3),
        Column("error", lambda row: row.error, shown=False),
        Column("reason", lambda row: row.reason, shown=False),
        Column("split", lambda row: row.split or None, shown=False),
        Column("tags", lambda row: list(row.tags), "any", shown=False),
        Column("trace_id", lambda row: row.trace_id or None, shown=False),
        Column("span_id", lambda row: row.span_id or None, shown=False),
    ]
    return Table(results, columns, noun="call", note=note)


def inputs_of(result: ItemResult) -> Any:
    """The item's fields without what should come out; the value itself where there is only one.

    >>> from tracekeeper.types import ItemStatus
    >>> inputs_of(ItemResult(item_id="a", status=ItemStatus.OK, fields={"question": "?", "expected": "!"}))
    '?'
    """
    inputs = {name: value for name, value in result.fields.items() if name not in ("expected", "reference")}
    return next(iter(inputs.values())) if len(inputs) == 1 else inputs


def _output_text(result: ItemResult) -> str:
    if result.ok:
        return text_of(result.output)
    return show(result.error or result.reason, str(result.status))


def _score_columns(name: str) -> list[Column[ItemResult]]:
    def value(row: ItemResult) -> Any:
        return score_of(row, name).value

    def status(row: ItemResult) -> str:
        return str(score_of(row, name).status)

    def reason(row: ItemResult) -> str | None:
        score = score_of(row, name)
        return score.error or score.reason

    def text(row: ItemResult) -> str:
        score = score_of(row, name)
        return str(score.status) if score.value is None else show(score.value)

    return [
        Column(name, value, "any", text),
        Column(f"{name}.status", status, shown=False),
        Column(f"{name}.reason", reason, shown=False),
    ]


def _second(column: Column[MetricSummary]) -> Column[tuple[str, MetricSummary]]:
    text = column.text
    return Column(
        column.name,
        lambda row: column.value(row[1]),
        column.type,
        None if text is None else lambda row: text(row[1]),
        column.shown,
        column.rank,
    )


def _count(status: str, row: MetricSummary) -> int:
    return row.counts.get(status, 0)


def _pass(field: str, k: int, row: MetricSummary) -> float | None:
    found: float | None = getattr(row, field).get(k)
    return found

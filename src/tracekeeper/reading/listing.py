"""``tk.records`` and ``tk.records_and_scores``: the records that a filter selects, newest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from tracekeeper.reading.columns import UNMEASURED, Column, score_text, text_of
from tracekeeper.reading.fresh import TIMEOUT, Fresh, checked, dropped, dropped_line, fresh
from tracekeeper.reading.receipts import counts_text
from tracekeeper.reading.tables import Table
from tracekeeper.render import format_duration, truncate
from tracekeeper.scoring import stored
from tracekeeper.scoring.record import Record
from tracekeeper.types import ConfigurationError, Score, SpanStatus

Scores = Mapping[bytes, Mapping[str, Score]]
"""Record key -> name -> score, as they stood when the table was made."""


def records(filter: str | None = None, *, limit: int | None = 50, timeout: float = TIMEOUT) -> Table[Record]:
    """The records that match, newest first. Sees everything that this process has traced before the call.

    Parameters
    ----------
    filter:
        E.g. ``app = "rag" and score.groundedness < 0.5 and latency > 2s``; see the page on filters.
    limit:
        How many at most; ``None`` for all.
    timeout:
        Seconds to wait until what this process journaled is stored; past them ``table.note`` says what is lacking.

    Raises
    ------
    FilterError
        The filter does not parse; the message shows where, and the nearest known name.
    StoreError
        The database cannot be read.

    Example
    -------
    >>> import tracekeeper as tk
    >>> @tk.app(name="doc-records", version="1")
    ... def ask(question):
    ...     return "mild"
    >>> _ = ask("weather?")
    >>> [record.output for record in tk.records('app = "doc-records"')]
    ['mild']
    """
    found = _read(filter, limit, timeout)
    footer = partial(_drops, dropped(found.now.store))
    return Table(found.records, RECORD_COLUMNS, noun="record", note=found.note, footer=footer)


def records_and_scores(filter: str | None = None, *, limit: int | None = 50, timeout: float = TIMEOUT) -> Table[Record]:
    """The records that match, newest first, with every score they have: a row a record, some columns a metric.

    Of a metric ``m`` the columns are ``m`` (its value, ``None`` unless it is scored), ``m.status`` (always there:
    pending, running, scored, failed, timed_out, cancelled, skipped, or ``unmeasured`` where that metric was not among
    the record's), ``m.reason``, and ``m.evaluation``: the id of the trace that the evaluation left, for ``tracekeeper
    show`` (``None`` where it left none). Of several scores by one name (versions, authors) the latest.

    Takes and raises what :func:`records` does.
    """
    found = _read(filter, limit, timeout)
    scores = _scores(found.now, found.by_id)
    names = sorted({name for of_record in scores.values() for name in of_record})
    columns = [*RECORD_COLUMNS, *(column for name in names for column in score_columns(name, scores))]
    footer = partial(_account, scores, dropped(found.now.store))
    return Table(found.records, columns, noun="record", note=found.note, footer=footer)


class _Found(NamedTuple):
    now: Fresh
    records: list[Record]
    by_id: dict[int, Record]
    note: str | None


def _read(filter: str | None, limit: int | None, timeout: float) -> _Found:
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
        raise ConfigurationError(f"limit={limit!r}: expected a number of records, or None for all")
    checked(filter)
    now = fresh(timeout)
    rows = now.store.records(filter, limit=None if limit is None else limit + 1)  # one more, to know whether there are
    notes = [now.note] if now.note else []
    if limit is not None and len(rows) > limit:
        rows = rows[:limit]
        notes.append(f"these are the newest {limit}; raise the limit to see more")
    found = [Record.from_row(row) for row in stored.from_rows(rows, now.store.payloads([row.id for row in rows]))]
    by_id = {row.id: record for row, record in zip(rows, found, strict=True)}
    return _Found(now, found, by_id, "; ".join(notes) or None)


def _scores(now: Fresh, by_id: Mapping[int, Record]) -> dict[bytes, dict[str, Score]]:
    of_record: dict[bytes, list[Score]] = {}
    for row in now.store.scores_of(by_id):
        if row.record_id is not None:
            of_record.setdefault(by_id[row.record_id].key, []).append(stored.score_of(row))
    return {key: stored.latest(scores) for key, scores in of_record.items()}


def score_columns(name: str, scores: Scores) -> list[Column[Record]]:
    """Value, status, reason and evaluation of one metric. People see them as one column that is never blank."""

    def of(record: Record) -> Score | None:
        return scores.get(record.key, {}).get(name)

    def value(record: Record) -> Any:
        score = of(record)
        return None if score is None else score.value

    def status(record: Record) -> str:
        score = of(record)
        return UNMEASURED if score is None else str(score.status)

    def reason(record: Record) -> str | None:
        score = of(record)
        return None if score is None else score.reason or score.error

    def evaluation(record: Record) -> str | None:
        score = of(record)
        return None if score is None else score.evaluation

    return [
        Column(name, value, "any", text=lambda record: score_text(of(record))),
        Column(f"{name}.status", status, "text", shown=False),
        Column(f"{name}.reason", reason, "text", shown=False),
        Column(f"{name}.evaluation", evaluation, "text", shown=False),
    ]


def _account(scores: Scores, drops: Mapping[str, int], shown: Sequence[Record]) -> list[str]:
    """What the shown scores add up to: n = scored + failed + …, for each metric."""
    lines = []
    names = sorted({name for record in shown for name in scores.get(record.key, {})})
    for name in names:
        counts = Counter(str(found[name].status) for record in shown if name in (found := scores.get(record.key, {})))
        lines.append(f"{name}: n = {counts_text(dict(counts))}")
    return [*lines, *dropped_line(dict(drops))]


def _drops(drops: Mapping[str, int], shown: Sequence[Record]) -> list[str]:
    return dropped_line(dict(drops))


RECORD_COLUMNS: tuple[Column[Record], ...] = (
    Column("trace_id", lambda record: record.trace_id, shown=False),
    Column("span_id", lambda record: record.span_id, shown=False),
    Column("started", lambda record: record.started, "time", rank=5),
    Column("app", lambda record: record.app, text=lambda record: record.app or f"{record.name} (no app)"),
    Column("version", lambda record: record.version),
    Column("name", lambda record: record.name, shown=False),
    Column("status", lambda record: record.status),
    Column("latency", lambda record: record.latency, "number", text=lambda record: _latency(record), rank=3),
    Column("input", lambda record: record.input, "any", text=lambda record: preview(record.input), rank=1),
    Column("output", lambda record: record.output, "any", text=lambda record: _result(record), rank=2),
    Column("error", lambda record: record.error, shown=False),
    Column("session_id", lambda record: record.session_id, shown=False),
    Column("user_id", lambda record: record.user_id, shown=False),
    Column("tags", lambda record: list(record.tags), "any", shown=False),
)

PREVIEW = 60
"""Cells of an input or output in a table for people."""


def preview(value: Any) -> str:
    """The beginning of a text, on one line.

    >>> preview({"question": "Why is\\nthis?"})
    'Why is this?'
    """
    return truncate(text_of(value), PREVIEW)


def _result(record: Record) -> str:
    return preview(record.error if record.error and record.output is None else record.output)


def _latency(record: Record) -> str:
    if record.latency is None:
        return "running" if record.status == SpanStatus.RUNNING else text_of(None)
    return format_duration(record.latency)

"""``tk.alerts``: every alert with its state, what was measured last, and what became of what it said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekeeper.reading.columns import Column, time_of
from tracekeeper.reading.tables import Table
from tracekeeper.render import format_duration, format_time, show
from tracekeeper.scoring.alerts.alert import all_alerts
from tracekeeper.scoring.alerts.checks import amount

if TYPE_CHECKING:
    from datetime import datetime

    from tracekeeper.scoring.alerts.alert import Alert


def alerts() -> Table[Alert]:
    """Every alert, by name: its state and since when, the figure, of how many (n), and the last delivery.

    Raises
    ------
    StoreError
        The database cannot be read.

    Example
    -------
    >>> import tracekeeper as tk
    >>> cheap = tk.alert("doc-cheap", measure="cost", above=10, window="1d")
    >>> [(each.name, each.state) for each in tk.alerts() if each.name == "doc-cheap"]
    [('doc-cheap', 'unknown')]
    >>> cheap.remove()
    """
    return Table(all_alerts(), COLUMNS, noun="alert")


def state_text(alert: Alert) -> str:
    """Its state in a word."""
    return alert.state if alert.enabled else f"paused ({alert.state})"


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else time_of(round(seconds * 1e9))


COLUMNS: tuple[Column[Alert], ...] = (
    Column("name", lambda row: row.name),
    Column("state", lambda row: row.state, text=state_text),
    Column("value", lambda row: row.value, "number", text=lambda row: _value(row)),
    Column("n", lambda row: row.n, "integer", text=lambda row: show(row.n)),
    Column("since", lambda row: _time(row.since), "time", text=lambda row: format_time(row.since), rank=2),
    Column("threshold", lambda row: row.threshold, rank=1),
    Column("filter", lambda row: row.filter, shown=False),
    Column("remark", lambda row: row.error, rank=3),
    Column("webhook", lambda row: row.webhook, rank=5),
    Column("last delivery", lambda row: row.delivery, rank=4),
    Column("last event", lambda row: row.last_event, shown=False),
    Column("enabled", lambda row: row.enabled, "boolean", shown=False),
    Column("checked", lambda row: _time(row.checked_at), "time", shown=False),
    Column("window", lambda row: row.window, "number", text=lambda row: format_duration(row.window), shown=False),
    Column("min_count", lambda row: row.min_count, "integer", shown=False),
    Column("cooldown", lambda row: row.cooldown, "number", shown=False),
)


def _value(row: Alert) -> str:
    return "none" if row.value is None else amount(row.measure, row.value)

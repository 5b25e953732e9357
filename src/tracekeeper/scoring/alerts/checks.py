"""Looking after alerts: measure, decide, write it down, send what is to be sent.

``check_alerts`` is called every few seconds by every process that has an engine or is a worker. What it finds is the
same whoever looks, and each transition is made once (see ``store.alerts``). A process that has just looked spares the
others the looking; nobody measures a long window more often than it can change.

.. code-block:: text

    unknown ──► ok ◄──────────────┐
       │         │ past threshold │ back again: event "resolved"
       └─────────┴──► firing ─────┘
         event "fired", unless it fired less than `cooldown` ago

Below ``min_count`` the state stays what it was, and why is said.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING

from tracekeeper.render import format_cost, format_duration, format_number
from tracekeeper.scoring.alerts import deliveries
from tracekeeper.store.filter.nodes import UNITS
from tracekeeper.types import faults

if TYPE_CHECKING:
    from tracekeeper.store.alerts.alerts import AlertRow, Check, Looked
    from tracekeeper.tracing.keeper import Keeper

log = logging.getLogger("tracekeeper")

SECOND = UNITS["s"]
SHORTEST, LONGEST = 4 * SECOND, 60 * SECOND
"""Nanoseconds between two checks of an alert, at least and at most; in between a thousandth of its window."""


def check_alerts(keeper: Keeper, *, now_ns: int | None = None) -> int:
    """Check the alerts that it is time for, then have due webhooks sent, which is not waited for.

    Parameters
    ----------
    keeper:
        Whose store has them.
    now_ns:
        Nanoseconds since the epoch; ``None``: now.

    Returns
    -------
    int
        How many of them began or ceased to fire.

    Raises
    ------
    StoreError
        The database cannot be used now. Whoever checks next does what was left.
    """
    alerts = keeper.store().alerts
    now = time.time_ns() if now_ns is None else now_ns
    due = [row for row in alerts.enabled() if is_due(row, now)]
    made = []
    if due:
        checks = [decide(looked, now) for looked in alerts.look(due, now)]
        faults.point("alerts.measured")
        made = alerts.conclude(checks, now)
        for event in made:
            log.log(logging.WARNING if event.kind == "fired" else logging.INFO, "alert %s", event.message)
    deliveries.send_due(keeper, now)
    return len(made)


def is_due(row: AlertRow, now: int) -> bool:
    """Whether an alert is to be checked: nobody did for a while, or the clock was set back since."""
    if row.checked_at is None or row.checked_at > now:
        return True
    return now - row.checked_at >= max(SHORTEST, min(LONGEST, row.window // 1000))


def decide(looked: Looked, now: int) -> Check:
    """What follows from what was measured."""
    from tracekeeper.store.alerts.alerts import Check, NewEvent

    row, figure = looked.alert, looked.figure
    state, since, why, event = row.state, row.since, figure.error, None
    value = figure.value
    if why is None and (value is None or figure.n < row.min_count):
        why = f"too few in the last {_window(row)}: {figure.n:,} of {max(row.min_count, 1):,}"
    if why is None and value is not None:
        past = passed(row, value)
        cooling = looked.last_fired is not None and 0 <= now - looked.last_fired < row.cooldown
        if past and state != "firing" and cooling:
            assert looked.last_fired is not None
            left = (looked.last_fired + row.cooldown - now) / SECOND
            why = f"{past}, but it fired a short while ago; it may again in {format_duration(left)}"
            state, since = ("ok", now) if state == "unknown" else (state, since)
        elif past and state != "firing":
            event = NewEvent(_key(), "fired", message(row, value, figure.n, past), _delivery(row))
            state, since = "firing", now
        elif not past and state == "firing":
            event = NewEvent(_key(), "resolved", message(row, value, figure.n, "as it should be again"), _delivery(row))
            state, since = "ok", now
        elif not past and state == "unknown":
            state, since = "ok", now
    return Check(row.id, row.check_version, state, since, value, figure.n, why, event)


def passed(row: AlertRow, value: float) -> str | None:
    """Which threshold a value is past, in words."""
    if row.above is not None and value > row.above:
        return f"above {amount(row.measure, row.above)}"
    if row.below is not None and value < row.below:
        return f"below {amount(row.measure, row.below)}"
    return None


def message(row: AlertRow, value: float, n: int, verdict: str) -> str:
    """One sentence for people."""
    of = f" (n = {n:,} in the last {_window(row)})"
    return f"{row.name}: {subject(row.measure, row.score)} is {amount(row.measure, value)}, {verdict}{of}"


def subject(measure: str, score: str | None) -> str:
    """What is measured, in words.

    >>> subject("mean", "groundedness"), subject("failure_rate", None), subject("latency_p95", None)
    ('mean of groundedness', 'failure rate of calls', '95th percentile of latency')
    """
    match measure:
        case "latency":
            return "mean latency"
        case "latency_p95":
            return "95th percentile of latency"
        case _:
            return f"{measure.replace('_', ' ')} of {score or 'calls'}"


def amount(measure: str, value: float) -> str:
    """A measured value with its unit.

    >>> amount("failure_rate", 0.125), amount("cost", 3.5), amount("latency", 2.14), amount("mean", 0.4)
    ('12.5%', '$3.50', '2.1s', '0.40')
    """
    match measure:
        case "failure_rate":
            return f"{value * 100:.3g}%"
        case "cost":
            return format_cost(value)
        case "latency" | "latency_p95":
            return format_duration(value)
        case _:
            return format_number(float(value))


def _window(row: AlertRow) -> str:
    return format_duration(row.window / SECOND)


def _key() -> str:
    return f"msg_{uuid.uuid4().hex}"


def _delivery(row: AlertRow) -> str:
    return "none" if row.webhook is None else "pending"

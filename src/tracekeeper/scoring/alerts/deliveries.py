"""Sending what alerts have to say: from the outbox of the store, on threads of their own, again until it has arrived.

The outbox was written with the transition itself, so a process that dies loses none of it: whoever looks next sends it.
A receiver may get a message twice (the process died after the answer came and before that was written down) and tells
by ``webhook-id``.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tracekeeper.concurrency import Outcome
from tracekeeper.store.errors import StoreLocked
from tracekeeper.store.filter.nodes import UNITS
from tracekeeper.types import StoreError, faults

if TYPE_CHECKING:
    from tracekeeper.concurrency import Runner
    from tracekeeper.scoring.alerts.webhooks import Answer
    from tracekeeper.store.alerts.alerts import AlertRow, EventRow
    from tracekeeper.tracing.keeper import Keeper

log = logging.getLogger("tracekeeper")

T = TypeVar("T")

SECOND = UNITS["s"]
PAUSES = (5.0, 30.0, 120.0, 600.0, 3600.0)
"""Seconds before the second attempt, the third …; after the one that follows the last it is ``failed``."""
LONGEST_PAUSE = 3600.0
"""Seconds that a receiver's ``Retry-After`` is heeded for."""
LEASE = 40.0
"""Seconds for which an attempt is one process's; longer than an attempt and the writing down of it may take."""
WRITING = 15.0
"""Seconds for which writing down what came of an attempt waits for a database that is locked."""
ALLOWED = 30.0
"""Seconds for an attempt with a name that does not resolve and a database that is locked."""
AT_ONCE = 4
GONE = 410
"""The status by which a receiver says that it wants no more (Standard Webhooks)."""

_runners: list[Runner] = []


def send_due(keeper: Keeper, now: int) -> int:
    """Begin to send what is due, on daemon threads; how many that are.

    Raises
    ------
    StoreError
        The database cannot be used now.
    """
    alerts = keeper.store().alerts
    runner = _runner()
    room = AT_ONCE - sum(runner.load())  # what waits here would let its lease run
    if room <= 0:
        return 0
    taken = alerts.claim_deliveries(now, round(LEASE * SECOND), limit=room)
    for event, alert in taken:
        runner.start(
            partial(deliver, keeper, event, alert),
            timeout=ALLOWED,
            done=partial(_ended, event),
            name=f"webhook of alert {alert.name!r}",
            start_within=LEASE - ALLOWED,
            asynchronous=False,
        )
    return len(taken)


def wait(timeout: float) -> bool:
    """Wait until nothing is being sent by this process; false after ``timeout`` seconds."""
    return not _runners or _runners[0].drain(timeout)


def deliver(keeper: Keeper, event: EventRow, alert: AlertRow) -> str:
    """Make one attempt and write down what came of it: ``delivered``, ``pending`` or ``failed``."""
    # Here: every process that scores looks after alerts, and few ever need HTTP and TLS for it.
    from tracekeeper.scoring.alerts import webhooks

    if alert.webhook is None:
        answer = webhooks.Answer(None, "the alert has no webhook any more", refused=True)
    elif event.attempts > len(PAUSES) + 1:  # processes died while they sent it
        answer = webhooks.Answer(None, event.error or "it was tried too often", refused=True)
    else:
        answer = webhooks.send(
            alert.webhook,
            event.key,
            payload(event, alert),
            secret=alert.secret,
            allow_private=bool(alert.allow_private),
        )
    faults.point("alerts.sent")
    now = time.time_ns()
    alerts = keeper.store().alerts
    if answer.ok:
        delivery, error, next_at = "delivered", None, None
    else:
        error = f"attempt {event.attempts}: {answer}"
        pause = pause_after(event.attempts, answer)
        delivery, next_at = ("failed", None) if pause is None else ("pending", now + round(pause * SECOND))
    delivered_at = now if delivery == "delivered" else None
    patiently(
        lambda: alerts.conclude_delivery(event, delivery, error=error, next_at=next_at, delivered_at=delivered_at),
        seconds=WRITING,
    )
    if delivery == "failed":
        log.warning("alert %r could not be delivered to %s: %s", alert.name, webhooks.shown(alert.webhook), error)
    return delivery


def patiently(write: Callable[[], T], *, seconds: float = 5.0) -> T:
    """Write even if the lock is another's for some seconds.

    Raises
    ------
    StoreError
        The database cannot be used, or was locked for all that time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return write()
        except StoreLocked:  # after it waited for the store's own busy timeout
            if time.monotonic() >= deadline:
                raise


def pause_after(attempts: int, answer: Answer) -> float | None:
    """Seconds until the next attempt, or ``None`` when there is none.

    >>> from tracekeeper.scoring.alerts.webhooks import Answer
    >>> pause_after(6, Answer(500, "")), pause_after(1, Answer(410, "")), pause_after(1, Answer(503, "", 60.0))
    (None, None, 60.0)
    """
    if answer.status == GONE or answer.refused or attempts > len(PAUSES):
        return None
    pause = PAUSES[attempts - 1] * random.uniform(1.0, 1.2)  # many processes' messages do not come back all at once
    return max(pause, min(answer.retry_after or 0.0, LONGEST_PAUSE)) if attempts <= len(PAUSES) else None


def payload(event: EventRow, alert: AlertRow) -> dict[str, Any]:
    """What is sent."""
    return {
        "type": f"alert.{event.kind}",
        "timestamp": datetime.fromtimestamp(event.at / SECOND, UTC).isoformat().replace("+00:00", "Z"),
        "data": {
            "alert": alert.name,
            "state": {"fired": "firing", "resolved": "ok"}.get(event.kind, alert.state),
            "message": event.message,
            "measure": alert.measure,
            "score": alert.score,
            "filter": alert.filter,
            "value": event.value,
            "n": event.n,
            "above": alert.above,
            "below": alert.below,
            "window": alert.window / SECOND,
        },
    }


def _runner() -> Runner:
    if not _runners:
        from tracekeeper.concurrency.runner import Runner

        _runners.append(Runner(name="alerts", concurrency=AT_ONCE))
    return _runners[0]


def _ended(event: EventRow, outcome: Outcome[str]) -> None:
    if outcome.ok:
        return
    # It stays claimed until its lease is over; then it is tried again.
    if isinstance(outcome.error, StoreError):
        log.info("what came of sending %s could not be written down: %s", event.key, outcome.error)
    else:
        log.warning("sending %s did not end: %s", event.key, outcome.reason or repr(outcome.error))

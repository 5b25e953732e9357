"""``tk.alert``: a threshold on a rolling figure, stored, checked by whichever process is alive.

An alert is data in the store, not an object that must be kept: the program that makes it may end. What happens with it
is in ``checks`` and ``deliveries``.
"""

from __future__ import annotations

import difflib
import time
from typing import TYPE_CHECKING, Any

import msgspec

from tracekeeper.render import format_duration, format_time
from tracekeeper.scoring.alerts import webhooks
from tracekeeper.scoring.alerts.checks import amount, check_alerts, subject
from tracekeeper.scoring.alerts.definitions import MEASURES, checked, duration
from tracekeeper.scoring.alerts.deliveries import patiently, payload
from tracekeeper.store.filter.nodes import UNITS
from tracekeeper.tracing import runtime
from tracekeeper.types import ConfigurationError, TracekeeperError

if TYPE_CHECKING:
    from tracekeeper.store.alerts.alerts import AlertRow, Alerts, EventRow

__all__ = ["MEASURES", "Alert", "alert", "check_alerts"]

SECOND = UNITS["s"]
_ANEW = ("measure", "score", "filter", "above", "below", "window", "min_count")


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as it stood when it was made or read; its methods ask the store anew.

    Parameters
    ----------
    name, measure, score, filter, above, below, min_count, enabled, allow_private:
        As given to :func:`alert`.
    window, cooldown:
        Seconds.
    webhook:
        Where it is told, without the path, which may be a secret; ``None``: nowhere.
    signed:
        Whether what is sent is signed.
    state:
        ``unknown``, ``ok`` or ``firing``.
    since:
        When that began, in Unix time; ``None`` as long as it is unknown.
    value, n:
        What was measured last, and of how many scores or records.
    checked_at:
        When, in Unix time.
    error:
        Why nothing could be decided then, in one sentence.
    last_event:
        The last thing it said.
    delivery:
        What became of that: ``none``, ``pending``, ``delivered`` or ``failed``, and why.
    """

    name: str
    measure: str
    score: str | None = None
    filter: str = ""
    above: float | None = None
    below: float | None = None
    window: float = 3600.0
    min_count: int = 1
    webhook: str | None = None
    signed: bool = False
    allow_private: bool = False
    cooldown: float = 600.0
    enabled: bool = True
    state: str = "unknown"
    since: float | None = None
    value: float | None = None
    n: int | None = None
    checked_at: float | None = None
    error: str | None = None
    last_event: str | None = None
    delivery: str | None = None

    def remove(self) -> None:
        """Delete it, with what it has said and not delivered yet.

        Raises
        ------
        StoreError
            The database cannot be written now.
        """
        patiently(lambda: _alerts().remove(self.name))

    def pause(self) -> Alert:
        """Check it no more until :meth:`resume`; what it has to say is still delivered."""
        return _changed(self.name, {"enabled": 0})

    def resume(self) -> Alert:
        """Check it again."""
        return _changed(self.name, {"enabled": 1})

    def test(self) -> str:
        """Send a test message to its webhook now and say what came back; up to ten seconds.

        Raises
        ------
        TracekeeperError
            There is no such alert any more, or it has no webhook.
        """
        from tracekeeper.store.alerts.alerts import EventRow

        row = _row(self.name)
        if row.webhook is None:
            raise TracekeeperError(f"alert {self.name!r} has no webhook; give it one with webhook=")
        now = time.time_ns()
        said = f"{self.name}: this is a test of its webhook"
        key = f"msg_test_{now:x}"
        event = EventRow(0, row.id, key, now, "test", row.value, row.n, said, "none", 1, None, None, None)
        sent = webhooks.send(
            row.webhook, key, payload(event, row), secret=row.secret, allow_private=bool(row.allow_private)
        )
        return f"{'delivered' if sent.ok else 'not delivered'}: {sent}"

    @property
    def threshold(self) -> str:
        """When it fires, in words."""
        parts = [
            f"{word} {amount(self.measure, bound)}"
            for word, bound in (("above", self.above), ("below", self.below))
            if bound is not None
        ]
        return f"{subject(self.measure, self.score)} {' or '.join(parts)} over {format_duration(self.window)}"


def alert(
    name: str,
    *,
    measure: str = "mean",
    score: str | None = None,
    filter: str = "",
    above: float | None = None,
    below: float | None = None,
    window: str | float = "1h",
    min_count: int | None = None,
    webhook: str | None = None,
    secret: str | None = None,
    allow_private: bool = False,
    cooldown: str | float = "10m",
    enabled: bool = True,
) -> Alert:
    """Make an alert, or change the one of this name. It is stored: whichever process lives checks it.

    Parameters
    ----------
    name:
        What it is called.
    measure:
        ``mean``: of a score, over what was scored. ``failure_rate``: of a score, ``failed`` and ``timed_out`` over all
        that were tried; without ``score`` of calls, those with an error over all that ended. ``latency`` and
        ``latency_p95``: of calls, in seconds. ``cost``: the sum in US dollars, of calls, or of a score's evaluations.
    score:
        Of which score.
    filter:
        Which records count, as for ``tk.records``.
    above, below:
        It fires when the figure is above, below; one of them, or both for a range that is left.
    window:
        How far back it looks, in seconds or as ``30m``, ``1h``, ``7d``: calls that began, scores that settled since.
    min_count:
        Scores or records that there must be before anything is decided; default: 1, of costs 0.
    webhook:
        Where it is told; http or https.
    secret:
        Signs what is sent: ``whsec_`` and base64, or any text. Written to the store, never shown.
    allow_private:
        Also send to this machine and to private networks.
    cooldown:
        Seconds (or as ``window``) after it fired in which it does not fire again.
    enabled:
        ``False``: it is there and not checked.

    Raises
    ------
    ConfigurationError, FilterError
        It could never fire, could never be sent, or says what does not go together; in one sentence.
    StoreError
        The database cannot be written now.

    Example
    -------
    >>> import tracekeeper as tk
    >>> slow = tk.alert("doc-slow", measure="latency", above=5, window="15m", min_count=20)
    >>> slow.threshold, slow.state
    ('mean latency above 5.0s over 15m', 'unknown')
    >>> slow.remove()
    """
    values = checked(name, measure, score, filter, above, below, min_count)
    values["window"] = duration("window", window, least=1.0)
    values["cooldown"] = duration("cooldown", cooldown, least=0.0)
    if webhook is not None:
        webhooks.target_of(webhook, allow_private=bool(allow_private))
    elif secret is not None:
        raise ConfigurationError("secret: there is nothing to sign without webhook=")
    if secret is not None:
        webhooks.key_of(secret)
    values.update(webhook=webhook, secret=secret, allow_private=int(bool(allow_private)), enabled=int(bool(enabled)))
    row = patiently(lambda: _alerts().save(name, values, time.time_ns(), anew=_ANEW))
    return alert_of(row, None)


def all_alerts() -> list[Alert]:
    """Every alert, by name, with what it said last.

    Raises
    ------
    StoreError
        The database cannot be read.
    """
    alerts = _alerts()
    rows = alerts.all()
    last = alerts.last_events([row.id for row in rows])
    return [alert_of(row, last.get(row.id)) for row in rows]


def named(name: str) -> Alert:
    """The alert of this name.

    Raises
    ------
    TracekeeperError
        There is none; the nearest is named.
    """
    row = _row(name)
    return alert_of(row, _alerts().last_events([row.id]).get(row.id))


def alert_of(row: AlertRow, last: EventRow | None) -> Alert:
    """A stored alert as people see it."""
    return Alert(
        name=row.name,
        measure=row.measure,
        score=row.score,
        filter=row.filter,
        above=row.above,
        below=row.below,
        window=row.window / SECOND,
        min_count=row.min_count,
        webhook=webhooks.shown(row.webhook),
        signed=row.secret is not None,
        allow_private=bool(row.allow_private),
        cooldown=row.cooldown / SECOND,
        enabled=bool(row.enabled),
        state=row.state,
        since=_seconds(row.since),
        value=row.value,
        n=row.n,
        checked_at=_seconds(row.checked_at),
        error=row.error,
        last_event=None if last is None else last.message,
        delivery=None if last is None else _delivery(last),
    )


def _delivery(event: EventRow) -> str:
    attempts = f" after {event.attempts} attempts" if event.attempts > 1 else ""
    match event.delivery:
        case "delivered":
            return f"delivered {format_time(_seconds(event.delivered_at))}{attempts}"
        case "failed":
            return f"failed{attempts}: {event.error}"
        case "pending":
            return f"pending{f', next {format_time(_seconds(event.next_at))}; {event.error}' if event.error else ''}"
        case _:
            return "no webhook"


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / SECOND


def _alerts() -> Alerts:
    return runtime.keeper().store().alerts


def _row(name: str) -> AlertRow:
    row = _alerts().get(name)
    if row is None:
        names = [each.name for each in _alerts().all()]
        near = difflib.get_close_matches(name, names, n=1)
        known = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}"
        raise TracekeeperError(f"there is no alert {name!r}; {known}")
    return row


def _changed(name: str, values: dict[str, Any]) -> Alert:
    _row(name)
    return alert_of(patiently(lambda: _alerts().save(name, values, time.time_ns(), anew=())), None)

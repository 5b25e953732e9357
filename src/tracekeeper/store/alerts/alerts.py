"""Alerts as they are stored: their definitions, their state, and the outbox of what they have to say.

Invariants
----------
- A check changes a state only by compare-and-set on ``check_version``, and writes its event in the same transaction:
  however many processes check at once, a transition is made and told once.
- A delivery is claimed by compare-and-set on its ``attempts``, with ``next_at`` as the lease: one process sends it at a
  time, and when that one dies another sends it after the lease. So it arrives at least once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, or_, select, text, update

from tracekeeper.store.alerts import measures
from tracekeeper.store.alerts.measures import Figure, Question
from tracekeeper.store.tables import alert, alert_event
from tracekeeper.types import faults

if TYPE_CHECKING:
    from tracekeeper.store.store import Store

_PENDING = text("alert_event.delivery = 'pending'")  # in the words of the index alert_event_due

FARTHEST = 2 * 3600 * 10**9
"""Nanoseconds that a delivery may lie ahead; one that lies farther off was put there before the clock was set back."""
KEPT = 90 * 86_400 * 10**9
"""Nanoseconds for which an alert's events are kept."""


class AlertRow(NamedTuple):
    """An alert. Times and durations are nanoseconds. ``secret`` and ``webhook`` are not to be shown."""

    id: int
    name: str
    enabled: int
    measure: str
    score: str | None
    filter: str
    above: float | None
    below: float | None
    window: int
    min_count: int
    webhook: str | None
    secret: str | None
    allow_private: int
    cooldown: int
    created_at: int
    changed_at: int
    state: str
    since: int | None
    value: float | None
    n: int | None
    checked_at: int | None
    check_version: int
    error: str | None

    def __repr__(self) -> str:
        return f"<AlertRow {self.name!r} {self.state}>"  # without its secrets, wherever it is printed


class EventRow(NamedTuple):
    """Something that an alert said, and how far its delivery got."""

    id: int
    alert_id: int
    key: str
    at: int
    kind: str
    value: float | None
    n: int | None
    message: str
    delivery: str
    attempts: int
    next_at: int | None
    delivered_at: int | None
    error: str | None


class NewEvent(NamedTuple):
    """Something to say."""

    key: str
    kind: str
    message: str
    delivery: str
    """``pending``, or ``none`` when there is nobody to tell."""


class Check(NamedTuple):
    """What a check of an alert came to."""

    alert_id: int
    version: int
    """The ``check_version`` that it was made of."""
    state: str
    since: int | None
    value: float | None
    n: int
    error: str | None
    event: NewEvent | None


class Looked(NamedTuple):
    """An alert with what was measured for it, all of one state of the database."""

    alert: AlertRow
    figure: Figure
    last_fired: int | None


class Alerts:
    """The alerts of a store: ``store.alerts``. Methods raise what those of ``Store`` do."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # -- definitions --------------------------------------------------------------------------------------------------

    def all(self) -> list[AlertRow]:
        """Every alert, by name."""
        with self._store.read() as connection:
            return [AlertRow._make(row) for row in connection.execute(select(alert).order_by(alert.c.name))]

    def get(self, name: str) -> AlertRow | None:
        """The alert of that name."""
        with self._store.read() as connection:
            return _named(connection, name)

    def save(self, name: str, values: Mapping[str, Any], now_ns: int, *, anew: Collection[str]) -> AlertRow:
        """Make an alert, or change the one of that name.

        Parameters
        ----------
        values:
            Columns of its definition.
        anew:
            Columns whose change makes what is known of its state void: it begins again as ``unknown``.

        Nothing is written, and no lock taken, when it is like that already.
        """
        found = self.get(name)
        if found is not None and _same(found, values):
            return found
        with self._store.write() as connection:
            found = _named(connection, name)
            if found is None:
                row = {**values, "name": name, "created_at": now_ns, "changed_at": now_ns}
                connection.execute(insert(alert).values(**row))
            elif not _same(found, values):
                changes: dict[Any, Any] = {**values, "changed_at": now_ns, "check_version": found.check_version + 1}
                if any(getattr(found, column) != values[column] for column in anew if column in values):
                    changes.update(state="unknown", since=None, value=None, count=None, checked_at=None, error=None)
                connection.execute(update(alert).where(alert.c.id == found.id).values(changes))
            saved = _named(connection, name)
        assert saved is not None
        return saved

    def remove(self, name: str) -> bool:
        """Delete an alert with all that it has said; whether there was one."""
        with self._store.write() as connection:
            found = _named(connection, name)
            if found is None:
                return False
            connection.execute(delete(alert_event).where(alert_event.c.alert_id == found.id))
            connection.execute(delete(alert).where(alert.c.id == found.id))
        return True

    def last_events(self, alert_ids: Collection[int]) -> dict[int, EventRow]:
        """The newest event of each of these alerts that has said anything."""
        with self._store.read() as connection:
            found = {}
            for one in alert_ids:
                newest = select(alert_event).where(alert_event.c.alert_id == one)
                row = connection.execute(newest.order_by(alert_event.c.at.desc(), alert_event.c.id.desc()).limit(1))
                for event in row:
                    found[one] = EventRow._make(event)
        return found

    def events(self, alert_id: int, *, limit: int = 20) -> list[EventRow]:
        """What an alert said, the newest first."""
        statement = select(alert_event).where(alert_event.c.alert_id == alert_id)
        ordered = statement.order_by(alert_event.c.at.desc(), alert_event.c.id.desc()).limit(limit)
        with self._store.read() as connection:
            return [EventRow._make(row) for row in connection.execute(ordered)]

    # -- checks -------------------------------------------------------------------------------------------------------

    def enabled(self) -> list[AlertRow]:
        """The alerts that are not paused."""
        statement = select(alert).where(alert.c.enabled == 1).order_by(alert.c.id)
        with self._store.read() as connection:
            return [AlertRow._make(row) for row in connection.execute(statement)]

    def look(self, rows: Sequence[AlertRow], now_ns: int) -> list[Looked]:
        """Measure what these alerts are about."""
        of = alert_event.c
        with self._store.read() as connection:
            fresh = {
                row.id: AlertRow._make(row)
                for row in connection.execute(select(alert).where(alert.c.id.in_([row.id for row in rows])))
            }
            alerts = [fresh[row.id] for row in rows if row.id in fresh]
            questions = [Question(row.measure, row.score, row.filter, now_ns - row.window, now_ns) for row in alerts]
            figures = measures.measure(connection, questions)
            fired = (
                connection.scalar(select(func.max(of.at)).where(of.alert_id == row.id, of.kind == "fired"))
                for row in alerts
            )
            return [Looked(*each) for each in zip(alerts, figures, fired, strict=True)]

    def conclude(self, checks: Sequence[Check], now_ns: int) -> list[EventRow]:
        """Write what checks came to, in one transaction; the events that were made.

        A check of an alert that was changed, paused, removed or checked by somebody else meanwhile has no effect.
        """
        of, made = alert.c, []
        with self._store.write() as connection:
            for check in checks:
                statement = (
                    update(alert)
                    .where(of.id == check.alert_id, of.check_version == check.version, of.enabled == 1)
                    .values(
                        state=check.state,
                        since=check.since,
                        value=check.value,
                        count=check.n,
                        error=check.error,
                        checked_at=now_ns,
                        check_version=check.version + 1,
                    )
                )
                if connection.execute(statement).rowcount and check.event is not None:
                    made.append(_say(connection, check.alert_id, check.event, check.value, check.n, now_ns))
            faults.point("alerts.conclude.commit")
        faults.point("alerts.conclude.committed")
        return made

    # -- the outbox ---------------------------------------------------------------------------------------------------

    def claim_deliveries(self, now_ns: int, lease_ns: int, *, limit: int = 10) -> list[tuple[EventRow, AlertRow]]:
        """Take deliveries that are due, each for ``lease_ns``. Reads only when there is none.

        ``attempts`` of what is returned counts the one that is to be made now.
        """
        if not self._due(now_ns, limit):
            return []
        taken = []
        of = alert_event.c
        with self._store.write() as connection:
            for event in _due(connection, now_ns, limit):
                claimed = event._replace(attempts=event.attempts + 1, next_at=now_ns + lease_ns)
                connection.execute(
                    update(alert_event)
                    .where(of.id == event.id)
                    .values(
                        attempts=claimed.attempts,
                        next_at=claimed.next_at,
                        error=event.error or "an attempt is under way, or its process died",
                    )
                )
                its = connection.execute(select(alert).where(alert.c.id == event.alert_id)).first()
                if its is not None:
                    taken.append((claimed, AlertRow._make(its)))
        faults.point("alerts.claimed")
        return taken

    def conclude_delivery(
        self,
        event: EventRow,
        delivery: str,
        *,
        error: str | None = None,
        next_at: int | None = None,
        delivered_at: int | None = None,
    ) -> bool:
        """Write what an attempt came to; false when somebody else has taken it over since."""
        of = alert_event.c
        statement = (
            update(alert_event)
            .where(of.id == event.id, of.attempts == event.attempts, of.delivery == "pending")
            .values(delivery=delivery, error=error, next_at=next_at, delivered_at=delivered_at)
        )
        with self._store.write() as connection:
            return bool(connection.execute(statement).rowcount)

    def _due(self, now_ns: int, limit: int) -> list[EventRow]:
        with self._store.read() as connection:
            return _due(connection, now_ns, limit)


def _named(connection: Connection, name: str) -> AlertRow | None:
    row = connection.execute(select(alert).where(alert.c.name == name)).first()
    return None if row is None else AlertRow._make(row)


def _same(row: AlertRow, values: Mapping[str, Any]) -> bool:
    return all(getattr(row, column) == value for column, value in values.items())


def _due(connection: Connection, now_ns: int, limit: int) -> list[EventRow]:
    of = alert_event.c
    due = or_(of.next_at <= now_ns, of.next_at > now_ns + FARTHEST)
    statement = select(alert_event).where(_PENDING, due)
    return [EventRow._make(row) for row in connection.execute(statement.order_by(of.next_at, of.id).limit(limit))]


def _say(connection: Connection, alert_id: int, event: NewEvent, value: float | None, n: int, now_ns: int) -> EventRow:
    of = alert_event.c
    old = delete(alert_event).where(of.alert_id == alert_id, of.at < now_ns - KEPT, of.delivery != "pending")
    connection.execute(old)
    values = {
        "alert_id": alert_id,
        "key": event.key,
        "at": now_ns,
        "kind": event.kind,
        "value": value,
        "count": n,
        "message": event.message,
        "delivery": event.delivery,
        "next_at": now_ns if event.delivery == "pending" else None,
    }
    connection.execute(insert(alert_event).values(**values))
    made = connection.execute(select(alert_event).where(of.key == event.key)).one()
    return EventRow._make(made)

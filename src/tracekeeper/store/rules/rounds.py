"""What a rule decided, written in one transaction: all of a round, or nothing.

The rule's ``cursor_version`` is compared and incremented first, so of several processes that looked at the same records
one writes and the others find out before they have written anything; a process that dies inside leaves no trace.

Invariant: a record is behind the rule's cursor and not in ``rule_wait`` if and only if everything was decided on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, delete, func, literal_column, null, select, update
from sqlalchemy.dialects.sqlite import insert

from tracekeeper.store.connections import driver_of
from tracekeeper.store.rules.definitions import RuleRow, day_of, evaluations_on
from tracekeeper.store.score_statements import KEY
from tracekeeper.store.statements import hot, p
from tracekeeper.store.tables import rule, rule_day, rule_session, rule_wait, score, score_attempt, span

NEVER = (1 << 62) - 1
"""When a session is due that has been judged and has not gone on since."""


class Wish(NamedTuple):
    """A score that a rule decided on."""

    target: str
    trace_id: str
    span_id: str
    session_id: str
    name: str
    metric_version: str
    source: str
    record_id: int | None
    app_id: int | None
    priority: int
    skipped: str | None
    """The reason; ``None``: it is to be computed."""


class Known(NamedTuple):
    """A score that is there already."""

    id: int
    name: str
    metric_version: str
    source: str
    status: str
    attempt: int
    owner: str | None
    rule_id: int | None


class Counts(NamedTuple):
    """What a round adds to a rule's counters."""

    matched: int = 0
    judged: int = 0
    not_sampled: int = 0
    over_budget: int = 0


_BORN: Final = (
    *("target", "trace_id", "span_id", "session_id", "name", "metric_version", "source", "author"),
    *("record_id", "app_id", "status", "reason", "attempt", "mode", "local", "created_at", "settled_at"),
    *("priority", "rule_id"),
)
ASK: Final = hot(insert(score).on_conflict_do_nothing(index_elements=list(KEY)), column_keys=_BORN)
"""A score that is to be computed by whoever claims it, or is skipped, unless there is one by its key already."""

KNOWN: Final = hot(
    select(*(score.c[name] for name in Known._fields)).where(
        score.c.trace_id == p("trace"),
        score.c.span_id == p("span"),
        score.c.session_id == p("session"),
        score.c.target == p("what"),
        score.c.author == literal_column("''"),
    ),
    *("trace", "span", "session", "what"),
)

SPANS: Final = hot(
    select(span.c.span_id, span.c.kind, span.c.name)
    .where(span.c.trace_id == p("trace"), span.c.record_span_id == p("record"))
    .order_by(span.c.started_at, span.c.id),
    *("trace", "record"),
)

_KEPT: Final = (
    *("attempt", "status", "value", "label", "reason", "error", "started_at", "settled_at", "cost", "evaluation"),
)
KEEP: Final = hot(
    insert(score_attempt)
    .from_select(
        ["score_id", *_KEPT], select(score.c.id, *(score.c[name] for name in _KEPT)).where(score.c.id == p("row"))
    )
    .on_conflict_do_nothing(index_elements=["score_id", "attempt"]),
    "row",
)
"""A score's present outcome among its earlier attempts."""

_GONE: Final = (
    *("value", "label", "reason", "error", "traceback", "started_at", "settled_at", "cost", "metadata"),
    *("journal_id", "lease_until", "available_at", "evaluation"),
)
ASK_AGAIN: Final = hot(
    update(score)
    .values(
        **dict.fromkeys(_GONE, null()),
        status=literal_column("'pending'"),
        mode=literal_column("'deferred'"),
        local=literal_column("0"),
        lost=literal_column("0"),
        # Nobody's: whoever claims it gets the next attempt's number, and no frame of an earlier one is accepted.
        owner=literal_column("''"),
        created_at=p("now"),
        app_id=func.coalesce(p("app"), score.c.app_id),
        priority=p("importance"),
        rule_id=p("rule"),
    )
    .where(score.c.id == p("row")),
    *("app", "now", "importance", "rule", "row"),
)
"""A settled score is to be computed once more."""

WAIT: Final = hot(insert(rule_wait).on_conflict_do_nothing(), column_keys=("rule_id", "record_id"))
WAIT_NO_MORE: Final = hot(
    delete(rule_wait).where(rule_wait.c.rule_id == p("rule"), rule_wait.c.record_id == p("record")), "rule", "record"
)


def _session(*, known_only: bool) -> Any:
    if known_only:
        return hot(
            update(rule_session)
            .values(last_record_id=func.max(rule_session.c.last_record_id, p("last")), due_at=p("due"))
            .where(rule_session.c.rule_id == p("rule"), rule_session.c.session_id == p("session")),
            *("last", "due", "rule", "session"),
        )
    statement = insert(rule_session)
    new = statement.excluded
    return hot(
        statement.on_conflict_do_update(
            index_elements=["rule_id", "session_id"],
            set_={
                "last_record_id": func.max(rule_session.c.last_record_id, new.last_record_id),
                "due_at": new.due_at,
            },
        ),
        column_keys=("rule_id", "session_id", "last_record_id", "due_at"),
    )


GOES_ON: Final = _session(known_only=True)
"""A session that the rule knows has another record."""
BEGINS: Final = _session(known_only=False)
"""A session has a record that the rule's filter matches."""

JUDGED: Final = hot(
    update(rule_session)
    .values(judged_record_id=p("last"), last_record_id=p("last_"), due_at=literal_column(str(NEVER)))
    .where(rule_session.c.rule_id == p("rule"), rule_session.c.session_id == p("session")),
    *("last_", "last", "rule", "session"),
)
SPEND: Final = hot(
    insert(rule_day).on_conflict_do_update(
        index_elements=["rule_id", "day"],
        set_={"evaluations": rule_day.c.evaluations + insert(rule_day).excluded.evaluations},
    ),
    column_keys=("rule_id", "day", "evaluations"),
)


class Round:
    """A rule's round in an open write transaction."""

    def __init__(self, connection: Connection, row: RuleRow, now: int) -> None:
        self.rule = row
        self.now = now
        self._connection = connection
        self._driver = driver_of(connection)

    # Handed out here, because who decides knows no database.
    wish = Wish
    counts = Counts

    def begin(self) -> bool:
        """Whether this round is the one: nobody moved the cursor, changed, paused or removed the rule meanwhile."""
        mine = and_(rule.c.id == self.rule.id, rule.c.cursor_version == self.rule.cursor_version, rule.c.enabled == 1)
        values = {"cursor_version": self.rule.cursor_version + 1}
        return bool(self._connection.execute(update(rule).where(mine).values(**values)).rowcount)

    def evaluations_today(self) -> int:
        """What the rule has spent of today's budget of evaluations."""
        return evaluations_on(self._connection, self.rule.id, self.now)

    def known(self, target: str, trace_id: str, span_id: str, session_id: str) -> list[Known]:
        """The scores by machines on a target."""
        return [Known._make(row) for row in self._driver.execute(KNOWN.text, (trace_id, span_id, session_id, target))]

    def spans(self, trace_id: str, record_span_id: str) -> list[tuple[str, str, str]]:
        """Span id, kind and name of a record's spans, by start."""
        return self._driver.execute(SPANS.text, (trace_id, record_span_id)).fetchall()

    def ask(self, wishes: Sequence[Wish]) -> None:
        """Store the scores that were decided on."""
        rows = [
            (
                *(wish.target, wish.trace_id, wish.span_id, wish.session_id, wish.name, wish.metric_version),
                *(wish.source, "", wish.record_id, wish.app_id, "pending" if wish.skipped is None else "skipped"),
                *(wish.skipped, 0, "deferred", 0, self.now, None if wish.skipped is None else self.now),
                *(wish.priority, self.rule.id),
            )
            for wish in wishes
        ]
        if rows:
            self._driver.executemany(ASK.text, rows)

    def ask_again(self, score_ids: Iterable[tuple[int, int]], app_id: int | None) -> None:
        """Have settled scores (row id, priority) computed once more; what they are now stays an earlier attempt."""
        for score_id, priority in score_ids:
            self._driver.execute(KEEP.text, (score_id,))
            self._driver.execute(ASK_AGAIN.text, (app_id, self.now, priority, self.rule.id, score_id))

    def put_off(self, record_ids: Iterable[int]) -> None:
        """Look at these records again later."""
        self._driver.executemany(WAIT.text, [(self.rule.id, each) for each in record_ids])

    def decided(self, record_ids: Iterable[int]) -> None:
        """Records that had been put off are done with."""
        self._driver.executemany(WAIT_NO_MORE.text, [(self.rule.id, each) for each in record_ids])

    def session_active(self, session_id: str, record_id: int, due_at: int, *, matches: bool) -> None:
        """A session has another record; only one that the rule knows already, unless the record matches."""
        if matches:
            self._driver.execute(BEGINS.text, (self.rule.id, session_id, record_id, due_at))
        else:
            self._driver.execute(GOES_ON.text, (record_id, due_at, self.rule.id, session_id))

    def session_judged(self, session_id: str, last_record_id: int) -> None:
        """A session was judged as it stands."""
        self._driver.execute(JUDGED.text, (last_record_id, last_record_id, self.rule.id, session_id))

    def finish(self, cursor: int, counts: Counts) -> None:
        """Move the cursor and the counters."""
        added = {name: rule.c[name] + number for name, number in counts._asdict().items() if number}
        self._connection.execute(
            update(rule).where(rule.c.id == self.rule.id).values(cursor=cursor, error=None, **added)
        )
        if counts.judged:
            self._driver.execute(SPEND.text, (self.rule.id, day_of(self.now), counts.judged))

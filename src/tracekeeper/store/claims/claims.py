"""Claims: who computes a score that waits in the store. A pending row is the job; there is no second queue.

A claim gives a row an owner (the claimer's journal), a lease and its next attempt number, in one transaction, so of any
number of claimers one gets it. Only frames of that journal are accepted from then on. What becomes of a score whose
owner is gone is in ``claims.losses``. The states, and why it comes out right, are in ``docs/design/leases.md``.

Invariants
----------
- Whoever polls takes no write lock when there is nothing to claim.
- All scores of one metric on one target are claimed together.
- What a producer is about to settle from memory is left to it for as long as its lease holds.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from tracekeeper.store.claims import loss_statements as lost_statements
from tracekeeper.store.claims import statements as sql
from tracekeeper.store.claims.losses import MAX_LOST, MAX_PAUSE, PROCESS_ENDED, lose
from tracekeeper.types import FINAL_SCORE_STATUSES, ScoreStatus

FREED_AT_ONCE = 5_000
"""Scores of a silent producer that one claim frees: it holds the write lock meanwhile."""


class Claim(NamedTuple):
    """A score that its owner is to compute."""

    score_id: int
    target: str
    trace_id: str
    span_id: str
    session_id: str
    name: str
    metric_version: str
    source: str
    author: str
    record_id: int | None
    app_id: int | None
    attempt: int
    """The number under which its result is written."""
    lost: int
    """How often its owner was lost; from 1 on it is better run in a process of its own."""
    priority: int
    mode: str
    created_at: int
    rule_id: int | None


class Wanted(NamedTuple):
    """A score by its key, for ``Store.take``."""

    target: str
    trace_id: str
    span_id: str
    session_id: str
    name: str
    metric_version: str
    source: str
    mode: str
    local: bool
    priority: int = 0
    record_id: int | None = None
    app_id: int | None = None
    rule_id: int | None = None


class WaitingRow(NamedTuple):
    """Scores of one metric version that wait to be computed."""

    name: str
    metric_version: str
    count: int  # type: ignore[assignment]  # a tuple's method of that name is not needed here
    oldest: int
    """When the oldest of them was born."""
    held: int
    """How many of them a live producer, or somebody who claimed them, is about to compute."""


class WorkerRow(NamedTuple):
    """Who claims scores."""

    journal: str
    """Name of its journal, which is the owner it claims as."""
    kind: str
    host: str
    pid: int
    started_at: int
    seen_at: int
    data: str
    """JSON: what it said of itself."""


class Moment(NamedTuple):
    """A time of claiming, and what follows from the length of a lease. All in nanoseconds."""

    now: int
    lease: int

    @property
    def until(self) -> int:
        """When a lease that begins now ends."""
        return self.now + self.lease

    @property
    def absurd(self) -> int:
        """No lease ends later than that, unless a clock was set back since it began."""
        return self.now + 2 * self.lease

    @property
    def horizon(self) -> int:
        """No pause ends later than that, likewise."""
        return self.now + MAX_PAUSE

    @property
    def heard(self) -> tuple[int, int]:
        """A producer that lives was heard of between these times."""
        return self.now - self.lease, self.now + self.lease


Metrics = Collection[tuple[str, str]]
"""Score names and metric versions."""


def is_waiting(driver: sqlite3.Connection, owner: str, metrics: Metrics, at: Moment, deferred: bool) -> bool:
    """Whether there may be something to claim. Reads only, and only what the index holds."""
    for name, version in metrics:
        if driver.execute(sql.IS_WAITING.text, (name, version, at.now, at.horizon, deferred)).fetchone():
            return True
    return bool(metrics) and bool(driver.execute(lost_statements.SILENT_PENDING.text, (owner, *at.heard)).fetchone())


def claim(
    driver: sqlite3.Connection,
    owner: str,
    metrics: Metrics,
    at: Moment,
    *,
    limit: int,
    deferred: bool,
    turn: int,
) -> list[Claim]:
    """See ``Store.claim``; in a write transaction."""
    for journal_id, _ in driver.execute(lost_statements.SILENT_PENDING.text, (owner, *at.heard)).fetchall():
        driver.execute(lost_statements.FREE_LAPSED.text, (journal_id, FREED_AT_ONCE))
    siblings = _siblings(metrics)
    claimed: list[Claim] = []
    for row in _picked(driver, siblings, at, limit=limit, deferred=deferred, turn=turn):
        _, _, row_id, trace_id, span_id, session_id, target, source, author, name, version = row
        claimed += _claimed(driver, sql.CLAIM.text, (owner, owner, at.until, row_id))
        for other in siblings[name, version]:
            if other != name:
                key = (trace_id, span_id, session_id, target, other, version, source, author)
                for (sibling,) in driver.execute(sql.FIND_SIBLING.text, key).fetchall():
                    claimed += _claimed(driver, sql.CLAIM.text, (owner, owner, at.until, sibling))
    return claimed


_Siblings = dict[tuple[str, str], list[str]]
_Rows = Generator[tuple[Any, ...], None, None]


def _siblings(metrics: Metrics) -> _Siblings:
    """By score name and version, the names of the scores that the same metric gives.

    They are told by the version, which is the metric's, and the name before the first dot. Two metrics that share both
    are claimed together, which harms neither.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for name, version in dict.fromkeys(metrics):
        groups.setdefault((name.partition(".")[0], version), []).append(name)
    return {(name, version): groups[name.partition(".")[0], version] for name, version in dict.fromkeys(metrics)}


def _picked(
    driver: sqlite3.Connection, siblings: _Siblings, at: Moment, *, limit: int, deferred: bool, turn: int
) -> list[tuple[Any, ...]]:
    """Rows to claim: from each app in turn its next by priority and age, one of each metric and target."""
    waits: dict[int | None, list[tuple[str, str]]] = {}
    for metric in siblings:
        for app in _apps(driver, metric):
            waits.setdefault(app, []).append(metric)
    apps = sorted(waits, key=lambda app: -1 if app is None else app)
    first = turn % len(apps) if apps else 0
    when = (at.now, at.horizon, deferred)
    queues = [_queue(driver, waits[app], app, when) for app in (*apps[first:], *apps[:first])]
    taking_turns = queues
    picked: list[tuple[Any, ...]] = []
    seen = set()
    try:
        while taking_turns and len(picked) < limit:
            left = []
            for queue in taking_turns:
                for row in queue:
                    group = siblings[row[-2], row[-1]]
                    target = (row[3:9], group[0], row[-1])
                    if len(group) > 1 and target in seen:
                        continue
                    seen.add(target)
                    picked.append(row)
                    left.append(queue)
                    break
                if len(picked) >= limit:
                    break
            taking_turns = left
    finally:
        for queue in queues:
            queue.close()
    return picked


def _apps(driver: sqlite3.Connection, metric: tuple[str, str]) -> Iterator[int | None]:
    if driver.execute(sql.FIRST_APP.text, metric).fetchone():
        yield None
    app = -1
    while (app := driver.execute(sql.NEXT_APP.text, (*metric, app)).fetchone()[0]) is not None:
        yield app


def _queue(
    driver: sqlite3.Connection, metrics: Sequence[tuple[str, str]], app: int | None, when: tuple[Any, ...]
) -> _Rows:
    """An app's waiting rows in the order of claiming, read one by one."""

    def rows(metric: tuple[str, str]) -> _Rows:
        with closing(driver.execute(sql.WAITING_OF_APP.text, (*metric, app, *when))) as cursor:
            yield from cursor

    # Only when it is asked for the first row: with many apps, most are not.
    sources = [rows(metric) for metric in metrics]
    try:
        yield from sources[0] if len(sources) == 1 else heapq.merge(*sources)
    finally:
        for source in sources:
            source.close()


def _claimed(driver: sqlite3.Connection, statement: str, values: Sequence[Any]) -> list[Claim]:
    return [Claim._make(row) for row in driver.execute(statement, values).fetchall()]


# -- by key -----------------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    id: int
    status: str
    owner: str | None
    lease_until: int | None
    attempt: int
    lost: int
    mode: str
    reason: str | None
    started_at: int | None
    journal_id: int | None
    state: str | None
    journal: str | None
    seen_at: int | None


def take(driver: sqlite3.Connection, owner: str, wanted: Sequence[Wanted], at: Moment, *, again: bool) -> list[Claim]:
    """See ``Store.take``; in a write transaction."""
    taken: list[Claim] = []
    who = (owner, owner, at.until)
    for each in wanted:
        key = (each.trace_id, each.span_id, each.session_id, each.target, each.name, each.metric_version, each.source)
        row = driver.execute(sql.FIND_FOR_TAKING.text, (*key, "")).fetchone()
        local, found = int(each.local), None if row is None else _Found._make(row)
        if found is None:
            new = (each.target, *key[:3], *key[4:], "", each.record_id, each.app_id)
            begun = (str(ScoreStatus.PENDING), 1, each.mode, local, at.now)
            taken += _claimed(driver, sql.BEGIN.text, (*new, *begun, *who, each.priority, each.rule_id))
        elif found.status in FINAL_SCORE_STATUSES:
            if again or never_came_to_a_result(found):
                driver.execute(sql.ARCHIVE_FINAL.text, (found.id,))
                anew = (each.record_id, each.app_id, each.mode, local, at.now, *who, each.priority, each.rule_id)
                taken += _claimed(driver, sql.REOPEN.text, (*anew, found.id))
        elif _is_free(found, owner, at) or _has_lapsed(driver, found, owner, at):
            taken += _claimed(driver, sql.CLAIM_OPEN.text, (local, *who, each.rule_id, found.id))
    return taken


def never_came_to_a_result(row: Any) -> bool:
    """Whether a final score is one that its metric never judged: it was cancelled, or nobody began in time.

    Any row with ``status``, ``attempt``, ``reason``, ``started_at`` and ``lost`` will do.
    """
    if row.status == ScoreStatus.CANCELLED or row.reason == PROCESS_ENDED or not row.attempt:
        return True
    return bool(row.status == ScoreStatus.FAILED and row.started_at is None and row.lost < MAX_LOST)


def _is_free(found: _Found, owner: str, at: Moment) -> bool:
    """Whether nobody is about to compute a score that waits."""
    if found.status != ScoreStatus.PENDING or found.owner:
        return False
    if found.owner == "" or found.mode == "deferred" or found.journal_id is None or found.state != "live":
        return True
    since, until = at.heard
    return found.journal != owner and not since <= (found.seen_at or 0) <= until


def _has_lapsed(driver: sqlite3.Connection, found: _Found, owner: str, at: Moment) -> bool:
    """Whether the lease of its owner has run out; then the owner has lost it, and it can be taken if it may go on.

    Likewise of what a producer has begun and was not heard of since, local or not: somebody else wants it now.
    """
    if found.owner is None and found.status == ScoreStatus.RUNNING:
        since, until = at.heard
        if found.journal == owner or (found.state == "live" and since <= (found.seen_at or 0) <= until):
            return False
        why = f"{found.journal or 'its process'} was not heard of for longer than its lease"
        return lose(driver, found.id, found.lost, found.status, why, at.now)
    if not found.owner or found.owner == owner or at.now <= (found.lease_until or 0) <= at.absurd:
        return False
    return lose(driver, found.id, found.lost, found.status, f"{found.owner} did not renew its lease", at.now)

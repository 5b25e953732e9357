"""How scores move: birth, outcome, and replacement by a later attempt.

The rule of replacement is one order over (attempt, how far the status is): a frame replaces the row when it is greater,
so frames of one key may come in any order and the same one wins, and among equal outcomes the first stands. The rule
is written twice, here for frames that arrive together and in ``score_statements.REPLACE`` for what is stored; a
property test holds them to each other.

Whose frames are accepted at all is a matter of claims (``score_statements.may_write``). A frame that is not accepted is
refused and counted, and so is one of an attempt that its owner lost.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, and_, bindparam, case, func, literal_column, not_, null, update

from tracekeeper.configuration.settings import base_settings
from tracekeeper.journal.frames import ScoreBirth, ScoreFrame
from tracekeeper.store import score_statements as sql
from tracekeeper.store.span_rows import finite, integer, text_of
from tracekeeper.store.spans import Born
from tracekeeper.store.tables import score
from tracekeeper.types import FINAL_SCORE_STATUSES, ScoreStatus

SUPERSEDED = "a later attempt replaced it before it settled"

Key = tuple[str, str, str, str, str, str, str, str]
"""Trace id, span id, session id, target, name, metric version, source, author: as ``score_statements.KEY``."""


def rank(status: str) -> int:
    """How far a status is: 0 pending, 1 running, 2 final."""
    if status == ScoreStatus.PENDING:
        return 0
    return 1 if status == ScoreStatus.RUNNING else 2


def supersedes(new: ScoreFrame, old: ScoreFrame) -> bool:
    """Whether ``new`` replaces ``old`` of the same key: a higher attempt, or the same one further on.

    Example
    -------
    >>> pending, scored = ScoreFrame("record", "m", "pending"), ScoreFrame("record", "m", "scored", attempt=1)
    >>> supersedes(scored, pending), supersedes(pending, scored), supersedes(scored, scored)
    (True, False, False)
    """
    return (new.attempt, rank(new.status)) > (old.attempt, rank(old.status))


class Folded(NamedTuple):
    """The frames of one batch, reduced."""

    winners: dict[Key, ScoreFrame]
    earlier: list[tuple[Key, ScoreFrame]]
    """Attempts that a higher one of the same batch replaces."""


def fold(frames: Iterable[ScoreFrame]) -> Folded:
    """Reduce frames to the one of each key that counts, and the attempts before it."""
    winners: dict[Key, ScoreFrame] = {}
    earlier: list[tuple[Key, ScoreFrame]] = []
    for frame in frames:
        key = key_of(frame)
        frame = sound(frame)
        known = winners.get(key)
        if known is None or supersedes(frame, known):
            winners[key] = frame
            if known is not None and known.attempt < frame.attempt:
                earlier.append((key, known))
        elif frame.attempt < known.attempt:
            earlier.append((key, frame))
    return Folded(winners, earlier)


def key_of(frame: ScoreFrame) -> Key:
    """The key of a frame, in the store's form."""
    return (
        frame.trace_id.hex(),
        frame.span_id.hex(),
        frame.session_id,
        frame.target,
        frame.name,
        frame.metric_version,
        frame.source,
        frame.author,
    )


def sound(frame: ScoreFrame) -> ScoreFrame:
    """The frame, or ``failed`` with a reason when it says ``scored`` without a value that can be stored.

    SQLite would make NULL of a NaN, and a score without a value must say why it has none.
    What is not scored has no value.
    """
    value = frame.value
    if value is not None and not math.isfinite(value):
        return _without_value(frame, f"the value {value!r} is not a finite number")
    if frame.status == ScoreStatus.SCORED:
        if value is None and frame.label is None:
            return _without_value(frame, "it was said to be scored, but has no value")
    elif frame.status not in _STATUSES:
        return _without_value(frame, f"unknown status {frame.status!r}", failed=True)
    elif value is not None or frame.label is not None:
        return msgspec.structs.replace(frame, value=None, label=None)
    return frame


_STATUSES = frozenset(str(status) for status in ScoreStatus)


def _without_value(frame: ScoreFrame, why: str, *, failed: bool = False) -> ScoreFrame:
    if frame.status == ScoreStatus.SCORED or failed:
        told = f"{why}; the metric's reason: {frame.reason}" if frame.reason else why
        frame = msgspec.structs.replace(frame, status=str(ScoreStatus.FAILED), reason=told)
    return msgspec.structs.replace(frame, value=None, label=None)


def store(
    driver: sqlite3.Connection,
    journal_id: int,
    journal_name: str,
    born: Sequence[Born],
    frames: Sequence[ScoreFrame],
    now: int,
) -> tuple[int, int]:
    """Store what was born and what was settled.

    Returns
    -------
    tuple[int, int]
        Rows inserted or changed; frames refused because somebody else has claimed the score.
    """
    winners, earlier = fold(frames)
    changed = 0
    born_rows, rows, owned = [], [], []
    born_keys: dict[Key, tuple[int | None, int | None, int | None, ScoreBirth | None]] = {}
    for parent in born:
        for birth in parent.births:
            key: Key = (
                *(parent.trace_id, parent.span_id, "", "record"),
                *(birth.name, birth.metric_version, birth.source, ""),
            )
            if key in winners and birth.status == ScoreStatus.PENDING:
                # Born and settled in one batch: one insert.
                born_keys.setdefault(key, (parent.record_id, parent.app_id, now, birth))
                continue
            skipped = birth.status != ScoreStatus.PENDING
            born_rows.append(
                (
                    *("record", parent.trace_id, parent.span_id, "", birth.name, birth.metric_version, birth.source),
                    *("", parent.record_id, parent.app_id, str(birth.status), None, None, "number", birth.reason),
                    *(None, None, 0, birth.mode, int(birth.local), now, None),  # a logged call may lie years back
                    *(now if skipped else None, None, None, journal_id, birth.priority, None),
                )
            )
    if born_rows:
        changed += driver.executemany(sql.BEAR.text, born_rows).rowcount
    lease_until = now + round(base_settings().lease * 1e9)
    for key, frame in winners.items():
        record_id, app_id, created, decided = born_keys.get(key, (None, None, None, None))
        rows.append(
            (
                *(key[3], key[0], key[1], key[2], key[4], key[5], key[6], key[7], record_id, app_id),
                *(frame.status, finite(frame.value), frame.label, frame.value_type, frame.reason, frame.error),
                *(frame.traceback, frame.attempt, decided.mode if decided is not None else frame.mode),
                int(decided.local if decided is not None else frame.local),
                created or frame.started or frame.settled or now,
                *(integer(frame.started), _settled(frame, now), finite(frame.cost), text_of(frame.metadata)),
                *(journal_id, 0 if decided is None else decided.priority, frame.evaluation.hex() or None),
                *(journal_name, lease_until, journal_name),
            )
        )
        owned.append((*key, frame.attempt, journal_name, journal_id))
    refused: set[Key] = set()
    if rows:
        driver.executemany(sql.ARCHIVE.text, owned)
        accepted = driver.executemany(sql.REPLACE.text, rows).rowcount
        changed += accepted
        if accepted < len(rows):
            # Some came too late: as earlier attempts they stay visible, unless they were not theirs to settle.
            for key, frame in winners.items():
                (taken,) = driver.execute(sql.IS_REFUSED.text, (*key, journal_name, journal_id)).fetchone()
                if taken:
                    refused.add(key)
                else:
                    earlier.append((key, frame))
    lapsed: set[tuple[Key, int]] = set()
    kept = []
    for key, frame in earlier:
        if key in refused or not (frame.attempt > 0 or frame.status in FINAL_SCORE_STATUSES):
            continue
        (late,) = driver.execute(sql.IS_LAPSED.text, (*key, frame.attempt)).fetchone()
        if late:
            lapsed.add((key, frame.attempt))
        else:
            kept.append(_earlier(key, frame, now))
    if kept:
        driver.executemany(sql.KEEP_EARLIER.text, kept)
    return changed, _count(frames, refused, lapsed)


def _count(frames: Sequence[ScoreFrame], refused: Collection[Key], lapsed: Collection[tuple[Key, int]]) -> int:
    """How many frames were refused, however they were cut into batches."""
    if not refused and not lapsed:
        return 0
    keys = ((key_of(frame), frame.attempt) for frame in frames)
    return sum(key in refused or (key, attempt) in lapsed for key, attempt in keys)


def _settled(frame: ScoreFrame, now: int) -> int | None:
    if frame.status not in FINAL_SCORE_STATUSES:
        return None
    return now if frame.settled is None else integer(frame.settled)


def _earlier(key: Key, frame: ScoreFrame, now: int) -> tuple[Any, ...]:
    final = frame.status in FINAL_SCORE_STATUSES
    return (
        frame.attempt,
        frame.status if final else str(ScoreStatus.CANCELLED),
        finite(frame.value),
        frame.label,
        frame.reason if final else SUPERSEDED,
        frame.error,
        integer(frame.started),
        _settled(frame, now),
        finite(frame.cost),
        frame.evaluation.hex() or None,
        *key,
        frame.attempt,
    )


def settle_overdue(connection: Connection, now_ns: int, settle_within_ns: int, live_journals: Collection[int]) -> int:
    """See ``Store.settle_overdue``."""
    running = score.c.status == literal_column("'running'")
    within = duration_text(settle_within_ns)
    claimed = score.c.owner.is_not(None)
    held = and_(claimed, score.c.owner != sql.NOBODY, score.c.lease_until >= bindparam("now"))
    statement = (
        update(score)
        .values(
            status=literal_column("'failed'"),
            reason=case((running, bindparam("stuck")), else_=bindparam("late")),
            settled_at=bindparam("now"),
            # Of what was claimed once, a result that comes later is refused.
            owner=case((claimed, sql.NOBODY), else_=null()),
            journal_id=case((claimed, null()), else_=score.c.journal_id),
            lease_until=null(),
            available_at=null(),
        )
        .where(
            score.c.status.in_([literal_column("'pending'"), literal_column("'running'")]),
            score.c.created_at < bindparam("before"),
            func.coalesce(not_(held), literal_column("1")),
            not_(and_(running, score.c.journal_id.in_(list(live_journals)))) if live_journals else literal_column("1"),
        )
    )
    values = {
        "stuck": f"it began, but did not settle within {within}",
        "late": f"did not start within {within}",
        "now": now_ns,
        "before": now_ns - settle_within_ns,
    }
    return connection.execute(statement, values).rowcount


def duration_text(nanoseconds: int) -> str:
    """A duration for people.

    Example
    -------
    >>> duration_text(86_400 * 10**9), duration_text(90 * 10**9), duration_text(1_500_000_000)
    ('24 h', '90 s', '1.5 s')
    """
    seconds = nanoseconds / 1e9
    for size, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:g} {name}"
    return f"{seconds:g} s"

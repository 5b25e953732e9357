"""What becomes of scores whose owner or producer is gone: dead, or silent for longer than its lease.

A lost attempt is kept, marked as lapsed: whatever its owner still says of it is refused and counted. The score waits
again, after a pause that grows, for somebody else, who runs it in a process of its own; when it was lost ``MAX_LOST``
times while it ran it is failed, since a metric that takes its process down would otherwise take down one after the
other. What its owner had not begun to run (as far as was said) counts as lost once at most: workers that are killed for
other reasons never fail a score that did not run.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from tracekeeper.store.claims import loss_statements as sql
from tracekeeper.store.claims import statements as claim_statements

MAX_LOST = 3
"""The loss at which a score is failed instead of being given to another worker."""

MAX_PAUSE = 60 * 10**9
"""Nanoseconds for which a score is kept from being claimed, at most."""

AT_ONCE = 1_000
"""Scores that one look takes from lapsed owners: it holds the write lock meanwhile."""

PROCESS_ENDED = "its process ended before it ran"


class Reaped(NamedTuple):
    """What a look for lapsed leases did."""

    freed: int
    """Scores that wait to be claimed again."""
    failed: int
    """Scores that were lost too often."""


def pause(lost: int) -> int:
    """Nanoseconds for which a score waits after it was lost for the so-manieth time.

    Example
    -------
    >>> [pause(lost) // 10**9 for lost in (1, 2, 3, 7, 100)]
    [1, 2, 4, 60, 60]
    """
    return min(MAX_PAUSE, (1 << min(lost - 1, 30)) * 10**9)


def losses(lost: int, status: str) -> int:
    """How often a score counts as lost after this loss.

    Example
    -------
    >>> losses(0, "pending"), losses(1, "pending"), losses(1, "running")
    (1, 1, 2)
    """
    return lost + 1 if status == "running" else max(1, lost)


def lose(driver: sqlite3.Connection, score_id: int, lost: int, status: str, why: str, now: int) -> bool:
    """Take a score from an owner that lost it; whether it waits again (else it is failed).

    Parameters
    ----------
    lost:
        How often it was lost before.
    status:
        Its status: ``running``, or ``pending`` when its owner had not said that it began.
    why:
        What became of the owner.
    """
    count = losses(lost, status)
    if status == "running" and count >= MAX_LOST:
        reason = f"its worker was lost {count} times while it ran (last: {why})"
        driver.execute(sql.FAIL_LOST.text, (reason, now, score_id))
        return False
    driver.execute(sql.ARCHIVE_LAPSED.text, (why, now, score_id))
    driver.execute(sql.LAPSE.text, (f"waits for another worker: {why}", count, now + pause(count), score_id))
    return True


def has_lapsed(driver: sqlite3.Connection, owner: str, now: int, lease: int) -> bool:
    """Whether ``reap`` would find anything. Reads only."""
    return (
        driver.execute(sql.FIND_LAPSED.text, (now, now + 2 * lease, 1)).fetchone() is not None
        or driver.execute(sql.SILENT_RUNNING.text, (owner, now - lease, now + lease)).fetchone() is not None
    )


def reap(driver: sqlite3.Connection, owner: str, now: int, lease: int) -> Reaped:
    """See ``Store.reap``; in a write transaction."""
    freed = failed = 0
    found = driver.execute(sql.FIND_LAPSED.text, (now, now + 2 * lease, AT_ONCE)).fetchall()
    for score_id, lost, status, gone in found:
        waits = lose(driver, score_id, lost, status, f"{_who(driver, gone)} did not renew its lease", now)
        freed, failed = freed + waits, failed + (not waits)
    for journal_id, name in driver.execute(sql.SILENT_RUNNING.text, (owner, now - lease, now + lease)).fetchall():
        why = f"{_who(driver, name)} was not heard of for longer than its lease"
        for score_id, lost, status, _ in driver.execute(sql.FIND_RUNNING.text, (journal_id,)).fetchall():
            waits = lose(driver, score_id, lost, status, why, now)
            freed, failed = freed + waits, failed + (not waits)
    return Reaped(freed, failed)


def interrupt(driver: sqlite3.Connection, journal_id: int, name: str, now: int) -> int:
    """Settle or free what a dead process leaves open, after its last frames were stored; how many."""
    failed = driver.execute(sql.FAIL_LOCAL_OWNED.text, (PROCESS_ENDED, now, name)).rowcount
    failed += driver.execute(sql.FAIL_LOCAL.text, (PROCESS_ENDED, now, journal_id)).rowcount
    begun = driver.execute(sql.FIND_OWNED.text, (name,)).fetchall()
    begun += driver.execute(sql.FIND_RUNNING.text, (journal_id,)).fetchall()
    why = f"{_who(driver, name)} ended" if begun else ""
    for score_id, lost, status, _ in begun:
        lose(driver, score_id, lost, status, why, now)
    driver.execute(claim_statements.REMOVE_WORKER.text, (name,))
    return failed + len(begun) + int(driver.execute(sql.FREE_REST.text, (journal_id,)).rowcount)


def release(driver: sqlite3.Connection, owner: str, score_id: int, available_at: int | None, now: int) -> int:
    """Give one score back; 1 when it was the owner's."""
    found = driver.execute(claim_statements.FIND_OWN.text, (score_id, owner)).fetchone()
    if found is None:
        return 0
    if found[0] == "running":
        driver.execute(sql.ARCHIVE_LAPSED.text, ("its worker gave it back before it settled", now, score_id))
    return int(driver.execute(claim_statements.RELEASE.text, (available_at, score_id, owner)).rowcount)


def _who(driver: sqlite3.Connection, name: str) -> str:
    found = driver.execute(sql.WHO.text, (name,)).fetchone()
    return name if found is None else f"process {found[0]} on {found[1]}"

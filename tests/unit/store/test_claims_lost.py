"""What becomes of claimed scores when their owner dies, falls silent, or the clock is stepped."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.claiming import LEASE, METRICS, NOW, hear, result, the_score, waiting, wanted
from tests.support.rows import SECOND, Writer, birth, record, score

from tracekeeper.store import ingest, statements
from tracekeeper.store.claims import loss_statements as lost_statements
from tracekeeper.store.claims import statements as claim_statements
from tracekeeper.store.claims.claims import Claim
from tracekeeper.store.claims.losses import MAX_LOST, Reaped
from tracekeeper.store.connections import driver_of
from tracekeeper.store.results import ScoreRow
from tracekeeper.store.store import Store

HOUR = 3600 * SECOND
CLAIM: dict[str, Any] = {"limit": 10, "lease": LEASE}


class Clock:
    now = NOW

    def time_ns(self) -> int:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(ingest, "time", stopped)
    return stopped


@pytest.fixture
def worker(store: Store) -> Writer:
    return Writer(store, "worker")


@pytest.fixture
def other(store: Store) -> Writer:
    return Writer(store, "other")


def only(claims: list[Claim]) -> Claim:
    (claim,) = claims
    return claim


def row_of(store: Store, claim: Claim) -> ScoreRow:
    (row,) = (row for row in store.scores_by_key([(claim.trace_id, claim.span_id)]) if row.id == claim.score_id)
    return row


def test_a_lapsed_lease_frees_its_score_and_keeps_the_attempt(store: Store, journal: Writer, worker: Writer) -> None:
    waiting(journal)
    claim = only(store.claim("worker", METRICS, now_ns=NOW, **CLAIM))
    result(worker, claim, "running", started=NOW + SECOND)
    assert store.reap(NOW + 30 * SECOND, LEASE) == Reaped(0, 0)
    hear(store, worker, now=NOW + 31 * SECOND)
    assert store.reap(NOW + 31 * SECOND, LEASE) == Reaped(1, 0)
    row = row_of(store, claim)
    assert (row.status, row.owner, row.lease_until, row.lost, row.attempt) == ("pending", "", None, 1, 1)
    assert row.available_at == NOW + 32 * SECOND
    assert row.reason == "waits for another worker: process 1 on here did not renew its lease"
    (attempt,) = store.attempts_of([row.id])
    assert (attempt.attempt, attempt.status, attempt.lapsed) == (1, "cancelled", 1)
    assert (attempt.started_at, attempt.settled_at) == (NOW + SECOND, NOW + 31 * SECOND)
    assert attempt.reason == "process 1 on here did not renew its lease"


def test_late_frames_of_a_lapsed_attempt_are_refused_and_counted(
    store: Store, journal: Writer, worker: Writer, other: Writer
) -> None:
    waiting(journal)
    claim = only(store.claim("worker", METRICS, now_ns=NOW, **CLAIM))
    later = NOW + 60 * SECOND
    store.reap(later, LEASE)
    assert result(worker, claim, "running").refused == 1, "nobody has it"
    new = only(store.claim("other", METRICS, now_ns=later + SECOND, **CLAIM))
    assert (new.score_id, new.attempt, new.lost) == (claim.score_id, 2, 1)
    assert result(worker, claim, value=0.1).refused == 1, "somebody else has it"
    result(other, new, value=0.9)
    assert result(worker, claim, value=0.1).refused == 1, "somebody else has finished it"
    assert result(worker, claim, value=0.1, attempt=3).refused == 1, "retries of its own do not help"
    row = row_of(store, claim)
    assert (row.value, row.attempt) == (0.9, 2)
    assert [(each.attempt, each.status, each.lapsed) for each in store.attempts_of([row.id])] == [(1, "cancelled", 1)]
    account = store.journal_row("worker")
    assert account is not None
    assert account.refused == store.counts().refused == 4


def test_a_late_frame_is_refused_also_when_its_worker_has_claimed_the_score_anew(
    store: Store, journal: Writer, worker: Writer
) -> None:
    waiting(journal)
    claim = only(store.claim("worker", METRICS, now_ns=NOW, **CLAIM))
    store.reap(NOW + 60 * SECOND, LEASE)
    again = only(store.claim("worker", METRICS, now_ns=NOW + 62 * SECOND, **CLAIM))
    both = (result(worker, claim, value=0.1), result(worker, again, value=0.2), result(worker, claim, value=0.1))
    assert [each.refused for each in both] == [1, 0, 1]
    assert row_of(store, claim).value == 0.2
    assert [(each.status, each.value, each.lapsed) for each in store.attempts_of([claim.score_id])] == [
        ("cancelled", None, 1)
    ]


def test_the_result_in_a_dead_workers_journal_counts(store: Store, journal: Writer, worker: Writer) -> None:
    waiting(journal)
    waiting(journal)
    done, open_ = store.claim("worker", METRICS, now_ns=NOW, **CLAIM)
    frame = score(record(), value=0.5, attempt=1, local=False)
    frame.trace_id, frame.span_id = bytes.fromhex(done.trace_id), bytes.fromhex(done.span_id)
    applied = worker.apply(scores=[frame], interrupt=True)
    assert applied.refused == 0
    assert (row_of(store, done).status, row_of(store, done).lost) == ("scored", 0)
    row = row_of(store, open_)
    assert (row.status, row.owner, row.lost, row.available_at) == ("pending", "", 1, NOW + SECOND)
    assert store.claim("other", METRICS, now_ns=NOW, **CLAIM) == []
    again = only(store.claim("other", METRICS, now_ns=NOW + SECOND, **CLAIM))
    assert (again.score_id, again.attempt, again.lost) == (open_.score_id, 2, 1)


def test_what_is_lost_too_often_fails_with_the_reason(store: Store, journal: Writer) -> None:
    write = waiting(journal)
    now, pauses = NOW, []
    for number in range(1, MAX_LOST + 1):
        worker = Writer(store, f"w{number}")
        claim = only(store.claim(f"w{number}", METRICS, now_ns=now, **CLAIM))
        assert (claim.attempt, claim.lost) == (number, number - 1)
        worker.apply(scores=[score(write, status="running", local=False, attempt=number, started=now)])
        lapsed = now + 31 * SECOND
        assert store.reap(lapsed, LEASE) == (Reaped(1, 0) if number < MAX_LOST else Reaped(0, 1))
        now = the_score(store, write).available_at or lapsed
        pauses.append((now - lapsed) // SECOND)
        assert store.claim("worker", METRICS, now_ns=now - 1, **CLAIM) == []
        assert result(worker, claim).refused == 1
    assert pauses == [1, 2, 0]
    row = the_score(store, write)
    assert (row.status, row.owner, row.lost, row.settled_at) == ("failed", "", 3, lapsed)
    assert row.reason == ("its worker was lost 3 times while it ran (last: process 1 on here did not renew its lease)")
    assert [(each.attempt, each.lapsed) for each in store.attempts_of([row.id])] == [(1, 1), (2, 1)]
    assert store.take("j", [wanted(write)], lease=LEASE, now_ns=now) == [], "it came to a result: that one"
    again = only(store.take("j", [wanted(write)], lease=LEASE, again=True, now_ns=now))
    assert (again.attempt, again.lost) == (4, 1), "it still runs in a process of its own"


def test_what_never_ran_is_not_failed_however_often_its_workers_are_lost(store: Store, journal: Writer) -> None:
    write = waiting(journal)
    now = NOW
    for number in range(1, 3 * MAX_LOST):
        claim = only(store.claim(f"w{number}", METRICS, now_ns=now, **CLAIM))
        assert (claim.attempt, claim.lost) == (number, min(number - 1, 1))
        assert store.reap(now + 31 * SECOND, LEASE) == Reaped(1, 0)
        now += 31 * SECOND + SECOND
    row = the_score(store, write)
    assert (row.status, row.owner, row.lost) == ("pending", "", 1)


def test_what_a_silent_producer_was_running_is_freed(store: Store, journal: Writer, worker: Writer) -> None:
    write = waiting(journal, "m", "n", mode="background")
    journal.apply(scores=[score(write, status="running", local=False, started=NOW)])
    hear(store, journal)
    silent = NOW + 31 * SECOND
    assert store.reap(silent, LEASE, owner="j") == Reaped(0, 0), "it is alive if it asks"
    assert store.reap(silent, LEASE, owner="worker") == Reaped(1, 0)
    row = the_score(store, write)
    assert (row.status, row.owner, row.lost) == ("pending", "", 1)
    assert row.reason == "waits for another worker: process 1 on here was not heard of for longer than its lease"
    assert journal.apply(scores=[score(write, local=False)]).refused == 1
    assert journal.apply(scores=[score(write, "n", local=False)]).refused == 0, "it had not begun that, nobody took it"


def test_what_is_local_stays_with_a_silent_producer(store: Store, journal: Writer) -> None:
    write = record(birth())
    journal.apply(write, scores=[score(write, status="running")])
    assert store.reap(NOW + HOUR, LEASE) == Reaped(0, 0)
    assert journal.apply(scores=[score(write)]).refused == 0


def test_a_taken_score_whose_lease_lapsed_can_be_taken_from_its_owner(
    store: Store, journal: Writer, worker: Writer, other: Writer
) -> None:
    write = record()
    journal.apply(write)
    first = only(store.take("worker", [wanted(write, local=True)], lease=LEASE, now_ns=NOW))
    assert store.take("other", [wanted(write, local=True)], lease=LEASE, now_ns=NOW) == []
    second = only(store.take("other", [wanted(write, local=True)], lease=LEASE, now_ns=NOW + 31 * SECOND))
    assert (second.score_id, second.attempt, second.lost) == (first.score_id, 2, 1)
    assert result(worker, first).refused == 1
    assert result(other, second).refused == 0


# -- the clock --------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_forward_settles_nothing_twice(store: Store, journal: Writer, worker: Writer) -> None:
    waiting(journal)
    claim = only(store.claim("worker", METRICS, now_ns=NOW, **CLAIM))
    assert store.renew_claims("worker", lease=LEASE, now_ns=NOW + HOUR) == {claim.score_id}, "its owner looked first"
    assert store.reap(NOW + HOUR, LEASE) == Reaped(0, 0)
    assert store.reap(NOW + 2 * HOUR, LEASE) == Reaped(1, 0), "somebody else looked first"
    assert store.renew_claims("worker", lease=LEASE, now_ns=NOW + 2 * HOUR) == set()
    assert result(worker, claim).refused == 1
    again = only(store.claim("worker", METRICS, now_ns=NOW + 2 * HOUR + SECOND, **CLAIM))
    assert result(worker, again).refused == 0


@pytest.mark.parametrize("back", [1, 25, 31, 59, 61, 3600])
def test_a_clock_that_is_set_back_keeps_nothing_for_longer_than_two_leases(
    store: Store, journal: Writer, back: int
) -> None:
    """Held by a worker, by a producer, or by the pause after a loss: none of it ends an hour later."""
    held, produced, paused = (waiting(journal, name, mode="background") for name in ("m", "n", "o"))
    journal.apply(scores=[score(produced, "n", status="running", local=False)])
    hear(store, journal)
    names = [(name, "v") for name in "mno"]
    store.take("gone", [wanted(held)], lease=LEASE, now_ns=NOW + 31 * SECOND)
    store.take("gone", [wanted(paused, "o")], lease=LEASE, now_ns=NOW + 31 * SECOND)
    store.release("gone", [the_score(store, paused, "o").id], available_at=NOW + 90 * SECOND, now_ns=NOW + 31 * SECOND)
    store.renew_claims("gone", lease=LEASE, now_ns=NOW + 60 * SECOND)
    hear(store, journal, now=NOW + 60 * SECOND)

    claimed: dict[str, int] = {}
    for passed in range(100):
        now = NOW + (60 - back + passed) * SECOND
        store.reap(now, LEASE)
        for claim in store.claim("worker", names, now_ns=now, **CLAIM):
            claimed[claim.name] = passed
        store.renew_claims("worker", lease=LEASE, now_ns=now)
    assert set(claimed) == set("mno")
    assert max(claimed.values()) <= 2 * LEASE + 2, claimed
    assert claimed["o"] <= 30 + min(back, 60)


# -- what takes too long ----------------------------------------------------------------------------------------------


def test_what_somebody_holds_under_a_valid_lease_is_not_overdue(store: Store, journal: Writer, worker: Writer) -> None:
    waiting(journal)
    claim = only(store.claim("worker", METRICS, now_ns=NOW, **CLAIM))
    result(worker, claim, "running", started=NOW)
    settle = {"settle_within_ns": 10 * SECOND, "live_journals": ()}
    assert store.settle_overdue(NOW + 29 * SECOND, **settle) == 0
    assert store.settle_overdue(NOW + 31 * SECOND, **settle) == 1
    row = row_of(store, claim)
    assert (row.status, row.reason, row.owner) == ("failed", "it began, but did not settle within 10 s", "")
    assert result(worker, claim).refused == 1, "it is final"
    assert store.renew_claims("worker", lease=LEASE, now_ns=NOW + 31 * SECOND) == set()


def test_what_nobody_claims_in_time_fails(store: Store, journal: Writer) -> None:
    write = waiting(journal)
    assert store.settle_overdue(NOW + 11 * SECOND, 10 * SECOND) == 1
    row = the_score(store, write)
    assert (row.status, row.reason, row.owner) == ("failed", "did not start within 10 s", None)
    assert len(store.take("worker", [wanted(write)], lease=LEASE, now_ns=NOW)) == 1


def test_taking_again_begins_the_time_anew(store: Store, journal: Writer) -> None:
    write = waiting(journal)
    journal.apply(scores=[score(write, local=False)])
    later = NOW + HOUR
    only(store.take("worker", [wanted(write)], again=True, lease=LEASE, now_ns=later))
    store.release("worker", [the_score(store, write).id], now_ns=later)
    assert store.settle_overdue(later + 9 * SECOND, 10 * SECOND) == 0
    assert store.settle_overdue(later + 11 * SECOND, 10 * SECOND) == 1


# -- the cost ---------------------------------------------------------------------------------------------------------


def test_every_statement_of_claims_uses_its_index(store: Store) -> None:
    expected = {
        "IS_WAITING": "score_claim",
        "NEXT_APP": "score_claim",
        "WAITING_OF_APP": "score_claim",
        "FIND_LAPSED": "score_owner",
        "OWNS": "score_owner",
        "RENEW": "score_owner",
        "HAS_OPEN": "score_journal",
        "SILENT_PENDING": "journal_live",
        "FREE_LAPSED": "score_journal",
        "COUNT_WAITING": "score_open",
    }
    small = {"WORKERS": "SCAN worker", "SILENT_PENDING": "SCAN journal", "SILENT_RUNNING": "SCAN journal"}
    with store.read() as connection:
        driver = driver_of(connection)
        for name, hot in {**vars(claim_statements), **vars(lost_statements)}.items():
            if isinstance(hot, statements.Hot) and hot.text.startswith(("SELECT", "UPDATE", "DELETE")):
                found = driver.execute(f"EXPLAIN QUERY PLAN {hot.text}", (None,) * len(hot.names)).fetchall()
                plan = [step for *_, step in found]
                assert any(expected.get(name, "") in step for step in plan), (name, plan)
                for step in plan:
                    assert not step.startswith("SCAN") or "CONSTANT" in step or small.get(name, "no") in step, (
                        name,
                        step,
                    )


def test_a_claim_reads_no_more_than_it_needs(store: Store, journal: Writer) -> None:
    """However many scores wait for their producers or for other metrics: steps of the database are counted."""

    def steps() -> int:
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        with store.read() as connection:
            driver = driver_of(connection)
            driver.set_progress_handler(count, 1)
        assert store.claim("worker", [("nothing", "v")], now_ns=NOW, **CLAIM) == []
        driver.set_progress_handler(None, 0)
        return counted

    steps()
    before = steps()
    births = [birth(f"m{number}", local=False) for number in range(50)]
    for _ in range(20):
        journal.apply(record(*births))
    others = [birth(f"n{number}", local=False, mode="deferred") for number in range(50)]
    for _ in range(20):
        journal.apply(record(*others))
    hear(store, journal)
    assert 0 < steps() <= 2 * before

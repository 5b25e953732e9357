"""Claims: who may compute what waits, in which order, and whose results count."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.claiming import LEASE, METRICS, NOW, hear, ids, result, the_score, waiting, wanted
from tests.support.rows import SECOND, Writer, birth, record, score

from tracekeeper.journal.frames import ScoreFrame
from tracekeeper.store import ingest
from tracekeeper.store.claims.losses import Reaped
from tracekeeper.store.store import Store

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


def test_a_claim_gives_owner_lease_and_attempt(store: Store, journal: Writer, worker: Writer) -> None:
    write = waiting(journal, priority=3)
    (claim,) = store.claim("worker", METRICS, now_ns=NOW, **CLAIM)
    row = the_score(store, write)
    assert claim.score_id == row.id
    assert (claim.name, claim.metric_version, claim.attempt, claim.lost, claim.priority) == ("m", "v", 1, 0, 3)
    assert (claim.trace_id, claim.span_id, claim.record_id) == (row.trace_id, row.span_id, row.record_id)
    assert (row.status, row.owner, row.attempt, row.lease_until) == ("pending", "worker", 1, NOW + 30 * SECOND)
    assert row.journal_id == worker.id
    assert store.claim("other", METRICS, now_ns=NOW, **CLAIM) == []


def test_the_result_of_a_claim_is_stored_and_ends_it(store: Store, journal: Writer, worker: Writer) -> None:
    write = waiting(journal)
    (claim,) = store.claim("worker", METRICS, now_ns=NOW, **CLAIM)
    result(worker, claim, "running", started=NOW)
    assert the_score(store, write).owner == "worker"
    evaluation = bytes(range(16))
    assert result(worker, claim, value=0.75, evaluation=evaluation).refused == 0
    row = the_score(store, write)
    assert (row.status, row.value, row.attempt, row.evaluation) == ("scored", 0.75, 1, evaluation.hex())
    assert (row.owner, row.lease_until) == ("", None)
    assert store.renew_claims("worker", lease=LEASE, now_ns=NOW) == set()
    assert store.claim("other", METRICS, now_ns=NOW + 3600 * SECOND, **CLAIM) == []


def test_only_what_the_claimer_can_compute_is_claimed(store: Store, journal: Writer) -> None:
    waiting(journal, "m", "n")
    assert store.claim("worker", [], now_ns=NOW, **CLAIM) == []
    assert store.claim("worker", [("m", "another version")], now_ns=NOW, **CLAIM) == []
    assert [each.name for each in store.claim("worker", [("n", "v")], now_ns=NOW, **CLAIM)] == ["n"]


def test_what_its_producer_is_about_to_settle_is_left_to_it(store: Store, journal: Writer) -> None:
    write = waiting(journal, mode="background")
    assert store.claim("worker", METRICS, now_ns=NOW + 29 * SECOND, **CLAIM) == []
    later = NOW + 31 * SECOND
    hear(store, journal, now=later)
    assert store.claim("worker", METRICS, now_ns=later, **CLAIM) == []
    silent = later + 31 * SECOND
    assert store.claim("j", METRICS, now_ns=silent, **CLAIM) == [], "it is alive if it asks"
    (claim,) = store.claim("worker", METRICS, now_ns=silent, **CLAIM)
    assert claim.score_id == the_score(store, write).id


def test_a_producer_that_wakes_up_late_is_refused_and_counted(store: Store, journal: Writer, worker: Writer) -> None:
    write = waiting(journal, mode="background")
    (claim,) = store.claim("worker", METRICS, now_ns=NOW + 31 * SECOND, **CLAIM)
    late = [score(write, status="running", attempt=1), score(write, value=0.1, attempt=1)]
    assert journal.apply(scores=late).refused == 2
    result(worker, claim, value=0.9)
    # Also after the newer attempt is final, and with retries that make its own attempt the higher one.
    retries = [score(write, status="failed", attempt=1), score(write, value=0.1, attempt=2)]
    assert journal.apply(scores=retries).refused == 2
    row = the_score(store, write)
    assert (row.value, row.attempt, store.attempts_of([row.id])) == (0.9, 1, [])
    assert store.counts().refused == 4


def test_local_scores_are_never_claimed(store: Store, journal: Writer) -> None:
    journal.apply(record(birth(local=True, mode="deferred")))
    assert store.claim("worker", METRICS, now_ns=NOW + 3600 * SECOND, **CLAIM) == []


def test_a_dead_or_closed_producers_scores_can_be_claimed_at_once(store: Store, journal: Writer, other: Writer) -> None:
    first, second = waiting(journal, mode="background"), waiting(other, mode="background")
    journal.apply(interrupt=True)
    store.close_journal(other.id)
    found = store.claim("worker", METRICS, now_ns=NOW, **CLAIM)
    assert ids(found) == [the_score(store, first).id, the_score(store, second).id]
    assert [each.lost for each in found] == [0, 0]


def test_priority_then_age_decide_within_an_app(store: Store, journal: Writer, clock: Clock) -> None:
    writes = {}
    for name, priority in (("old", 0), ("new", 0), ("urgent", -5), ("idle", 9)):
        clock.now += SECOND
        writes[name] = waiting(journal, priority=priority)
    found = store.claim("worker", METRICS, now_ns=NOW + 9 * SECOND, **CLAIM)
    order = {the_score(store, write).id: name for name, write in writes.items()}
    assert [order[each] for each in ids(found)] == ["urgent", "old", "new", "idle"]


def test_priority_and_age_decide_across_the_metrics_of_an_app(store: Store, journal: Writer, clock: Clock) -> None:
    for name, priority in (("b", 1), ("a", 2), ("b", 0), ("a", 0)):
        clock.now += SECOND
        waiting(journal, name, priority=priority)
    found = store.claim("worker", [("a", "v"), ("b", "v")], now_ns=NOW + 9 * SECOND, **CLAIM)
    assert [(each.name, each.priority) for each in found] == [("b", 0), ("a", 0), ("b", 1), ("a", 2)]


def test_apps_take_turns(store: Store, journal: Writer) -> None:
    for app in ("a", "a", "a", "b", "b", None):
        journal.apply(record(birth(local=False, mode="deferred"), app=app))
    apps = [each.app_id for each in store.claim("worker", METRICS, now_ns=NOW, **CLAIM)]
    assert apps == [None, 1, 2, 1, 2, 1]


@pytest.mark.parametrize(("turn", "first"), [(0, None), (1, 1), (2, 2), (3, None)])
def test_the_turn_says_which_app_goes_first(store: Store, journal: Writer, turn: int, first: int | None) -> None:
    for app in ("a", "b", None):
        journal.apply(record(birth(local=False, mode="deferred"), app=app))
    (claim,) = store.claim("worker", METRICS, limit=1, lease=LEASE, now_ns=NOW, turn=turn)
    assert claim.app_id == first


def test_all_scores_of_a_metric_on_a_target_are_claimed_together(store: Store, journal: Writer) -> None:
    names = [("m.a", "v"), ("m.b", "v"), ("m.c.d", "v"), ("n", "v")]
    one, two = (waiting(journal, "m.a", "m.b", "m.c.d", "n") for _ in range(2))
    first = store.claim("worker", names, limit=1, lease=LEASE, now_ns=NOW)
    assert sorted(each.name for each in first) == ["m.a", "m.b", "m.c.d"]
    assert {each.span_id for each in first} == {one.start.span_id.hex()}
    second = store.claim("worker", names, limit=2, lease=LEASE, now_ns=NOW)
    assert len(second) == 4
    rest = store.claim("worker", names, now_ns=NOW, **CLAIM)
    assert [each.span_id for each in rest] == [two.start.span_id.hex()]


def test_deferred_scores_can_be_left_to_workers(store: Store, journal: Writer, other: Writer) -> None:
    waiting(journal)
    freed = waiting(other, mode="background")
    other.apply(interrupt=True)
    (claim,) = store.claim("app", METRICS, deferred=False, now_ns=NOW, **CLAIM)
    assert claim.score_id == the_score(store, freed).id


def test_who_polls_in_vain_takes_no_write_lock(store: Store, journal: Writer) -> None:
    waiting(journal, mode="background")
    waiting(journal, "unknown")
    with store.write():  # a claim that wanted the lock would raise StoreLocked
        assert store.claim("worker", METRICS, now_ns=NOW, **CLAIM) == []
        assert store.renew_claims("worker", lease=LEASE, now_ns=NOW) == set()
        assert store.reap(NOW, LEASE) == Reaped(0, 0)


# -- holding ----------------------------------------------------------------------------------------------------------


def test_renewing_prolongs_every_lease_and_tells_what_is_still_owned(store: Store, journal: Writer) -> None:
    waiting(journal)
    waiting(journal)
    mine = store.claim("worker", METRICS, limit=1, lease=LEASE, now_ns=NOW)
    theirs = store.claim("other", METRICS, limit=1, lease=LEASE, now_ns=NOW)
    assert store.renew_claims("worker", lease=LEASE, now_ns=NOW + 20 * SECOND) == set(ids(mine))
    assert store.reap(NOW + 40 * SECOND, LEASE) == Reaped(1, 0)
    assert store.renew_claims("worker", lease=LEASE, now_ns=NOW + 40 * SECOND) == set(ids(mine))
    assert store.renew_claims("other", lease=LEASE, now_ns=NOW + 40 * SECOND) == set()
    assert ids(theirs) != ids(mine)


def test_what_is_released_can_be_claimed_at_once_and_is_not_lost(store: Store, journal: Writer, worker: Writer) -> None:
    write = waiting(journal)
    (claim,) = store.claim("worker", METRICS, now_ns=NOW, **CLAIM)
    assert store.release("other", [claim.score_id]) == 0
    assert store.release("worker", [claim.score_id, 99]) == 1
    row = the_score(store, write)
    assert (row.status, row.owner, row.attempt, row.lost, row.lease_until) == ("pending", "", 1, 0, None)
    assert result(worker, claim).refused == 1, "it was given back"
    (again,) = store.claim("other", METRICS, now_ns=NOW, **CLAIM)
    assert (again.attempt, again.lost) == (2, 0)


def test_what_was_running_when_it_was_released_stays_visible(store: Store, journal: Writer, worker: Writer) -> None:
    waiting(journal)
    (claim,) = store.claim("worker", METRICS, now_ns=NOW, **CLAIM)
    result(worker, claim, "running", started=NOW)
    store.release("worker", [claim.score_id], now_ns=NOW)
    (attempt,) = store.attempts_of([claim.score_id])
    assert (attempt.attempt, attempt.status, attempt.lapsed) == (1, "cancelled", 1)
    assert attempt.reason == "its worker gave it back before it settled"


def test_a_release_may_ask_for_a_pause_of_a_minute_at_most(store: Store, journal: Writer) -> None:
    waiting(journal)
    (claim,) = store.claim("worker", METRICS, now_ns=NOW, **CLAIM)
    store.release("worker", [claim.score_id], available_at=NOW + 3600 * SECOND, now_ns=NOW)
    assert store.claim("worker", METRICS, now_ns=NOW + 59 * SECOND, **CLAIM) == []
    assert ids(store.claim("worker", METRICS, now_ns=NOW + 60 * SECOND, **CLAIM)) == [claim.score_id]


def test_a_retry_of_the_owner_counts_also_when_it_is_stored_in_batches(
    store: Store, journal: Writer, worker: Writer
) -> None:
    write = waiting(journal)
    (claim,) = store.claim("worker", METRICS, now_ns=NOW, **CLAIM)
    result(worker, claim, "failed", reason="first")
    assert the_score(store, write).status == "failed"
    result(worker, claim, "pending", attempt=2)
    row = the_score(store, write)
    assert (row.status, row.owner, row.attempt) == ("pending", "worker", 2)
    assert row.lease_until == NOW + 30 * SECOND
    assert store.renew_claims("worker", lease=LEASE, now_ns=NOW) == {claim.score_id}
    assert result(worker, claim, attempt=2).refused == 0
    assert the_score(store, write).status == "scored"
    assert [(each.attempt, each.status) for each in store.attempts_of([claim.score_id])] == [(1, "failed")]


# -- taking -----------------------------------------------------------------------------------------------------------


def test_taking_makes_what_is_missing(store: Store, journal: Writer, worker: Writer) -> None:
    write = record()
    journal.apply(write)
    (row,) = store.records()
    (claim,) = store.take(
        "worker", [wanted(write, local=True, record_id=row.id, app_id=1, rule_id=7)], lease=LEASE, now_ns=NOW
    )
    found = the_score(store, write)
    assert (found.id, found.status, found.owner, found.attempt, found.local) == (
        *(claim.score_id, "pending", "worker", 1, 1),
    )
    assert (found.record_id, found.app_id, found.rule_id, found.created_at) == (row.id, 1, 7, NOW)
    result(worker, claim)
    assert the_score(store, write).status == "scored"


def test_taking_leaves_what_somebody_is_about_to_compute(store: Store, journal: Writer, worker: Writer) -> None:
    background, claimed = waiting(journal, mode="background"), waiting(journal)
    store.claim("other", METRICS, now_ns=NOW, **CLAIM)
    both = [wanted(background), wanted(claimed)]
    assert store.take("worker", both, lease=LEASE, now_ns=NOW) == []
    assert store.take("j", both, lease=LEASE, again=True, now_ns=NOW) == [], "its engine has it"
    assert len(store.take("worker", both, lease=LEASE, now_ns=NOW + 31 * SECOND)) == 2, "both leases have lapsed"


def test_taking_a_final_score_again_keeps_its_outcome_as_an_attempt(
    store: Store, journal: Writer, worker: Writer
) -> None:
    write = waiting(journal)
    journal.apply(scores=[score(write, value=0.25, reason="so", attempt=1, local=False, evaluation=b"\1" * 16)])
    assert store.take("worker", [wanted(write)], lease=LEASE, now_ns=NOW) == []
    later = NOW + 9 * SECOND
    (claim,) = store.take("worker", [wanted(write)], lease=LEASE, again=True, now_ns=later)
    row = the_score(store, write)
    assert (row.status, row.value, row.reason, row.attempt, row.created_at) == ("pending", None, None, 2, later)
    (attempt,) = store.attempts_of([row.id])
    assert (attempt.attempt, attempt.status, attempt.value, attempt.reason) == (1, "scored", 0.25, "so")
    assert attempt.evaluation == "01" * 16
    result(worker, claim, value=0.5)
    assert (the_score(store, write).value, the_score(store, write).attempt) == (0.5, 2)


@pytest.mark.parametrize(
    ("frame", "is_taken"),
    [
        ({"status": "cancelled", "reason": "process exited"}, True),
        ({"status": "failed", "reason": "its process ended before it ran", "attempt": 0}, True),
        ({"status": "failed", "reason": "did not start within 24 h"}, True),
        ({"status": "skipped", "reason": "not sampled", "attempt": 0}, True),
        ({"status": "skipped", "reason": "input truncated"}, False),
        ({"status": "failed", "reason": "ValueError", "started": NOW}, False),
        ({"status": "timed_out", "reason": "60 s", "started": NOW}, False),
        ({"status": "scored"}, False),
    ],
)
def test_what_never_came_to_a_result_is_taken_without_again(
    store: Store, journal: Writer, frame: dict[str, Any], is_taken: bool
) -> None:
    write = waiting(journal)
    journal.apply(scores=[score(write, **frame)])
    assert len(store.take("worker", [wanted(write)], lease=LEASE, now_ns=NOW)) == is_taken


def test_what_was_taken_for_a_local_metric_fails_with_its_process(
    store: Store, journal: Writer, worker: Writer
) -> None:
    write = record()
    journal.apply(write)
    store.take("worker", [wanted(write, local=True), wanted(write, "n")], lease=LEASE, now_ns=NOW)
    worker.apply(interrupt=True)
    local, importable = the_score(store, write), the_score(store, write, "n")
    assert (local.status, local.reason, local.owner) == ("failed", "its process ended before it ran", "")
    assert (importable.status, importable.owner, importable.lost) == ("pending", "", 1)


def test_the_lease_of_a_local_score_may_lapse_without_harm(store: Store, journal: Writer, worker: Writer) -> None:
    write = record()
    journal.apply(write)
    (claim,) = store.take("worker", [wanted(write, local=True)], lease=LEASE, now_ns=NOW)
    assert store.reap(NOW + 3600 * SECOND, LEASE) == Reaped(0, 0), "nobody else could compute it"
    assert result(worker, claim).refused == 0
    assert the_score(store, write).status == "scored"


# -- what it says of itself -------------------------------------------------------------------------------------------


def test_what_waits_is_told_by_metric(store: Store, journal: Writer, other: Writer, clock: Clock) -> None:
    waiting(journal)
    clock.now += SECOND
    waiting(other, mode="background")
    waiting(other, "n")
    waiting(journal, "n")
    store.claim("worker", [("n", "v")], limit=1, lease=LEASE, now_ns=NOW)
    rows = [tuple(row) for row in store.waiting(lease=LEASE, now_ns=NOW)]
    assert rows == [("m", "v", 2, NOW, 1), ("n", "v", 2, NOW + SECOND, 1)]
    assert [row.held for row in store.waiting(lease=LEASE, now_ns=NOW + 60 * SECOND)] == [0, 1]
    assert len(store.waiting(1, lease=LEASE)) == 1


def test_workers_come_are_seen_and_go(store: Store) -> None:
    store.register_worker("w", kind="worker", host="here", pid=7, started_at=NOW, data=b'{"concurrency": 4}')
    store.register_worker("v", kind="app", host="there", pid=8, started_at=NOW)
    store.worker_seen("w", b'{"concurrency": 5}', now_ns=NOW + 1)
    first, second = store.workers()
    assert first == ("w", "worker", "here", 7, NOW, NOW + 1, '{"concurrency": 5}')
    assert (second.journal, second.kind, second.data) == ("v", "app", "{}")
    store.remove_worker("w")
    assert [each.journal for each in store.workers()] == ["v"]


def test_a_frame_of_another_journal_is_refused_also_after_the_owner_finished(
    store: Store, journal: Writer, worker: Writer, other: Writer
) -> None:
    waiting(journal)
    (claim,) = store.claim("worker", METRICS, now_ns=NOW, **CLAIM)
    result(worker, claim)
    assert result(other, claim, attempt=claim.attempt + 5).refused == 1
    frames = [
        ScoreFrame("record", "m", status, bytes.fromhex(claim.trace_id), bytes.fromhex(claim.span_id), "", "v")
        for status in ("pending", "failed")
    ]
    assert other.apply(scores=frames).refused == 2

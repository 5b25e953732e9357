"""Scores: birth, outcome, later attempts, leases, death of the producer, time limits. No blank anywhere."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.rows import (
    SECOND,
    START,
    Writer,
    birth,
    end,
    key_of,
    record,
    score,
    scores_on,
    span_id,
    start,
    trace_id,
)

from tracekeeper.journal.frames import ScoreFrame
from tracekeeper.store import ingest
from tracekeeper.store.rows import SpanWrite
from tracekeeper.store.scores import fold, supersedes
from tracekeeper.store.store import Store
from tracekeeper.types import FINAL_SCORE_STATUSES, ScoreStatus


class Clock:
    """The store's clock: a score is born when it is stored, whenever its record's call was made."""

    def __init__(self) -> None:
        self.now = START + SECOND

    def time_ns(self) -> int:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(ingest, "time", stopped)
    return stopped


def test_births_are_pending_or_skipped_and_carry_their_producer(store: Store, journal: Writer) -> None:
    write = record(birth("a", local=False, mode="deferred"), birth("b", status="skipped", reason="not sampled"))
    assert journal.apply(write).scores == 2
    found = scores_on(store, write)
    (row,) = store.records()
    pending, skipped = found["a"], found["b"]
    assert (pending.status, pending.mode, pending.local, pending.attempt) == ("pending", "deferred", 0, 0)
    assert (pending.record_id, pending.journal_id, pending.created_at) == (row.id, journal.id, START + SECOND)
    assert (skipped.status, skipped.reason, skipped.settled_at) == ("skipped", "not sampled", START + SECOND)
    assert store.score_counts() == store.score_counts(journal.id) == {"pending": 1, "skipped": 1}
    assert store.scores_of([row.id]) == [pending, skipped]


def test_births_of_a_record_that_was_running(store: Store, journal: Writer) -> None:
    begun = start(app="rag")
    journal.apply(SpanWrite(begun))
    journal.apply(ends=[end(begun, scores=(birth(),))])
    (row,) = store.scores_by_key([(begun.trace_id.hex(), begun.span_id.hex())])
    assert (row.status, row.record_id, row.app_id) == ("pending", store.records()[0].id, 1)


def test_a_score_settles(store: Store, journal: Writer) -> None:
    write = record(birth())
    journal.apply(write)
    journal.apply(scores=[score(write, status="running", started=START + 5)])
    assert scores_on(store, write)["m"].status == "running"
    settled = score(
        write, value=0.25, reason="so", started=START + 5, settled=START + 9, cost=0.1, metadata=b'{"a": 1}'
    )
    assert journal.apply(scores=[settled]).scores == 1
    row = scores_on(store, write)["m"]
    assert (row.status, row.value, row.reason, row.attempt) == ("scored", 0.25, "so", 1)
    assert (row.started_at, row.settled_at, row.cost, row.metadata) == (START + 5, START + 9, 0.1, '{"a": 1}')
    assert (row.created_at, row.mode) == (START + SECOND, "background")
    assert store.attempts_of([row.id]) == []


def test_born_and_settled_in_one_batch(store: Store, journal: Writer) -> None:
    write = record(birth(local=False, mode="inline"))
    applied = journal.apply(write, scores=[score(write, status="running"), score(write, value=1.0, value_type="bool")])
    row = scores_on(store, write)["m"]
    assert applied.scores == 1
    assert (row.status, row.value, row.value_type, row.mode, row.local) == ("scored", 1.0, "bool", "inline", 0)
    assert (row.record_id, row.created_at) == (store.records()[0].id, START + SECOND)


def test_a_later_attempt_replaces_and_the_earlier_stays_visible(store: Store, journal: Writer) -> None:
    write = record(birth())
    journal.apply(write, scores=[score(write, status="failed", reason="first", settled=START)])
    journal.apply(scores=[score(write, status="running", attempt=2), score(write, value=0.9, attempt=3)])
    row = scores_on(store, write)["m"]
    assert (row.status, row.value, row.reason, row.attempt) == ("scored", 0.9, None, 3)
    assert [(each.attempt, each.status, each.reason) for each in store.attempts_of([row.id])] == [
        (1, "failed", "first"),
        (2, "cancelled", "a later attempt replaced it before it settled"),
    ]


def test_a_final_status_is_never_replaced_by_the_same_attempt(store: Store, journal: Writer) -> None:
    write = record(birth())
    journal.apply(write, scores=[score(write, status="timed_out", reason="too slow")])
    for late in ("scored", "running", "pending", "failed"):
        assert journal.apply(scores=[score(write, status=late)]).scores == 0
    assert scores_on(store, write)["m"].status == "timed_out"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_refused_with_a_reason(store: Store, journal: Writer, value: float) -> None:
    write = record(birth())
    journal.apply(write, scores=[score(write, value=value, reason="because", cost=value)])
    row = scores_on(store, write)["m"]
    assert (row.status, row.value, row.cost) == ("failed", None, None)
    assert row.reason == f"the value {value!r} is not a finite number; the metric's reason: because"


def test_a_score_without_a_value_is_not_scored(store: Store, journal: Writer) -> None:
    write = record()
    journal.apply(
        write,
        scores=[
            score(write, "blank", value=None),
            score(write, "label", value=None, label="good", value_type="label"),
            score(write, "odd", status="done"),
            score(write, "nan", status="failed", value=math.nan, reason="mine"),
            score(write, "half", status="timed_out", value=0.5, label="half", reason="too slow"),
        ],
    )
    found = scores_on(store, write)
    assert {name: (row.status, row.value) for name, row in found.items()} == {
        "blank": ("failed", None),
        "label": ("scored", None),
        "odd": ("failed", None),
        "nan": ("failed", None),
        "half": ("timed_out", None),
    }
    assert found["half"].label is None
    assert found["nan"].reason == "mine"
    assert all(row.reason for row in found.values() if row.status == "failed")


def test_a_score_finds_its_record_whichever_comes_first(store: Store, journal: Writer) -> None:
    early, late = record(), record()
    journal.apply(early)
    journal.apply(scores=[score(early), score(late)])
    first, orphan = scores_on(store, early)["m"], scores_on(store, late)["m"]
    assert (first.record_id, first.app_id) == (store.records()[0].id, 1)
    assert (orphan.record_id, orphan.status) == (None, "scored")
    journal.apply(record(), late)
    adopted = scores_on(store, late)["m"]
    assert (adopted.record_id, adopted.app_id) == (store.records()[0].id, 1)


def test_scores_on_spans_and_sessions_have_keys_of_their_own(store: Store, journal: Writer) -> None:
    write = record()
    span = ScoreFrame("span", "m", "scored", write.start.trace_id, write.start.span_id, value=0.1, attempt=1)
    session = ScoreFrame("session", "m", "scored", session_id="s", value=0.2, source="human", author="ann", attempt=1)
    journal.apply(write, scores=[score(write, "m"), span, session])
    assert [row.target for row in store.scores_by_key([key_of(write)])] == ["span", "record"]
    assert store.score_counts() == {"scored": 3}
    (row,) = store.leaderboard()
    assert [metric.n for metric in row.metrics] == [1]


def test_a_dead_producers_scores_are_settled_or_freed(store: Store, journal: Writer) -> None:
    other = Writer(store, "other")
    write = record(birth("local"), birth("importable", local=False), birth("begun", local=False), birth("done"))
    elsewhere = record(birth())
    other.apply(elsewhere)
    begun, done = score(write, "begun", "running"), score(write, "done")
    journal.apply(write, scores=[begun, done], interrupt=True)
    found = scores_on(store, write)
    assert found["done"].status == "scored"
    assert (found["local"].status, found["local"].reason) == ("failed", "its process ended before it ran")
    assert found["local"].settled_at is not None
    for name, owner, lost in (("importable", None, 0), ("begun", "", 1)):
        row = found[name]
        assert (row.status, row.journal_id, row.lease_until) == ("pending", None, None)
        assert (row.owner, row.lost) == (owner, lost), "what was running may be what ended the process"
    assert scores_on(store, elsewhere)["m"].journal_id == other.id
    # Re-scorable: a later attempt by anybody replaces it, and it stays visible.
    other.apply(scores=[score(write, "local"), score(write, "importable")])
    found = scores_on(store, write)
    assert (found["local"].status, found["importable"].status) == ("scored", "scored")
    assert [each.status for each in store.attempts_of([found["local"].id])] == ["failed"]


def test_a_frame_for_a_score_that_somebody_claimed_is_refused_and_counted(store: Store, journal: Writer) -> None:
    write = record(birth())
    other = Writer(store, "other")
    journal.apply(write)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE score SET owner = 'other', attempt = 1, status = 'running', lease_until = 9")
    applied = journal.apply(scores=[score(write, attempt=2)])
    assert (applied.scores, applied.refused) == (0, 1)
    assert scores_on(store, write)["m"].status == "running"
    assert other.apply(scores=[score(write, value=0.75)]).refused == 0
    row = scores_on(store, write)["m"]
    assert (row.status, row.value, row.owner, row.lease_until) == ("scored", 0.75, "", None)
    account = store.journal_row("j")
    assert account is not None
    assert account.refused == store.counts().refused == 1


def test_what_did_not_start_in_time_is_failed_with_that_reason(store: Store, journal: Writer, clock: Clock) -> None:
    old, new = record(birth(), birth("stuck")), record(birth(), started=START - 1000 * SECOND)
    journal.apply(old, scores=[score(old, "stuck", "running")])
    clock.now = START + 50 * SECOND
    journal.apply(new)
    now = START + 100 * SECOND
    assert store.settle_overdue(now, 200 * SECOND) == 0
    assert store.settle_overdue(now, 90 * SECOND, live_journals=[journal.id]) == 1
    found = scores_on(store, old)
    assert (found["m"].status, found["m"].reason, found["m"].settled_at) == ("failed", "did not start within 90 s", now)
    assert found["stuck"].status == "running"
    assert store.settle_overdue(now, 90 * SECOND) == 1
    assert scores_on(store, old)["stuck"].reason == "it began, but did not settle within 90 s"
    assert scores_on(store, new)["m"].status == "pending"
    assert store.settle_overdue(now, 90 * SECOND) == 0


def test_open_scores_come_oldest_first(store: Store, journal: Writer, clock: Clock) -> None:
    new, old = record(birth()), record(birth("a"), birth("b"))
    clock.now = START + 50 * SECOND
    journal.apply(new)
    clock.now = START + SECOND
    journal.apply(old, scores=[score(old, "b")])
    assert [row.name for row in store.open_scores()] == ["a", "m"]
    assert [row.name for row in store.open_scores(limit=1)] == ["a"]
    assert store.open_scores(journal_id=99) == []
    assert [row.name for row in store.open_scores(born_before=START + 9 * SECOND)] == ["a"]
    assert store.counts().oldest_open == START + SECOND


outcomes = st.tuples(
    st.integers(0, 3), st.sampled_from([str(status) for status in ScoreStatus]), st.integers(0, 5)
).map(lambda made: (made[0], made[1], made[2] / 5))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(outcomes, min_size=1, max_size=6), st.data())
def test_frames_of_one_key_in_any_order_and_any_batches_have_one_winner(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[int, str, float]], data: st.DataObject
) -> None:
    trace, own = trace_id(), span_id()

    def frame(attempt: int, status: str, value: float) -> ScoreFrame:
        shown = value if status == "scored" else None
        return ScoreFrame("record", "m", status, trace, own, value=shown, attempt=attempt, settled=1)

    frames = [frame(*each) for each in made]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(frames)), max_size=3)))
    parts = [frames[low:high] for low, high in itertools.pairwise([0, *cuts, len(frames)])]
    store = _shared(tmp_path_factory)
    writer = Writer(store, f"j{trace.hex()}")
    for part in parts:
        writer.apply(scores=part)

    # The documented rule, written independently: the highest attempt; of that, the first final one, else the furthest.
    highest = max(each.attempt for each in frames)
    of_it = [each for each in frames if each.attempt == highest]
    final = [each for each in of_it if each.status in FINAL_SCORE_STATUSES]
    running = [each for each in of_it if each.status == "running"]
    winner = (final or running or of_it)[0]
    (row,) = store.scores_by_key([(trace.hex(), own.hex())])
    assert (row.attempt, row.status, row.value) == (winner.attempt, winner.status, winner.value)

    attempts = {each.attempt: each.status for each in store.attempts_of([row.id])}
    assert set(attempts.values()) <= {str(status) for status in FINAL_SCORE_STATUSES}
    for attempt in range(1, highest):
        settled = [each.status for each in frames if each.attempt == attempt and each.status in FINAL_SCORE_STATUSES]
        assert (attempt in attempts) == any(each.attempt == attempt for each in frames)
        if settled and settled[0] != "cancelled":
            assert attempts[attempt] in settled


@given(outcomes, outcomes)
def test_of_two_frames_at_most_one_supersedes(one: tuple[int, str, float], two: tuple[int, str, float]) -> None:
    first, second = (ScoreFrame("record", "m", each[1], attempt=each[0], value=each[2]) for each in (one, two))
    assert not (supersedes(first, second) and supersedes(second, first))
    folded = fold([first, second])
    assert len(folded.winners) == 1


_stores: dict[Path, Store] = {}


def _shared(factory: pytest.TempPathFactory) -> Store:
    """One store for all examples: opening one each would take most of the time."""
    base: Any = factory.getbasetemp()
    if base not in _stores:
        _stores[base] = Store.open(f"sqlite:///{base / 'examples.db'}")
    return _stores[base]

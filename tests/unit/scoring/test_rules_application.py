"""Applying rules: what is decided on which record, once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.support import judges
from tests.support.rows import SECOND, Writer, end, key_of, record, score, span_id, start

import tracekeeper as tk
from tracekeeper.journal.frames import ScoreFrame
from tracekeeper.scoring.rules import application as rule_application
from tracekeeper.scoring.rules.application import Applied, apply_rules
from tracekeeper.store.results import ScoreRow
from tracekeeper.store.rows import SpanWrite
from tracekeeper.store.store import Store
from tracekeeper.types import Usage

DAY = 86_400 * SECOND
NOON = 20_000 * DAY + DAY // 2


@pytest.fixture
def store(keeper: Any) -> Iterator[Store]:
    return keeper.store()


@pytest.fixture
def journal(store: Store) -> Writer:
    return Writer(store)


def scores(store: Store, target: str = "record") -> list[ScoreRow]:
    return [row for row in store.open_or_not() if row.target == target]  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _every_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_application, "SHARE", 0)  # what was put off is looked at by every call

    def every(self: Store) -> list[ScoreRow]:
        with self.read() as connection:
            found = connection.exec_driver_sql(f"SELECT {', '.join(ScoreRow._fields)} FROM score ORDER BY id").all()
        return [ScoreRow._make(row) for row in found]

    monkeypatch.setattr(Store, "open_or_not", every, raising=False)


def statuses(store: Store) -> list[tuple[str, str, str | None]]:
    return [(row.name, row.status, row.reason) for row in scores(store)]


def apply(keeper: Any, now: int = NOON) -> Applied:
    return apply_rules(keeper, now_ns=now, seconds=30)


def settle(journal: Writer, row: ScoreRow, **fields: Any) -> None:
    """What a worker does with a claimed score, told by the frame alone."""
    frame = ScoreFrame(
        row.target,
        row.name,
        "scored",
        trace_id=bytes.fromhex(row.trace_id),
        span_id=bytes.fromhex(row.span_id),
        session_id=row.session_id,
        metric_version=row.metric_version,
        source=row.source,
        **{"value": 1.0, "attempt": row.attempt + 1, "settled": NOON, **fields},
    )
    with journal.store.write() as connection:
        connection.exec_driver_sql("UPDATE score SET owner = NULL WHERE id = ?", (row.id,))
    journal.apply(scores=[frame])


# -- records ----------------------------------------------------------------------------------------------------------


def test_a_matching_record_gets_a_pending_score_that_a_worker_may_claim(
    keeper: Any, store: Store, journal: Writer
) -> None:
    rule = tk.rule("r", filter='app = "rag"', metrics=[judges.short])
    journal.apply(record(app="rag"), record(app="other"))
    assert apply(keeper).judged == 1
    (row,) = scores(store)
    assert (row.name, row.status, row.mode, row.local, row.owner, row.journal_id) == (
        *("short", "pending", "deferred", 0, None, None),
    )
    assert row.metric_version == tk.metric(judges.short).version
    assert row.record_id is not None
    assert row.app_id is not None
    assert row.created_at == NOON
    rule.refresh()
    assert (rule.matched, rule.judged, rule.today.open) == (1, 1, 1)


def test_what_is_decided_is_not_decided_again(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("r", filter="*", metrics=[judges.short])
    journal.apply(record(), record())
    assert apply(keeper).judged == 2
    assert apply(keeper) == Applied()
    journal.apply(record())
    assert apply(keeper).judged == 1
    assert len(scores(store)) == 3


def test_a_new_rule_leaves_what_is_stored_alone_unless_it_is_to_begin_at_the_beginning(
    keeper: Any, store: Store, journal: Writer
) -> None:
    journal.apply(record(), record())
    tk.rule("from-now", filter="*", metrics=[judges.short])
    assert apply(keeper).judged == 0
    tk.rule("all", filter="*", metrics=[judges.short], since="beginning")
    assert apply(keeper).judged == 2


def test_a_long_backlog_is_worked_off_in_rounds(keeper: Any, store: Store, journal: Writer) -> None:
    for _ in range(12):
        journal.apply(*(record() for _ in range(100)))
    tk.rule("r", filter="*", metrics=[judges.short], since="beginning")
    done = apply(keeper)
    assert (done.judged, done.rounds, done.more) == (1200, 3, False)


def test_a_score_that_exists_is_left_and_costs_nothing(keeper: Any, store: Store, journal: Writer) -> None:
    version = tk.metric(judges.short).version
    first = record()
    journal.apply(first)
    with_score = ScoreFrame(
        "record",
        "short",
        "scored",
        trace_id=first.start.trace_id,
        span_id=first.start.span_id,
        metric_version=version,
        value=1.0,
        attempt=1,
    )
    journal.apply(scores=[with_score])
    rule = tk.rule("r", filter="*", metrics=[judges.short], since="beginning", daily_evaluations=5)
    assert apply(keeper)[1:3] == (1, 0)
    assert rule.target == "record"
    assert store.rules.spent(store.rules.all()[0].id, NOON).evaluations == 0
    assert statuses(store) == [("short", "scored", None)]


def test_a_metric_of_several_scores_is_one_evaluation(keeper: Any, store: Store, journal: Writer) -> None:
    rule = tk.rule("r", filter="*", metrics=[judges.both], daily_evaluations=1)
    journal.apply(record(), record())
    assert apply(keeper)[2:] == (1, 0, 1, False)
    assert [(name, status) for name, status, _ in statuses(store)] == [
        *[("pair.length", "pending"), ("pair.words", "pending")],
        *[("pair.length", "skipped"), ("pair.words", "skipped")],
    ]
    assert rule.target == "record"
    assert store.rules.spent(store.rules.all()[0].id, NOON).evaluations == 1


def test_a_record_that_runs_is_decided_on_when_it_has_ended(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("r", filter="latency > 2s", metrics=[judges.short])
    running, other = start(), record(seconds=5)
    journal.apply(SpanWrite(running), other)
    assert apply(keeper).judged == 1
    assert apply(keeper) == Applied()
    journal.apply(ends=[end(running, 3)])
    assert apply(keeper).judged == 1
    assert apply(keeper) == Applied()
    assert store.rules.due(NOON)[0].waiting is False


def test_a_filter_on_scores_waits_until_they_are_final(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("r", filter="score.m < 0.7", metrics=[judges.short])
    low, high, none = record(), record(), record()
    journal.apply(low, high, none, scores=[score(low, status="running"), score(high, status="pending", attempt=0)])
    assert apply(keeper).judged == 0
    journal.apply(scores=[score(low), score(high, value=0.9)])
    assert apply(keeper).judged == 1
    assert [row.trace_id for row in scores(store) if row.name == "short"] == [key_of(low)[0]]


def test_a_rule_waits_for_the_scores_of_a_rule_before_it(keeper: Any, store: Store, journal: Writer) -> None:
    """The second rule is applied to a record only when the first has decided on it and its score is final."""
    tk.rule("cheap", filter="latency > 2s", metrics=[judges.short])
    tk.rule("thorough", filter="score.short = true", metrics=[judges.long])
    running = start()
    journal.apply(record(seconds=5), SpanWrite(running))
    assert apply(keeper).judged == 1
    (asked,) = scores(store)
    settle(journal, asked, value=1.0, value_type="bool")
    assert apply(keeper).judged == 1
    journal.apply(ends=[end(running, 5)])
    assert apply(keeper).judged == 1
    settle(journal, scores(store)[-1], value=1.0, value_type="bool")
    assert apply(keeper).judged == 1
    assert [row.name for row in scores(store)] == ["short", "long", "short", "long"]


def test_a_rule_waits_for_a_paused_rule_too_and_says_so(keeper: Any, store: Store, journal: Writer) -> None:
    cheap = tk.rule("cheap", filter="*", metrics=[judges.short])
    thorough = tk.rule("thorough", filter="score.short = true", metrics=[judges.long])
    cheap.pause()
    journal.apply(record())
    assert apply(keeper) == Applied()
    assert thorough.held_up_by == ["cheap"]
    assert tk.rules().to_dicts()[1]["state"] == "waits for 'cheap'"
    cheap.resume()
    apply(keeper)
    settle(journal, scores(store)[0], value=1.0, value_type="bool")
    assert apply(keeper).judged == 1


def test_a_search_finds_what_has_arrived_just_now(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("r", filter='input ~ "refund"', metrics=[judges.short])
    running = start(input=b'{"q":"a refund later"}')
    journal.apply(record(input=b'{"q":"a refund please"}'), record(input=b'{"q":"no"}'), SpanWrite(running))
    assert apply(keeper).judged == 1
    journal.apply(ends=[end(running)])
    assert apply(keeper).judged == 1


# -- samples ----------------------------------------------------------------------------------------------------------


def test_what_is_not_sampled_is_skipped_with_that_reason(keeper: Any, store: Store, journal: Writer) -> None:
    rule = tk.rule("r", filter="*", metrics=[judges.short], sample=0.3)
    journal.apply(*(record() for _ in range(200)))
    done = apply(keeper)
    assert done.judged + done.not_sampled == 200
    assert 30 < done.judged < 90
    assert {(row.status, row.reason) for row in scores(store)} == {("pending", None), ("skipped", "not sampled")}
    assert rule.matching()[1:3] == (200, done.judged)


def test_a_larger_sample_contains_the_smaller_one(keeper: Any, store: Store, journal: Writer) -> None:
    journal.apply(*(record() for _ in range(100)))

    def chosen(share: float) -> set[str]:
        rule = tk.rule("r", filter="*", metrics=[judges.short], sample=share, since="beginning")
        apply(keeper)
        found = {row.trace_id for row in scores(store) if row.status == "pending"}
        rule.remove()
        with store.write() as connection:
            connection.exec_driver_sql("DELETE FROM score")
        return found

    small, large = chosen(0.2), chosen(0.6)
    assert small
    assert small < large
    assert chosen(0.2) == small


def test_what_one_rule_skipped_another_may_choose(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("few", filter="*", metrics=[judges.short], sample=0.000001)
    tk.rule("errors", filter="status = error", metrics=[judges.short])
    journal.apply(record(), record(status="error"))
    done = apply(keeper)
    assert (done.judged, done.not_sampled) == (1, 2)
    assert sorted(row.status for row in scores(store)) == ["pending", "skipped"]
    (asked,) = [row for row in scores(store) if row.status == "pending"]
    assert [(each.attempt, each.status) for each in store.attempts_of([asked.id])] == [(0, "skipped")]
    assert apply(keeper) == Applied()


# -- budgets ----------------------------------------------------------------------------------------------------------


def test_beyond_the_daily_budget_records_are_skipped_and_the_next_day_begins_anew(
    keeper: Any, store: Store, journal: Writer
) -> None:
    rule = tk.rule("r", filter="*", metrics=[judges.short], daily_evaluations=3)
    journal.apply(*(record() for _ in range(5)))
    assert apply(keeper)[2:5] == (3, 0, 2)
    assert scores(store)[-1].reason == "daily budget of 3 evaluations used up"
    journal.apply(record())
    assert apply(keeper, NOON + DAY)[2:5] == (1, 0, 0)
    # The clock goes back over midnight: what that day had spent is still known.
    journal.apply(record())
    assert apply(keeper, NOON)[2:5] == (0, 0, 1)
    rule.refresh()
    assert (rule.judged, rule.over_budget) == (4, 3)


def test_a_budget_of_money_lets_ten_open_until_a_cost_is_known(keeper: Any, store: Store, journal: Writer) -> None:
    rule = tk.rule("r", filter="*", metrics=[judges.short], daily_cost=1.0)
    journal.apply(*(record() for _ in range(30)))
    assert apply(keeper)[2:5] == (10, 0, 0)
    assert apply(keeper) == Applied()
    for row in scores(store)[:2]:
        settle(journal, row, cost=0.05)
    # 0.10 is spent, 8 open ones are expected to cost 0.40: ten more make 1.00.
    assert apply(keeper)[2:5] == (10, 0, 10)
    assert scores(store)[-1].reason == "daily budget of $1 used up"
    spent = store.rules.spent(store.rules.all()[0].id, NOON)
    assert spent.cost == pytest.approx(0.1)
    assert spent.open == 18
    assert rule.daily_cost == 1.0


def test_earlier_attempts_count_as_spent(keeper: Any, store: Store, journal: Writer) -> None:
    rule = tk.rule("r", filter="*", metrics=[judges.short], daily_cost=1.0)
    journal.apply(record())
    apply(keeper)
    settle(journal, scores(store)[0], cost=0.4)
    settle(journal, scores(store)[0], cost=0.5, attempt=2)
    journal.apply(record(), record())
    assert rule.matching().matched == 3
    # 0.9 is spent by two attempts of one score.
    assert apply(keeper)[2:5] == (0, 0, 2)


# -- spans ------------------------------------------------------------------------------------------------------------


def test_a_rule_on_spans_judges_each_that_matches(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("r", filter="status = ok", metrics=[judges.short], target="span", spans={"kind": "retriever"})
    whole = record()
    spans = []
    for kind in ("retriever", "llm", "retriever"):
        begun = start(whole.start.trace_id, span_id(), record_id=whole.start.span_id, kind=kind)
        spans.append(SpanWrite(begun, end(begun, output=b'"x"', usage=Usage(cost=0.1))))
    journal.apply(whole, *spans)
    assert apply(keeper)[1:3] == (2, 2)
    found = scores(store, "span")
    assert {row.span_id for row in found} == {spans[0].start.span_id.hex(), spans[2].start.span_id.hex()}
    assert {row.record_id for row in found} == {None}
    assert apply(keeper) == Applied()


def test_a_record_is_decided_on_when_its_last_span_has_ended(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("r", filter="*", metrics=[judges.short], target="span", spans={"kind": "tool"})
    whole = record()
    late = start(whole.start.trace_id, span_id(), record_id=whole.start.span_id, kind="tool")
    journal.apply(whole, SpanWrite(late))
    assert apply(keeper).judged == 0
    journal.apply(ends=[end(late)])
    assert apply(keeper).judged == 1


# -- sessions ---------------------------------------------------------------------------------------------------------


def turn(at: int, session: str = "s", **fields: Any) -> SpanWrite:
    return record(session_id=session, started=at, **fields)


def test_a_session_is_judged_when_it_has_been_idle(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("r", filter='app = "rag"', metrics=[judges.polite], target="session", idle_after=60)
    journal.apply(turn(NOON), turn(NOON + 30 * SECOND), turn(NOON, "other", app="none"))
    assert apply(keeper, NOON + 40 * SECOND).judged == 0
    assert apply(keeper, NOON + 90 * SECOND).judged == 0
    assert apply(keeper, NOON + 91 * SECOND)[1:3] == (1, 1)
    (row,) = scores(store, "session")
    assert (row.session_id, row.trace_id, row.span_id, row.record_id) == ("s", "", "", None)
    assert apply(keeper, NOON + DAY) == Applied()


def test_a_session_that_goes_on_is_judged_anew_and_keeps_what_was(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("r", filter="*", metrics=[judges.polite], target="session", idle_after=60)
    journal.apply(turn(NOON))
    apply(keeper, NOON + 61 * SECOND)
    (row,) = scores(store, "session")
    settle(journal, row, value=0.25, cost=0.5)
    journal.apply(turn(NOON + 300 * SECOND))
    assert apply(keeper, NOON + 310 * SECOND).judged == 0
    assert apply(keeper, NOON + 361 * SECOND).judged == 1
    (row,) = scores(store, "session")
    assert (row.status, row.value, row.owner, row.created_at) == ("pending", None, "", NOON + 361 * SECOND)
    assert [(each.attempt, each.value, each.cost) for each in store.attempts_of([row.id])] == [(1, 0.25, 0.5)]


def test_what_is_judged_anew_is_claimed_as_the_next_attempt(keeper: Any, store: Store, journal: Writer) -> None:
    """And a result of the attempt before, which comes now, is refused: it judged what the session was then."""
    tk.rule("r", filter="*", metrics=[judges.polite], target="session", idle_after=60)
    journal.apply(turn(NOON))
    apply(keeper, NOON + 61 * SECOND)
    (row,) = scores(store, "session")
    key = [(row.name, row.metric_version)]
    assert [claim.attempt for claim in store.claim("j", key, limit=5, lease=30)] == [1]
    frame = ScoreFrame(
        *("session", row.name, "scored"),
        session_id="s",
        metric_version=row.metric_version,
        value=0.25,
        attempt=1,
    )
    journal.apply(scores=[frame])
    journal.apply(turn(NOON + 300 * SECOND))
    assert apply(keeper, NOON + 361 * SECOND).judged == 1
    late = Writer(store, "late")
    assert late.apply(scores=[msgspec.structs.replace(frame, value=0.75)]).refused == 1
    assert [claim.attempt for claim in store.claim("j", key, limit=5, lease=30)] == [2]
    journal.apply(scores=[msgspec.structs.replace(frame, value=1.0, attempt=2)])
    (row,) = scores(store, "session")
    assert (row.value, row.attempt) == (1.0, 2)
    assert [(each.attempt, each.value) for each in store.attempts_of([row.id])] == [(1, 0.25)]


def test_a_record_that_does_not_match_keeps_a_session_of_the_rule_going(
    keeper: Any, store: Store, journal: Writer
) -> None:
    tk.rule("r", filter="status = error", metrics=[judges.polite], target="session", idle_after=60)
    journal.apply(turn(NOON, status="error"), turn(NOON + 50 * SECOND))
    assert apply(keeper, NOON + 70 * SECOND).judged == 0
    assert apply(keeper, NOON + 111 * SECOND).judged == 1


def test_a_session_in_which_a_call_runs_is_not_idle(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("r", filter="*", metrics=[judges.polite], target="session", idle_after=60)
    running = start(session_id="s", started=NOON, app="rag", app_version="1")
    journal.apply(turn(NOON), SpanWrite(running))
    assert apply(keeper, NOON + 70 * SECOND).judged == 0
    journal.apply(ends=[end(running, 100)])
    assert apply(keeper, NOON + 135 * SECOND).judged == 0
    assert apply(keeper, NOON + 161 * SECOND).judged == 1


def test_a_session_that_is_being_judged_is_judged_anew_only_afterwards(
    keeper: Any, store: Store, journal: Writer
) -> None:
    tk.rule("r", filter="*", metrics=[judges.polite], target="session", idle_after=60)
    journal.apply(turn(NOON))
    apply(keeper, NOON + 61 * SECOND)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE score SET status = 'running', owner = 'w', attempt = 1")
    journal.apply(turn(NOON + 70 * SECOND))
    assert apply(keeper, NOON + 135 * SECOND).judged == 0
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE score SET status = 'scored', value = 1, owner = NULL, settled_at = 1")
    assert apply(keeper, NOON + 140 * SECOND).judged == 0
    assert apply(keeper, NOON + 166 * SECOND).judged == 1


def test_a_clock_that_was_ahead_does_not_put_a_session_off(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("r", filter="*", metrics=[judges.polite], target="session", idle_after=60)
    journal.apply(turn(NOON + 400 * DAY))
    assert apply(keeper, NOON).judged == 0
    assert apply(keeper, NOON + 61 * SECOND).judged == 1


def test_whoever_had_a_clock_that_was_ahead_does_not_put_a_session_off(
    keeper: Any, store: Store, journal: Writer
) -> None:
    tk.rule("r", filter="*", metrics=[judges.polite], target="session", idle_after=60)
    journal.apply(turn(NOON + 400 * DAY))
    apply(keeper, NOON + 400 * DAY)
    assert apply(keeper, NOON + 399 * DAY).judged == 1
    assert apply(keeper, NOON) == Applied()


def test_an_imported_session_is_judged_once_all_of_it_has_arrived(keeper: Any, store: Store, journal: Writer) -> None:
    """Long ago idle, and spread over several rounds: it is judged once, not once for each round."""
    journal.apply(*(turn(NOON - 300 * DAY + n * SECOND) for n in range(700)))
    tk.rule("r", filter="*", metrics=[judges.polite], target="session", since="beginning")
    assert apply(keeper)[1:3] == (1, 1)


# -- what cannot be applied -------------------------------------------------------------------------------------------


def test_a_rule_that_cannot_be_applied_says_why_and_the_others_go_on(
    keeper: Any, store: Store, journal: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    tk.rule("broken", filter="*", metrics=[judges.short])
    tk.rule("works", filter="*", metrics=[judges.long])
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE rule SET filter = 'nonsense ===' WHERE name = 'broken'")
    journal.apply(record())
    assert apply(keeper).judged == 1
    journal.apply(record())
    assert apply(keeper).judged == 1
    broken = tk.rules()[0]
    assert broken.error is not None
    assert "nonsense" in broken.error
    assert [line.levelname for line in caplog.records if "broken" in line.getMessage()] == ["ERROR"]
    # Made anew it goes on where it was: nothing that arrived meanwhile is lost.
    tk.rule("broken", filter="*", metrics=[judges.short])
    assert apply(keeper).judged == 2
    assert tk.rules()[0].error is None


def test_metrics_of_an_unknown_form_are_an_error_of_that_rule(keeper: Any, store: Store, journal: Writer) -> None:
    tk.rule("r", filter="*", metrics=[judges.short])
    with store.write() as connection:
        connection.exec_driver_sql("""UPDATE rule SET metrics = '[{"name": "x"}]'""")
    journal.apply(record())
    assert apply(keeper).judged == 0
    assert "cannot be read" in str(tk.rules()[0].error)


# -- pausing, changing, removing --------------------------------------------------------------------------------------


def test_a_paused_rule_goes_on_where_it_was(keeper: Any, store: Store, journal: Writer) -> None:
    rule = tk.rule("r", filter="*", metrics=[judges.short])
    rule.pause()
    journal.apply(record(), record())
    assert apply(keeper) == Applied()
    assert not rule.enabled
    rule.resume()
    assert apply(keeper).judged == 2


def test_saying_a_rule_again_changes_nothing(keeper: Any, store: Store, journal: Writer) -> None:
    first = tk.rule("r", filter="*", metrics=[judges.short])
    journal.apply(record())
    again = tk.rule("r", filter="*", metrics=[judges.short])
    assert again.changed == first.changed
    assert apply(keeper).judged == 1
    changed = tk.rule("r", filter="*", metrics=[judges.short], sample=0.5)
    assert changed.changed > first.changed
    assert len(tk.rules()) == 1


def test_removing_a_rule_keeps_its_scores_and_cancels_what_nobody_has_begun(
    keeper: Any, store: Store, journal: Writer
) -> None:
    rule = tk.rule("r", filter="*", metrics=[judges.short])
    journal.apply(record(), record())
    apply(keeper)
    settle(journal, scores(store)[0])
    rule.remove()
    assert [row.status for row in scores(store)] == ["scored", "cancelled"]
    assert scores(store)[1].reason == "its rule 'r' was removed before it ran"
    assert len(tk.rules()) == 0
    with pytest.raises(tk.ConfigurationError, match="there is no rule 'r'"):
        rule.pause()
    # Another rule never gets the removed one's id, to which scores and costs belong.
    assert tk.rule("next", filter="*", metrics=[judges.short]).today.open == 0

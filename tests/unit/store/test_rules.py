"""Rules in the store: rows, rounds and what is read for them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.rows import SECOND, Writer, record

from tracekeeper.store.errors import StoreLocked
from tracekeeper.store.filter import parse
from tracekeeper.store.rules import looks as rule_looks
from tracekeeper.store.rules.definitions import RuleRow, day_of
from tracekeeper.store.rules.looks import Look
from tracekeeper.store.rules.rounds import KNOWN, SPANS, Counts, Wish
from tracekeeper.store.store import Store

DAY = 86_400 * SECOND
NOON = 20_000 * DAY + DAY // 2
METRICS = '[{"name":"m","version":"v","source":"code","scores":["m"]}]'


def put(store: Store, name: str = "r", *, from_beginning: bool = True, **changes: Any) -> RuleRow:
    values = {"enabled": 1, "target": "record", "filter": "*", "spans": "{}", "metrics": METRICS, "sample": 1.0}
    limits = {"daily_evaluations": None, "daily_cost": None, "idle_after": 0}
    return store.rules.put(name, {**values, **limits, **changes}, [], from_beginning=from_beginning)


def look(store: Store, row: RuleRow, **changes: Any) -> Look:
    asked = {"score_names": (), "searches": False, "after": (), "waiting": True, "limit": 100, "now": NOON}
    return store.rules.look(row, **{"node": None, **asked, **changes})


def wish(n: int = 0, skipped: str | None = None) -> Wish:
    return Wish("record", f"{n:032x}", f"{n:016x}", "", "m", "v", "code", None, None, 0, skipped)


def ask(store: Store, row: RuleRow, *wishes: Wish, now: int = NOON, cursor: int = 0, **counts: int) -> bool:
    with store.rules.round(row, now) as opened:
        if opened is None:
            return False
        opened.ask(wishes)
        opened.finish(cursor, Counts(**counts))
    return True


def current(store: Store) -> RuleRow:
    return store.rules.all()[0]


def test_of_two_rounds_upon_one_look_the_second_writes_nothing(store: Store) -> None:
    row = put(store)
    assert ask(store, row, wish(1), judged=1, cursor=5)
    assert not ask(store, row, wish(2), judged=1, cursor=9)
    assert (current(store).cursor, current(store).judged) == (5, 1)
    assert store.score_counts() == {"pending": 1}


@pytest.mark.parametrize("change", ["changed", "paused", "removed"])
def test_a_round_by_an_old_definition_writes_nothing(store: Store, change: str) -> None:
    row = put(store)
    if change == "changed":
        put(store, sample=0.5)
    elif change == "paused":
        store.rules.enable("r", False)
    else:
        store.rules.remove("r")
    assert not ask(store, row, wish())
    assert store.score_counts() == {}


def test_a_round_that_raises_leaves_nothing(store: Store) -> None:
    row = put(store)
    with pytest.raises(RuntimeError), store.rules.round(row, NOON) as opened:
        assert opened is not None
        opened.ask([wish()])
        opened.put_off([])
        raise RuntimeError
    assert store.score_counts() == {}
    assert ask(store, row, wish()), "and the same look can be written by the next"


def test_a_round_that_finds_the_database_locked_can_be_tried_again(store: Store, tmp_path: Any) -> None:
    row = put(store)
    other = Store.open(store.url, busy_timeout=0.1)
    try:
        with other.write(), pytest.raises(StoreLocked):
            ask(store, row, wish())
        assert ask(store, row, wish())
    finally:
        other.close()


def test_an_existing_score_is_left(store: Store) -> None:
    row = put(store)
    ask(store, row, wish(skipped="not sampled"))
    assert ask(store, current(store), wish())
    assert store.score_counts() == {"skipped": 1}


def test_a_look_reads_in_pages_and_tells_whether_there_is_more(store: Store, journal: Writer) -> None:
    row = put(store)
    journal.apply(*(record(app=app) for app in ("a", "b") * 5))
    first = look(store, row, node=parse("app = a"), limit=4)
    assert (len(first.passed), len(first.matching), first.more, first.undecided) == (4, 2, True, set())
    ask(store, row, cursor=first.passed[-1].id)
    rest = look(store, current(store), node=parse("app = a"))
    assert (len(rest.passed), len(rest.matching), rest.more) == (6, 3, False)


def test_a_rule_never_looks_beyond_a_rule_that_it_waits_for(store: Store, journal: Writer) -> None:
    first, second = put(store, "first"), put(store, "second")
    journal.apply(*(record() for _ in range(5)))
    assert look(store, second, after=[first]).passed == []
    ids = [each.id for each in look(store, first).passed]
    with store.rules.round(first, NOON) as opened:
        assert opened is not None
        opened.put_off(ids[:1])
        opened.finish(ids[2], Counts())
    behind = look(store, second, after=[current(store)])
    assert [each.id for each in behind.passed] == ids[:3]
    assert behind.undecided == {ids[0]}


def test_what_is_spent_is_of_the_day_and_includes_earlier_attempts(store: Store) -> None:
    row = put(store, daily_cost=10.0)
    ask(store, row, *(wish(n) for n in range(5)), judged=5)
    with store.write() as connection:
        settle = "UPDATE score SET status = 'scored', value = 1, cost = ?, settled_at = ?, attempt = 1 WHERE id = ?"
        for score_id, (cost, at) in enumerate([(0.25, NOON), (0.75, NOON), (5.0, NOON - DAY)], start=1):
            connection.exec_driver_sql(settle, (cost, at, score_id))
        attempt = (
            "INSERT INTO score_attempt (score_id, attempt, status, settled_at, cost) VALUES (?, 0, 'scored', ?, ?)"
        )
        connection.exec_driver_sql(attempt, (4, NOON, 0.5))
        connection.exec_driver_sql(attempt, (1, NOON - DAY, 3.0))
    spent = store.rules.spent(row.id, NOON)
    assert (spent.evaluations, spent.cost, spent.mean, spent.open) == (5, 1.5, 0.5, 2)
    assert store.rules.spent(row.id, NOON + DAY)[:3] == (0, 0.0, 2.0), "a new day, and the mean of all before"


def test_evaluations_are_counted_by_the_day_in_utc(store: Store) -> None:
    midnight = 20_000 * DAY
    row = put(store)
    ask(store, row, judged=2, now=midnight - 1)
    ask(store, current(store), judged=3, now=midnight)
    assert store.rules.spent(row.id, midnight - SECOND).evaluations == 2
    assert store.rules.spent(row.id, midnight + SECOND).evaluations == 3
    assert (day_of(midnight - 1), day_of(midnight)) == ("2024-10-03", "2024-10-04")


def test_a_new_rule_never_has_the_id_of_a_removed_one(store: Store) -> None:
    first = put(store)
    ask(store, first, wish())
    store.rules.remove("r")
    assert put(store, "other").id > first.id


def test_changing_the_target_forgets_what_was_put_off(store: Store, journal: Writer) -> None:
    row = put(store)
    journal.apply(record())
    with store.rules.round(row, NOON) as opened:
        assert opened is not None
        opened.put_off([1])
        opened.session_active("s", 1, NOON, matches=True)
        opened.finish(1, Counts())
    assert store.rules.due(NOON)[0][1:] == (False, True, True)
    put(store, target="session")
    assert store.rules.due(NOON)[0][1:] == (False, False, False)


def test_nothing_is_due_for_a_paused_rule(store: Store, journal: Writer) -> None:
    put(store, "one")
    put(store, "two", enabled=0)
    journal.apply(record())
    assert [(each.rule.name, each.new) for each in store.rules.due(NOON)] == [("one", True), ("two", False)]


def test_what_a_round_asks_for_each_target_is_answered_by_an_index(store: Store, journal: Writer) -> None:
    with store.read() as connection:
        for hot in (KNOWN, SPANS):
            statement = hot.text
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", ("",) * len(hot.names)).all()
            assert all("USING INDEX" in step[3] or "ORDER BY" in step[3] for step in plan), plan


def test_looking_for_what_is_due_scans_no_records(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store)
    seen: list[str] = []
    with store.read() as connection:
        real = connection.execute

        def execute(statement: Any, *args: Any) -> Any:
            compiled = str(statement.compile(connection.engine, compile_kwargs={"literal_binds": True}))
            seen.extend(step[3] for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}"))
            return real(statement, *args)

        monkeypatch.setattr(connection, "execute", execute)
        rule_looks.due(connection, NOON)
    assert seen
    assert not [step for step in seen if step.startswith("SCAN") and "rule" not in step and "CONSTANT" not in step], (
        seen
    )

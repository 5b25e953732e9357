"""The leaderboard against the same figures computed in Python, and that it reads no rows."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, and_
from tests.support.rows import SECOND, Writer, birth, record, score

from tracekeeper.store import leaderboard, tables
from tracekeeper.store.connections import driver_of
from tracekeeper.store.store import Store
from tracekeeper.types import ScoreStatus, SpanStatus, Usage


def percentile(values: list[int], share: int) -> int:
    return sorted(values)[math.ceil(len(values) * share / 100) - 1]


@pytest.mark.parametrize(
    ("where", "many"),
    [(None, 0), (tables.record.c.status == "ok", 0), (tables.record.c.status == "ok", 10_000)],
    ids=["all", "filtered widely", "filtered narrowly"],
)
def test_the_figures_are_those_of_the_records(
    store: Store, journal: Writer, where: Any, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaderboard, "MANY", many)
    chance = random.Random(5)
    expected: dict[str, dict[str, Any]] = {}
    for _ in range(120):
        version = chance.choice(["1", "2"])
        status = chance.choice(["ok", "ok", "error", "abandoned"])
        seconds, tokens = chance.random() * 9, chance.randrange(99)
        write = record(
            birth(),
            birth("flag"),
            app_version=version,
            seconds=seconds,
            status=status,
            usage=Usage(input_tokens=tokens),
        )
        outcome = chance.choice(["scored", "scored", "failed", "timed_out", "pending", "skipped"])
        value = chance.random()
        flag = float(chance.random() < 0.3)
        frames = [score(write, "flag", value=flag, value_type="bool")]
        if outcome != "pending":
            frames.append(score(write, status=outcome, value=value if outcome == "scored" else None))
        journal.apply(write, scores=frames)
        if where is None or status == "ok":
            of = expected.setdefault(
                version, {"durations": [], "tokens": 0, "statuses": [], "outcomes": [], "values": []}
            )
            of["durations"].append(int(seconds * SECOND))
            of["tokens"] += tokens
            of["statuses"].append(status)
            of["outcomes"].append(outcome)
            of["values"].extend([value] if outcome == "scored" else [])
    rows = store.leaderboard(where)
    assert [(row.app, row.version) for row in rows] == [("rag", "1"), ("rag", "2")]
    for row in rows:
        of = expected[row.version or ""]
        durations = of["durations"]
        assert row.records == row.latency_n == len(durations)
        assert row.statuses == {str(status): of["statuses"].count(status) for status in SpanStatus}
        assert (row.latency_min, row.latency_max) == (min(durations), max(durations))
        assert (row.latency_p50, row.latency_p95) == (percentile(durations, 50), percentile(durations, 95))
        assert row.latency_mean == pytest.approx(statistics.fmean(durations))
        assert (row.input_tokens, row.output_tokens, row.cost) == (of["tokens"], None, None)
        truth, metric = row.metrics
        assert (truth.name, truth.n_bool, truth.n_values, truth.n) == ("flag", row.records, row.records, row.records)
        assert (metric.name, metric.n_bool, metric.n_values) == ("m", 0, len(of["values"]))
        assert metric.statuses == {str(status): of["outcomes"].count(status) for status in ScoreStatus}
        assert metric.n == sum(metric.statuses.values()) == row.records
        assert metric.mean == pytest.approx(statistics.fmean(of["values"]))
        assert metric.variance == pytest.approx(statistics.variance(of["values"]))
        assert (metric.min, metric.max) == (min(of["values"]), max(of["values"]))


def test_the_smallest_cases(store: Store, journal: Writer) -> None:
    assert store.leaderboard() == []
    from tests.support.rows import start

    from tracekeeper.store.rows import SpanWrite

    journal.apply(SpanWrite(start(app="a", app_version="1")), record(birth(), app=None, seconds=2))
    journal.apply(*(record(app=None, seconds=2, status=status) for status in ("error", "truncated", "truncated")))
    for where in (None, tables.record.c.id > 0):
        running, no_app = store.leaderboard(where)
        assert (running.app, running.records, running.statuses["running"], running.latency_n) == ("a", 1, 1, 0)
        assert (running.latency_p50, running.latency_mean, running.metrics) == (None, None, ())
        assert (no_app.app, no_app.version, no_app.latency_p50, no_app.latency_p95) == (
            None,
            None,
            2 * SECOND,
            2 * SECOND,
        )
        assert {status: n for status, n in no_app.statuses.items() if n} == {"ok": 1, "error": 1, "truncated": 2}
        (metric,) = no_app.metrics
        assert (metric.n, metric.mean, metric.variance, metric.n_values) == (1, None, None, 0)


def test_labels_count_as_scored_but_have_no_mean(store: Store, journal: Writer) -> None:
    writes = [record() for _ in range(3)]
    frames = [score(write, value=None, label="good", value_type="label") for write in writes[:2]] + [score(writes[2])]
    journal.apply(*writes, scores=frames)
    (row,) = store.leaderboard()
    (metric,) = row.metrics
    assert (metric.statuses["scored"], metric.n_values, metric.mean, metric.variance) == (3, 1, 0.5, None)


def test_the_leaderboard_reads_indexes_only(store: Store, journal: Writer) -> None:
    journal.apply(record(birth()))
    seen: list[str] = []

    @contextmanager
    def read() -> Iterator[Connection]:
        with store.read() as connection:
            driver_of(connection).set_trace_callback(seen.append)
            yield connection
            driver_of(connection).set_trace_callback(None)

    leaderboard.leaderboard(read, None)
    statements = [each for each in seen if "FROM record" in each or "FROM score" in each]
    assert len(statements) == 5  # statuses, latencies and their percentiles, usage, scores
    with store.read() as connection:
        for statement in statements:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
            for _, _, _, step in plan:
                assert "TEMP B-TREE" not in step, (step, statement)
                if step.startswith(("SCAN record", "SCAN score", "SEARCH")):
                    assert "COVERING INDEX" in step, (step, statement)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("SELECT * FROM record WHERE app_id = 1 AND status = 'ok' ORDER BY id DESC LIMIT 50", "record_app"),
        ("SELECT * FROM score WHERE trace_id = 'a' AND span_id = 'b' OR trace_id = 'c' AND span_id = 'd'", "score_key"),
        (
            "SELECT * FROM record WHERE trace_id = 'a' AND span_id = 'b' OR trace_id = 'c' AND span_id = 'd'",
            "record_key",
        ),
        ("SELECT status, count(*) FROM score WHERE journal_id = 1 GROUP BY status", "score_journal"),
        ("SELECT min(created_at) FROM score WHERE score.status IN ('pending', 'running')", "score_open"),
        ("SELECT * FROM span WHERE journal_id = 1 AND span.status = 'running'", "span_running"),
    ],
)
def test_the_lookups_use_their_indexes(store: Store, statement: str, index: str) -> None:
    with store.read() as connection:
        plan = [step for *_, step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()]
    assert any(index in step for step in plan), plan


def test_the_hot_updates_use_their_indexes(store: Store) -> None:
    from tracekeeper.store import score_statements, statements

    with store.read() as connection:
        driver = driver_of(connection)
        for module in (statements, score_statements):
            for name, hot in vars(module).items():
                if not isinstance(hot, statements.Hot) or (
                    hot.text.startswith("INSERT INTO") and "SELECT" not in hot.text
                ):
                    continue
                plan = driver.execute(f"EXPLAIN QUERY PLAN {hot.text}", (None,) * len(hot.names)).fetchall()
                for *_, step in plan:
                    assert not step.startswith("SCAN") or "INDEX score_orphan" in step or "CONSTANT" in step, (
                        name,
                        step,
                    )


def test_a_text_of_the_filter_language_selects(store: Store, journal: Writer) -> None:
    journal.apply(record(app_version="1"), record(app_version="2", output=b'"a refund is due"'), record(app=None))
    assert [row.version for row in store.records('app = "rag"')] == ["2", "1"]
    assert [row.version for row in store.records('output ~ "refund"')] == ["2"]
    assert [row.version for row in store.leaderboard('app.version = "1"')] == ["1"]
    both = and_(tables.record.c.status == "ok", tables.record.c.app_id.is_(None))
    assert [row.app for row in store.records(both)] == [None]

"""What alerts measure, and that it costs what the window holds, not what the store does."""

from __future__ import annotations

import pytest
from tests.support.rows import SECOND, START, Writer, record, score

from tracekeeper.store.alerts.measures import Figure, Question, measure
from tracekeeper.store.connections import driver_of
from tracekeeper.store.store import Store

MINUTE = 60 * SECOND
NOW = START + MINUTE


def asked(
    store: Store, measure_of: str, score_name: str | None = None, filter: str = "", since: int = START - 1
) -> Figure:
    with store.read() as connection:
        [figure] = measure(connection, [Question(measure_of, score_name, filter, since, NOW)])
    return figure


def test_figures_of_calls(store: Store, journal: Writer) -> None:
    journal.apply(
        *(record(seconds=n, started=START + n) for n in range(1, 20)),
        record(seconds=100, status="error", tags=("slow",)),
        record(seconds=5, started=START - MINUTE),
    )
    assert asked(store, "latency") == Figure((sum(range(1, 20)) + 100) / 20, 20)
    assert asked(store, "latency_p95") == Figure(19.0, 20)
    assert asked(store, "failure_rate") == Figure(1 / 20, 20)
    assert asked(store, "cost") == Figure(0.0, 0), "nothing spent is a figure"
    assert asked(store, "latency", since=NOW) == Figure(None, 0)
    assert asked(store, "latency", filter="status = error") == Figure(100.0, 1)
    assert asked(store, "latency_p95", filter="latency < 10s") == Figure(9.0, 9)
    assert asked(store, "failure_rate", filter='tag = "slow"') == Figure(1.0, 1)


def test_figures_of_scores(store: Store, journal: Writer) -> None:
    writes = [record(app_version=str(n % 2)) for n in range(8)]
    outcomes = ["scored", "scored", "failed", "timed_out", "cancelled", "skipped", "scored"]
    frames = [
        score(write, status=status, value=n / 10 if status == "scored" else None, settled=START + n, cost=0.5)
        for n, (write, status) in enumerate(zip(writes, outcomes, strict=False))
    ]
    other = score(writes[7], "other", settled=START)
    labelled = score(writes[7], value=None, label="good", value_type="label", settled=START)
    journal.apply(*writes, scores=[*frames, other, labelled])
    assert asked(store, "mean", "m") == Figure(pytest.approx(0.7 / 3), 3)
    assert asked(store, "failure_rate", "m") == Figure(2 / 7, 7), "what was skipped was never tried"
    assert asked(store, "cost", "m") == Figure(3.5, 7)
    assert asked(store, "mean", "m", filter='app.version = "1"') == Figure(pytest.approx(0.1), 1)
    assert asked(store, "mean", "m", filter="score.m >= 0.1") == Figure(pytest.approx(0.35), 2)
    assert asked(store, "mean", "nobody's") == Figure(None, 0)
    assert asked(store, "mean", "m", since=START + 5) == Figure(0.6, 1)


def test_a_filter_that_no_longer_parses_is_said_and_the_others_are_answered(store: Store, journal: Writer) -> None:
    journal.apply(record())
    questions = [Question("latency", None, text, START - 1, NOW) for text in ("nonsense = 1", "")]
    with store.read() as connection:
        bad, good = measure(connection, questions)
    assert bad.value is None
    assert "its filter does not parse" in str(bad.error)
    assert good == Figure(1.0, 1)


@pytest.mark.parametrize("filter", ["", 'app = "rag"', "status = error", 'session = "s"', "latency > 1s"])
@pytest.mark.parametrize("measure_of", ["latency", "latency_p95", "failure_rate", "cost", "mean"])
def test_every_question_walks_along_its_window_only(store: Store, measure_of: str, filter: str) -> None:
    seen: list[str] = []
    with store.read() as connection:
        driver = driver_of(connection)
        driver.set_trace_callback(seen.append)
    assert asked(store, measure_of, "m" if measure_of == "mean" else None, filter).error is None
    driver.set_trace_callback(None)
    statements = [each for each in seen if each.startswith("SELECT")]
    assert statements
    with store.read() as connection:
        for statement in statements:
            steps = [step for *_, step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()]
            [walked] = [step for step in steps if "record_started" in step or "score_settled" in step]
            assert walked.startswith("SEARCH"), steps
            assert "COVERING INDEX" in walked or filter, steps
            assert not any(step.startswith("SCAN") and "CONSTANT" not in step for step in steps), steps
            inner = [step for step in steps if step.startswith("SEARCH record ")]
            assert all("INTEGER PRIMARY KEY" in step for step in inner), steps

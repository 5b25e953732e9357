"""`tk.score`: kept when it returns, from any process, and never a value that is none."""

from __future__ import annotations

import math
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.tracing.keeper import Keeper
from tracekeeper.types import ScoreError, ScoreSource, ScoreStatus

pytestmark = pytest.mark.usefixtures("keeper")


@pytest.fixture
def record() -> tk.Record:
    @tk.trace
    def ask(question: str) -> str:
        return "mild"

    with tk.recording() as recording:
        ask("weather?")
    return recording.get()


def stored(record: tk.Record) -> dict[str, tk.Score]:
    """As another process would see it."""
    return tk.records(f'trace = "{record.trace_id}"')[0].scores


@pytest.mark.parametrize("value", [1, 0.25, True, False, "polite"])
def test_a_score_is_there_at_the_next_read(record: tk.Record, value: Any) -> None:
    given = tk.score(record, "thumbs", value, reason="clicked", metadata={"page": 3})
    assert (given.value, given.status) == (value, ScoreStatus.SCORED)
    assert record.scores["thumbs"].value == value
    found = stored(record)["thumbs"]
    assert (found.value, found.reason, found.source, found.metadata) == (
        value,
        "clicked",
        ScoreSource.HUMAN,
        {"page": 3},
    )
    assert type(found.value) is type(float(value) if type(value) is int else value)


def test_the_key_does_as_well_as_the_record(record: tk.Record) -> None:
    tk.score((record.trace_id, record.span_id), "a", 1)
    tk.score(f"{record.trace_id}:{record.span_id}", "b", 2)
    assert {name: score.value for name, score in stored(record).items()} == {"a": 1.0, "b": 2.0}


def test_the_later_verdict_of_the_same_author_counts_and_authors_stand_side_by_side(
    record: tk.Record, keeper: Keeper
) -> None:
    for author, value in (("ann", 1), ("bob", 0), ("ann", 0.5)):
        tk.score(record, "quality", value, author=author)
    tk.flush()
    rows = keeper.store().scores_by_key([(record.trace_id, record.span_id)])
    assert sorted((row.author, row.value) for row in rows) == [("ann", 0.5), ("bob", 0.0)]
    earlier = keeper.store().attempts_of([row.id for row in rows])
    assert [attempt.value for attempt in earlier] == [1.0]
    assert stored(record)["quality"].author == "ann"


def test_a_session_is_scored_by_its_id(keeper: Keeper) -> None:
    tk.score(name="resolved", value=True, session_id="s-1")
    tk.flush()
    rows = keeper.store().scores_by_key([("", "")])
    assert [(row.target, row.session_id, row.value) for row in rows] == [("session", "s-1", 1.0)]


def test_a_score_may_come_before_its_record(keeper: Keeper) -> None:
    record = tk.log_record(input="q", output="a")
    tk.score(record, "thumbs", 1)
    assert stored(record)["thumbs"].value == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, [1], {"a": 1}, object()])
def test_what_is_no_value_is_refused_and_nothing_is_kept(record: tk.Record, value: Any) -> None:
    with pytest.raises(ScoreError, match="thumbs"):
        tk.score(record, "thumbs", value)
    assert stored(record) == {}


@pytest.mark.parametrize(
    ("arguments", "options", "why"),
    [
        ((), {"name": "x", "value": 1}, "exactly one thing"),
        ((("a" * 32, "b" * 16), "x", 1), {"session_id": "s"}, "exactly one thing"),
        ((("a" * 31, "b" * 16), "x", 1), {}, "is no key of a record"),
        (("nonsense", "x", 1), {}, "is no key of a record"),
        ((("a" * 32, "b" * 16), "", 1), {}, "expected the name"),
        ((("a" * 32, "b" * 16), "x", 1), {"source": "robot"}, "expected one of code, llm, human"),
    ],
)
def test_a_mistake_is_answered_at_once(arguments: tuple[Any, ...], options: dict[str, Any], why: str) -> None:
    with pytest.raises(ScoreError, match=why):
        tk.score(*arguments, **options)


def test_when_tracing_is_off_a_score_is_of_nothing(monkeypatch: pytest.MonkeyPatch, keeper: Keeper) -> None:
    tk.configure(enabled=False)
    record = tk.log_record(input="q", output="a")
    assert tk.score(record, "thumbs", 1).value == 1
    assert keeper.journal is None

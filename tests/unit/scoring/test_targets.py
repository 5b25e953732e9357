"""What a metric sees of a span and of a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support import judges
from tests.support.rows import SECOND, START, Writer, end, record, span_id, start, trace_id

import tracekeeper as tk
from tracekeeper.journal.frames import ErrorInfo
from tracekeeper.judging import CannotBind, RecordView
from tracekeeper.scoring import targets
from tracekeeper.store.rows import SpanWrite


@pytest.fixture
def journal(keeper: Any) -> Writer:
    return Writer(keeper.store())


def bound(view: RecordView, function: Callable[..., Any], **options: Any) -> Any:
    return tk.metric(function, **options).bind(view)()


def turn(n: int, session: str = "s", **fields: Any) -> SpanWrite:
    values = {"input": b'{"question":"q%d"}' % n, "output": b'"a%d"' % n, **fields}
    return record(session_id=session, started=START + n * 10 * SECOND, **values)


def test_a_span_is_judged_by_its_own_values(keeper: Any, journal: Writer) -> None:
    begun = start(
        trace_id(),
        span_id(),
        record_id=span_id(),
        kind="retriever",
        name="find",
        input=b'{"query":"x","k":3}',
        attributes=b'{"top":1}',
    )
    done = end(begun, 2, output=b'["d1","d2"]', context=b'["d1","d2"]')
    journal.apply(SpanWrite(begun, done))
    view = targets.view_of_span(keeper, begun.trace_id, begun.span_id)
    assert (view.input, view.output, view.context) == ({"query": "x", "k": 3}, ["d1", "d2"], ["d1", "d2"])
    assert (view.name, view.latency, view.attributes, view.status) == ("find", 2.0, {"top": 1}, "ok")
    assert bound(view, lambda query, k, context: (query, k, len(context))) == ("x", 3, 2)
    assert [each.kind for each in view.spans] == ["retriever"]


def test_a_span_that_failed_or_was_not_captured_says_so(keeper: Any, journal: Writer) -> None:
    begun = start(record_id=span_id())
    journal.apply(SpanWrite(begun, end(begun, status="error", error=ErrorInfo("ValueError", "no"))))
    view = targets.view_of_span(keeper, begun.trace_id, begun.span_id)
    assert (view.error, view.missing, view.output) == ("ValueError: no", {"input"}, None)
    with pytest.raises(CannotBind, match="the call ended with ValueError: no"):
        bound(view, lambda output: 1)


def test_what_is_not_stored_is_an_error(keeper: Any, journal: Writer) -> None:
    with pytest.raises(tk.StoreError, match="is not stored"):
        targets.view_of_span(keeper, bytes(16), bytes(8))
    with pytest.raises(tk.StoreError, match="no record of it"):
        targets.view_of_session(keeper, "none")


def test_a_session_is_its_turns_in_order(keeper: Any, journal: Writer) -> None:
    journal.apply(turn(2), turn(0), turn(1, status="error", output=None), turn(5, "other"))
    view = targets.view_of_session(keeper, "s")
    turns = bound(view, lambda turns: turns)
    assert [(each["input"], each["output"], each["status"]) for each in turns] == [
        ({"question": "q0"}, "a0", "ok"),
        ({"question": "q1"}, None, "error"),
        ({"question": "q2"}, "a2", "ok"),
    ]
    assert turns[1]["at"] == START / 1e9 + 10
    assert bound(view, lambda question, answer, session_id: (question, answer, session_id)) == ("q0", "a2", "s")
    assert (view.session_id, view.latency, view.cut, view.missing) == ("s", 21.0, frozenset(), frozenset())
    assert bound(view, judges.polite) is False


def test_a_session_longer_than_the_limit_is_skipped_unless_a_metric_accepts_that(
    keeper: Any, journal: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "TURNS", 3)
    journal.apply(*(turn(n) for n in range(5)))
    view = targets.view_of_session(keeper, "s")
    assert view.cut == {"turns", "item"}
    with pytest.raises(CannotBind, match="input truncated: the session's turns"):
        bound(view, lambda turns: 1)
    kept = bound(view, lambda turns: [each["output"] for each in turns], accept_cut=True)
    assert kept == ["a2", "a3", "a4"]
    # Its first input and last output are whole, whatever is between them.
    assert bound(view, lambda question, output: (question, output)) == ("q0", "a4")


def test_a_session_of_long_texts_is_bounded_in_bytes(
    keeper: Any, journal: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "TURNS_BYTES", 2_500)
    journal.apply(*(turn(n, output=b'"%s"' % (b"x" * 1000)) for n in range(5)))
    view = targets.view_of_session(keeper, "s")
    assert len(view.item["turns"]) == 2
    assert "turns" in view.cut


def test_a_turn_that_was_cut_or_not_captured_makes_the_turns_so(keeper: Any, journal: Writer) -> None:
    journal.apply(turn(0), turn(1, input_size=5_000_000), turn(2))
    view = targets.view_of_session(keeper, "s")
    with pytest.raises(CannotBind, match="input truncated"):
        bound(view, lambda turns: 1)
    journal.apply(turn(0, "t"), turn(1, "t", input=None))
    with pytest.raises(CannotBind, match="not captured"):
        bound(targets.view_of_session(keeper, "t"), lambda turns: 1)


def test_an_argument_of_the_app_does_not_stand_in_for_the_turns(keeper: Any, journal: Writer) -> None:
    journal.apply(turn(0, input=b'{"turns":"mine","session_id":"x"}'))
    view = targets.view_of_session(keeper, "s")
    assert bound(view, lambda turns, session_id: (len(turns), session_id)) == (1, "s")

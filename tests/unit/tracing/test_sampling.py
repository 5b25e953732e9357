"""Sampling is decided once per trace; errors and recordings override it; the kill switch overrides all."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tests.support.fake_keeper import FakeKeeper

from tracekeeper.configuration import configure, context, reset
from tracekeeper.tracing import current_span, recordings, span, trace


@trace
def inner(fail: bool = False) -> str:
    if fail:
        raise ValueError("no")
    return "ok"


@trace
def other() -> None: ...


@trace
def outer(fail: bool = False, caught: bool = False) -> str:
    other()
    try:
        return inner(fail)
    except ValueError:
        if caught:
            return "caught"
        raise


def test_a_share_of_whole_traces_is_kept(kept: FakeKeeper) -> None:
    configure(sample=0.5, keep_errors=False)
    for _ in range(400):
        outer()
    records = {start.record_id for start in kept.starts}
    assert 120 < len(records) < 280
    assert len(kept.starts) == len(kept.ends) == 3 * len(records)


def test_nothing_is_written_of_an_unsampled_trace(kept: FakeKeeper) -> None:
    configure(sample=0)
    outer()
    assert kept.frames == []
    with span("x") as current:
        assert not current.is_recording()
        assert not current.get_span_context().trace_flags.sampled


def test_an_error_is_kept_with_the_spans_above_it(kept: FakeKeeper) -> None:
    configure(sample=0)
    with pytest.raises(ValueError, match="no"):
        outer(fail=True)
    assert [start.name for start in kept.starts] == ["inner", "outer"]
    assert kept.statuses == ["error", "error"]
    assert kept.input("inner") == {"fail": True}


def test_an_error_that_was_caught_keeps_the_spans_above_it(kept: FakeKeeper) -> None:
    configure(sample=0)
    assert outer(fail=True, caught=True) == "caught"
    assert [(start.name, end.status) for start, end in zip(kept.starts, kept.ends, strict=True)] == [
        ("inner", "error"),
        ("outer", "ok"),
    ]


def test_errors_are_dropped_too_when_asked_for(kept: FakeKeeper) -> None:
    configure(sample=0, keep_errors=False)
    with pytest.raises(ValueError, match="no"):
        outer(fail=True)
    assert kept.frames == []


class Sink:
    def __init__(self) -> None:
        self.states: list[Any] = []

    def begun(self, state: Any) -> None:
        self.states.append(state)


def test_a_recording_forces_sampling_and_is_told_of_each_record(kept: FakeKeeper) -> None:
    configure(sample=0)
    sink = Sink()
    token = recordings.active.set((sink,))
    try:
        outer()
        outer()
    finally:
        recordings.active.reset(token)
    outer()
    assert len(kept.starts) == 6
    assert [state.span_id for state in sink.states] == [s.span_id for s in kept.starts if s.parent_id is None]
    assert all(state.start is not None and state.end is not None and state.span is None for state in sink.states)


@pytest.mark.parametrize("share", [0, 0.5, 1])
@pytest.mark.parametrize(("flag", "sampled"), [("01", True), ("00", False)])
def test_a_trace_from_another_service_is_kept_when_that_one_kept_it(
    kept: FakeKeeper, share: float, flag: str, sampled: bool
) -> None:
    for trace_id in ("0" * 16 + "1" * 16, "0" * 16 + "f" * 16):
        carrier = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-{flag}"}
        token = attach(TraceContextTextMapPropagator().extract(carrier))
        with context(sample=share), span("ours") as ours:
            assert ours.is_recording() is sampled
            assert ours.get_span_context().trace_flags.sampled is sampled
        detach(token)


def test_everyone_in_a_trace_of_this_process_draws_the_same(kept: FakeKeeper) -> None:
    for trace_id, sampled in ((1, True), (2**64 - 1, False)):
        theirs = NonRecordingSpan(SpanContext(trace_id, 7, is_remote=False))
        token = attach(set_span_in_context(theirs))
        with context(sample=0.5), span("ours") as ours:
            assert ours.is_recording() is sampled
        detach(token)


@pytest.mark.parametrize("how", ["configure", "context", "environment"])
def test_switched_off_nothing_is_done(kept: FakeKeeper, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    class Untouchable:
        def __repr__(self) -> str:
            raise AssertionError("looked at")

    @trace
    def ask(value: Any) -> Any:
        assert not current_span().is_recording()
        return value

    value = Untouchable()
    if how == "environment":
        monkeypatch.setenv("TRACEKEEPER_DISABLED", "1")
        reset()
        assert ask(value) is value
    elif how == "configure":
        configure(enabled=False)
        assert ask(value) is value
    else:
        with context(enabled=False):
            assert ask(value) is value
    assert kept.frames == []

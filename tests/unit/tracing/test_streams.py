"""What is kept of a stream: its text, its chunks, its times, at a bounded cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support import garbage
from tests.support.fake_keeper import FakeKeeper

from tracekeeper.configuration import configure, context
from tracekeeper.tracing import capture, chunks, span, trace
from tracekeeper.tracing.simplify import SLACK


@trace
def repeat(values: Any) -> Iterator[Any]:
    yield from values


def test_text_is_joined_and_counted(kept: FakeKeeper) -> None:
    began = time.time_ns()
    list(repeat(["a", "", "b"]))
    end = kept.end()
    assert (end.output, end.chunks, end.status) == (b'"ab"', 3, "ok")
    assert began <= (end.first_chunk or 0) <= end.ended


def test_other_chunks_are_a_list_of_what_they_were(kept: FakeKeeper) -> None:
    shared = {"n": 0}

    def changing() -> Iterator[Any]:
        for n in range(3):
            shared["n"] = n
            yield shared

    list(trace(changing)())
    assert kept.output() == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_text_with_something_else_at_its_end_is_a_list(kept: FakeKeeper) -> None:
    list(repeat(["a", "b", {"usage": 3}]))
    assert kept.output("repeat") == ["a", "b", {"usage": 3}]


def test_an_empty_stream_has_no_text(kept: FakeKeeper) -> None:
    assert list(repeat([])) == []
    assert (kept.output(), kept.end().chunks, kept.end().first_chunk) == ("", 0, None)


def test_a_return_value_without_chunks_is_the_output(kept: FakeKeeper) -> None:
    @trace
    def quiet() -> Any:
        return {"answer": 1}
        yield

    assert list(quiet()) == []
    assert kept.output() == {"answer": 1}


def test_a_long_text_is_cut_and_its_length_is_known(kept: FakeKeeper) -> None:
    configure(capture_limit=1000)
    list(repeat(["0123456789"] * 5000))
    end = kept.end()
    assert end.output_size == 50_000
    assert len(end.output or b"") <= 1000 + SLACK
    assert kept.output().endswith("… [cut: 50000 characters]")
    assert end.chunks == 5000


def test_a_long_list_is_cut_and_its_length_is_estimated(kept: FakeKeeper) -> None:
    configure(capture_limit=1000)
    list(repeat([{"n": n} for n in range(5000)]))
    end = kept.end()
    assert 30_000 < end.output_size < 80_000
    assert "of 5000 chunks]" in kept.output()[-1]
    assert len(end.output or b"") <= 1000 + SLACK


def test_masks_apply_to_streams(kept: FakeKeeper) -> None:
    with context(mask=lambda value: value.replace("1234", "####") if isinstance(value, str) else value):
        list(repeat(["card 12", "34 end"]))
    assert kept.output() == "card #### end"


def test_a_retriever_may_stream_its_documents(kept: FakeKeeper) -> None:
    @trace(kind="retriever")
    def retrieve() -> Iterator[str]:
        yield "one"
        yield "two"

    list(retrieve())
    assert kept.output() == ["one", "two"]
    assert kept.end().context == b'["one","two"]'


def test_a_long_stream_is_checkpointed_by_size(kept: FakeKeeper) -> None:
    stream = repeat(["x" * 1000] * 2000)
    for number, _ in enumerate(stream):
        if number == 200:
            break
    [*_, last] = kept.checkpoints
    assert len(capture.decode(last.output or b"")) >= 130_000
    assert last.chunks is not None
    written = sum(len(point.output or b"") for point in kept.checkpoints)
    assert written < 5 * 200_000
    del stream


def test_a_slow_stream_is_checkpointed_by_time(kept: FakeKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(chunks, "_clock", lambda: now[0])
    stream = repeat("abcdef")
    for _ in range(4):
        next(stream)
        now[0] += 0.6
    assert [point.output for point in kept.checkpoints] == [b'"abc"']
    stream.close()  # type: ignore[attr-defined]


def test_an_unsampled_stream_writes_nothing(kept: FakeKeeper) -> None:
    configure(sample=0)
    assert len(list(repeat(["x" * 1000] * 200))) == 200
    assert kept.frames == []


def test_what_is_called_in_a_step_is_below_the_stream(kept: FakeKeeper) -> None:
    @trace
    def stream() -> Iterator[int]:
        with span("before"):
            pass
        yield 1
        with span("between"):
            pass
        yield 2

    list(stream())
    above = kept.start("stream").span_id
    assert (kept.start("before").parent_id, kept.start("between").parent_id) == (above, above)


@pytest.mark.slow
def test_a_finished_stream_holds_neither_span_nor_context(kept: FakeKeeper) -> None:
    stream = repeat(["a"])
    list(stream)
    assert stream._context is None  # type: ignore[attr-defined]
    assert list(stream) == []
    garbage.collect()
    assert kept.statuses == ["ok"]


def test_a_chunk_costs_microseconds(kept: FakeKeeper) -> None:
    def bare() -> Iterator[str]:
        for _ in range(50_000):
            yield "some text"

    def seconds(stream: Any) -> float:
        began = time.thread_time()  # of this thread alone, however busy the machine is
        for _ in stream:
            pass
        return time.thread_time() - began

    traced = trace(bare)
    each = min(seconds(traced()) - seconds(bare()) for _ in range(3)) / 50_000
    assert each < 15e-6  # measured: 0.5 µs; the target, 3 µs, is the benchmarks' to hold

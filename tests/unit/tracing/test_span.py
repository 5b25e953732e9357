"""What can be said of a span, and how it is written: each fact once."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanContext, Status, StatusCode, get_current_span
from tests.support.fake_keeper import FakeKeeper, Full

from tracekeeper.configuration import configure, context
from tracekeeper.tracing import Span, capture, current_span, documents, span, start_span, trace, trouble, usage
from tracekeeper.types import SpanStatus, Usage


def test_a_block_is_a_span_with_what_is_set_on_it(kept: FakeKeeper) -> None:
    with span("rerank", kind="reranker", input=["a", "b"], top=1) as current:
        assert current is current_span()
        assert current is get_current_span()
        current.set(
            output=["b"],
            usage={"prompt_tokens": 7, "completion_tokens": 3},
            model="m",
            provider="p",
            metadata={"k": 1},
            best="b",
        )
    start, end = kept.start(), kept.end()
    assert (start.name, start.kind, start.input, start.attributes) == ("rerank", "reranker", b'["a","b"]', b'{"top":1}')
    assert (end.status, end.output, end.model, end.provider) == ("ok", b'["b"]', "m", "p")
    assert end.usage == Usage(input_tokens=7, output_tokens=3)
    assert end.metadata == b'{"k":1}'
    assert end.attributes == b'{"top":1,"best":"b"}'
    assert end.ended >= start.started
    assert not current_span().is_recording()


def test_an_end_carries_only_what_changed(kept: FakeKeeper) -> None:
    with span("plain", top=1):
        pass
    end = kept.end()
    named = {field for field in end.__struct_fields__ if getattr(end, field) not in (None, 0, ())}
    assert named == {"trace_id", "span_id", "record_id", "ended", "status"}


def test_async_blocks_and_one_object_used_by_many_tasks(kept: FakeKeeper) -> None:
    block = span("shared")
    gate = asyncio.Event()

    async def use(number: int) -> None:
        async with block as current:
            await gate.wait()
            assert current_span() is current
            current.set(output=number)

    async def main() -> None:
        nonlocal gate
        gate = asyncio.Event()
        tasks = [asyncio.ensure_future(use(number)) for number in range(5)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert sorted(int(end.output or b"") for end in kept.ends) == [0, 1, 2, 3, 4]
    assert {start.parent_id for start in kept.starts} == {None}


def test_an_exception_ends_a_block_with_it(kept: FakeKeeper) -> None:
    with pytest.raises(ValueError, match="no"), span("breaks"):
        raise ValueError("no")
    error = kept.end().error
    assert kept.statuses == ["error"]
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "no")
    assert "test_an_exception_ends_a_block_with_it" in error.traceback


def test_without_a_span_there_is_one_that_keeps_nothing() -> None:
    nothing = current_span()
    assert nothing.set(output=1, session_id="s") is nothing
    nothing.set_attribute("a", 1)
    nothing.record_exception(ValueError())
    assert not nothing.is_recording()
    assert nothing.trace_id == ""
    assert isinstance(nothing, OtelSpan)


def test_the_interface_of_opentelemetry(kept: FakeKeeper) -> None:
    with span("all") as current:
        assert isinstance(current, OtelSpan)
        assert isinstance(current, Span)
        current.set_attribute("a", 1)
        current.set_attributes({"b": [1, 2], "c": {"deep": object}})
        current.add_event("happened", {"k": "v"}, timestamp=5)
        current.add_link(SpanContext(1, 2, False), {"why": "because"})
        current.add_link(SpanContext(0, 0, False))
        current.update_name("renamed")
        current.record_exception(ValueError("seen"))
        current.set_status(Status(StatusCode.ERROR, "bad"))
        assert current.is_recording()
        assert current.get_span_context().is_valid
        assert current.get_span_context().trace_flags.sampled
        assert f"{current.get_span_context().trace_id:032x}" == current.trace_id
        assert f"{current.get_span_context().span_id:016x}" == current.span_id
    end = kept.end()
    assert (end.name, end.status) == ("renamed", "error")
    assert capture.decode(end.attributes or b"")["b"] == [1, 2]
    events = capture.decode(end.events or b"")
    assert events[0] == {"name": "happened", "at": 5, "attributes": {"k": "v"}}
    assert events[1]["attributes"]["exception.type"] == "ValueError"
    assert capture.decode(end.links or b"")[0]["span_id"] == "0000000000000002"
    assert end.error is not None
    assert end.error.message == "seen"
    assert not current.is_recording()
    current.set(output="late").set_attribute("late", 1)
    current.end()
    assert len(kept.ends) == 1


def test_a_status_is_as_declared(kept: FakeKeeper) -> None:
    @trace
    def ask() -> str:
        current_span().set_status(StatusCode.ERROR, "refused")
        return "text"

    ask()
    end = kept.end()
    assert (end.status, end.output) == ("error", b'"text"')
    assert end.error is not None
    assert end.error.message == "refused"


def test_a_span_begun_by_hand_is_not_current_and_may_end_in_another_thread(kept: FakeKeeper) -> None:
    begun = start_span("manual", "llm", input="hi", tier="gold")
    assert isinstance(begun, Span)
    assert current_span() is not begun
    thread = threading.Thread(target=lambda: begun.set(output="done").end())
    thread.start()
    thread.join()
    assert (kept.end().status, kept.output()) == ("ok", "done")


def test_a_span_used_as_a_context_manager_ends(kept: FakeKeeper) -> None:
    with start_span("manual"):
        pass
    with pytest.raises(KeyError), start_span("broken"):
        raise KeyError("k")
    assert kept.statuses == ["ok", "error"]


def test_threads_set_on_one_span_at_once(kept: FakeKeeper) -> None:
    with span("busy") as current:
        threads = [
            threading.Thread(target=lambda n=n: [current.set_attribute(f"{n}-{i}", i) for i in range(100)])
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(capture.decode(kept.end().attributes or b"")) == 800


def test_what_belongs_to_the_record_reaches_it_from_below(kept: FakeKeeper) -> None:
    @trace
    def inner() -> None:
        current_span().set(session_id="s", user_id="u", tags=["x"], expected="e", metadata={"m": 1})

    @trace
    def outer() -> None:
        inner()

    with context(tags=["a"]):
        outer()
    assert kept.start("outer").tags == ("a",)
    end = kept.end("outer")
    assert (end.session_id, end.user_id, end.tags, end.expected) == ("s", "u", ("a", "x"), b'"e"')
    assert kept.end("inner").metadata == b'{"m":1}'
    assert kept.end("inner").session_id is None


def test_a_record_carries_the_settings_of_its_context(kept: FakeKeeper) -> None:
    configure(project="p", environment="prod", release="r")

    @trace
    def inner() -> None: ...

    @trace
    def outer() -> None:
        inner()

    with context(session_id="s", user_id="u", tags=["a"], metadata={"m": 1}):
        outer()
    start = kept.start("outer")
    assert (start.project, start.environment, start.release) == ("p", "prod", "r")
    assert (start.session_id, start.user_id, start.tags) == ("s", "u", ("a",))
    assert kept.end("outer").metadata == b'{"m":1}'
    assert kept.start("inner").record_id == start.span_id
    assert kept.start("inner").tags == ()


def test_capturing_can_be_switched_off(kept: FakeKeeper) -> None:
    @trace(capture_input=False, capture_output=False)
    def closed(x: int) -> int:
        return x

    @trace
    def opened(x: int) -> int:
        return x

    closed(1)
    with context(capture_input=False, capture_output=False):
        opened(1)
    assert {start.input for start in kept.starts} == {None}
    assert {end.output for end in kept.ends} == {None}


def test_a_journal_near_its_cap_takes_spans_without_payloads(kept: FakeKeeper) -> None:
    kept.journal = journal = Full()

    @trace
    def ask(x: int) -> int:
        return x

    ask(1)
    assert (kept.start().input, kept.end().output, kept.end().status) == (None, None, "ok")
    assert len(journal.drops) == 2


def test_masks_of_the_function_and_of_the_settings_both_apply(kept: FakeKeeper) -> None:
    @trace(mask=lambda value: {**value, "card": "#"} if isinstance(value, dict) else value)
    def pay(card: str, name: str) -> str:
        return f"paid by {name}"

    with context(mask=lambda value: capture.decode(capture.dumps(value).replace(b"Ann", b"A."))):
        assert pay("1234", "Ann") == "paid by Ann"
    assert kept.input() == {"card": "#", "name": "A."}
    assert kept.output() == "paid by A."


def test_fields_are_encoded_when_they_are_set(kept: FakeKeeper) -> None:
    value = [1]
    with span("now", given=value) as current:
        current.set(output=value, later=value)
        value.append(2)
    assert kept.output() == [1]
    assert capture.decode(kept.end().attributes or b"") == {"given": [1], "later": [1]}


def test_setting_nonsense_raises_nothing(kept: FakeKeeper) -> None:
    with span("\ud800", kind="odd", **{"k\udfff": "\ud800"}) as current:
        current.set(usage=object(), context=3, tags=5)  # type: ignore[arg-type]
        current.set(usage={"input_tokens": "many", "cost": float("nan")}, session_id=3)  # type: ignore[arg-type]
        current.set_status("broken")  # type: ignore[arg-type]
        current.add_link(None)  # type: ignore[arg-type]
    assert kept.statuses == ["ok"]
    assert kept.end().usage is None
    assert kept.end().session_id in (None, "3")
    trouble.forget()


def test_a_failing_keeper_reaches_no_caller(kept: FakeKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(frame: Any) -> bool:
        raise OSError("disk")

    monkeypatch.setattr(kept, "write", broken)

    @trace
    def ask(x: int) -> int:
        return x

    assert [ask(n) for n in range(3)] == [0, 1, 2]
    assert trouble.counts() == {"beginning a span": 3, "ending a span": 3} or trouble.counts()["beginning a span"] == 3
    trouble.forget()


def test_a_failure_is_logged_once_per_place(kept: FakeKeeper, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        trouble.note("testing", ValueError("x"))
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert trouble.counts() == {"testing": 3}
    trouble.forget()


def test_leaving_in_another_context_spoils_neither(kept: FakeKeeper) -> None:
    """As a framework does that runs the two halves of a dependency in two copies of a context."""
    block = span("dependency")
    first, second = contextvars.copy_context(), contextvars.copy_context()
    first.run(block.__enter__)
    with span("other") as other:
        inside = contextvars.copy_context()
        inside.run(block.__exit__, None, None, None)
        assert inside.run(current_span) is other
    second.run(lambda: None)
    assert kept.statuses == ["ok", "ok"]


# Usage and documents.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Usage(input_tokens=1), Usage(input_tokens=1)),
        (
            {
                "prompt_tokens": 7,
                "completion_tokens": 3,
                "total_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
            Usage(input_tokens=7, output_tokens=3, cache_read_tokens=2, reasoning_tokens=1),
        ),
        (
            SimpleNamespace(
                input_tokens=7,
                output_tokens=3,
                input_tokens_details=SimpleNamespace(cached_tokens=2),
                output_tokens_details=SimpleNamespace(reasoning_tokens=1),
            ),
            Usage(input_tokens=7, output_tokens=3, cache_read_tokens=2, reasoning_tokens=1),
        ),
        (
            {
                "input_tokens": 7,
                "output_tokens": 3,
                "cache_read_input_tokens": 20,
                "cache_creation_input_tokens": 100,
            },
            Usage(input_tokens=127, output_tokens=3, cache_read_tokens=20, cache_write_tokens=100),
        ),
        ({"input_tokens": 7, "cost": 0.5, "estimated": True}, Usage(input_tokens=7, cost=0.5, estimated=True)),
        ({"input_tokens": float("nan"), "output_tokens": -1, "cost": float("inf")}, None),
        ({"input_tokens": True, "output_tokens": 2**63}, None),
        ({}, None),
        (None, None),
    ],
)
def test_usage_in_every_shape(value: Any, expected: Usage | None) -> None:
    assert usage.read(value) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (("a",), ["a"]),
        ([], []),
        ("a", ["a"]),
        ([{"text": "a", "id": 1}], [{"content": "a", "id": 1}]),
        (
            [SimpleNamespace(page_content="a", metadata={"source": "s"})],
            [{"content": "a", "metadata": {"source": "s"}}],
        ),
        ([("a", 0.5)], [{"content": "a", "score": 0.5}]),
        ([(SimpleNamespace(page_content="a"), 0.5)], [{"content": "a", "score": 0.5}]),
        ([SimpleNamespace(node=SimpleNamespace(text="a"), score=0.5)], [{"content": "a", "score": 0.5}]),
        ({"documents": ["a"]}, ["a"]),
        ([1, 2], None),
        (3, None),
        (None, None),
    ],
)
def test_documents_in_every_shape(output: Any, expected: Any) -> None:
    assert documents.found_in(output) == expected


def test_a_retrievers_documents_are_the_records_context(kept: FakeKeeper) -> None:
    states: list[Any] = []

    @trace(kind="retriever")
    def retrieve(question: str) -> list[Any]:
        return ["mild", {"text": "wet"}]

    @trace
    def ask(question: str) -> str:
        states.append(current_span().record_state)
        return str(retrieve(question)[0])

    ask("why?")
    assert kept.end("retrieve").context == b'["mild",{"content":"wet"}]'
    assert states[0].documents == [kept.end("retrieve").context]
    assert kept.end("ask").context is None


def test_statuses_are_those_of_the_enumeration(kept: FakeKeeper) -> None:
    with span("x") as current:
        assert current.status is SpanStatus.RUNNING
    assert current.status is SpanStatus.OK


def test_a_traceback_is_kept_where_carets_cannot_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """python/cpython#106905: formatting an exception in two threads at once may fail inside the parser."""
    from tracekeeper.tracing import failures

    def breaks(*args: Any, **kwargs: Any) -> Any:
        raise SystemError("AST constructor recursion depth mismatch (before=177, after=115)")

    monkeypatch.setattr(failures.traceback, "format_exception", breaks)
    try:
        raise ValueError("cut")
    except ValueError as error:
        kept = failures.info(error)
    assert kept.traceback.startswith("Traceback (most recent call last):\n  File ")
    assert 'raise ValueError("cut")' in kept.traceback
    assert kept.traceback.endswith("ValueError: cut\n")

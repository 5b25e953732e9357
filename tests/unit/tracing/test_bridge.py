"""Third parties' OpenTelemetry spans become ours: joined providers, our stand-in, and the change between them."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import opentelemetry.trace as otel
import pytest
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode
from tests.support.fake_keeper import FakeKeeper, Full
from tests.support.otel import fresh_opentelemetry

import tracekeeper as tk
from tracekeeper.concurrency.own_work import own_work
from tracekeeper.tracing import bridge, capture, runtime, trouble
from tracekeeper.tracing.light import LightProvider
from tracekeeper.types import Usage

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4.1", "gen_ai.system": "openai"}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    with fresh_opentelemetry():
        yield


class Program:
    """A program with instrumentations: a tracer that was asked for early, and what its own exporter got."""

    def __init__(self, how: str, **provider: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer = otel.get_tracer("some.instrumentation")  # at import time: a proxy for whatever comes later
        if how == "joined":
            self.set_provider(**provider)
        bridge.join()
        if how == "set later":
            self.set_provider(**provider)

    def set_provider(self, **provider: Any) -> None:
        made = TracerProvider(**provider)
        made.add_span_processor(SimpleSpanProcessor(self.exporter))
        otel.set_tracer_provider(made)

    @property
    def exported(self) -> list[str]:
        return [span.name for span in self.exporter.get_finished_spans()]


@pytest.fixture(params=["joined", "set later", "none"])
def program(request: pytest.FixtureRequest) -> Program:
    return Program(request.param)


def hexed(span: otel.Span) -> tuple[bytes, bytes]:
    known = span.get_span_context()
    return known.trace_id.to_bytes(16, "big"), known.span_id.to_bytes(8, "big")


def attributes(kept: FakeKeeper, name: str = "") -> dict[str, Any]:
    data = kept.end(name).attributes
    return {} if data is None else capture.decode(data)  # type: ignore[no-any-return]


def test_a_third_partys_span_is_kept_with_its_ids_in_our_words(kept: FakeKeeper, program: Program) -> None:
    with program.tracer.start_as_current_span("chat", kind=otel.SpanKind.CLIENT, attributes=CHAT) as theirs:
        theirs.set_attribute("gen_ai.usage.input_tokens", 7)
        theirs.set_attribute("gen_ai.usage.output_tokens", "3")
        theirs.set_attribute("llm.input_messages.0.message.role", "user")
        theirs.set_attribute("llm.input_messages.0.message.content", "Why?")
        theirs.set_attribute("llm.output_messages.0.message.content", "Because.")
        theirs.set_attribute("gen_ai.response.finish_reasons", ["stop"])
        theirs.set_attribute("session.id", "s-1")
        theirs.add_event("noted", {"n": 1}, timestamp=5)
    start, end = kept.start(), kept.end()
    assert (start.trace_id, start.span_id) == hexed(theirs)
    assert (start.name, start.kind, end.status) == ("chat", "llm", "ok")
    assert start.record_id == start.span_id, "without a parent of ours it is a record"
    assert (end.model, end.provider, end.usage) == ("gpt-4.1", "openai", Usage(input_tokens=7, output_tokens=3))
    assert capture.decode(end.input or b"") == [{"role": "user", "content": "Why?"}]
    assert kept.output() == "Because."
    assert end.session_id == "s-1"
    raw = attributes(kept)
    assert raw["llm.input_messages.0.message.content"] == "Why?"
    assert raw["gen_ai.usage.output_tokens"] == "3"
    assert raw["otel.scope.name"] == "some.instrumentation"
    assert raw["otel.span.kind"] == "client"
    assert raw["tracekeeper.finish_reasons"] == ["stop"]
    assert capture.decode(end.events or b"") == [{"name": "noted", "at": 5, "attributes": {"n": 1}}]
    assert start.started <= end.ended


def test_ours_in_theirs_in_ours_is_one_tree_and_one_record(kept: FakeKeeper, program: Program) -> None:
    with (
        tk.span("one") as one,
        program.tracer.start_as_current_span("two") as two,
        tk.span("three") as three,
        program.tracer.start_as_current_span("four"),
        program.tracer.start_as_current_span("five") as five,
        tk.span("six"),
    ):
        assert three.trace_id == one.trace_id == hexed(two)[0].hex() == hexed(five)[0].hex()
    names = ["one", "two", "three", "four", "five", "six"]
    parents = [None, *(kept.start(name).span_id for name in names)]
    assert [kept.start(name).parent_id for name in names] == parents[:6]
    assert {start.record_id for start in kept.starts} == {kept.start("one").span_id}
    assert kept.statuses == ["ok"] * 6
    if program.exported:
        assert program.exported == ["five", "four", "two"], "what the program exports is what it did before"


def test_spans_of_ours_below_a_third_partys_root_belong_to_its_record(kept: FakeKeeper, program: Program) -> None:
    @tk.app(name="called", version="1")
    def called() -> None:
        with program.tracer.start_as_current_span("inside"):
            pass

    with program.tracer.start_as_current_span("root"), tk.span("below"):
        called()
    root, app = kept.start("root"), kept.start("called")
    assert root.record_id == root.span_id == kept.start("below").record_id
    assert app.record_id == app.span_id, "an app's call is a record of its own wherever it is made"
    assert app.parent_id == kept.start("below").span_id
    assert kept.start("inside").record_id == app.span_id


def test_our_own_spans_are_written_once(kept: FakeKeeper, program: Program) -> None:
    with tk.span("ours"):
        pass
    assert [start.name for start in kept.starts] == ["ours"]
    assert program.exported == []


def test_a_span_is_written_when_it_begins(kept: FakeKeeper, program: Program) -> None:
    asked = {"openinference.span.kind": "LLM", "input.value": "Why?", "user.id": "u-1"}
    theirs = program.tracer.start_span("chat", attributes=asked)
    start = kept.start()
    assert (start.kind, kept.input(), start.user_id) == ("llm", "Why?", "u-1")
    assert kept.ends == []
    theirs.end()
    assert len(kept.ends) == 1


def test_an_exception_is_the_spans_error(kept: FakeKeeper, program: Program) -> None:
    with pytest.raises(ValueError, match="no luck"), program.tracer.start_as_current_span("chat", attributes=CHAT):
        raise ValueError("no luck")
    end = kept.end()
    assert end.error is not None
    assert (end.status, end.error.type, end.error.message) == ("error", "ValueError", "no luck")
    assert "no luck" in end.error.traceback


def test_a_status_that_was_told_is_the_spans_status(kept: FakeKeeper, program: Program) -> None:
    theirs = program.tracer.start_span("it")
    theirs.set_status(Status(StatusCode.ERROR, "the other side said so"))
    theirs.end()
    end = kept.end()
    assert (end.status, end.error and end.error.message) == ("error", "the other side said so")


def test_a_cancelled_stream_is_cancelled_and_one_that_was_left_is_abandoned(kept: FakeKeeper, program: Program) -> None:
    cancelled = program.tracer.start_span("cancelled", attributes=CHAT)
    cancelled.record_exception(asyncio.CancelledError())
    cancelled.set_status(Status(StatusCode.ERROR, "CancelledError: "))
    cancelled.end()
    left = program.tracer.start_span("left", attributes=CHAT)
    left.set_attribute("gen_ai.completion.0.content", "Because")
    left.set_attribute("gen_ai.completion.0.finish_reason", "")
    left.set_status(Status(StatusCode.OK))
    left.end()
    assert (kept.end("cancelled").status, kept.end("left").status) == ("cancelled", "abandoned")
    assert kept.output("left") == "Because"


def test_a_task_cancelled_in_our_stand_ins_block_is_cancelled(kept: FakeKeeper) -> None:
    program = Program("none")

    async def main() -> None:
        with program.tracer.start_as_current_span("waits"):
            await asyncio.sleep(3600)

    async def cancel() -> None:
        task = asyncio.create_task(main())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert kept.statuses == ["cancelled"]


def test_decorated_functions_and_coroutines_of_our_stand_in(kept: FakeKeeper) -> None:
    program = Program("none")

    @program.tracer.start_as_current_span("sync")
    def sync() -> int:
        return 1

    @program.tracer.start_as_current_span("async")
    async def coroutine() -> int:
        await asyncio.sleep(0)
        return 2

    assert (sync(), sync(), asyncio.run(coroutine())) == (1, 1, 2)
    assert sorted(start.name for start in kept.starts) == ["async", "sync", "sync"]
    assert kept.statuses == ["ok"] * 3


def test_masks_and_limits_hold_for_raw_attributes_too(kept: FakeKeeper, program: Program) -> None:
    def mask(value: Any) -> Any:
        return "masked" if "secret" in str(value) else value

    said = {
        **CHAT,
        "gen_ai.prompt.0.content": "a secret",
        "gen_ai.input.messages": '[{"role": "user", "content": "a secret"}]',
        "traceloop.entity.input": '{"api_key": "sk-1"}',
        "plain": "a secret",
    }
    with tk.context(mask=mask, capture_limit=200):
        theirs = program.tracer.start_span("chat", attributes=said)
        theirs.add_event("gen_ai.user.message", {"content": "a secret"})
        theirs.set_attribute("output.value", "x" * 1000)
        theirs.end()
    assert kept.input() == "masked"
    written = b"".join(filter(None, (kept.start().attributes, kept.end().attributes, kept.end().events)))
    assert written.count(b"a secret") <= 2, "only the attribute that holds no payload"
    assert b"sk-1" not in written
    assert kept.end().output_size >= 1000
    assert len(kept.end().output or b"") < 400


@pytest.mark.parametrize("full", [False, True], ids=["not captured", "journal nearly full"])
def test_what_is_not_to_be_captured_is_in_no_attribute(kept: FakeKeeper, program: Program, full: bool) -> None:
    said = {**CHAT, "input.value": "asked", "gen_ai.prompt.0.content": "asked", "gen_ai.completion.0.content": "said"}
    if full:
        kept.journal = Full()
    with tk.context(capture_input=full, capture_output=full):
        program.tracer.start_span("chat", attributes=said).end()
    for frame in kept.frames:
        assert b"asked" not in repr(frame).encode()
        assert b"said" not in repr(frame).encode()
    assert kept.end().model == "gpt-4.1"
    kept.journal = None


def test_sampling_holds_and_errors_are_kept(kept: FakeKeeper, program: Program) -> None:
    with tk.context(sample=0):
        with program.tracer.start_as_current_span("one"), tk.span("two"):
            pass
        assert kept.frames == []
        failed = program.tracer.start_span("failed", attributes=CHAT)
        failed.set_status(Status(StatusCode.ERROR, "no"))
        failed.end()
    assert (kept.start().name, kept.end().status, kept.end().model) == ("failed", "error", "gpt-4.1")


def test_a_recording_keeps_a_third_partys_record(kept: FakeKeeper, program: Program) -> None:
    with tk.context(sample=0), tk.recording() as recording, program.tracer.start_as_current_span("root"):
        pass
    assert [record.name for record in recording.records] == ["root"]


def test_switched_off_the_program_has_what_it_had_before(kept: FakeKeeper, program: Program) -> None:
    with tk.context(enabled=False), program.tracer.start_as_current_span("one") as theirs:
        theirs.set_attribute("a", 1)
    assert kept.frames == []
    assert program.exported in (["one"], [])


def test_left_the_program_has_what_it_had_before(kept: FakeKeeper, program: Program) -> None:
    open_still = program.tracer.start_span("open")
    bridge.leave()
    bridge.leave()
    with program.tracer.start_as_current_span("after"):
        pass
    open_still.end()
    assert [start.name for start in kept.starts] == ["open"], "what was open still ends"
    assert kept.statuses == ["ok"]
    bridge.join()
    bridge.join()
    with program.tracer.start_as_current_span("again"):
        pass
    assert [start.name for start in kept.starts] == ["open", "again"], "once, however often it is joined"


def test_nothing_of_ours_is_left_in_opentelemetry() -> None:
    module: Any = otel
    before = dict(vars(module))
    bridge.join()
    assert isinstance(otel.get_tracer_provider(), LightProvider)
    bridge.leave()
    assert dict(vars(module)) == before


def test_our_stand_in_looks_as_if_nothing_was_set_and_the_program_may_set_its_own(
    kept: FakeKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program("none")
    given = otel.get_tracer("another")
    assert isinstance(otel.get_tracer_provider(), otel.ProxyTracerProvider)
    with program.tracer.start_as_current_span("before"):
        program.set_provider()
        with program.tracer.start_as_current_span("proxy"), given.start_as_current_span("given"), tk.span("ours"):
            pass
    assert isinstance(otel.get_tracer_provider(), TracerProvider)
    assert program.exported == ["given", "proxy"]
    assert {start.name: start.record_id for start in kept.starts} == dict.fromkeys(
        ["before", "proxy", "given", "ours"], kept.start("before").span_id
    )
    assert caplog.records == []


def test_a_provider_that_takes_no_processors_is_left_alone(kept: FakeKeeper, caplog: pytest.LogCaptureFixture) -> None:
    class Theirs(otel.NoOpTracerProvider):
        pass

    otel.set_tracer_provider(Theirs())
    bridge.join()
    bridge.join()
    with otel.get_tracer("x").start_as_current_span("it"):
        pass
    assert kept.frames == []
    assert [record.levelname for record in caplog.records if "takes no span processors" in record.message] == [
        "WARNING"
    ]


def test_with_an_unknown_version_of_the_api_nothing_stands_in_and_nothing_breaks(
    kept: FakeKeeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="tracekeeper")
    monkeypatch.setattr(bridge, "_GLOBAL", "_NOT_THERE")
    monkeypatch.setattr(bridge, "_SET", "_not_there")
    bridge.join()
    with otel.get_tracer("x").start_as_current_span("lost"):
        pass
    assert "is not known" in caplog.text
    otel.set_tracer_provider(TracerProvider())
    bridge.join()  # what the public interface gives is joined
    with otel.get_tracer("x").start_as_current_span("taken"):
        pass
    assert [start.name for start in kept.starts] == ["taken"]


def test_a_provider_that_is_not_the_global_one_can_be_given_our_processor(kept: FakeKeeper) -> None:
    provider = TracerProvider()
    provider.add_span_processor(bridge.processor())
    with provider.get_tracer("x").start_as_current_span("it"):
        pass
    assert kept.statuses == ["ok"]


def test_attributes_that_an_sdk_dropped_are_a_visible_defect(kept: FakeKeeper) -> None:
    program = Program("joined", span_limits=SpanLimits(max_span_attributes=10))
    theirs = program.tracer.start_span("long")
    for number in range(30):
        theirs.set_attribute(f"llm.input_messages.{number}.message.content", str(number))
    theirs.end()
    assert attributes(kept)["tracekeeper.dropped_attributes"] == 20
    assert [message["content"] for message in capture.decode(kept.end().input or b"")] == list(map(str, range(20, 30)))


def test_two_open_spans_with_the_same_ids_are_both_kept(kept: FakeKeeper) -> None:
    program = Program("joined")
    spans = []
    for _ in range(2):
        random.seed(42)  # as evaluation scripts do; the SDK draws its ids from it
        spans.append(program.tracer.start_span("same"))
    assert hexed(spans[0]) == hexed(spans[1])
    for span in spans:
        span.end()
    assert len(kept.starts) == len(kept.ends) == 2
    assert len({start.span_id for start in kept.starts}) == 2
    assert capture.decode(kept.ends[1].attributes or b"")["tracekeeper.duplicate_of"] == hexed(spans[0])[1].hex()


@pytest.mark.slow
def test_a_span_that_was_thrown_away_is_abandoned_with_what_it_had(kept: FakeKeeper, program: Program) -> None:
    theirs: Any = program.tracer.start_span("chat", attributes=CHAT)
    theirs.set_attribute("gen_ai.completion.0.content", "Becau")
    del theirs
    gc.collect()
    assert kept.statuses == ["abandoned"]
    assert kept.output() == "Becau"


def test_spans_that_are_open_at_exit_are_swept_with_what_they_have(kept: FakeKeeper, program: Program) -> None:
    theirs = program.tracer.start_span("chat", attributes=CHAT)
    theirs.set_attribute("gen_ai.completion.0.content", "Becau")
    streamed = program.tracer.start_span("stream", attributes={**CHAT, "gen_ai.request.stream": True})
    runtime._sweep(0.0)
    assert (kept.end("chat").status, kept.end("stream").status) == ("interrupted", "abandoned")
    assert kept.output("chat") == "Becau"
    theirs.end()
    streamed.end()
    assert len(kept.ends) == 2


def test_what_we_do_ourselves_is_not_taken(kept: FakeKeeper, program: Program) -> None:
    with own_work(), program.tracer.start_as_current_span("INSERT"):
        pass
    assert kept.frames == []


def test_an_instrumented_database_driver_does_not_feed_on_itself(keeper: Any) -> None:
    """A span for each statement that stores spans would never come to rest."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    program = Program("joined")
    seen: list[str] = []

    def before(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)
        program.tracer.start_span("statement").end()

    event.listen(Engine, "before_cursor_execute", before)
    try:
        with program.tracer.start_as_current_span("work"):
            pass
        assert tk.flush(timeout=20).complete
        assert [record.name for record in tk.records(timeout=20)] == ["work"]
        assert seen
    finally:
        event.remove(Engine, "before_cursor_execute", before)


def test_a_third_partys_span_in_an_evaluation_is_no_record(keeper: Any) -> None:
    program = Program("joined")

    def judged(output: str) -> float:
        with program.tracer.start_as_current_span("judge"):
            return 1.0

    @tk.app(name="app", version="1", metrics=[judged])
    def call() -> str:
        return "x"

    with tk.recording() as recording:
        call()
    [score] = recording.get().wait_for_scores(timeout=20).values()
    tk.flush(timeout=20)
    spans = keeper.store().spans_of(score.evaluation)
    assert [(span.name, span.record_span_id) for span in spans] == [("judged", ""), ("judge", "")]
    assert len(tk.records(timeout=20)) == 1


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")

    def __len__(self) -> int:
        raise RuntimeError("no")


@pytest.mark.parametrize("how", ["joined", "none"])
def test_nothing_of_ours_raises_into_the_program(
    kept: FakeKeeper, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program(how)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("tracekeeper.tracing.foreign.beginning", broken)
    with program.tracer.start_as_current_span("begins", attributes={"a": 1}):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(runtime, "keeper", lambda: kept)
    theirs = program.tracer.start_span("ends")
    monkeypatch.setattr("tracekeeper.tracing.foreign.normalised", broken)
    theirs.end()
    assert [start.name for start in kept.starts] == ["ends"], "without being understood it is kept all the same"
    assert kept.statuses == ["ok"]
    if how == "none":
        spans: Any = program.tracer.start_span("odd", attributes={"x": Hostile(), 7: 8, "nan": float("nan")})  # type: ignore[dict-item]
        spans.set_attribute("y", Hostile())
        spans.add_event("e", {"z": Hostile()})
        spans.end()
    trouble.forget()


def test_joining_and_leaving_from_many_threads_at_once(kept: FakeKeeper) -> None:
    program = Program("joined")
    stop = threading.Event()

    def flip(action: Callable[[], None]) -> None:
        while not stop.is_set():
            action()

    threads = [threading.Thread(target=flip, args=(action,)) for action in (bridge.join, bridge.leave) * 2]
    for thread in threads:
        thread.start()
    for _ in range(300):
        with program.tracer.start_as_current_span("it"):
            pass
    stop.set()
    for thread in threads:
        thread.join()
    bridge.join()
    with program.tracer.start_as_current_span("last"):
        pass
    assert len([start for start in kept.starts if start.name == "last"]) == 1
    assert program.exported.count("it") == 300


@pytest.mark.slow
def test_the_stand_in_needs_no_sdk() -> None:
    code = """
import sys
sys.modules["opentelemetry.sdk"] = None
from opentelemetry import trace
from tracekeeper.tracing import bridge
bridge.join()
with trace.get_tracer("x").start_as_current_span("it") as span:
    assert span.is_recording()
print(type(span).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == ("LightSpan", 0), done.stderr

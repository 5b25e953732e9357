"""A trace crosses services: what is written into headers, and what becomes of headers that come in."""

from __future__ import annotations

import asyncio
import email.message
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st
from opentelemetry import baggage, propagate
from opentelemetry import trace as otel
from opentelemetry.context import attach, detach
from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator, default_getter, default_setter
from tests.support.fake_keeper import FakeKeeper

import tracekeeper as tk
from tracekeeper.tracing import trouble
from tracekeeper.tracing.propagate import extract, inject

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
INCOMING = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1,other=2", "baggage": "customer=acme"}


def test_a_trace_goes_there_and_on(kept: FakeKeeper) -> None:
    with tk.span("caller") as caller:
        headers = inject()
    with extract(headers), tk.span("called"), tk.span("below"):
        pass
    called, below = kept.start("called"), kept.start("below")
    assert called.trace_id.hex() == caller.trace_id
    assert called.parent_id == kept.start("caller").span_id
    assert called.record_id == called.span_id, "the call is a record of its own"
    assert below.record_id == called.span_id


def test_a_call_is_a_record_of_its_own_also_when_it_goes_on_in_the_span_that_sent_it(kept: FakeKeeper) -> None:
    """A queue within one process: the sender's span is still current where its message is handled."""
    with tk.span("sender") as sender, extract(inject()), tk.span("handler"):
        pass
    handler = kept.start("handler")
    assert handler.parent_id == bytes.fromhex(sender.span_id)
    assert handler.record_id == handler.span_id


def test_state_and_baggage_come_along_and_go_on(kept: FakeKeeper) -> None:
    with extract(INCOMING), tk.span("ours") as ours, tk.span("below"):
        assert baggage.get_baggage("customer") == "acme"
        sent = inject()
    assert sent["tracestate"] == "vendor=1,other=2"
    assert sent["baggage"] == "customer=acme"
    assert sent["traceparent"].split("-")[1] == ours.trace_id == TRACE
    assert baggage.get_baggage("customer") is None


def test_afterwards_everything_is_as_before(kept: FakeKeeper) -> None:
    before = otel.get_current_span()
    with pytest.raises(KeyboardInterrupt), extract(INCOMING):
        assert otel.get_current_span().get_span_context().trace_id == int(TRACE, 16)
        raise KeyboardInterrupt
    assert otel.get_current_span() is before
    with tk.span("after"):
        pass
    assert kept.start("after").parent_id is None


@pytest.mark.parametrize(
    "carrier",
    [
        {"Traceparent": INCOMING["traceparent"]},
        {"TRACEPARENT": INCOMING["traceparent"].encode()},
        [(b"accept", b"*/*"), (b"traceparent", INCOMING["traceparent"].encode())],
        [("traceparent", bytearray(INCOMING["traceparent"].encode()))],
        {"traceparent": [INCOMING["traceparent"]]},
        MappingProxyType(INCOMING),
    ],
    ids=["title case", "bytes", "asgi", "kafka", "lists", "read-only"],
)
def test_headers_are_read_however_a_server_or_a_queue_gives_them(kept: FakeKeeper, carrier: Any) -> None:
    with extract(carrier), tk.span("called") as called:
        assert called.trace_id == TRACE


@pytest.mark.parametrize(
    "carrier",
    [
        None,
        {},
        [],
        {"traceparent": ""},
        {"traceparent": "00-zz-11-01"},
        {"traceparent": f"00-{'0' * 32}-{PARENT}-01"},
        {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
        {"traceparent": f"ff-{TRACE}-{PARENT}-01"},
        {"traceparent": 7, 7: None, "baggage": b"\xff\xfe"},
        {"baggage": "no traceparent=1"},
    ],
)
def test_without_a_caller_spans_have_the_parent_they_had(kept: FakeKeeper, carrier: Any) -> None:
    with tk.span("local") as local, extract(carrier), tk.span("called"):
        pass
    assert kept.start("called").parent_id == bytes.fromhex(local.span_id)
    assert kept.start("called").record_id == kept.start("local").span_id


JUNK = st.none() | st.integers() | st.text(max_size=60) | st.binary(max_size=60) | st.lists(st.text(max_size=9))


@how(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["traceparent", "tracestate", "baggage"]) | st.text(max_size=9), JUNK))
def test_no_header_breaks_anything(kept: FakeKeeper, carrier: dict[Any, Any]) -> None:
    with extract(carrier), tk.span("called"):
        pass
    assert trouble.counts() == {}


@pytest.mark.parametrize("sampled", [True, False])
def test_the_callers_draw_holds_for_the_whole_trace(kept: FakeKeeper, sampled: bool) -> None:
    with tk.context(sample=float(sampled)), tk.span("caller"):
        headers = inject()
    assert headers["traceparent"].endswith("-01" if sampled else "-00")
    kept.forget()
    with tk.context(sample=float(not sampled)), extract(headers), tk.span("called"):
        pass
    assert len(kept.starts) == sampled


def test_a_recording_keeps_what_the_caller_did_not(kept: FakeKeeper) -> None:
    with tk.recording() as recording, extract({"traceparent": f"00-{TRACE}-{PARENT}-00"}), tk.span("called"):
        pass
    assert kept.start("called").trace_id.hex() == TRACE
    assert len(recording.records) == 1


def test_a_given_carrier_is_changed_in_place_and_given_back(kept: FakeKeeper) -> None:
    headers = {"accept": "*/*", "traceparent": "old"}
    with tk.span("caller") as caller:
        assert inject(headers) is headers
        message = email.message.Message()  # adds a header instead of replacing it
        inject(message)  # type: ignore[arg-type]
    assert headers == {"accept": "*/*", "traceparent": f"00-{caller.trace_id}-{caller.span_id}-01"}
    assert message.keys() == ["traceparent"]


def test_without_a_span_there_is_nothing_to_say(kept: FakeKeeper) -> None:
    assert inject() == {}
    assert inject({"a": "b"}) == {"a": "b"}


def test_a_third_partys_current_span_is_what_is_sent(kept: FakeKeeper) -> None:
    theirs = otel.NonRecordingSpan(otel.SpanContext(5, 6, is_remote=False, trace_flags=otel.TraceFlags(1)))
    token = attach(otel.set_span_in_context(theirs))
    try:
        assert inject()["traceparent"] == f"00-{5:032x}-{6:016x}-01"
    finally:
        detach(token)


def test_a_judges_call_to_another_service_belongs_to_its_evaluation(keeper: object) -> None:
    sent: list[dict[str, str]] = []

    def judged(output: str) -> float:
        sent.append(inject())
        return 1.0

    @tk.app(name="asked", version="1", metrics=[judged])
    def call() -> str:
        return "answer"

    with tk.recording() as recording:
        call()
    [score] = recording.get().wait_for_scores(timeout=20).values()
    assert sent[0]["traceparent"].split("-")[1] == score.evaluation


def test_a_carrier_that_refuses_costs_the_headers_and_not_the_call(kept: FakeKeeper) -> None:
    refusing: Any = MappingProxyType({})
    with tk.span("caller"):
        assert inject(refusing) is refusing
    with extract(3):  # type: ignore[arg-type]
        pass
    assert len(trouble.counts()) == 2
    trouble.forget()


def test_switched_off_nothing_is_written_and_nothing_read(kept: FakeKeeper) -> None:
    theirs = otel.NonRecordingSpan(otel.SpanContext(5, 6, is_remote=False))
    token = attach(otel.set_span_in_context(theirs))
    try:
        with tk.context(enabled=False):
            assert inject() == {}
            with extract(INCOMING):
                assert otel.get_current_span() is theirs
    finally:
        detach(token)


def test_one_may_be_entered_by_many_at_once(kept: FakeKeeper) -> None:
    caller = extract(INCOMING)

    async def handle(number: int) -> None:
        async with caller:
            await asyncio.sleep(0)
            with tk.span(f"task {number}"):
                await asyncio.sleep(0)
        assert not otel.get_current_span().get_span_context().is_valid

    def threaded(number: int) -> None:
        with caller, tk.span(f"thread {number}"):
            pass

    async def main() -> None:
        await asyncio.gather(*(handle(number) for number in range(20)))

    asyncio.run(main())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(threaded, range(20)))
    assert {start.trace_id.hex() for start in kept.starts} == {TRACE}
    assert all(start.record_id == start.span_id for start in kept.starts)
    assert len(kept.starts) == 40


class Other(TextMapPropagator):
    """A propagator of the program's own."""

    fields = {"X-Other"}  # noqa: RUF012

    def inject(self, carrier: Any, context: Any = None, setter: Any = default_setter) -> None:
        known = otel.get_current_span(context).get_span_context()
        setter.set(carrier, "X-Other", f"{known.trace_id}:{known.span_id}")

    def extract(self, carrier: Any, context: Any = None, getter: Any = default_getter) -> Context:
        found = getter.get(carrier, "X-Other")
        if not found:
            return context if context is not None else Context()
        trace_id, span_id = map(int, found[0].split(":"))
        sampled = otel.TraceFlags(1)
        return otel.set_span_in_context(
            otel.NonRecordingSpan(otel.SpanContext(trace_id, span_id, True, sampled)), context
        )


@pytest.fixture
def other() -> Iterator[None]:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Other())
    yield
    propagate.set_global_textmap(before)


def test_the_programs_own_propagator_is_used_beside_w3cs(kept: FakeKeeper, other: None) -> None:
    with tk.span("caller") as caller:
        headers = inject()
    assert headers == {
        "traceparent": f"00-{caller.trace_id}-{caller.span_id}-01",
        "X-Other": f"{int(caller.trace_id, 16)}:{int(caller.span_id, 16)}",
    }
    with extract({"x-other": headers["X-Other"]}), tk.span("called") as called:
        assert called.trace_id == caller.trace_id
    with extract({**INCOMING, "x-other": headers["X-Other"]}), tk.span("both") as both:
        assert both.trace_id == TRACE, "W3C's comes first"

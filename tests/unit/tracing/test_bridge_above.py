"""Third parties' spans inside a request that a server handles: below it, and records as if it were not there."""

from __future__ import annotations

from collections.abc import Iterator

import opentelemetry.trace as otel
import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.support.fake_keeper import FakeKeeper
from tests.support.otel import fresh_opentelemetry

import tracekeeper as tk
from tracekeeper.configuration import settings
from tracekeeper.tracing import above, bridge, context, opening


@pytest.fixture(params=["joined", "none"])
def tracer(request: pytest.FixtureRequest) -> Iterator[otel.Tracer]:
    with fresh_opentelemetry():
        if request.param == "joined":
            otel.set_tracer_provider(TracerProvider())
        bridge.join()
        yield otel.get_tracer("some.instrumentation")


@pytest.mark.parametrize("sample", [0.0, 1.0])
def test_a_third_partys_span_in_a_request_is_a_record_below_it(
    kept: FakeKeeper, tracer: otel.Tracer, sample: float
) -> None:
    with tk.context(sample=sample):
        request = above.open_above(settings(), "GET /", "task")
    opening.announce(request)
    entered = above.enter(request)
    with tracer.start_as_current_span("theirs"), tk.span("ours"):
        pass
    context.leave(*entered)
    request.end()
    if not sample:
        assert "theirs" not in {start.name for start in kept.starts}, "it goes with its request"
        return
    theirs, ours = kept.start("theirs"), kept.start("ours")
    assert theirs.parent_id == kept.start("/").span_id
    assert theirs.trace_id == kept.start("/").trace_id
    assert theirs.record_id == theirs.span_id == ours.record_id

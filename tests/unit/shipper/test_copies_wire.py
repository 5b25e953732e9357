"""Rows as OTLP messages: total, and what a row says is in the message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.support.otlp import spans_of

from tracekeeper.shipper.copies import wire

TEXTS = (
    *("parent_id", "model", "provider", "usage", "error_type", "input", "output", "attributes", "events", "links"),
    *("context", "metadata", "error_message", "error_traceback", "environment", "release", "session_id", "user_id"),
    *("tags", "app"),
)
NUMBERS = ("input_tokens", "output_tokens", "chunks", "first_chunk")
ROW: dict[str, Any] = {
    **dict.fromkeys((*TEXTS, *NUMBERS, "duration", "cost", "expected", "app_version")),
    "id": 1,
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "record_span_id": "b7ad6b7169203331",
    "name": "call",
    "kind": "task",
    "status": "ok",
    "started_at": 5,
    "project": "default",
}
TEXT = (
    st.none()
    | st.text(max_size=20)
    | st.sampled_from(['{"a": [1, "b", null]}', '[{"name": "e", "at": -1}]', "[1]", "7"])
)
NUMBER = st.none() | st.integers(-(2**63), 2**63 - 1)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys((*TEXTS, "trace_id", "span_id"), TEXT),
            **dict.fromkeys(NUMBERS, NUMBER),
            "kind": st.sampled_from(["llm", "tool", "retriever", "chain", "odd"]),
            "status": st.sampled_from(["ok", "error", "interrupted", "abandoned", "odd"]),
            "duration": st.none() | st.integers(0, 2**62),
        },
    )
)
def test_any_row_can_be_sent(changes: dict[str, Any]) -> None:
    request = wire.request_of([{**ROW, **changes}], "1")
    assert (request.rows, request.failed) == (1, 0)
    [span] = spans_of(ExportTraceServiceRequest.FromString(request.body))
    assert span.name == "call"


def test_statuses_and_what_is_beside_the_attributes() -> None:
    attributes = '{"otel.scope.name": "some.lib", "otel.span.kind": "server", "n": 18446744073709551616, "s": [1, 2]'
    attributes += ', "o": {"a": 1}}'
    rows = [
        {**ROW, "id": n, "status": s, "attributes": attributes}
        for n, s in enumerate(["ok", "error", "abandoned", "interrupted"])
    ]
    spans = spans_of(ExportTraceServiceRequest.FromString(wire.request_of(rows, "1").body))
    assert [span.proto.status.code for span in spans] == [1, 2, 0, 2]
    assert {(span.scope, span.proto.kind) for span in spans} == {("some.lib", 2)}
    assert (spans[0].attributes["n"], spans[0].attributes["s"], spans[0].attributes["o"]) == (
        "18446744073709551616",
        [1, 2],
        '{"a":1}',
    )


def test_records_of_several_projects_are_several_resources() -> None:
    rows = [{**ROW, "id": n, "project": name} for n, name in enumerate(["a", "b", "a"])]
    request = ExportTraceServiceRequest.FromString(wire.request_of(rows, "1").body)
    assert [len(each.scope_spans[0].spans) for each in request.resource_spans] == [2, 1]


def test_a_request_has_as_many_rows_as_fit_and_at_least_one() -> None:
    rows = [{**ROW, "id": n, "input": '"' + "x" * 900 + '"'} for n in range(5)]
    assert wire.request_of(rows, "1", limit=2_500).rows == 2
    assert wire.request_of(rows, "1", limit=10).rows == 1


def test_an_answer_that_says_nothing_rejects_nothing() -> None:
    assert wire.rejected(b"") == wire.rejected(b"<html>") == (0, "")

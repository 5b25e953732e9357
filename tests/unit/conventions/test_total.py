"""The mapping is total: no attributes raise, no NaN gets through, and what goes out comes back the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracekeeper.conventions import table
from tracekeeper.conventions.attributes import Attributes
from tracekeeper.conventions.contents import content_of
from tracekeeper.conventions.export import Outgoing, exported
from tracekeeper.conventions.reading import Event, Normal, normalised
from tracekeeper.types import SpanKind, Usage

KEYS = sorted(
    {
        *(key for key, _ in table.KINDS),
        *(key for keys in table.USAGE.values() for key in keys),
        *(key for keys in table.PROMPT.values() for key in keys),
        *(source.key for source in (*table.INPUT, *table.OUTPUT) if source.key),
        *(key for row in vars(table).values() if isinstance(row, tuple) for key in row if isinstance(key, str)),
        *(table.USAGE_DETAILS, table.COST_DETAILS, "error.type", "gen_ai.request.temperature"),
    }
)
INDEXED = st.builds(
    "{}.{}.{}".format,
    st.sampled_from(["llm.input_messages", "gen_ai.prompt", "gen_ai.completion", "retrieval.documents", "llm.tools"]),
    st.integers(0, 10**12) | st.text(max_size=3),
    st.sampled_from(["message", "message.content", "message.contents.0.message_content", "role", "content", "document",
                     "tool_calls.0.name", "finish_reason", "tool.json_schema", "a" + ".b" * 40]),
)  # fmt: skip
TEXT = st.text(max_size=8) | st.text(st.characters(categories=["Cs"]), max_size=2)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["role", "content", "parts", "message", "type", "tool_calls", "finish_reason", "id", "document",
                         "function", "arguments", "input", "total", "score", "contents", "message_content", "text"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
JSON = VALUES.map(lambda value: json.dumps(value, default=repr))
GIVEN = st.dictionaries(st.sampled_from(KEYS) | INDEXED | st.text(max_size=12), VALUES | JSON, max_size=12)
EVENTS = st.lists(
    st.builds(
        Event,
        st.sampled_from([*table.MESSAGE_EVENTS, *table.CHUNK_EVENTS, *table.DOCUMENT_EVENTS, "exception", "x"]),
        st.dictionaries(
            st.sampled_from([*table.EVENT_BODIES, "finish_reason", "message", "exception.type", "x"]), VALUES
        ),
        st.none() | st.integers(),
    ),
    max_size=4,
)


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from numbers(item)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    items = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for item in items:
        yield from texts(item)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(GIVEN, EVENTS, st.sampled_from(["unset", "ok", "error"]), st.none() | st.integers(0, 2**62))
@example({"llm.input_messages." + "9" * 30 + ".message": "x"}, [], "ok", None)
@example({"gen_ai.input.messages": "[" * 100_000}, [], "ok", None)
@example({"metadata": '{"a": 1e999}', "llm.cost.total": float("inf")}, [], "ok", None)
def test_no_attributes_raise_and_no_nan_passes(
    attributes: dict[str, Any], events: list[Event], status: str, started: int | None
) -> None:
    found = normalised(attributes, events, status=status, started=started)
    fields = msgspec.structs.asdict(found)
    assert all(math.isfinite(number) for number in numbers(fields))
    for text in texts(fields):
        text.encode()
    usage = found.usage
    if usage is not None:
        for figure in msgspec.structs.astuple(usage)[:5]:
            assert figure is None or (type(figure) is int and 0 <= figure < 2**63)
        assert usage.cost is None or (math.isfinite(usage.cost) and usage.cost >= 0)
    sent = exported(
        Outgoing(
            kind=found.kind or "task",
            name=found.name or "",
            status=found.status or "ok",
            model=found.model,
            usage=usage,
            input=found.input,
            output=found.output,
            documents=found.documents,
            attributes=attributes,
            metadata=found.metadata,
        )
    )
    for value in sent.values():
        kinds = {type(item) for item in value} if isinstance(value, list) else {type(value)}
        assert len(kinds) == 1
        assert kinds <= {str, bool, int, float}


def test_nothing_given_is_nothing_said() -> None:
    assert normalised({}) == normalised(None) == Normal()
    assert normalised({7: "no text for a key"}) == Normal()  # type: ignore[dict-item]


@pytest.mark.parametrize("structured", [False, True])
def test_text_that_only_looks_like_json_stays_text(structured: bool) -> None:
    assert normalised({"input.value": "{not json", "openinference.span.kind": "CHAIN"}).input == "{not json"
    assert normalised({"output.value": '{"a": NaN}'}).output == '{"a": NaN}'


def test_indexed_keys_come_in_order_with_gaps_and_in_any_order() -> None:
    given = Attributes({f"x.y.{index}.z": index for index in (11, 2, 999_999_999, 0)})
    assert given.under("x.y") == [{"z": index} for index in (0, 2, 11, 999_999_999)]
    assert given.under("x.q") is None
    assert Attributes({"x.y.0": 1, "x.y.0.z": 2, "x.y.a": 3}).under("x.y") == {"0": {"z": 2}, "a": 3}


MESSAGES = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "name": "lookup", "arguments": {"a": 1}}]},
    {"role": "tool", "content": "mild", "tool_call_id": "c1"},
]


@pytest.mark.parametrize("kind", SpanKind)
def test_what_goes_out_comes_back_the_same(kind: SpanKind) -> None:
    usage = Usage(input_tokens=7, output_tokens=3, cache_read_tokens=2, reasoning_tokens=1, cost=0.5)
    asked: Any = MESSAGES if kind is SpanKind.LLM else "Ireland" if kind is SpanKind.RETRIEVER else {"place": "Ireland"}
    sent = exported(
        Outgoing(
            kind=kind,
            name="it",
            status="ok",
            model="gpt-4.1",
            provider="openai",
            usage=usage,
            input=asked,
            output="Mild.",
            documents=["wet", {"content": "mild", "score": 0.5}] if kind is SpanKind.RETRIEVER else None,
            attributes={"tracekeeper.finish_reasons": ["stop"], "tracekeeper.parameters": {"temperature": 0.5}},
            session_id="s-1",
            user_id="u-1",
            chunks=3,
            first_chunk=250_000_000,
        )
    )
    back = normalised(sent, name="it", started=0)
    assert (back.model, back.provider, back.usage) == ("gpt-4.1", "openai", usage)
    assert (back.session_id, back.user_id, back.finish_reasons) == ("s-1", "u-1", ("stop",))
    assert (back.first_chunk, back.streamed) == (250_000_000, True)
    assert back.parameters == {"temperature": 0.5, "stream": True}
    if kind in (SpanKind.LLM, SpanKind.TOOL, SpanKind.RETRIEVER):
        assert (back.kind, back.input) == (kind, asked)
    if kind in (SpanKind.LLM, SpanKind.TOOL):
        assert back.output == "Mild."
    if kind is SpanKind.RETRIEVER:
        assert back.documents == [{"content": "wet"}, {"content": "mild", "score": 0.5}]


def test_a_third_partys_own_attributes_leave_as_they_came() -> None:
    sent = exported(
        Outgoing(
            kind="llm", name="x", status="ok", model="ours", attributes={"gen_ai.request.model": "theirs", "n": [1]}
        )
    )
    assert sent["gen_ai.request.model"] == "theirs"
    assert sent["n"] == [1]


def test_every_place_of_an_input_or_an_output_counts_as_content() -> None:
    """Else it would pass by the masks as a raw attribute."""
    for source in (*table.INPUT, *table.OUTPUT):
        if source.key:
            assert content_of(source.key) or source.how == "flat", source.key
            assert content_of(f"{source.key}.0.message.content") or source.key in ("prompt", "events"), source.key
    for key in (*table.DOCUMENTS, *table.FLAT_DOCUMENTS, *table.SYSTEM):
        assert content_of(key)
    assert not content_of("gen_ai.usage.input_tokens")
    assert not content_of("gen_ai.prompt.name")

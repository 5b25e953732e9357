"""Selectors: they pick at once, and what they do not find they explain."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekeeper.judging import CannotBind, RecordView, Selector, SpanView, metric, select
from tracekeeper.judging.picking import from_spec
from tracekeeper.types import MetricError

RECORD = RecordView(
    input={"question": "why?", "messages": [{"content": "hi"}, {"content": "there"}]},
    output={"answer": "so", "choices": [{"text": "a"}]},
    context=["a", "b"],
    expected={"label": "x"},
    item={"category": "c"},
    span_id="01",
    spans=lambda: (
        SpanView(name="ask", kind="chain", span_id="01", attributes={"user.tier": "gold"}),
        SpanView(name="retrieve", kind="retriever", output=["a", "b"], attributes={"k": 2}, input={"query": "why?"}),
        SpanView(name="retrieve", kind="retriever", output=["c"], attributes={"k": 1}),
        SpanView(name="chat", kind="llm", output={"choices": [{"text": "a"}]}, cut=frozenset({"input"})),
    ),
)

PICKS: list[tuple[Selector, Any]] = [
    (select.input(), RECORD.input),
    (select.input("question"), "why?"),
    (select.input("messages[-1].content"), "there"),
    (select.output(), RECORD.output),
    (select.output("choices[0].text"), "a"),
    (select.context(), ["a", "b"]),
    (select.expected("label"), "x"),
    (select.item("category"), "c"),
    (select.attribute("user.tier"), "gold"),
    (select.spans(kind="llm", output="choices[0].text"), "a"),
    (select.spans(kind="retriever", collect=True), ["a", "b", "c"]),
    (select.spans(kind="retriever", attribute="k", collect=True), [2, 1]),
    (select.spans(kind="retriever", pick="first"), ["a", "b"]),
    (select.spans(kind="retriever", pick="last", attribute="k"), 1),
    (select.spans(name="retrieve", pick="first", input="query"), "why?"),
    (select.spans(name="chat", output=True), {"choices": [{"text": "a"}]}),
]


@pytest.mark.parametrize(("selector", "value"), PICKS, ids=[repr(selector) for selector, _ in PICKS])
def test_it_picks(selector: Selector, value: Any) -> None:
    assert selector.pick(RECORD) == value


@pytest.mark.parametrize("selector", [selector for selector, _ in PICKS], ids=repr)
def test_it_can_be_stored_compared_and_printed_as_it_was_written(selector: Selector) -> None:
    assert from_spec(selector.spec()) == selector
    assert hash(from_spec(selector.spec())) == hash(selector)
    assert eval(repr(selector), {"select": select}) == selector


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        (select.spans(kind="retriever", name="retreive"), "did you mean name='retrieve'"),
        (select.spans(kind="tool"), "the record has: chain 'ask', retriever 'retrieve', llm 'chat'"),
        (select.spans(kind="retriever"), "2 spans match kind 'retriever'"),
        (select.spans(kind="llm", input=True), "input truncated"),
        (select.spans(kind="llm", attribute="temprature"), "nothing at 'temprature'"),
        (select.output("anser"), "did you mean 'answer'"),
        (select.output("choices[3].text"), "choices is a list of 1"),
        (select.output("answer.text"), "there is a str"),
        (select.attribute("user.teir"), "did you mean 'user.tier'"),
    ],
)
def test_what_it_does_not_find_it_explains(selector: Selector, says: str) -> None:
    with pytest.raises(CannotBind) as error:
        selector.pick(RECORD)
    assert says in error.value.reason


def test_a_record_without_spans() -> None:
    with pytest.raises(CannotBind, match="the record has no spans"):
        select.spans(kind="llm").pick(RecordView())


def test_absent_fields_have_their_reason() -> None:
    for selector, says in (
        (select.expected(), "no expected output"),
        (select.context(), "no context"),
        (select.item(), "no dataset item"),
    ):
        with pytest.raises(CannotBind, match=says):
            selector.pick(RecordView())


def test_accept_cut_takes_what_is_there() -> None:
    record = RecordView(output="abc", cut={"output"})
    with pytest.raises(CannotBind, match="input truncated"):
        metric(lambda text: text).on(text=select.output()).bind(record)
    assert metric(lambda text: text, accept_cut=True).on(text=select.output()).bind(record)() == "abc"


def test_a_selector_that_finds_nothing_is_never_a_silent_default() -> None:
    with pytest.raises(CannotBind):
        metric(lambda text="x": text).on(text=select.output("gone")).bind(RECORD)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: select.spans(kind="retriver"), "did you mean 'retriever'"),
        (lambda: select.spans(kind="llm", input=True, output=True), "exclude each other"),
        (lambda: select.spans(collect=True, pick="first"), "no meaning"),
        (lambda: select.spans(pick="middle"), "expected 'first' or 'last'"),
        (lambda: select.output("a..b"), "is not a path"),
        (lambda: select.output("a[x]"), "is not a path"),
        (lambda: select.output(3), "is not a path"),
        (lambda: select.attribute(""), "is not a path"),
        (lambda: from_spec({"select": "galaxy"}), "newer version"),
        (lambda: from_spec({"select": "spans", "colour": 1}), "newer version"),
    ],
)
def test_a_selector_that_cannot_work_is_refused_when_it_is_made(make: Any, says: str) -> None:
    with pytest.raises(MetricError, match=says):
        make()


def test_spans_are_fetched_once_and_only_when_asked_for() -> None:
    calls = []

    def fetch() -> list[SpanView]:
        calls.append(1)
        return [SpanView(name="a", output=1)]

    record = RecordView(input={"q": "x"}, output="y", spans=fetch)
    metric(lambda output: output).bind(record)
    assert calls == []
    assert select.spans(name="a").pick(record) == 1
    assert len(record.spans) == 1
    assert calls == [1]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(value=_json, path=st.from_regex(r"[a-z]{1,3}(\.[a-z]{1,3}|\[-?[0-9]\]){0,3}", fullmatch=True))
def test_a_path_into_anything_finds_a_value_or_says_why_not(value: Any, path: str) -> None:
    reason = path
    try:
        select.output(path).pick(RecordView(output=value))
    except CannotBind as cannot:
        reason = cannot.reason
    assert path in reason

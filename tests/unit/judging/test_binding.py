"""Where a metric's arguments come from: one rule, checked early where it can be and said plainly where it cannot."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypedDict

import pytest

from tracekeeper.judging import CannotBind, RecordView, SpanView, bind_task, check_task, metric, return_annotation
from tracekeeper.judging.annotations import may_have_field
from tracekeeper.types import MetricError

SPANS = (SpanView(name="ask", kind="chain", span_id="01"), SpanView(name="find", kind="retriever"))


def view(**changes: Any) -> RecordView:
    fields: dict[str, Any] = {
        "input": {"q": "why?", "k": 3},
        "output": {"answer": "so", "sources": ["a"]},
        "context": ["a", "b"],
        "expected": "because",
        "item": {"category": "x", "answer": "the reference", "output": "a column"},
        "spans": SPANS,
    }
    return RecordView(**(fields | changes))


def got(function: Callable[..., Any], record: RecordView) -> Any:
    return metric(function).bind(record)()


def reason(function: Callable[..., Any], record: RecordView) -> str:
    with pytest.raises(CannotBind) as error:
        metric(function).bind(record)
    return error.value.reason


class TestNames:
    def test_the_input_fields(self) -> None:
        assert got(lambda q, k: (q, k), view()) == ("why?", 3)

    def test_input_is_the_mapping_of_several_arguments(self) -> None:
        assert got(lambda input: input, view()) == {"q": "why?", "k": 3}

    @pytest.mark.parametrize(
        "function", [lambda input: input, lambda question: question, lambda query: query, lambda prompt: prompt]
    )
    def test_input_is_the_sole_argument(self, function: Callable[..., Any]) -> None:
        assert got(function, view(input={"q": "why?"})) == "why?"

    def test_the_keys_of_a_sole_mapping_are_fields(self) -> None:
        assert got(lambda question, tier: (question, tier), view(input={"row": {"question": "why?", "tier": 1}})) == (
            "why?",
            1,
        )

    def test_output_is_the_whole_and_its_fields_come_by_name(self) -> None:
        assert got(lambda output, sources: (output, sources), view()) == ({"answer": "so", "sources": ["a"]}, ["a"])

    def test_answer_is_the_outputs_field_then_the_output_and_never_the_datasets_column(self) -> None:
        assert got(lambda answer: answer, view()) == "so"
        assert got(lambda answer: answer, view(output="plain")) == "plain"
        assert got(lambda response: response, view(output="plain")) == "plain"
        assert "no output" in reason(lambda answer: answer, view(output=None, error="ValueError: x"))
        assert "no output" in reason(lambda output: output, view(output=None, error="ValueError: x"))

    def test_expected_and_reference_and_the_items_fields(self) -> None:
        assert got(lambda expected, reference, category: (expected, reference, category), view()) == (
            "because",
            "because",
            "x",
        )
        assert got(lambda expected: expected, view(expected=None, item={"expected": 1})) == 1

    def test_context_and_contexts(self) -> None:
        assert got(lambda context, contexts: (context, contexts), view()) == (["a", "b"], ["a", "b"])
        assert got(lambda context: context, view(context=None, item={"context": ["c"]})) == ["c"]
        assert got(lambda context: context, view(context=[])) == []

    def test_record_trace_and_item(self) -> None:
        record = view()
        assert got(lambda record, trace, item: (record, trace, item), record) == (record, SPANS, record.item)

    def test_an_input_field_comes_before_everything(self) -> None:
        assert got(lambda context, output: (context, output), view(input={"context": 1, "output": 2})) == (1, 2)

    def test_a_logged_text_is_the_input(self) -> None:
        assert got(lambda question: question, view(input="why?")) == "why?"


class TestSignatures:
    def test_a_default_is_optional_and_kept(self) -> None:
        assert got(lambda output, threshold=0.5: threshold, view()) == 0.5
        assert got(lambda output, k=9: k, view()) == 3

    def test_a_default_does_not_hide_a_truncated_field(self) -> None:
        assert reason(lambda expected=None: expected, view(cut={"expected"})).startswith("input truncated")

    def test_kwargs_get_nothing(self) -> None:
        assert got(lambda output, **ignored: ignored, view()) == {}

    def test_bare_args_get_the_whole_input(self) -> None:
        assert got(lambda *args: args, view(input={"q": "why?"})) == ("why?",)
        assert got(lambda *args: args, view()) == ({"q": "why?", "k": 3},)
        assert got(lambda *args, output: (args, output), view(output="x")) == (({"q": "why?", "k": 3},), "x")

    def test_a_wrapper_that_names_nothing_gets_what_the_function_in_it_wants(self) -> None:
        def judge(output: str, expected: str) -> tuple[str, str]:
            return output, expected

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return judge(*args, **kwargs)

        assert got(metric(wrapper), view(output="x", expected="y")) == ("x", "y")

    def test_args_beside_named_parameters_get_nothing(self) -> None:
        assert got(lambda output, *rest: rest, view()) == ()

    def test_positional_only_and_keyword_only(self) -> None:
        def both(q: str, /, *, expected: str) -> tuple[str, str]:
            return q, expected

        assert got(both, view()) == ("why?", "because")

    def test_what_a_partial_fixes_is_not_bound_from_the_record(self) -> None:
        assert got(partial(lambda output, k: k, k=7), view()) == 7

    def test_no_parameters(self) -> None:
        assert got(lambda: 1, view()) == 1


class TestCannotBind:
    def test_no_expected_output(self) -> None:
        assert reason(lambda expected: 1, view(expected=None)) == "no expected output"

    def test_no_context(self) -> None:
        assert "no context" in reason(lambda context: 1, view(context=None, item={}, output="x"))

    @pytest.mark.parametrize("name", ["input", "output", "context", "expected"])
    def test_a_field_that_was_cut(self, name: str) -> None:
        functions: dict[str, Callable[..., Any]] = {
            "input": lambda question: question,
            "output": lambda output: output,
            "context": lambda context: context,
            "expected": lambda expected: expected,
        }
        record = view(input={"q": "why?"}, cut={name})
        assert reason(functions[name], record).startswith("input truncated")
        assert metric(functions[name], accept_cut=True).bind(record)() is not None

    def test_a_field_of_an_input_that_was_cut(self) -> None:
        assert reason(lambda q: q, view(cut={"input"})).startswith("input truncated")
        assert reason(lambda gone: 1, view(cut={"input"})).startswith("input truncated")

    def test_what_was_not_captured(self) -> None:
        assert "was not captured" in reason(lambda question: 1, view(input=None, missing={"input"}))
        assert "was not captured" in reason(lambda city: 1, view(input=None, missing={"input"}))
        assert "was not captured" in reason(lambda answer: 1, view(output=None, missing={"output"}))

    def test_an_unknown_name_says_what_there_is_and_warns_once(self, caplog: pytest.LogCaptureFixture) -> None:
        made = metric(lambda sorces: 1)
        with caplog.at_level(logging.WARNING, "tracekeeper"):
            for _ in range(3):
                with pytest.raises(CannotBind, match="did you mean 'sources'"):
                    made.bind(view())
        assert len(caplog.records) == 1

    def test_an_output_of_none_is_an_output(self) -> None:
        assert got(lambda output: output, view(output=None)) is None


class Answer(TypedDict):
    answer: str


@dataclass
class Reply:
    text: str


class TestCheck:
    def test_a_name_that_nothing_provides(self) -> None:
        def relevance(question: str, documnets: list[str]) -> int:
            return 1

        with pytest.raises(MetricError) as error:
            metric(relevance).check({"question", "documents"}, str)
        assert "did you mean 'documents'" in str(error.value)
        assert "available: documents, question, input, output" in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_name_that_only_an_output_field_could_provide(self) -> None:
        made = metric(lambda sources: 1)
        made.check({"q"}, None)
        made.check({"q"}, dict)
        made.check({"q"}, Any)
        for annotation in (str, type(None), list[dict[str, int]], Answer, Reply, "str", str | None):
            with pytest.raises(MetricError, match="nothing provides its argument 'sources'"):
                made.check({"q"}, annotation)

    def test_what_is_always_there_and_what_is_optional(self) -> None:
        metric(lambda input, answer, reference, contexts, record, trace, item, query: 1).check(set(), str)
        metric(lambda output, threshold=1, **rest: 1).check({"q"}, str)
        metric(lambda *args: 1).check({"q"}, str)

    def test_a_selector_provides(self) -> None:
        from tracekeeper.judging import select

        metric(lambda documents: 1).on(documents=select.context()).check({"q"}, str)

    def test_nothing_is_refused_when_nothing_is_known(self) -> None:
        metric(lambda anything: 1).check(None, str)


@pytest.mark.parametrize(
    ("annotation", "possible"),
    [
        (None, True),
        (Any, True),
        (dict, True),
        (dict[str, int], True),
        (Answer, True),
        (Reply, False),
        (str, False),
        (int | None, False),
        (int | dict[str, int], True),
        (Literal["a", "b"], False),
        (AsyncIterator[str], False),
        (AsyncIterator[dict[str, str]], True),
        ("str", False),
        ("str | None", False),
        ("SomethingElse", True),
        ("list[str]", False),
        (object, True),
    ],
)
def test_whether_an_output_of_this_type_can_have_a_field(annotation: Any, possible: bool) -> None:
    assert may_have_field(annotation, "answer") is possible


def test_the_return_annotation_of_any_callable() -> None:
    class Chain:
        def __call__(self, question: str) -> str:
            return question

    async def stream() -> AsyncIterator[str]:
        yield ""

    assert return_annotation(Chain()) is str
    assert return_annotation(Chain().__call__) is str
    assert return_annotation(partial(Chain())) is str
    assert return_annotation(stream) == AsyncIterator[str]
    assert return_annotation(lambda: 1) is None


class TestTasks:
    def test_fields_by_name_and_never_the_expected_output(self) -> None:
        assert bind_task(lambda question: question, {"question": "why?", "expected": "so"})() == "why?"
        assert bind_task(lambda row: row, {"question": "why?", "k": 1, "expected": "so"})() == {
            "question": "why?",
            "k": 1,
        }
        assert bind_task(lambda x: x, {"question": "why?", "expected": "so"})() == "why?"
        assert bind_task(lambda *args: args, {"question": "why?", "expected": "so"})() == ("why?",)

    def test_keywords_get_the_fields_that_no_parameter_took(self) -> None:
        item = {"question": "why?", "k": 3, "expected": "so"}
        assert bind_task(lambda **rest: rest, item)() == {"question": "why?", "k": 3}
        assert bind_task(lambda question, **rest: (question, rest), item)() == ("why?", {"k": 3})
        assert bind_task(lambda question, *more, **rest: (question, more, rest), item)() == ("why?", (), {"k": 3})
        assert bind_task(partial(lambda **rest: rest, k=0), item)() == {"question": "why?", "k": 0}

    @pytest.mark.parametrize(
        ("function", "got"),
        [
            (lambda question, k: (question, k), ("why?", 3)),
            (lambda k, /, question: (question, k), ("why?", 3)),
            (lambda row: row, {"question": "why?", "k": 3}),
            (lambda question, expected: (question, expected), ("why?", "so")),
            (lambda *args, **kwargs: (args, kwargs), ((), {"question": "why?", "k": 3})),
        ],
        ids=["fields", "by position", "whole", "expected", "a wrapper itself"],
    )
    def test_a_wrapper_that_names_nothing_gets_what_the_function_in_it_gets(self, function: Any, got: Any) -> None:
        item = {"question": "why?", "k": 3, "expected": "so"}

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        def around(*args: Any, **kwargs: Any) -> Any:
            return wrapper(*args, **kwargs)

        assert bind_task(wrapper, item)() == got
        assert bind_task(around, item)() == got

    def test_a_wrapper_is_not_misled_by_another_function_it_uses(self) -> None:
        def log(level: int, message: str) -> None: ...

        def task(*args: Any, **kwargs: Any) -> Any:
            log(1, "called")
            return args, kwargs

        assert bind_task(task, {"question": "why?", "expected": "so"})() == (("why?",), {})
        assert bind_task(task, {"question": "why?", "k": 3})() == ((), {"question": "why?", "k": 3})

    def test_functions_that_close_over_each_other_end(self) -> None:
        def one(*args: Any, **kwargs: Any) -> Any:
            return args or kwargs or other()

        def other(*args: Any, **kwargs: Any) -> Any:
            return args or kwargs or one()

        assert bind_task(one, {"question": "why?"})() == ("why?",)

    def test_expected_only_when_asked_for(self) -> None:
        assert bind_task(lambda question, expected: expected, {"question": "why?", "expected": "so"})() == "so"

    def test_a_task_cannot_change_the_dataset(self) -> None:
        item = {"messages": ["a"], "k": 1}
        bind_task(lambda messages: messages.append("b"), item)()
        assert item["messages"] == ["a"]

    def test_what_cannot_be_passed(self) -> None:
        with pytest.raises(CannotBind, match="did you mean 'question'"):
            bind_task(lambda k, questoin: 1, {"question": "why?", "k": 1})
        with pytest.raises(MetricError, match="is no field"):
            check_task(lambda a, b: 1, ["question"])

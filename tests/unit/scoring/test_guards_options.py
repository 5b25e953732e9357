"""What can never work is said when a callable is decorated, in one sentence."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pytest

import tracekeeper as tk

pytestmark = pytest.mark.usefixtures("keeper")


def good(input: str) -> bool:
    return True


def number(output: str) -> float:
    return 1.0


def label(output: str) -> Literal["safe", "unsafe"]:
    return "safe"


def ask(question: str, k: int = 3) -> str:
    return "mild"


@pytest.mark.parametrize(
    ("kind", "metrics", "options", "said"),
    [
        ("input", [good], {}, "@tk.guard.input: say on_failure='block' or on_failure='allow': what happens when a "),
        ("input", [], {}, "say on_failure="),
        ("input", [good], {"on_failure": "raise"}, "on_failure='raise': expected 'block' or 'allow'"),
        ("input", [good], {"on_failure": True}, "on_failure=True: expected 'block' or 'allow'"),
        ("input", [], {"on_failure": "block"}, "no metric is given; pass at least one"),
        ("input", [good], {"on_failure": "block", "treshold": 1}, "no option 'treshold'; did you mean threshold=?"),
        ("input", [good], {"on_failure": "block", "colour": 1}, "no option 'colour'; known: threshold, allow, "),
        ("context", [good], {"on_failure": "block", "on_block": 1}, "on_block= has no meaning here"),
        ("output", [number], {"on_failure": "block"}, "metric 'number' returns a number; say threshold="),
        ("output", [number], {"on_failure": "block", "threshold": "0.5"}, "expected a finite number; for labels say"),
        ("output", [number], {"on_failure": "block", "threshold": True}, "threshold=True: expected a finite number"),
        ("output", [number], {"on_failure": "block", "threshold": float("nan")}, "expected a finite number"),
        ("output", [number], {"on_failure": "block", "threshold": {"numbr": 1}}, "did you mean 'number'?"),
        ("output", [number], {"on_failure": "block", "threshold": {"number": "1"}}, "{'number': '1'}: expected a fin"),
        ("output", [label], {"on_failure": "block"}, "metric 'label' returns a label; say allow={…}"),
        ("output", [label], {"on_failure": "block", "threshold": 1}, "a threshold compares numbers, so say allow={…}"),
        (
            "output",
            [label],
            {"on_failure": "block", "allow": "safe"},
            "expected the labels that pass, such as {'s",
        ),
        ("output", [label], {"on_failure": "block", "allow": []}, "expected at least one label, each a text"),
        ("output", [label], {"on_failure": "block", "allow": [1]}, "expected at least one label, each a text"),
        ("input", [good], {"on_failure": "block", "timeout": 0}, "timeout=0: expected a positive number of seconds"),
        ("input", [good], {"on_failure": "block", "timeout": "5"}, "timeout='5': expected a positive number"),
        ("input", [good], {"on_failure": "block", "name": ""}, "name='': expected the guard's name as text"),
        ("input", [good, good], {"on_failure": "block"}, "two metrics are named 'good'"),
        ("input", [3], {"on_failure": "block"}, "not callable"),
    ],
)
def test_bad_options_are_refused_at_once(kind: str, metrics: list[Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(tk.TracekeeperError) as caught:
        getattr(tk.guard, kind)(*metrics, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith((f"@tk.guard.{kind}", "metric("))


@pytest.mark.parametrize(
    ("kind", "metric", "said"),
    [
        ("input", number, "metric 'number' needs 'output', and an input guard runs before there is one: take it from "),
        ("input", lambda answer: True, "metric 'lambda' needs 'answer', and an input guard runs before there is one"),
        ("input", lambda context: True, "nothing is retrieved before the call"),
        ("input", lambda expected: True, "a guarded call has no expected output"),
        ("output", lambda reference: True, "a guarded call has no expected output"),
        ("output", lambda item: True, "a guarded call is of no dataset"),
        ("output", lambda trace: True, "a guard decides before the call's spans are complete"),
        ("input", lambda questoin: True, "nothing provides its argument 'questoin'; did you mean 'question'?"),
        ("output", lambda sources: True, "nothing provides its argument 'sources'"),
        ("context", lambda documnt: True, None),
    ],
)
def test_a_metric_that_can_never_be_computed_is_refused(kind: str, metric: Any, said: str | None) -> None:
    def decorate() -> Any:
        return getattr(tk.guard, kind)(metric, threshold=0, on_failure="block")(ask)

    if said is None:  # a document may be a mapping that has the field
        decorate()
        return
    with pytest.raises(tk.MetricError) as caught:
        decorate()
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"@tk.guard.{kind} on ask: ")


def test_selectors_are_checked_too_and_serve() -> None:
    contains = tk.metric(lambda output: "?" in output, name="contains")
    of_input = contains.on(output=tk.select.input("question"))
    assert tk.guard.input(of_input, on_failure="block")(ask)("why?") == "mild"
    with pytest.raises(tk.MetricError, match="needs 'output', and a guard decides before the call's spans"):
        tk.guard.output(contains.on(output=tk.select.spans(kind="llm")), on_failure="block")(ask)
    with pytest.raises(tk.MetricError, match="needs 'output', and an input guard runs before there is one"):
        tk.guard.input(contains.on(output=tk.select.output()), on_failure="block")(ask)


def test_an_optional_argument_is_not_needed() -> None:
    def judge(input: str, output: str = "none") -> bool:
        return output == "none"

    assert tk.guard.input(judge, on_failure="block")(ask)("?") == "mild"


@pytest.mark.parametrize("kind", ["output", "context"])
def test_a_generator_cannot_have_its_output_judged(kind: str) -> None:
    def stream(question: str) -> Iterator[str]:
        yield "mild"

    async def astream(question: str) -> AsyncIterator[str]:
        yield "mild"

    class Streams:
        def __call__(self, question: str) -> Iterator[str]:
            yield "mild"

    for target in (stream, astream, functools.partial(stream), Streams(), tk.trace(stream), tk.app(astream)):
        with pytest.raises(tk.ConfigurationError, match="is a generator, whose text would have left before it was"):
            getattr(tk.guard, kind)(number, threshold=1, on_failure="block")(target)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (int, "int is a class; decorate the method"),
        ("ask", "decorates a function, not str: 'ask'"),
        (None, "decorates a function, not NoneType"),
    ],
)
def test_what_is_no_function_is_refused(target: Any, said: str) -> None:
    with pytest.raises(tk.ConfigurationError) as caught:
        tk.guard.input(good, on_failure="block")(target)
    assert said in str(caught.value)


def test_an_async_on_block_needs_an_async_callable() -> None:
    async def instead(blocked: tk.Blocked) -> str:
        return "no"

    with pytest.raises(tk.ConfigurationError, match="on_block is async, and the function is not"):
        tk.guard.input(good, on_failure="block", on_block=instead)(ask)


def test_a_guard_without_arguments_says_what_it_needs() -> None:
    with pytest.raises(tk.ConfigurationError, match="say on_failure='block' or on_failure='allow'"):
        tk.guard.input(ask)


def test_an_unknown_kind_of_guard_names_the_three() -> None:
    with pytest.raises(AttributeError, match=r"use tk\.guard\.input, tk\.guard\.output or tk\.guard\.context"):
        tk.guard.outputs  # noqa: B018

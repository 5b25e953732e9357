"""Making a metric: every shape of callable, every option checked, nothing changed afterwards."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tracekeeper.concurrency.pauses import back_off
from tracekeeper.judging import Metric, as_metrics, metric, select
from tracekeeper.types import MetricError, MetricMode, ScoreSource


def cites_source(output: str, context: list[str]) -> bool:
    """Whether a document is named."""
    return any(document in output for document in context)


class Judge:
    def __init__(self, low: int) -> None:
        self.low = low

    def __call__(self, output: str) -> bool:
        return len(output) > self.low

    def method(self, output: str) -> int:
        return len(output)


async def slow(output: str) -> int:
    return len(output)


class TestShapes:
    def test_as_a_function(self) -> None:
        made = metric(cites_source, timeout=5, retries=1)
        assert isinstance(made, Metric)
        assert (made.name, made.names, made.timeout, made.retries) == ("cites_source", ("cites_source",), 5.0, 1)

    def test_as_a_bare_decorator_it_stays_callable_and_keeps_its_signature(self) -> None:
        @metric
        def short(output: str, limit: int = 3) -> bool:
            """Doc."""
            return len(output) < limit

        assert short("ab")
        assert not short("abc", limit=2)
        assert short.__doc__ == "Doc."
        assert list(inspect.signature(short).parameters) == ["output", "limit"]

    def test_as_a_decorator_with_options(self) -> None:
        @metric(timeout=5, name="brief")
        def short(output: str) -> bool:
            return len(output) < 3

        assert (short.name, short.timeout) == ("brief", 5.0)

    @pytest.mark.parametrize(
        ("function", "name"),
        [
            (Judge(2), "judge"),
            (Judge(2).method, "method"),
            (partial(cites_source, context=["a"]), "cites_source"),
            (partial(Judge(2), "abc"), "judge"),
            (lambda output: 1, "lambda"),
            (slow, "slow"),
        ],
    )
    def test_any_callable(self, function: Any, name: str) -> None:
        assert metric(function).name == name

    def test_an_async_function_gives_its_coroutine(self) -> None:
        assert asyncio.run(metric(slow)("abc")) == 3

    def test_a_decorated_method_is_a_method(self) -> None:
        class Suite:
            limit = 3

            @metric
            def short(self, output: str) -> bool:
                return len(output) < self.limit

        bound = Suite().short
        assert bound("ab")
        assert bound._wanted.names == ("output",)
        assert Suite.short is Suite.__dict__["short"]

    def test_a_metric_of_a_metric_is_a_copy_with_the_options(self) -> None:
        first = metric(cites_source)
        assert metric(first) is first
        assert metric(first, timeout=7).timeout == 7
        assert first.timeout == 60

    def test_names_make_one_score_name_each(self) -> None:
        assert metric(cites_source, name="m", names=["a", "b"]).names == ("m.a", "m.b")

    def test_defaults(self) -> None:
        made = metric(cites_source)
        assert (made.mode, made.source, made.sample, made.direction, made.range) == (
            MetricMode.BACKGROUND,
            ScoreSource.CODE,
            1.0,
            None,
            None,
        )


class TestChecks:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"timeout": -1}, "timeout=-1: expected a positive number of seconds"),
            ({"timeout": 0}, "positive"),
            ({"timeout": float("nan")}, "positive"),
            ({"timeout": float("inf")}, "positive"),
            ({"timeout": True}, "positive"),
            ({"timeout": "5"}, "positive"),
            ({"timeout": 10**400}, "positive"),
            ({"retries": -1}, "whole number"),
            ({"retries": True}, "whole number"),
            ({"retries": 1.0}, "whole number"),
            ({"retries": 10**9}, "0 to 100"),
            ({"sample": 1.5}, "between 0 and 1"),
            ({"sample": float("nan")}, "between 0 and 1"),
            ({"mode": "backround"}, "did you mean 'background'"),
            ({"mode": None}, "expected one of"),
            ({"source": "machine"}, "code, llm, human"),
            ({"direction": "maximise"}, "did you mean 'maximize'"),
            ({"range": (1, 0)}, "low < high"),
            ({"range": (0, float("nan"))}, "low < high"),
            ({"range": 1}, "low < high"),
            ({"names": []}, "at least one"),
            ({"names": ["a", "a"]}, "'a' is given twice"),
            ({"names": "ab"}, "list of names"),
            ({"names": ["a", ""]}, "expected a name"),
            ({"name": ""}, "expected a name"),
            ({"name": "a\nb"}, "printable"),
            ({"name": "\ud800"}, "printable"),
            ({"version": ""}, "expected a name"),
            ({"needs_live": 1}, "True or False"),
            ({"requires": "x"}, "list of names"),
            ({"timeot": 5}, "unknown option 'timeot'; did you mean timeout=?"),
        ],
    )
    def test_an_option_that_cannot_work(self, options: dict[str, Any], says: str) -> None:
        with pytest.raises(MetricError) as error:
            metric(cites_source, **options)
        assert says in str(error.value)
        assert "\n" not in str(error.value)
        with pytest.raises(MetricError):
            metric(cites_source).replace(**options)

    def test_the_result_of_calling_it(self) -> None:
        with pytest.raises(MetricError, match="not the result of calling it"):
            metric(cites_source("a", ["a"]))  # type: ignore[arg-type]

    def test_the_coroutine_of_calling_it_does_not_warn_on_top(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(MetricError, match="not the result of calling it"):
                metric(slow("a"))  # type: ignore[arg-type]

    def test_a_class(self) -> None:
        with pytest.raises(MetricError, match="pass an instance"):
            metric(Judge)

    def test_a_generator(self) -> None:
        def yields(output: str) -> Any:
            yield 1

        with pytest.raises(MetricError, match="return the value"):
            metric(yields)

    def test_a_function_without_a_signature(self) -> None:
        with pytest.raises(MetricError, match="wrap it"):
            metric(max)

    def test_on_an_unknown_parameter(self) -> None:
        with pytest.raises(MetricError, match="did you mean 'context'"):
            metric(cites_source).on(contex=select.context())

    def test_on_something_that_is_no_selector(self) -> None:
        with pytest.raises(MetricError, match=r"functools\.partial"):
            metric(cites_source).on(context=["a"])  # type: ignore[arg-type]

    def test_two_metrics_of_one_name(self) -> None:
        with pytest.raises(MetricError, match="two metrics are named 'cites_source'"):
            as_metrics([cites_source, metric(cites_source, timeout=3)], where="app 'a'")
        assert len(as_metrics([cites_source, metric(cites_source, name="other")])) == 2

    def test_a_string_instead_of_a_list(self) -> None:
        with pytest.raises(MetricError, match="expected a list"):
            as_metrics("exact_match")


class TestImmutability:
    def test_attributes_cannot_be_set_or_deleted(self) -> None:
        made = metric(cites_source)
        with pytest.raises(AttributeError, match=r"replace\(timeout=…\)"):
            made.timeout = 5  # type: ignore[misc]
        with pytest.raises(AttributeError):
            del made.timeout

    def test_selectors_and_parameters_cannot_be_changed(self) -> None:
        made = metric(cites_source).on(context=select.context())
        with pytest.raises(TypeError):
            made.selectors["output"] = select.output()  # type: ignore[index]

    def test_replace_and_on_keep_the_rest(self) -> None:
        made = metric(cites_source, timeout=5).on(context=select.context())
        changed = made.replace(retries=2)
        assert changed.timeout == 5
        assert dict(changed.selectors) == {"context": select.context()}
        assert made.retries == 0

    def test_repr_says_what_is_not_default(self) -> None:
        made = metric(cites_source, timeout=5, mode="inline").on(context=select.context())
        assert repr(made) == "Metric('cites_source', mode='inline', timeout=5.0, context=select.context())"


@dataclass(frozen=True)
class AtLeast:
    low: int = 3

    def __call__(self, output: str) -> bool:
        return len(output) >= self.low


def test_pickled_and_back() -> None:
    made = metric(AtLeast(4), timeout=5).on(output=select.output("text"))
    back = pickle.loads(pickle.dumps(made))
    assert (back.timeout, back.version, dict(back.selectors)) == (5, made.version, dict(made.selectors))
    assert back("abcd")
    assert not back("abc")


def test_allowance_is_every_attempt_and_every_pause() -> None:
    assert metric(cites_source, timeout=5).allowance == 5
    assert metric(cites_source, timeout=5, retries=2).allowance == 15 + back_off(1) + back_off(2)
    assert back_off(1) == 0.25
    assert back_off(100) == 8


def test_spans_are_needed_only_when_something_looks_at_them() -> None:
    assert not metric(cites_source).needs_spans
    assert metric(lambda trace: 1).needs_spans
    assert metric(lambda record: 1).needs_spans
    assert metric(cites_source).on(context=select.spans(kind="retriever")).needs_spans
    assert not metric(lambda record: 1).on(record=select.input()).needs_spans

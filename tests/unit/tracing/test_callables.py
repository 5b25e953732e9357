"""Every kind of callable is traced, once, under its name, with its arguments by name."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest
from tests.support import garbage
from tests.support.fake_keeper import FakeKeeper

from tracekeeper.tracing import current_span, trace
from tracekeeper.tracing.arguments import binder
from tracekeeper.types import ConfigurationError


def test_a_function(kept: FakeKeeper) -> None:
    @trace
    def ask(question: str, k: int = 3) -> str:
        return question.upper()

    assert ask("why?") == "WHY?"
    assert kept.start().name == "ask"
    assert kept.start().kind == "task"
    assert (kept.input(), kept.output()) == ({"question": "why?"}, "WHY?")
    assert kept.statuses == ["ok"]


def test_an_async_function(kept: FakeKeeper) -> None:
    @trace(kind="llm", name="answer")
    async def ask(question: str) -> str:
        await asyncio.sleep(0)
        return question.upper()

    assert asyncio.run(ask("why?")) == "WHY?"
    assert (kept.start().name, kept.start().kind) == ("answer", "llm")
    assert (kept.input(), kept.output()) == ({"question": "why?"}, "WHY?")


class Rag:
    def __init__(self, word: str) -> None:
        self.word = word

    @trace
    def ask(self, question: str) -> str:
        return f"{self.word} {question}"

    @classmethod
    @trace
    def inner_class(cls, question: str) -> str:
        return f"{cls.__name__} {question}"

    @trace
    @classmethod
    def outer_class(cls, question: str) -> str:
        return f"{cls.__name__} {question}"

    @staticmethod
    @trace
    def inner_static(question: str) -> str:
        return question

    @trace
    @staticmethod
    def outer_static(question: str) -> str:
        return question

    @trace
    def stream(self, question: str) -> Iterator[str]:
        yield self.word
        yield question

    @trace
    async def astream(self, question: str) -> AsyncIterator[str]:
        yield self.word
        yield question


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ask", "so why?"),
        ("inner_class", "Rag why?"),
        ("outer_class", "Rag why?"),
        ("inner_static", "why?"),
        ("outer_static", "why?"),
    ],
)
def test_methods_of_every_kind(kept: FakeKeeper, name: str, expected: str) -> None:
    assert getattr(Rag("so"), name)("why?") == expected
    assert kept.start().name == f"Rag.{name}"
    assert kept.input() == {"question": "why?"}
    if name != "ask":
        assert getattr(Rag, name)("why?") == expected


def test_generator_methods_bind(kept: FakeKeeper) -> None:
    rag = Rag("so")
    assert list(rag.stream("why")) == ["so", "why"]
    assert list(Rag.stream(rag, "why")) == ["so", "why"]
    assert inspect.isgeneratorfunction(rag.stream)
    assert inspect.isasyncgenfunction(rag.astream)
    assert inspect.ismethod(rag.stream)
    assert [kept.starts[0].name, kept.starts[0].input] == ["Rag.stream", b'{"question":"why"}']
    assert [end.output for end in kept.ends] == [b'"sowhy"', b'"sowhy"']


def test_a_bound_method(kept: FakeKeeper) -> None:
    class Plain:
        def ask(self, question: str) -> str:
            return question

    assert trace(Plain().ask)("why?") == "why?"
    assert kept.input() == {"question": "why?"}


def test_a_class_is_kept_and_its_public_methods_are_traced(kept: FakeKeeper) -> None:
    @trace(kind="chain")
    class Chain:
        size = 3

        def __init__(self) -> None:
            self.calls = 0

        def ask(self, question: str) -> str:
            return self._private(question)

        def _private(self, question: str) -> str:
            return question

        @staticmethod
        def helper() -> int:
            return 1

        @property
        def two(self) -> int:
            return 2

        def __call__(self, question: str) -> str:
            return question

    assert inspect.isclass(Chain)
    chain = Chain()
    assert isinstance(chain, Chain)
    assert (chain.ask("a"), chain.helper(), chain.two, chain("b"), Chain.size) == ("a", 1, 2, "b", 3)
    assert [start.name for start in kept.starts] == ["Chain.ask", "Chain.helper", "Chain.__call__"]
    assert {start.kind for start in kept.starts} == {"chain"}


def test_callable_objects_keep_their_attributes(kept: FakeKeeper) -> None:
    class Model:
        temperature = 0.5

        def __call__(self, prompt: str) -> str:
            return prompt

    model = Model()
    traced = trace(model)
    assert traced("hi") == "hi"
    assert traced.temperature == 0.5
    assert kept.start().name.endswith("Model")
    assert kept.input() == {"prompt": "hi"}


def test_async_callable_objects(kept: FakeKeeper) -> None:
    class Model:
        async def __call__(self, prompt: str) -> str:
            await asyncio.sleep(0)
            return prompt

    traced = trace(Model())
    assert inspect.iscoroutinefunction(traced) == inspect.iscoroutinefunction(Model())
    assert asyncio.run(traced("hi")) == "hi"
    assert (kept.input(), kept.output(), kept.statuses) == ({"prompt": "hi"}, "hi", ["ok"])


def test_cached_functions_keep_their_cache(kept: FakeKeeper) -> None:
    @trace
    @functools.lru_cache
    def double(n: int) -> int:
        return 2 * n

    assert (double(2), double(2)) == (4, 4)
    assert double.cache_info().hits == 1
    assert len(kept.ends) == 2


def test_partials_show_the_arguments_they_hold(kept: FakeKeeper) -> None:
    def ask(model: str, question: str, *, tone: str) -> str:
        return f"{model} {question} {tone}"

    traced = trace(functools.partial(ask, "m", tone="dry"))
    assert traced("why") == "m why dry"
    assert kept.start().name == "ask"
    assert kept.input() == {"model": "m", "question": "why", "tone": "dry"}


def test_partials_of_async_and_generator_functions(kept: FakeKeeper) -> None:
    async def ask(a: int, b: int) -> int:
        return a + b

    def count(a: int, b: int) -> Iterator[int]:
        yield from range(a, b)

    assert inspect.iscoroutinefunction(trace(functools.partial(ask, 1)))
    assert asyncio.run(trace(functools.partial(ask, 1))(2)) == 3
    assert inspect.isgeneratorfunction(trace(functools.partial(count, 1)))
    assert list(trace(functools.partial(count, 1))(3)) == [1, 2]
    assert [end.output for end in kept.ends] == [b"3", b"[1,2]"]


def test_builtins(kept: FakeKeeper) -> None:
    assert trace(len)([1, 2]) == 2
    assert trace(operator.itemgetter(0))("ab") == "a"
    assert trace(print)("x", end="") is None
    assert [start.name for start in kept.starts] == ["len", "itemgetter", "print"]
    assert kept.input("len") == {"obj": [1, 2]}


def test_recursion_nests(kept: FakeKeeper) -> None:
    @trace
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    assert factorial(5) == 120
    assert len(kept.starts) == 6
    parents = {start.span_id: start.parent_id for start in kept.starts}
    assert [start.parent_id for start in kept.starts] == [None, *[start.span_id for start in kept.starts[:-1]]]
    assert len(parents) == 6
    assert {start.record_id for start in kept.starts} == {kept.starts[0].span_id}


@pytest.mark.slow
def test_recursion_up_to_the_stacks_end_is_survived(kept: FakeKeeper) -> None:
    from tracekeeper.tracing import trouble

    @trace
    def forever() -> None:
        forever()

    with pytest.raises(RecursionError):
        forever()
    trouble.forget()  # tracing ran out of stack too, and said so
    assert current_span().is_recording() is False
    assert set(kept.statuses) <= {"error", "interrupted"}


def test_tracing_twice_makes_one_span(kept: FakeKeeper) -> None:
    def ask(question: str) -> str:
        return question

    once = trace(ask)
    assert trace(once) is once
    twice = trace(kind="tool")(trace(name="inner")(ask))
    assert twice("why") == "why"
    assert (kept.start().name, kept.start().kind) == ("inner", "tool")


def test_a_wrapper_that_copied_the_mark_is_traced_as_well(kept: FakeKeeper) -> None:
    @trace
    def ask() -> str:
        return "a"

    @trace
    @functools.wraps(ask)
    def louder() -> str:
        return ask().upper()

    assert louder() == "A"
    assert len(kept.starts) == 2


def test_what_cannot_be_called_is_refused_when_it_is_decorated() -> None:
    with pytest.raises(ConfigurationError, match="trace needs something that can be called, not int"):
        trace(3)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="did you mean 'retriever'"):
        trace(kind="retreiver")


# Results that are not there yet.


def wait_for(make: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await make()

    return asyncio.run(main())


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    assert current_span().is_recording() or value == "free"
    return value


class Custom:
    """An awaitable of a class of its own."""

    request_id = "r-1"

    def __await__(self) -> Generator[Any, Any, str]:
        return (yield from later("late").__await__())


@pytest.mark.parametrize(
    "make",
    [
        lambda value: later(value),
        lambda value: asyncio.ensure_future(later(value)),
        lambda value: asyncio.get_running_loop().create_task(later(value)),
        lambda value: Custom(),
    ],
    ids=["coroutine", "future", "task", "awaitable"],
)
def test_the_span_ends_when_the_awaitable_ends(kept: FakeKeeper, make: Callable[[str], Awaitable[str]]) -> None:
    traced = trace(make)

    async def main() -> None:
        awaitable = traced("late")
        assert inspect.isawaitable(awaitable)
        assert kept.ends == []
        assert not current_span().is_recording()
        assert await awaitable == "late"
        await asyncio.sleep(0)

    asyncio.run(main())
    assert (kept.statuses, kept.output()) == (["ok"], "late")


def test_a_future_stays_the_very_future(kept: FakeKeeper) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        assert trace(lambda: future)() is future
        future.set_result("late")
        assert await future == "late"
        await asyncio.sleep(0)

    asyncio.run(main())
    assert (kept.statuses, kept.output()) == (["ok"], "late")


def test_an_awaitable_keeps_its_class_and_attributes(kept: FakeKeeper) -> None:
    async def main() -> None:
        made = trace(lambda: Custom())()
        assert isinstance(made, Custom)
        assert made.request_id == "r-1"
        await made

    asyncio.run(main())
    assert kept.statuses == ["ok"]


async def breaks() -> None:
    await asyncio.sleep(0)
    raise ValueError("late")


@pytest.mark.parametrize("make", [breaks, lambda: asyncio.ensure_future(breaks())], ids=["coroutine", "task"])
def test_an_awaitable_that_raises_ends_with_its_error(kept: FakeKeeper, make: Callable[[], Awaitable[None]]) -> None:
    traced = trace(lambda: make())

    async def main() -> None:
        with pytest.raises(ValueError, match="late"):
            await traced()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert kept.statuses == ["error"]
    error = kept.end().error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "late")
    assert "in breaks" in error.traceback


@pytest.mark.parametrize("task", [False, True])
def test_an_awaitable_that_is_cancelled_ends_as_cancelled(kept: FakeKeeper, task: bool) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    traced = trace(lambda: asyncio.ensure_future(forever()) if task else forever())

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(traced(), 0.01)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert kept.statuses == ["cancelled"]


@pytest.mark.slow
def test_a_coroutine_that_is_never_awaited_is_abandoned_and_python_says_so_once(kept: FakeKeeper) -> None:
    traced = trace(lambda: later("free"))
    with pytest.warns(RuntimeWarning, match="coroutine 'later' was never awaited") as warned:
        traced()
    assert len(warned) == 1
    warned.clear()  # a recorded warning holds the coroutine
    garbage.collect()
    assert kept.statuses == ["abandoned"]


@pytest.mark.slow
def test_a_future_that_nobody_completes_is_abandoned(kept: FakeKeeper) -> None:
    async def main() -> None:
        trace(lambda: asyncio.get_running_loop().create_future())()

    asyncio.run(main())
    garbage.collect()
    assert kept.statuses == ["abandoned"]


@pytest.mark.slow
def test_asyncio_still_warns_of_an_exception_that_nobody_retrieved(kept: FakeKeeper) -> None:
    said: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, details: said.append(details["message"]))
        trace(lambda: asyncio.ensure_future(breaks()))()
        for _ in range(4):
            await asyncio.sleep(0)
        garbage.collect()

    asyncio.run(main())
    assert kept.statuses == ["error"]
    assert said == ["Task exception was never retrieved"]


def test_a_future_of_a_thread(kept: FakeKeeper) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        traced = trace(pool.submit)
        future = traced(lambda: "late")
        assert isinstance(future, concurrent.futures.Future)
        assert future.result(timeout=10) == "late"
    assert kept.statuses == ["ok"]
    assert kept.output() == "late"


def test_a_returned_generator_is_a_stream(kept: FakeKeeper) -> None:
    def pieces() -> Iterator[str]:
        yield "a"
        yield "b"

    async def apieces() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    async def main() -> None:
        @trace
        async def ask() -> AsyncIterator[str]:
            return apieces()

        async for _ in await ask():
            pass

    stream = trace(lambda: pieces())()
    assert kept.ends == []
    assert inspect.isgenerator(stream)
    assert list(stream) == ["a", "b"]
    asyncio.run(main())
    assert [end.output for end in kept.ends] == [b'"ab"', b'"ab"']


def test_a_returned_traced_stream_gives_its_text_to_both_spans(kept: FakeKeeper) -> None:
    @trace
    def stream() -> Iterator[str]:
        yield "a"
        yield "b"

    @trace
    def ask() -> Iterator[str]:
        return stream()

    assert list(ask()) == ["a", "b"]
    assert [end.output for end in kept.ends] == [b'"ab"', b'"ab"']
    assert kept.starts[1].parent_id == kept.starts[0].span_id


def test_a_returned_iterator_is_left_alone(kept: FakeKeeper) -> None:
    numbers = iter([1, 2])
    assert trace(lambda: numbers)() is numbers
    assert kept.statuses == ["ok"]
    assert next(numbers) == 1


# Arguments.


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        (lambda a, b: 0, (1, 2), {}, {"a": 1, "b": 2}),
        (lambda a, b=2: 0, (1,), {}, {"a": 1}),
        (lambda a, b=2: 0, (), {"b": 3, "a": 1}, {"b": 3, "a": 1}),
        (lambda *rest: 0, (1, 2), {}, {"rest": [1, 2]}),
        (lambda a, *rest, **more: 0, (1, 2), {"x": 3}, {"a": 1, "rest": [2], "x": 3}),
        (lambda a, /, **more: 0, (1,), {"a": 2}, {"a": 1, "**a": 2}),
        (lambda: 0, (), {}, {}),
        (lambda: 0, (1,), {}, {"args": [1]}),
        (lambda self, a: 0, (object(), 1), {}, {"a": 1}),
        (lambda a: 0, (1, 2, 3), {}, {"a": 1, "args": [2, 3]}),
        (functools.partial(lambda a, b, c: 0, 1, c=3), (2,), {}, {"a": 1, "b": 2, "c": 3}),
        (print, (1,), {"sep": ""}, {"args": [1], "sep": ""}),
    ],
)
def test_arguments_by_name(function: Any, args: Any, kwargs: Any, expected: Any) -> None:
    assert binder(function)(args, kwargs) == expected


def test_a_call_with_wrong_arguments_is_recorded_with_them(kept: FakeKeeper) -> None:
    @trace
    def ask(question: str) -> str:
        return question

    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        ask("a", "b")  # type: ignore[call-arg]
    assert kept.input() == {"question": "a", "args": ["b"]}
    assert kept.statuses == ["error"]

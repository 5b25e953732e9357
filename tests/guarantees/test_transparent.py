"""G1: a traced callable is the callable it was: results, exceptions, nature, signature, identity of what it gives."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import copy
import functools
import inspect
import os
import pickle
import subprocess
import sys
import textwrap
import time
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from tests.support import garbage
from tests.support.fake_keeper import FakeKeeper

from tracekeeper.configuration import configure
from tracekeeper.tracing import span, trace, trouble


def plain(question: str, k: int = 3, *more: int, tone: str = "dry", **rest: Any) -> str:
    """Ask."""
    return question


async def coroutine(question: str) -> str:
    """Ask later."""
    return question


def generator(question: str) -> Generator[str, str, int]:
    """Ask in pieces."""
    got = yield question
    yield got
    return 7


async def async_generator(question: str) -> AsyncGenerator[str, str]:
    """Ask in pieces, later."""
    got = yield question
    yield got


FUNCTIONS: list[Callable[..., Any]] = [plain, coroutine, generator, async_generator]
QUESTIONS = (
    inspect.iscoroutinefunction,
    asyncio.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
    inspect.signature,
    inspect.getdoc,
    inspect.getsource,
    inspect.isroutine,
    typing.get_type_hints,
    callable,
)


@pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction':DeprecationWarning")
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.__name__)
def test_what_frameworks_ask_is_answered_as_before(question: Callable[[Any], Any], function: Any) -> None:
    assert question(trace(function)) == question(function)
    if question not in (inspect.getsource, typing.get_type_hints):  # they refuse partials
        assert question(functools.partial(trace(function))) == question(functools.partial(function))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_methods_answer_as_before(function: Any) -> None:
    class Holder:
        ask = function
        traced = trace(function)
        fixed = staticmethod(trace(function))
        of_class = classmethod(trace(function))

    for question in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        expected = question(function)
        assert question(Holder().traced) == question(Holder.traced) == expected
        assert question(Holder().fixed) == question(Holder.of_class) == expected
    assert inspect.signature(Holder().traced) == inspect.signature(Holder().ask)
    assert inspect.ismethod(Holder().traced)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_names_and_attributes_are_kept(function: Any) -> None:
    function.price = 3
    traced = trace(function)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "price"):
        assert getattr(traced, name) == getattr(function, name)
    assert traced.__wrapped__ is function
    traced.later = 4
    assert traced.later == 4


@trace
def pickled(x: int) -> int:
    return x


@trace
def pickled_generator(x: int) -> Iterator[int]:
    yield x


@trace
async def pickled_async(x: int) -> int:
    return x


@pytest.mark.parametrize("function", [pickled, pickled_generator, pickled_async], ids=lambda f: f.__name__)
def test_a_decorated_function_of_a_module_pickles_by_its_name(function: Any) -> None:
    sys.modules.setdefault(function.__module__, sys.modules[__name__])
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(function, protocol)) is function
    assert copy.deepcopy(function) is function


def test_generators_inside_functions_do_not_pickle_as_before() -> None:
    @trace
    def local() -> Iterator[int]:
        yield 1

    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(local)


# Results.


def test_results_are_the_very_objects(kept: FakeKeeper) -> None:
    for value in (object(), [1], {"a": 1}, iter("ab"), len, type, NotImplemented, ...):
        assert trace(lambda value=value: value)() is value


def test_a_streams_protocol_is_that_of_a_generator(kept: FakeKeeper) -> None:
    def dialogue() -> Generator[Any, Any, str]:
        heard = []
        try:
            while True:
                try:
                    got = yield len(heard)
                except KeyError as error:
                    got = f"caught {error}"
                if got == "end":
                    return "/".join(map(str, heard))
                heard.append(got)
        finally:
            heard.append("closed")

    def drive(function: Callable[[], Generator[Any, Any, str]]) -> Any:
        def outer() -> Generator[Any, Any, str]:
            return (yield from function())

        stream = outer()
        said = [next(stream), stream.send("a"), stream.throw(KeyError("b")), stream.send(None)]
        with pytest.raises(StopIteration) as stop:
            stream.send("end")
        other = function()
        next(other)
        other.close()
        with pytest.raises(StopIteration):
            next(other)
        return said, stop.value.value

    assert drive(trace(dialogue)) == drive(dialogue) == ([0, 1, 2, 3], "a/caught 'b'/None")
    assert kept.statuses == ["ok", "abandoned"]


def test_an_async_streams_protocol_is_that_of_an_async_generator(kept: FakeKeeper) -> None:
    async def dialogue() -> AsyncGenerator[Any, Any]:
        heard = []
        while True:
            try:
                got = yield list(heard)
            except KeyError as error:
                got = f"caught {error}"
            if got == "end":
                return
            heard.append(got)

    async def drive(function: Callable[[], AsyncGenerator[Any, Any]]) -> Any:
        stream = function()
        said = [await anext(stream), await stream.asend("a"), await stream.athrow(KeyError("b"))]
        with pytest.raises(StopAsyncIteration):
            await stream.asend("end")
        async with contextlib.aclosing(function()) as other:
            await anext(other)
        with pytest.raises(StopAsyncIteration):
            await anext(other)
        return said

    async def main() -> None:
        assert await drive(trace(dialogue)) == await drive(dialogue) == [[], ["a"], ["a", "caught 'b'"]]

    asyncio.run(main())
    assert kept.statuses == ["ok", "abandoned"]


def test_streams_answer_as_generators_do(kept: FakeKeeper) -> None:
    stream = trace(generator)("why")
    assert inspect.isgenerator(stream)
    assert isinstance(stream, Generator | Iterator)
    assert isinstance(stream, types.GeneratorType)
    assert inspect.getgeneratorstate(stream) == inspect.GEN_CREATED
    next(stream)
    assert inspect.getgeneratorstate(stream) == inspect.GEN_SUSPENDED
    assert stream.__name__ == "generator"
    assert stream.gi_code is generator.__code__
    with pytest.raises(TypeError, match="cannot pickle 'generator' object"):
        pickle.dumps(stream)
    stream.close()
    late = trace(async_generator)("why")
    assert inspect.isasyncgen(late)
    assert isinstance(late, AsyncIterator)


def test_context_managers_made_of_traced_generators_work(kept: FakeKeeper) -> None:
    @contextlib.contextmanager
    @trace
    def managed() -> Iterator[str]:
        try:
            yield "inside"
        except KeyError:
            yield_back.append("caught")

    @contextlib.asynccontextmanager
    @trace
    async def amanaged() -> AsyncIterator[str]:
        yield "inside"

    yield_back: list[str] = []
    with managed() as value:
        assert value == "inside"
    with managed():
        raise KeyError("swallowed")
    with pytest.raises(ValueError, match="through"), managed():
        raise ValueError("through")

    async def main() -> None:
        async with amanaged() as value:
            assert value == "inside"

    asyncio.run(main())
    assert yield_back == ["caught"]
    assert kept.statuses == ["ok", "ok", "error", "ok"]


# Exceptions.


class Custom(Exception):
    pass


class CustomBase(BaseException):
    pass


ERRORS = [
    ValueError("v"),
    Custom("c"),
    CustomBase("b"),
    KeyboardInterrupt("k"),
    SystemExit(3),
    StopIteration("s"),
    StopAsyncIteration("a"),
    GeneratorExit("g"),
    asyncio.CancelledError("x"),
    MemoryError("m"),
    ExceptionGroup("several", [ValueError("one")]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_every_exception_passes_unchanged(kept: FakeKeeper, error: BaseException) -> None:
    cause = KeyError("cause")
    error.__traceback__ = error.__context__ = None  # another test may have raised this very object

    def raises() -> None:
        raise error from cause

    with pytest.raises(type(error)) as caught:
        trace(raises)()
    assert caught.value is error
    assert error.__cause__ is cause
    assert error.__context__ is None
    frames = [frame.name for frame in caught.traceback]
    assert frames[-1] == "raises"
    assert len(frames) == 3  # this test, one frame of ours, the function
    error.__traceback__ = error.__cause__ = None
    [end] = kept.ends
    if isinstance(error, asyncio.CancelledError):
        assert end.status == "cancelled"
    elif isinstance(error, GeneratorExit):
        assert end.status == "abandoned"
    else:
        assert end.status == "error"
        assert end.error is not None
        assert end.error.type.endswith(type(error).__name__)
        assert "raise error from cause" in end.error.traceback
        assert "tracing" + "/wrapping.py" not in end.error.traceback


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("nature", ["coroutine", "generator", "async generator", "awaitable"])
def test_every_exception_comes_out_as_without_tracing(kept: FakeKeeper, nature: str, error: BaseException) -> None:
    async def acall() -> None:
        await asyncio.sleep(0)
        raise error

    def gcall() -> Iterator[int]:
        yield 1
        raise error

    async def agcall() -> AsyncIterator[int]:
        yield 1
        raise error

    def outcome(wrap: Callable[[Any], Any]) -> tuple[type[BaseException], str]:
        async def consume() -> None:
            async for _ in wrap(agcall)():
                pass

        def drive(coroutine: Any) -> None:
            # By hand, since a loop has its own mind about KeyboardInterrupt.
            try:
                while True:
                    coroutine.send(None)
            except StopIteration:
                return

        try:
            if nature == "coroutine":
                drive(wrap(acall)())
            elif nature == "awaitable":
                drive(wrap(lambda: acall())())
            elif nature == "generator":
                list(wrap(gcall)())
            else:
                drive(consume())
        except BaseException as raised:
            raised.__traceback__ = None
            return type(raised), str(raised)
        return type(None), ""  # type: ignore[return-value]

    assert outcome(trace) == outcome(lambda function: function)
    garbage.collect()
    assert len(kept.ends) == 1


def test_an_exception_thrown_in_keeps_its_identity(kept: FakeKeeper) -> None:
    stream = trace(generator)("why")
    next(stream)
    error = Custom("in")
    with pytest.raises(Custom) as caught:
        stream.throw(error)
    assert caught.value is error
    assert kept.statuses == ["error"]


def test_a_raising_str_of_an_exception_is_survived(kept: FakeKeeper) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def raises() -> None:
        raise Mute

    with pytest.raises(Mute):
        trace(raises)()
    error = kept.end().error
    assert error is not None
    assert error.message == "<str() failed: RuntimeError>"


def test_arguments_that_cannot_be_encoded_reach_the_function_untouched(kept: FakeKeeper) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise SystemExit

        def __getattr__(self, name: str) -> Any:
            raise SystemExit

        def __bool__(self) -> bool:
            raise SystemExit

        def __eq__(self, other: object) -> bool:
            raise SystemExit

        __hash__ = None  # type: ignore[assignment]

    hostile = Hostile()
    assert trace(lambda value: value)(hostile) is hostile
    numbers = iter([1, 2])
    assert trace(lambda value: value)(numbers) is numbers
    assert list(numbers) == [1, 2]
    cycle: list[Any] = []
    cycle.append(cycle)
    assert trace(lambda value: value)(cycle) is cycle
    assert trace(lambda value: value)("\ud800") == "\ud800"
    assert kept.statuses == ["ok"] * 4


@pytest.mark.parametrize("place", ["open_span", "announce", "_encode", "_enabled", "takes_payload", "containing"])
def test_a_failure_anywhere_in_tracing_reaches_no_caller(
    kept: FakeKeeper, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    from tracekeeper.tracing import plan

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("tracing is broken")

    monkeypatch.setattr(plan, place, broken)

    async def main() -> None:
        assert await trace(coroutine)("a") == "a"

    assert trace(plain)("a") == "a"
    asyncio.run(main())
    assert next(trace(generator)("a")) == "a"
    with pytest.raises(ValueError, match="mine"):
        trace(lambda: (_ for _ in ()).throw(ValueError("mine")).send(None))()
    garbage.collect()
    assert trouble.counts()
    trouble.forget()


def test_calls_made_while_a_span_is_captured_do_not_recurse(kept: FakeKeeper) -> None:
    class Talkative:
        @trace
        def shown(self, other: Any) -> str:
            return "shown"

        def __repr__(self) -> str:
            return self.shown(self)

    assert isinstance(trace(lambda value: value)(Talkative()), Talkative)
    trouble.forget()
    assert kept.statuses[-1] == "ok"


def test_third_party_libraries_are_not_needed_nor_loaded(request: pytest.FixtureRequest) -> None:
    env = {**os.environ, "PYTHONPATH": str(request.config.rootpath / "src")}
    code = """
        import sys
        import tracekeeper as tk
        @tk.trace
        def ask(x): return x
        with tk.span("a"): pass
        print([name for name in ("numpy", "pandas", "pydantic", "sqlalchemy", "opentelemetry.sdk", "asyncio")
               if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=True, env=env
    )
    assert ast.literal_eval(done.stdout) == []


# Cost. The targets are the benchmarks' to hold; here only the order of magnitude, on any machine.


def each(function: Callable[[], Any], number: int = 3000) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.thread_time()  # of this thread alone, however busy the machine is
        for _ in range(number):
            function()
        best = min(best, time.thread_time() - began)
    return best / number


def test_a_traced_call_costs_microseconds(kept: FakeKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "write", lambda frame: True)
    traced = trace(plain)
    assert each(lambda: traced("why")) < 40e-6  # measured: 3 to 4 µs without a journal


def test_switched_off_it_costs_next_to_nothing(kept: FakeKeeper) -> None:
    configure(enabled=False)
    traced = trace(plain)
    assert each(lambda: traced("why")) < 5e-6  # measured: 0.25 µs


def test_a_block_costs_microseconds(kept: FakeKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "write", lambda frame: True)

    def block() -> None:
        with span("a"):
            pass

    assert each(block) < 60e-6

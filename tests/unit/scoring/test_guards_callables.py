"""A guarded callable stays what it was: its signature, its nature, its way of being called."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Generator
from typing import Any

import pytest

import tracekeeper as tk

pytestmark = pytest.mark.usefixtures("keeper")


def polite(input: str) -> bool:
    return "please" in input


async def short(output: str) -> tuple[int, str]:
    return len(output), "in characters"


def tone(output: str) -> str:
    return "rude" if "!" in output else "calm"


at_most_10 = tk.metric(short, direction="minimize")
input_guard = tk.guard.input(polite, on_failure="block")
output_guard = tk.guard.output(at_most_10, threshold=10, on_failure="block")


def test_a_function_keeps_its_signature_and_nature() -> None:
    @output_guard
    def ask(question: str, k: int = 3) -> str:
        """Answers."""
        return "mild"

    @output_guard
    async def aask(question: str) -> str:
        return "mild"

    assert (ask.__name__, ask.__doc__, str(inspect.signature(ask))) == (
        "ask",
        "Answers.",
        "(question: 'str', k: 'int' = 3) -> 'str'",
    )
    assert not inspect.iscoroutinefunction(ask)
    assert inspect.iscoroutinefunction(aask)
    assert ask("?") == asyncio.run(aask("?")) == "mild"


def test_methods_class_and_static_methods_are_guarded() -> None:
    class Bot:
        name = "bot"

        @input_guard
        def ask(self, question: str) -> str:
            return f"{self.name}: mild"

        @input_guard
        @classmethod
        def make(cls, question: str) -> str:
            return cls.name

        @staticmethod
        @input_guard
        def plain(question: str) -> str:
            return "mild"

        async def later(self, question: str) -> str:
            return self.name

    bot = Bot()
    assert (bot.ask("please"), Bot.make("please"), Bot.plain("please")) == ("bot: mild", "bot", "mild")
    for call in (bot.ask, Bot.make, Bot.plain):
        with pytest.raises(tk.Blocked):
            call("now")
    bound = input_guard(bot.later)
    assert inspect.iscoroutinefunction(bound)
    assert asyncio.run(bound("please")) == "bot"


def test_partials_and_callable_objects_are_guarded() -> None:
    def ask(prefix: str, question: str) -> str:
        return prefix + question

    class Chain:
        model = "small"

        def __call__(self, question: str) -> str:
            return "mild"

        def invoke(self) -> str:
            return "unguarded"

    class AsyncChain:
        async def __call__(self, question: str) -> str:
            return "mild"

    asks_politely = tk.metric(lambda question: "please" in question, name="polite")
    partial = tk.guard.input(asks_politely, on_failure="block")(functools.partial(ask, "> "))
    assert partial("please") == "> please"
    assert str(inspect.signature(partial)) == "(question: 'str') -> 'str'"
    chain, later = input_guard(Chain()), input_guard(AsyncChain())
    assert (chain("please"), chain.model, chain.invoke()) == ("mild", "small", "unguarded")
    assert asyncio.run(later("please")) == "mild"
    for call in (partial, chain):
        with pytest.raises(tk.Blocked):
            call("now")
    with pytest.raises(tk.Blocked):
        asyncio.run(later("now"))


def test_a_function_that_returns_an_awaitable_is_judged_when_it_is_awaited() -> None:
    async def work(question: str) -> str:
        return "mild" if question == "?" else "a very long answer"

    def annotated(question: str) -> Awaitable[str]:
        return work(question)

    def task(question: str) -> Any:
        return asyncio.get_running_loop().create_task(work(question))

    async def main() -> None:
        for function in (lambda question: work(question), annotated, task):
            guarded = output_guard(function)
            assert await guarded("?") == "mild"
            with pytest.raises(tk.Blocked):
                await guarded("more")
        made = output_guard(task)("?")
        assert isinstance(made, asyncio.Task)
        await made

    asyncio.run(main())


def test_a_function_that_returns_a_future_gives_a_future() -> None:
    futures: list[concurrent.futures.Future[str]] = []

    def ask(question: str) -> concurrent.futures.Future[str]:
        return futures[-1]

    plain = output_guard(ask)
    for text in ("mild", "a very long answer"):
        futures.append(concurrent.futures.Future())
        given = plain("?")
        assert isinstance(given, concurrent.futures.Future)
        assert not given.done()
        futures[-1].set_result(text)
        if text == "mild":
            assert given.result(timeout=10) == "mild"
        else:
            assert isinstance(given.exception(timeout=10), tk.Blocked)
    futures.append(concurrent.futures.Future())
    given = plain("?")
    assert given.cancel()
    assert futures[-1].cancelled()
    futures.append(concurrent.futures.Future())
    assert input_guard(ask)("please") is futures[-1]
    with pytest.raises(tk.Blocked):
        input_guard(ask)("now")


def test_an_awaitable_that_is_annotated_stays_of_its_sort() -> None:
    async def work(question: str) -> str:
        await asyncio.sleep(0)
        return "mild"

    def task(question: str) -> asyncio.Task[str]:
        return asyncio.get_running_loop().create_task(work(question))

    async def main() -> None:
        given = output_guard(task)("?")
        assert isinstance(given, asyncio.Task)
        assert await given == "mild"
        assert await input_guard(task)("please") == "mild"
        cancelled = output_guard(task)("?")
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    asyncio.run(main())


def test_a_generator_is_judged_at_its_first_step_and_stays_a_generator() -> None:
    begun = []

    @input_guard
    def stream(question: str) -> Generator[str, str, str]:
        begun.append(question)
        got = yield "a"
        try:
            yield f"got {got}"
        except KeyError:
            yield "caught"
        return "end"

    assert inspect.isgeneratorfunction(stream)
    running = stream("please")
    assert begun == []
    assert (next(running), running.send("x"), running.throw(KeyError())) == ("a", "got x", "caught")
    with pytest.raises(StopIteration) as stopped:
        next(running)
    assert stopped.value.value == "end"
    blocked = stream("now")
    with pytest.raises(tk.Blocked):
        next(blocked)
    assert begun == ["please"]
    other = tk.guard.input(polite, on_failure="block", on_block="no")(stream.__wrapped__)  # type: ignore[attr-defined]
    assert list(other("now")) == ["no"]


def test_an_async_generator_is_judged_at_its_first_step_and_stays_one() -> None:
    closed = []

    @input_guard
    async def stream(question: str) -> AsyncIterator[str]:
        try:
            got = yield "a"
            try:
                yield f"got {got}"
            except KeyError:
                yield "caught"
            yield "more"
        finally:
            closed.append(question)

    async def main() -> None:
        assert inspect.isasyncgenfunction(stream)
        running: Any = stream("please")
        assert (await anext(running), await running.asend("x")) == ("a", "got x")
        assert await running.athrow(KeyError()) == "caught"
        assert [chunk async for chunk in running] == ["more"]
        left: Any = stream("please, left")
        assert await anext(left) == "a"
        await left.aclose()
        with pytest.raises(tk.Blocked):
            await anext(stream("now"))

    asyncio.run(main())
    assert closed == ["please", "please, left"]

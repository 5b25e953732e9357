"""What an app is told of its records, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.support.fake_keeper import FakeKeeper

from tracekeeper.configuration import configure
from tracekeeper.journal.frames import Definition, ScoreBirth, SpanEnd
from tracekeeper.tracing import current_span, trace, trouble


class App:
    """Notes what is asked of it."""

    name = "rag"
    version = "1.2"
    needs_spans = True
    needs_live = True
    has_inline = True

    def __init__(self, kept: FakeKeeper) -> None:
        self.kept = kept
        self.said: list[str] = []
        self.states: list[Any] = []
        self.defined = (Definition("app", self.name, self.version),)

    def definitions(self) -> tuple[Definition, ...]:
        return self.defined

    def decide(self, state: Any) -> tuple[ScoreBirth, ...]:
        self.states.append(state)
        self.said.append(f"decide {state.end.status} inline={state.inline} ends={len(self.kept.ends)}")
        return (ScoreBirth("length", "v1", "background"),)

    def ended(self, state: Any) -> None:
        self.said.append(f"ended ends={len(self.kept.ends)}")

    def settle_inline(self, state: Any) -> None:
        self.said.append("inline")

    async def asettle_inline(self, state: Any) -> None:
        await asyncio.sleep(0)
        self.said.append("inline")


@pytest.fixture
def app(kept: FakeKeeper) -> App:
    return App(kept)


INLINE = ["decide ok inline=True ends=0", "ended ends=1", "inline"]


def test_a_call_of_an_app(kept: FakeKeeper, app: App) -> None:
    @trace
    def helper() -> int:
        return 1

    @trace(app=app)
    def ask(question: str) -> str:
        helper()
        return question

    question = "why?"
    assert ask(question) is question
    assert app.said == ["decide ok inline=True ends=1", "ended ends=2", "inline"]
    start = kept.start("rag")
    assert (start.app, start.app_version) == ("rag", "1.2")
    assert kept.end("rag").scores == (ScoreBirth("length", "v1", "background"),)
    assert type(kept.frames[0]) is Definition
    [state] = app.states
    assert state.live_input == {"question": question}
    assert state.live_output is question
    assert [(start.name.rpartition(".")[2], end.status) for start, end in state.spans] == [("helper", "ok")]
    assert (state.span, state.parent, state.keeper) == (None, None, kept)
    ask("again")
    assert len(kept.of(Definition)) == 1


def test_an_async_app(kept: FakeKeeper, app: App) -> None:
    @trace(app=app)
    async def ask(question: str) -> str:
        return question

    assert asyncio.run(ask("why?")) == "why?"
    assert app.said == INLINE


def test_an_app_that_returns_an_awaitable(kept: FakeKeeper, app: App) -> None:
    async def later() -> str:
        return "late"

    ask = trace(lambda: later(), app=app)
    assert asyncio.run(ask()) == "late"  # type: ignore[arg-type]
    assert app.said == INLINE


def test_a_streaming_app_settles_inline_at_its_end(kept: FakeKeeper, app: App) -> None:
    @trace(app=app)
    def ask() -> Iterator[str]:
        yield "a"
        yield "b"

    assert list(ask()) == ["a", "b"]
    assert app.said == INLINE
    assert app.states[0].live_output == "ab"


def test_an_async_streaming_app_settles_inline_at_its_end(kept: FakeKeeper, app: App) -> None:
    @trace(app=app)
    async def ask() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    async def main() -> None:
        assert [piece async for piece in ask()] == ["a", "b"]

    asyncio.run(main())
    assert app.said == INLINE


def test_a_dropped_stream_is_told_that_nobody_settles_inline(kept: FakeKeeper, app: App) -> None:
    @trace(app=app)
    def ask() -> Iterator[str]:
        yield "a"
        yield "b"

    for _ in ask():
        break
    assert app.said == ["decide abandoned inline=False ends=0", "ended ends=1"]


def test_an_error_is_settled_and_ctrl_c_does_not_wait(kept: FakeKeeper, app: App) -> None:
    @trace(app=app)
    def ask(kind: type[BaseException]) -> None:
        raise kind

    with pytest.raises(ValueError):
        ask(ValueError)
    with pytest.raises(KeyboardInterrupt):
        ask(KeyboardInterrupt)
    assert app.said == [
        "decide error inline=True ends=0",
        "ended ends=1",
        "inline",
        "decide error inline=False ends=1",
        "ended ends=2",
    ]


def test_an_app_inside_an_app_is_a_record_of_its_own(kept: FakeKeeper, app: App) -> None:
    inner_app = App(kept)
    inner_app.name = "inner"

    @trace(app=inner_app)
    def inner() -> str:
        return "x"

    @trace(app=app)
    def outer() -> str:
        return inner()

    outer()
    assert kept.start("inner").record_id == kept.start("inner").span_id
    assert kept.start("inner").parent_id == kept.start("rag").span_id
    [inner_state], [outer_state] = inner_app.states, app.states
    assert inner_state.parent is outer_state


def test_a_traced_function_becomes_an_app_with_one_span(kept: FakeKeeper, app: App) -> None:
    @trace(kind="chain")
    def ask() -> str:
        return "x"

    trace(ask, app=app)()
    assert kept.start().app == "rag"
    assert kept.start().kind == "chain"


def test_unsampled_calls_of_an_app_make_no_record(kept: FakeKeeper, app: App) -> None:
    configure(sample=0)
    trace(lambda: 1, app=app)()
    assert app.said == []
    assert kept.ends == []


def test_a_broken_app_costs_the_caller_nothing(kept: FakeKeeper, app: App) -> None:
    class Broken(App):
        def decide(self, state: Any) -> Any:
            raise ValueError

        def settle_inline(self, state: Any) -> None:
            raise ValueError

    assert trace(lambda: 1, app=Broken(kept))() == 1
    assert kept.statuses == ["ok"]
    assert trouble.counts() == {"deciding what the metrics of an app do": 1, "settling inline metrics": 1}
    trouble.forget()


def test_usage_below_a_record_is_noted(kept: FakeKeeper, app: App) -> None:
    @trace(kind="llm")
    def model() -> None:
        current_span().set(usage={"input_tokens": 1})

    trace(lambda: model(), app=app)()
    assert app.states[0].has_usage
    assert isinstance(kept.ends[-1], SpanEnd)

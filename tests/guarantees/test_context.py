"""G7: settings, the current span and tags follow work, and never leak between concurrent requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import tracekeeper as tk


@tk.trace
def inner(q: str) -> str:
    return q


@tk.app(name="outer", version="1")
async def outer(q: str) -> str:
    await asyncio.sleep(0)
    inner(q)
    return await asyncio.to_thread(inner, q)


def test_concurrent_requests_never_mix_sessions_tags_or_parents(keeper: object) -> None:
    async def request(number: int) -> None:
        async with tk.context(session_id=f"s{number}", tags=[f"t{number}"]):
            await asyncio.sleep(0)
            assert await outer(str(number)) == str(number)

    async def main() -> None:
        await asyncio.gather(*(request(number) for number in range(100)))

    asyncio.run(main())
    records = tk.records(limit=500)
    assert len(records) == 100, "inner calls belong to their outer record, also in asyncio.to_thread"
    for record in records:
        assert (record.session_id, record.tags) == (f"s{record.output}", (f"t{record.output}",))


def test_a_consumers_calls_are_not_children_of_the_stream_it_reads(keeper: object) -> None:
    @tk.trace
    async def stream() -> AsyncIterator[str]:
        inner("inside")
        yield "a"
        yield "b"

    async def main() -> None:
        async for piece in stream():
            inner(piece)

    asyncio.run(main())
    names = sorted((record.name.rsplit(".")[-1], record.output) for record in tk.records())
    assert names == [("inner", "a"), ("inner", "b"), ("stream", "ab")]


def test_interleaved_streams_keep_their_own_children(keeper: object) -> None:
    @tk.trace
    async def stream(name: str) -> AsyncIterator[str]:
        for number in range(3):
            yield inner(f"{name}{number}")

    async def main() -> list[str]:
        left, right = stream("l"), stream("r")
        return [piece async for pair in both(left, right) for piece in pair]

    async def both(left: AsyncIterator[str], right: AsyncIterator[str]) -> AsyncIterator[tuple[str, str]]:
        for _ in range(3):
            yield await anext(left), await anext(right)

    assert asyncio.run(main()) == ["l0", "r0", "l1", "r1", "l2", "r2"]
    assert sorted(record.output for record in tk.records()) == ["l0l1l2", "r0r1r2"]


def test_threads_with_a_barrier_inside_keep_their_own_tags(keeper: object) -> None:
    inside = threading.Barrier(8, timeout=30)

    def work(tag: str) -> str:
        with tk.context(tags=[tag]):
            inside.wait()
            return inner(tag)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, "abcdefgh"))
    assert {record.tags for record in tk.records()} == {(letter,) for letter in "abcdefgh"}


def test_a_span_that_is_ended_by_hand_is_current_until_its_block_or_call_is_left(keeper: object) -> None:
    @tk.trace
    def ended(how: str) -> None:
        tk.current_span().end()
        if how == "raises":
            raise ValueError(how)

    @tk.trace
    async def ended_async() -> None:
        tk.current_span().end()

    with tk.span("block") as span:
        span.end()
        assert tk.current_span() is span
    assert tk.current_span().trace_id == ""
    ended("returns")
    assert tk.current_span().trace_id == ""
    with pytest.raises(ValueError, match="raises"):
        ended("raises")
    assert tk.current_span().trace_id == ""

    async def main() -> None:
        await ended_async()
        assert tk.current_span().trace_id == ""

    asyncio.run(main())
    assert len(tk.records()) == 4, "none of them is below another"


def test_interleaved_streams_hold_contexts_of_their_own_and_leak_them_nowhere(keeper: object) -> None:
    """Both kinds of generators, closed early, failing and driven from another task and thread."""

    @tk.trace
    def stream(tag: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield tag, tk.settings().tags
        with tk.context(tags=[tag]):
            for _ in range(3):
                yield tag, tk.settings().tags
        yield tag, tk.settings().tags

    def seen(step: tuple[str, tuple[str, ...]]) -> tuple[str, ...]:
        return step[1]

    left, right = stream("l"), stream("r")
    with tk.context(tags=["mine"]):
        assert [seen(next(left)), seen(next(right))] == [("mine",)] * 2
        for _ in range(2):
            assert seen(next(left))[-1:] == ("l",)
            assert seen(next(right))[-1:] == ("r",)
            assert tk.settings().tags == ("mine",)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: (seen(next(left))[-1], tk.settings().tags)).result() == ("l", ())
        assert seen(next(left)) == ("mine",), "its block is left"
        assert tk.settings().tags == ("mine",)
        right.close()  # type: ignore[attr-defined]
        assert tk.settings().tags == ("mine",)
        with pytest.raises(StopIteration):
            next(left)
        assert tk.settings().tags == ("mine",)
    assert tk.settings().tags == ()

    @tk.trace
    async def fails() -> AsyncIterator[tuple[str, ...]]:
        with tk.context(tags=["f"]):
            yield tk.settings().tags
            raise ValueError("in the middle")

    async def main() -> None:
        async with tk.context(tags=["task"]):
            failing = fails()
            assert (await anext(failing))[-1] == "f"
            assert tk.settings().tags == ("task",)
            with pytest.raises(ValueError, match="in the middle"):
                await asyncio.create_task(_next(failing))
            with pytest.raises(StopAsyncIteration):
                await anext(failing)
            assert tk.settings().tags == ("task",)

    async def _next(stream: AsyncIterator[tuple[str, ...]]) -> tuple[str, ...]:
        return await anext(stream)

    asyncio.run(main())

"""G3: a stream's span ends exactly once, with the text received so far, however the stream ends.

The ids A1 to A16 are those of the finalisation table in ``docs/design/streams.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.support import garbage
from tests.support.fake_keeper import FakeKeeper

from tracekeeper.tracing import current_span, runtime, trace
from tracekeeper.types import SpanStatus

finished: list[str] = []


@trace
async def words() -> AsyncIterator[str]:
    """Five chunks; says when its `finally` ran."""
    try:
        for piece in ("The ", "weather ", "", "is ", "mild"):
            yield piece
    finally:
        finished.append("words")


@trace
async def stalls() -> AsyncIterator[str]:
    yield "The "
    await asyncio.Event().wait()


@trace
async def breaks() -> AsyncIterator[str]:
    yield "The "
    raise ValueError("cut")


@trace
def swords() -> Iterator[str]:
    """The same, synchronous."""
    try:
        yield from ("The ", "weather ", "", "is ", "mild")
    finally:
        finished.append("swords")


@trace
def sbreaks() -> Iterator[str]:
    yield "The "
    raise ValueError("cut")


@pytest.fixture(autouse=True)
def _nothing_finished() -> None:
    finished.clear()


def ended(kept: FakeKeeper) -> tuple[str, Any]:
    [end] = kept.ends
    return end.status, kept.output()


ALL = "The weather is mild"


def test_a1_an_async_stream_read_to_its_end(kept: FakeKeeper) -> None:
    async def main() -> None:
        assert "".join([piece async for piece in words()]) == ALL
        assert kept.statuses == ["ok"]

    asyncio.run(main())
    assert ended(kept) == ("ok", ALL)


def test_a2_a_bare_break_ends_the_span_before_the_next_line(kept: FakeKeeper) -> None:
    async def main() -> None:
        async for piece in words():
            if not piece:
                break
        assert ended(kept) == ("abandoned", "The weather ")
        assert finished == []  # the generator's own finalisation is left as it is: two ticks later, in another task
        for _ in range(4):
            await asyncio.sleep(0)
        assert finished == ["words"]

    asyncio.run(main())


def test_a3_a_break_with_the_stream_held_and_closed_later(kept: FakeKeeper) -> None:
    async def main() -> None:
        stream = words()
        async for _ in stream:
            break
        assert kept.ends == []
        await stream.aclose()  # type: ignore[attr-defined]
        assert finished == ["words"]
        assert ended(kept) == ("abandoned", "The ")
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())
    assert len(kept.ends) == 1


def test_a4_a_stream_that_outlives_its_loop(kept: FakeKeeper) -> None:
    held: list[Any] = []

    async def main() -> None:
        held.append(words())
        await anext(held[0])

    asyncio.run(main())
    assert finished == ["words"]
    held.clear()
    assert ended(kept) == ("abandoned", "The ")


def test_a5_a_reference_cycle_ends_when_gc_finds_it(kept: FakeKeeper) -> None:
    async def main() -> None:
        stream = words()
        await anext(stream)
        box: list[Any] = [stream]
        box.append(box)

    gc.disable()
    try:
        asyncio.run(main())
        assert kept.ends == []
        garbage.collect()
    finally:
        gc.enable()
    assert ended(kept) == ("abandoned", "The ")


def test_a6_a_consumer_cancelled_between_two_chunks(kept: FakeKeeper) -> None:
    async def main() -> None:
        async def consume() -> None:
            async for _ in words():
                await asyncio.Event().wait()

        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task

    asyncio.run(main())
    garbage.collect()
    assert ended(kept) == ("abandoned", "The ")


def test_a7_a_consumer_cancelled_while_the_stream_waits(kept: FakeKeeper) -> None:
    async def main() -> None:
        async def consume() -> None:
            async for _ in stalls():
                pass

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(consume(), 0.01)
        assert ended(kept) == ("cancelled", "The ")

    asyncio.run(main())


def test_a8_a_stream_driven_by_hand_without_a_loop(kept: FakeKeeper) -> None:
    stream = words()
    step = stream.__anext__()
    with pytest.raises(StopIteration) as stop:
        step.send(None)  # type: ignore[attr-defined]
    assert stop.value.value == "The "
    del stream, step, stop
    garbage.collect()
    assert ended(kept) == ("abandoned", "The ")


def test_a9_a_stream_dropped_after_its_loop_was_closed(kept: FakeKeeper) -> None:
    loop = asyncio.new_event_loop()
    held = [words()]

    async def main() -> None:
        await anext(held[0])

    loop.run_until_complete(main())
    loop.close()
    assert kept.ends == []
    held.clear()
    assert ended(kept) == ("abandoned", "The ")


@pytest.mark.parametrize("make", [words, swords], ids=["async", "sync"])
def test_a10_a_stream_dropped_in_another_thread(kept: FakeKeeper, make: Callable[[], Any]) -> None:
    held = [make()]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert ended(kept) == ("abandoned", "")


@pytest.mark.parametrize("make", [words, swords], ids=["async", "sync"])
def test_a11_a_stream_that_is_never_iterated(kept: FakeKeeper, make: Callable[[], Any]) -> None:
    make()
    garbage.collect()
    assert ended(kept) == ("abandoned", "")


def test_a12_a_stream_begun_in_one_task_and_closed_in_another(kept: FakeKeeper) -> None:
    async def main() -> None:
        stream = words()
        await asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        assert not current_span().is_recording()
        await asyncio.create_task(stream.aclose())  # type: ignore[attr-defined]
        assert not current_span().is_recording()

    asyncio.run(main())
    assert ended(kept) == ("abandoned", "The ")


def test_a13_after_a_break_the_consumers_context_is_as_before(kept: FakeKeeper) -> None:
    @trace
    async def outer() -> None:
        mine = current_span()
        async for _ in words():
            assert current_span() is mine
            break
        assert current_span() is mine

    asyncio.run(outer())
    assert [end.status for end in kept.ends] == ["abandoned", "ok"]


def test_a14_a_dropped_generator_ends_inline(kept: FakeKeeper) -> None:
    for _ in swords():
        break
    assert ended(kept) == ("abandoned", "The ")
    assert finished == ["swords"]


def test_a15_a_generator_begun_in_one_context_and_closed_in_another(kept: FakeKeeper) -> None:
    stream = contextvars.copy_context().run(swords)
    assert contextvars.copy_context().run(next, stream) == "The "
    contextvars.copy_context().run(stream.close)  # type: ignore[attr-defined]
    assert ended(kept) == ("abandoned", "The ")
    assert not current_span().is_recording()


def test_a16_closing_during_another_tasks_step_is_refused_and_ends_nothing(kept: FakeKeeper) -> None:
    async def main() -> None:
        stream = stalls()
        await anext(stream)
        waiting = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already running"):
            await stream.aclose()  # type: ignore[attr-defined]
        assert kept.ends == []
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert ended(kept) == ("cancelled", "The ")

    asyncio.run(main())


# More endings than the table has.


def test_a_stream_that_raises_keeps_its_text(kept: FakeKeeper) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="cut"):
            async for _ in breaks():
                pass

    asyncio.run(main())
    assert ended(kept) == ("error", "The ")
    error = kept.end().error
    assert error is not None
    assert error.type == "ValueError"
    assert "in breaks" in error.traceback


def test_a_generator_that_raises_keeps_its_text(kept: FakeKeeper) -> None:
    with pytest.raises(ValueError, match="cut"):
        list(sbreaks())
    assert ended(kept) == ("error", "The ")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_and_exit_inside_a_stream_are_errors_with_its_text(kept: FakeKeeper, kind: type[BaseException]) -> None:
    @trace
    def stream() -> Iterator[str]:
        yield "The "
        raise kind

    with pytest.raises(kind):
        list(stream())
    assert ended(kept) == ("error", "The ")


def test_a_consumer_that_raises_abandons_an_unbound_stream(kept: FakeKeeper) -> None:
    def consume() -> None:
        for _ in swords():
            raise KeyError("consumer")

    with pytest.raises(KeyError):
        consume()
    garbage.collect()
    assert ended(kept) == ("abandoned", "The ")


def test_an_exception_thrown_into_a_stream_that_does_not_catch_it(kept: FakeKeeper) -> None:
    stream = swords()
    next(stream)
    with pytest.raises(ZeroDivisionError):
        stream.throw(ZeroDivisionError("thrown"))  # type: ignore[attr-defined]
    assert ended(kept) == ("error", "The ")


def test_a_stream_that_fails_to_close_says_so(kept: FakeKeeper) -> None:
    @trace
    def stubborn() -> Iterator[str]:
        try:
            yield "The "
        except GeneratorExit:
            yield "no"

    stream = stubborn()
    next(stream)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        stream.close()  # type: ignore[attr-defined]
    assert ended(kept) == ("error", "The ")
    with contextlib.suppress(StopIteration):
        next(stream)
    del stream


def test_a_taskgroup_sibling_that_fails_cancels_streams_with_their_text(kept: FakeKeeper) -> None:
    async def consume() -> None:
        async for _ in stalls():
            pass

    async def fails() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        raise ValueError("sibling")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(consume())
            group.create_task(fails())

    with pytest.raises(ExceptionGroup):
        asyncio.run(main())
    assert kept.statuses == ["cancelled"] * 6
    assert {end.output for end in kept.ends} == {b'"The "'}


def test_a_stream_held_at_exit_is_swept_with_its_text(kept: FakeKeeper) -> None:
    held = [words(), swords()]
    next(held[1])  # type: ignore[call-overload]
    for span in list(runtime.open_spans.values()):
        span.sweep(SpanStatus.INTERRUPTED)
    assert [(end.status, end.output) for end in kept.ends] == [("abandoned", b'""'), ("abandoned", b'"The "')]
    held.clear()
    garbage.collect()
    assert len(kept.ends) == 2


def test_a_task_destroyed_while_pending_ends_its_stream(kept: FakeKeeper) -> None:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, details: None)

    async def consume() -> None:
        async for _ in stalls():
            pass

    task = loop.create_task(consume())
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    del task
    garbage.collect()
    [end] = kept.ends
    assert (end.status, end.output) == ("abandoned", b'"The "')


def test_100_streams_broken_at_once_each_end_once(kept: FakeKeeper) -> None:
    async def consume(number: int) -> None:
        stream = words()
        count = 0
        async for _ in stream:
            count += 1
            await asyncio.sleep(0)
            if count == number % 7:
                break

    async def main() -> None:
        await asyncio.gather(*(consume(number) for number in range(100)))

    asyncio.run(main())
    garbage.collect()
    assert len(kept.ends) == 100
    assert set(kept.statuses) == {"ok", "abandoned"}


def test_of_many_threads_that_end_one_span_one_does(kept: FakeKeeper) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            stream = swords()
            next(stream)
            span = stream._span  # type: ignore[attr-defined]
            gate = threading.Barrier(4)
            won: list[bool] = []

            def end(span: Any = span, gate: threading.Barrier = gate, won: list[bool] = won) -> None:
                gate.wait()
                won.append(span.close(SpanStatus.ABANDONED))

            threads = [threading.Thread(target=end) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(won) == [False, False, False, True]
            del stream
    finally:
        sys.setswitchinterval(interval)
    assert len(kept.ends) == 300


def test_a_finaliser_that_runs_inside_a_lock_does_not_wait_for_it(kept: FakeKeeper) -> None:
    """GC may run a stream's finaliser while its thread holds any lock: ending must take none of the tracing's own."""
    held: list[Any] = []
    original = kept.write

    def collecting(frame: Any) -> bool:
        if held:  # a write under way when gc strikes
            held.clear()
        return original(frame)

    kept.write = collecting  # type: ignore[method-assign]
    held.append(swords())
    next(held[0])
    with contextlib.suppress(ValueError):
        list(sbreaks())
    assert sorted(kept.statuses) == ["abandoned", "error"]


@pytest.mark.parametrize("make", [words, swords], ids=["async", "sync"])
def test_a_coroutine_function_that_times_out_is_cancelled(kept: FakeKeeper, make: Callable[[], Any]) -> None:
    @trace
    async def slow() -> None:
        stream = make()
        _ = await anext(stream) if hasattr(stream, "__anext__") else next(stream)
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(), 0.01)

    asyncio.run(main())
    garbage.collect()
    assert sorted(kept.statuses) == ["abandoned", "cancelled"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_span_open_at_a_fork_is_ended_by_the_parent_only(kept: FakeKeeper) -> None:
    reading, writing = os.pipe()

    @trace
    def forks() -> int:
        return os.fork()

    stream = swords()
    next(stream)
    child = forks()
    if child == 0:
        del stream
        os.write(writing, b",".join(end.status.encode() for end in kept.ends) or b"none")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"none"
    os.close(reading)
    os.close(writing)
    stream.close()  # type: ignore[attr-defined]
    assert kept.statuses == ["ok", "abandoned"]

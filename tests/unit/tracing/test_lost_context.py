"""Work that lost its context is reported once, and nothing else is."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from types import CodeType
from typing import Any

import pytest
from tests.conftest import FULL

import tracekeeper as tk
from tracekeeper.integrations import threads
from tracekeeper.tracing import lost_context

REQUESTS = 2000 if FULL else 200


@pytest.fixture(autouse=True)
def _as_at_first(keeper: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lost_context, "INTERVAL", 0.0)
    lost_context.forget()
    yield
    lost_context.forget()


@tk.trace
def inner(x: Any) -> Any:
    return x


def inner_while(ident: int, codes: set[CodeType]) -> Callable[[Any], Any]:
    """``inner``, called when the thread ``ident`` is seen in one of these functions."""
    import sys

    def work(x: Any) -> Any:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            frame = sys._current_frames().get(ident)
            while frame is not None:
                if frame.f_code in codes:
                    return inner(x)
                frame = frame.f_back
            threading.Event().wait(0.001)
        raise AssertionError("nobody waited")

    return work


def join(work: Any) -> None:
    thread = threading.Thread(target=work, args=(1,))
    thread.start()
    thread.join()


def result(work: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work, 1).result()


def mapped(work: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(work, [1, 2]))


def completed(work: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        for future in as_completed([pool.submit(work, 1), pool.submit(work, 2)]):
            future.result()


def waited(work: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        wait([pool.submit(work, 1)])


def left(work: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work, 1)


WAYS = [join, result, mapped, completed, waited, left]
WAITS = {
    function.__code__
    for function in (threading.Thread.join, Future.result, as_completed, wait, ThreadPoolExecutor.shutdown)
}
"""What waits in them. Not what waits in ``start``, until the thread has begun."""


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "lost its context" in record.getMessage()]


@pytest.mark.parametrize("way", WAYS)
def test_a_traced_call_that_waits_for_what_its_thread_traces_is_told_once(
    way: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    @tk.trace(name="the caller")
    def outer() -> None:
        way(inner_while(threading.get_ident(), WAITS))

    with caplog.at_level(logging.WARNING, "tracekeeper"), warnings.catch_warnings():
        warnings.simplefilter("error")
        outer()
        outer()
    [message] = warned(caplog)
    assert "'the caller'" in message
    assert 'tk.instrument("threads")' in message
    assert tk.flush(timeout=30).dropped == {}


def test_a_task_that_awaits_its_executor_is_told_also_in_a_block(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        awaits = threading.Event()

        def work() -> None:
            assert awaits.wait(30)
            inner(1)

        with tk.span("the block"):
            future = loop.run_in_executor(None, work)
            loop.call_soon(awaits.set)  # runs when this task awaits
            await future

    asyncio.run(main())
    [message] = warned(caplog)
    assert "'the block'" in message


@pytest.mark.parametrize("way", WAYS)
def test_who_waits_without_a_traced_call_is_told_nothing(
    way: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Also while other threads have spans open."""
    with tk.span("of somebody else"):
        other = threading.Thread(target=lambda: way(inner_while(threading.get_ident(), WAITS)))
        other.start()
        other.join()
    assert warned(caplog) == []


def test_a_servers_threads_begin_roots_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """Workers that begin roots while other workers are inside traced calls, and a main thread that waits for them."""
    inside = threading.Barrier(4, timeout=30)

    @tk.app(name="endpoint", version="1")
    def endpoint(x: int) -> int:
        inside.wait()
        return int(inner(x))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(endpoint, range(REQUESTS))) == sum(range(REQUESTS))

    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(inner, x) for x in range(REQUESTS)))
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(None, inner, x) for x in range(REQUESTS)))

    asyncio.run(main())
    assert warned(caplog) == []


def test_with_threads_carrying_the_context_nothing_is_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    @tk.trace
    def outer() -> None:
        result(inner)

    undo = threads.install()
    assert not lost_context.on
    outer()
    undo()
    assert lost_context.on
    assert warned(caplog) == []
    assert len(tk.records()) == 1


def test_a_call_with_a_parent_or_in_the_main_thread_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(lost_context, "look", lambda: looks.append(1))
    monkeypatch.setattr(lost_context, "main_thread", threading.get_ident())

    @tk.trace
    def outer() -> None:
        inner(1)

    outer()
    assert looks == []
    thread = threading.Thread(target=outer)
    thread.start()
    thread.join()
    assert looks == [1], "the root; not the call inside it"


def test_a_look_that_fails_is_counted_and_the_call_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from tracekeeper.tracing import trouble

    def fails() -> None:
        raise ValueError("no frames here")

    monkeypatch.setattr(lost_context, "_waiting_call", fails)
    seen: list[Any] = []
    with tk.span("open"):
        thread = threading.Thread(target=lambda: seen.append(inner("result")))
        thread.start()
        thread.join()
    assert seen == ["result"]
    assert trouble.counts()["looking for work that lost its context"] == 1
    trouble.forget()

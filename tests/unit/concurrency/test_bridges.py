"""asyncify, syncify, run_sync: from many loops, nested, cancelled, with the context and the exceptions of the call."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import threading
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.concurrency import bridges, is_async
from tracekeeper.concurrency.rescue import Rescue

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


# -- asyncify --------------------------------------------------------------------------------------------------


def test_asyncify_works_from_many_loops_with_more_calls_than_any_limiter_has_places() -> None:
    @tk.asyncify
    def work(number: int) -> int:
        time.sleep(0.01)
        return number

    async def main(base: int) -> list[int]:
        return list(await asyncio.gather(*(work(base + number) for number in range(20))))

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(asyncio.run, main(100 * base)) for base in range(8)]
        results = [future.result(timeout=60) for future in futures]
    assert results == [[100 * base + number for number in range(20)] for base in range(8)]


def test_asyncify_nests_to_any_depth_for_any_number_of_calls() -> None:
    @tk.asyncify
    def nested(depth: int) -> int:
        return 1 + asyncio.run(nested(depth - 1)) if depth else 0

    async def main() -> list[int]:
        return list(await asyncio.gather(*(nested(5) for _ in range(40))))

    assert asyncio.run(main()) == [5] * 40


def test_asyncify_a_thousand_calls_wait_for_each_other() -> None:
    all_there = threading.Barrier(300)

    async def main() -> list[int]:
        wait = tk.asyncify(all_there.wait)
        return sorted(await asyncio.gather(*(wait(60) for _ in range(300))))

    assert asyncio.run(main()) == list(range(300))


def test_an_asyncified_call_that_is_cancelled_returns_at_once_and_its_thread_is_counted(gate: threading.Event) -> None:
    began, finished = threading.Event(), threading.Event()

    @tk.asyncify
    def blocks() -> None:
        began.set()
        gate.wait()
        finished.set()

    async def main() -> float:
        task = asyncio.create_task(blocks())
        while not began.is_set():
            await asyncio.sleep(0.01)
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - begun

    before = bridges.abandoned()[0]
    assert asyncio.run(main()) < 5
    until(lambda: bridges.abandoned()[0] == before + 1)
    gate.set()
    assert finished.wait(20), "a thread cannot be stopped"
    until(lambda: bridges.abandoned()[0] == before)


def test_an_asyncified_call_that_is_cancelled_before_it_began_never_runs() -> None:
    ran: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(tk.asyncify(ran.append)(1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ran == []


def test_at_the_limit_of_abandoned_threads_a_call_fails_and_says_why(
    monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    monkeypatch.setattr(bridges, "_threads", [])
    monkeypatch.setattr(bridges, "HELD_LIMIT", 2)
    monkeypatch.setattr(bridges, "START_WITHIN", 0.2)
    blocks = tk.asyncify(gate.wait)

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(blocks(), 0.05)
        await asyncio.get_running_loop().run_in_executor(None, until, lambda: bridges.abandoned()[0] == 2)
        with pytest.raises(RuntimeError, match="2 threads and 0 event loops are held by calls that do not return"):
            await blocks()

    asyncio.run(main())
    gate.set()
    bridges._threads[0].close()


def test_the_context_goes_into_both_bridges_and_changes_stay_there() -> None:
    def change() -> str:
        before = variable.get()
        variable.set("changed")
        return before

    async def achange() -> str:
        await asyncio.sleep(0)
        return change()

    async def main() -> list[str]:
        variable.set("mine")
        return [await tk.asyncify(change)(), tk.syncify(achange)(), tk.run_sync(achange()), variable.get()]

    assert asyncio.run(main()) == ["mine"] * 4


def test_settings_spans_and_tags_go_into_both_bridges(keeper: object) -> None:
    @tk.trace
    def inner(how: str) -> str:
        return how

    @tk.trace
    async def ainner(how: str) -> str:
        return inner(how)

    @tk.app(name="outer", version="1")
    async def outer(q: str) -> str:
        await tk.asyncify(inner)("asyncified")
        tk.syncify(ainner)("syncified")
        return tk.run_sync(lambda: ainner("run"))

    with tk.context(session_id="s-1"):
        asyncio.run(outer("q"))
    [record] = tk.records()
    assert record.session_id == "s-1"


# -- syncify and run_sync --------------------------------------------------------------------------------------


async def double(number: int) -> int:
    """Doubles."""
    await asyncio.sleep(0)
    return 2 * number


class Client:
    @tk.syncify
    async def method(self, number: int) -> int:
        return await double(number)

    async def __call__(self, number: int) -> int:
        return await double(number)

    @tk.asyncify
    def slow(self, number: int) -> int:
        return 2 * number


@pytest.mark.parametrize(
    "fn",
    [double, functools.partial(double), Client(), lambda number: double(number), Client().slow],
    ids=["function", "partial", "object", "lambda", "asyncified"],
)
def test_syncify_takes_every_shape_of_async_callable(fn: Any) -> None:
    assert tk.syncify(fn)(21) == 42


def test_both_are_decorators_of_methods_and_keep_name_signature_and_nature() -> None:
    assert Client().method(4) == 8
    assert asyncio.run(Client().slow(4)) == 8
    plain: Any = tk.syncify(double)
    assert (plain.__name__, plain.__doc__, inspect.signature(plain)) == (
        "double",
        "Doubles.",
        inspect.signature(double),
    )
    assert not inspect.iscoroutinefunction(plain)
    assert not is_async(plain)
    again: Any = tk.asyncify(plain)
    assert inspect.iscoroutinefunction(again)
    assert again.__name__ == "double"
    assert tk.asyncify(double) is double


def test_what_only_says_that_it_is_async_is_seen_as_sync_afterwards() -> None:
    def annotated(number: int) -> Awaitable[int]:
        return double(number)

    marked = (
        inspect.markcoroutinefunction(lambda number: double(number))
        if hasattr(inspect, "markcoroutinefunction")
        else annotated
    )
    for fn in (annotated, marked):
        plain: Any = tk.syncify(fn)
        assert not is_async(plain)
        assert plain(2) == 4


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_exceptions_are_the_functions_own_with_their_traceback(error: BaseException) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise error

    for call in (tk.syncify(fails), lambda: tk.run_sync(fails()), lambda: tk.run_sync(fails)):
        with pytest.raises(type(error)) as caught:
            call()
        assert caught.value is error
        assert "fails" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


@pytest.mark.slow
def test_an_exception_from_a_thread_is_not_kept_alive_by_its_own_traceback() -> None:
    class Failure(Exception):
        pass

    seen: list[weakref.ref[Failure]] = []

    def fails() -> None:
        error = Failure()
        seen.append(weakref.ref(error))
        raise error

    async def main() -> None:
        with pytest.raises(Failure):
            await tk.asyncify(fails)()

    asyncio.run(main())
    until(lambda: (gc.collect(), seen[0]() is None)[1])


def test_run_sync_works_in_a_script_in_any_thread_and_inside_running_loops() -> None:
    async def main() -> int:
        return tk.run_sync(double(1)) + await asyncio.to_thread(tk.run_sync, double(2))

    assert tk.run_sync(double(3)) == 6
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(lambda n: asyncio.run(main()) + tk.run_sync(double(n)), range(16))] == [
            6 + 2 * n for n in range(16)
        ]


def test_run_sync_inside_run_sync_to_any_depth_waits_for_no_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    rescued: list[Any] = []
    monkeypatch.setattr(Rescue, "_move", lambda self, loop: rescued.append(loop))

    async def nested(depth: int) -> int:
        await asyncio.sleep(0)
        return 1 + tk.run_sync(nested(depth - 1)) if depth else 0

    async def through_threads(depth: int) -> int:
        if not depth:
            return 0
        return 1 + tk.run_sync(tk.asyncify(lambda: tk.run_sync(through_threads(depth - 1)))())

    assert tk.run_sync(nested(6), timeout=30) == 6
    assert tk.run_sync(through_threads(6), timeout=30) == 6
    assert rescued == [], "nothing waited for a loop that was blocked"


@pytest.mark.slow
def test_a_plain_thread_that_lost_the_context_is_found_within_two_seconds() -> None:
    async def inner() -> str:
        return "found"

    async def outer() -> str:
        got: list[str] = []
        thread = threading.Thread(target=lambda: got.append(tk.run_sync(inner())))
        thread.start()
        thread.join()  # blocks the loop that `inner` was given to
        return got[0]

    assert tk.run_sync(outer(), timeout=20) == "found"


def test_calls_share_a_loop_so_that_clients_find_it_again() -> None:
    async def here() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    with ThreadPoolExecutor(4) as pool:
        loops = {tk.run_sync(here()), tk.syncify(here)(), *pool.map(lambda _: tk.run_sync(here()), range(8))}
    assert len(loops) == 1


@pytest.mark.slow
def test_a_coroutine_that_blocks_the_loop_fails_nobody_else(gate: threading.Event) -> None:
    began = threading.Event()

    async def blocks() -> str:
        began.set()
        gate.wait()
        return "came back"

    async def waits() -> str:
        waiting.set()
        await asyncio.sleep(0.01)
        return "waited"

    waiting = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        neighbour = pool.submit(tk.run_sync, _after(began, waits))
        blocker = pool.submit(tk.run_sync, blocks())
        assert began.wait(20)
        assert pool.submit(tk.run_sync, double(1), timeout=20).result(timeout=20) == 2, "a new loop takes new calls"
        gate.set()
        assert blocker.result(timeout=20) == "came back"
        assert neighbour.result(timeout=20) == "waited"


async def _after(event: threading.Event, fn: Callable[[], Awaitable[str]]) -> str:
    while not event.is_set():
        await asyncio.sleep(0)
    return await fn()


def test_run_sync_ends_at_its_deadline_says_where_and_cancels() -> None:
    cancelled = threading.Event()

    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError, match=r"timed out after 0.2 s in .*hangs"):
        tk.run_sync(hangs(), timeout=0.2)
    assert cancelled.wait(20)


def test_what_cannot_be_run_is_refused_and_says_what_would_do() -> None:
    async def stream() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        task = asyncio.ensure_future(double(1))
        with pytest.raises(RuntimeError, match="await it instead"):
            tk.run_sync(task)
        await task

    asyncio.run(main())
    with pytest.raises(TypeError, match="takes a coroutine or a callable, not 3"):
        tk.run_sync(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is a generator function"):
        tk.syncify(stream)  # type: ignore[arg-type]
    for bridge in (tk.asyncify, tk.syncify):
        with pytest.raises(TypeError, match="takes a callable, not 3"):
            bridge(3)  # type: ignore[arg-type,operator]


@pytest.mark.slow
def test_a_coroutine_that_cannot_start_is_closed_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(level: int) -> Any:
        raise RuntimeError("no thread")

    monkeypatch.setattr(bridges, "_loop_runner", closed)
    with pytest.raises(RuntimeError, match="no thread"):
        tk.run_sync(double(1))
    gc.collect()  # a coroutine that was never awaited would warn here, and warnings are errors

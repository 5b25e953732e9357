"""The pool: the standard library's behaviour, the context of whoever submits, and no thread that holds the exit."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tracekeeper as tk

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
STANDARD = concurrent.futures.ThreadPoolExecutor


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture(params=[STANDARD, tk.ThreadPoolExecutor], ids=["standard", "ours"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Whatever is claimed with this holds for the standard library's pool as well."""
    return request.param


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def test_results_exceptions_map_and_order(kind: Any) -> None:
    with kind(3) as pool:
        assert pool.submit(pow, 2, exp=10).result(timeout=20) == 1024
        assert [*pool.map(abs, range(-20, 0), timeout=20)] == [*range(20, 0, -1)]
        future = pool.submit(int, "x")
        assert isinstance(future.exception(timeout=20), ValueError)
        ended = pool.submit(_exits)
        assert isinstance(ended.exception(timeout=20), SystemExit)
        assert {*concurrent.futures.wait([future, ended]).done} == {future, ended}


def _exits() -> None:
    raise SystemExit(3)


def test_a_coroutine_functions_result_is_its_coroutine(kind: Any) -> None:
    async def answer() -> int:
        return 42

    with kind(1) as pool:
        assert asyncio.run(pool.submit(answer).result(timeout=20)) == 42


def test_no_more_threads_work_than_there_are_workers(kind: Any) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    with kind(3) as pool:
        list(pool.map(work, range(60)))
    assert most == 3


def test_what_waits_can_be_cancelled_and_what_runs_cannot(kind: Any, gate: threading.Event) -> None:
    with kind(1) as pool:
        began = threading.Event()
        running = pool.submit(lambda: (began.set(), gate.wait()))
        assert began.wait(20)
        waiting, behind = pool.submit(abs, 1), pool.submit(abs, 2)
        assert not running.cancel()
        assert waiting.cancel()
        gate.set()
        assert behind.result(timeout=20) == 2
        assert waiting.cancelled()


def test_shutdown_refuses_waits_and_cancels_as_asked(kind: Any, gate: threading.Event) -> None:
    pool = kind(1)
    running = pool.submit(gate.wait)
    waiting = pool.submit(abs, 1)
    until(running.running)
    pool.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, 1)
    gate.set()
    pool.shutdown(wait=True)
    assert running.done()


def test_leaving_the_block_waits_for_all_that_was_submitted(kind: Any) -> None:
    done: list[int] = []
    with kind(2) as pool:
        for number in range(20):
            pool.submit(lambda number=number: (time.sleep(0.002), done.append(number)))
    assert sorted(done) == [*range(20)]


def test_an_initializer_runs_once_a_thread_and_its_failure_breaks_the_pool(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    here, made = threading.local(), []

    def prepare(value: str) -> None:
        here.value = value
        made.append(threading.get_ident())

    with kind(2, initializer=prepare, initargs=("ready",)) as pool:
        assert {*pool.map(lambda _: here.value, range(20))} == {"ready"}
    assert len(made) == len({*made}) <= 2

    broken = kind(1, initializer=lambda: 1 / 0)
    with pytest.raises(concurrent.futures.thread.BrokenThreadPool):
        broken.submit(abs, 1).result(timeout=20)
    with pytest.raises(concurrent.futures.thread.BrokenThreadPool):
        broken.submit(abs, 1)
    assert "Exception in initializer" in caplog.text
    broken.shutdown()


@pytest.mark.parametrize("workers", [0, -1])
def test_wrong_arguments_are_refused(kind: Any, workers: int) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        kind(workers)
    with pytest.raises(TypeError, match="callable"):
        kind(1, initializer=3)


@pytest.mark.slow
def test_a_pool_that_is_dropped_finishes_its_work_and_lets_its_threads_go(kind: Any, gate: threading.Event) -> None:
    pool = kind(1)
    first, second = pool.submit(gate.wait), pool.submit(abs, -7)
    dropped = weakref.ref(pool)
    del pool
    gate.set()
    assert first.result(timeout=20)
    assert second.result(timeout=20) == 7
    until(lambda: (gc.collect(), dropped() is None)[1])


# -- what the standard library's does not do -------------------------------------------------------------------


def test_each_submit_takes_a_copy_of_the_callers_context() -> None:
    def change(value: str) -> str:
        before = variable.get()
        variable.set(value)
        return before

    with tk.ThreadPoolExecutor(1) as pool:
        for number in range(5):
            variable.set(f"caller {number}")
            assert pool.submit(change, "worker").result(timeout=20) == f"caller {number}"
            assert variable.get() == f"caller {number}"
        assert [*pool.map(change, "abc")] == ["caller 4"] * 3


def test_asyncio_takes_it_for_run_in_executor_and_as_its_default() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        variable.set("the task's")
        with tk.ThreadPoolExecutor(2) as pool:
            first = await loop.run_in_executor(pool, variable.get)
        loop.set_default_executor(tk.ThreadPoolExecutor(2))
        return [first, await loop.run_in_executor(None, variable.get), await asyncio.to_thread(variable.get)]

    assert asyncio.run(main()) == ["the task's"] * 3


def test_waiting_for_the_pool_in_its_own_thread_is_refused() -> None:
    pool = tk.ThreadPoolExecutor(1)
    with pytest.raises(RuntimeError, match="in one of its own threads"):
        pool.submit(pool.shutdown).result(timeout=20)
    pool.shutdown()


def test_many_threads_may_submit_at_once() -> None:
    with tk.ThreadPoolExecutor(4) as pool, STANDARD(8) as submitters:
        futures = [*submitters.map(lambda number: pool.submit(abs, -number), range(800))]
        assert [future.result(timeout=60) for future in futures] == [*range(800)]


def test_it_lives_beside_instrumented_threads() -> None:
    tk.instrument("threads")
    try:
        variable.set("carried")
        with tk.ThreadPoolExecutor(2) as pool:
            assert pool.submit(variable.get).result(timeout=20) == "carried"
    finally:
        tk.uninstrument("threads")

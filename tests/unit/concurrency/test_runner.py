"""Ordinary calls: results, exceptions, order, the cap, contexts, cancelling."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import threading
import time
from typing import Any

import pytest
from tests.support import garbage

from tracekeeper.concurrency import Runner

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


class Callable:
    async def __call__(self) -> int:
        return 42

    async def method(self) -> int:
        return 42


def future_of_a_pool() -> concurrent.futures.Future[int]:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    future.set_result(42)
    return future


def future_of_the_loop() -> asyncio.Future[int]:
    return asyncio.ensure_future(answer())


@pytest.mark.parametrize(
    "call",
    [
        lambda: 42,
        answer,
        lambda: answer(),
        functools.partial(answer),
        Callable(),
        Callable().method,
        future_of_a_pool,
        future_of_the_loop,
        functools.wraps(answer)(lambda: answer()),
    ],
)
def test_every_shape_of_callable_gives_its_result(runner: Runner, outcomes: Any, call: Any) -> None:
    runner.start(call, timeout=10, done=outcomes.done(0))
    outcome = outcomes.one()
    assert (outcome.status, outcome.value, outcome.attempts) == ("ok", 42, 1)
    assert outcomes.threads[0] is not threading.current_thread()
    assert outcomes.threads[0].daemon


def test_a_task_of_the_programs_own_loop_is_awaited_across_loops(runner: Runner, outcomes: Any) -> None:
    async def main() -> Any:
        task = asyncio.get_running_loop().create_task(answer())
        runner.start(lambda: task, timeout=10, done=outcomes.done(0))
        return await asyncio.get_running_loop().run_in_executor(None, outcomes.one)

    assert asyncio.run(main()).value == 42


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, Unprintable])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_any_exception_is_an_outcome_and_the_runner_lives(
    runner: Runner, outcomes: Any, kind: type[BaseException], asynchronous: bool
) -> None:
    def fails() -> None:
        raise kind

    async def afails() -> None:
        raise kind

    runner.start(afails if asynchronous else fails, timeout=10, done=outcomes.done(0))
    outcome = outcomes.one()
    assert outcome.status == "error"
    expected = RuntimeError if asynchronous and kind is StopIteration else kind
    assert isinstance(outcome.error, expected)
    runner.start(answer if asynchronous else lambda: 42, timeout=10, done=outcomes.done(1))
    assert outcomes.one().value == 42


@pytest.mark.slow
def test_a_task_that_the_call_started_and_that_exits_does_not_stop_the_loop(runner: Runner, outcomes: Any) -> None:
    async def leaves() -> None:
        raise SystemExit(3)

    async def call() -> int:
        asyncio.get_running_loop().create_task(leaves())
        await asyncio.sleep(0.01)
        return 42

    runner.start(call, timeout=10, done=outcomes.done(0))
    assert outcomes.one().value == 42
    garbage.collect()


@pytest.mark.parametrize("kind", [asyncio.CancelledError, concurrent.futures.CancelledError])
def test_a_call_that_cancels_itself_is_cancelled(runner: Runner, outcomes: Any, kind: type[BaseException]) -> None:
    def cancels() -> None:
        raise kind

    async def acancels() -> None:
        raise kind

    runner.start(cancels, timeout=10, done=outcomes.done("sync"))
    runner.start(acancels, timeout=10, done=outcomes.done("async"))
    assert {outcome.status for outcome in outcomes.take(2).values()} == {"cancelled"}


def test_a_callback_that_raises_is_counted_and_others_go_on(
    runner: Runner, outcomes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(outcome: Any) -> None:
        raise SystemExit

    runner.start(lambda: None, timeout=10, done=raises)
    runner.start(answer, timeout=10, done=raises)
    assert runner.drain(10)
    assert runner.failed_callbacks == 2
    runner.start(lambda: 42, timeout=10, done=outcomes.done(0))
    assert outcomes.one().value == 42


def test_calls_begin_in_the_order_they_came_and_no_more_than_the_cap(outcomes: Any) -> None:
    runner = Runner(name="order", concurrency=1)
    begun: list[int] = []
    for number in range(200):
        call = functools.partial(begun.append, number)
        if number % 2:

            async def acall(call: Any = call) -> None:
                call()

            runner.start(acall, timeout=10, done=outcomes.done(number))
        else:
            runner.start(call, timeout=10, done=outcomes.done(number))
    outcomes.take(200)
    assert begun == list(range(200))
    runner.close()


def test_the_cap_holds_and_can_be_raised(outcomes: Any) -> None:
    runner = Runner(name="cap", concurrency=2)
    entered, leave = threading.Semaphore(0), threading.Event()

    def holds() -> None:
        entered.release()
        leave.wait(30)

    for number in range(6):
        runner.start(holds, timeout=60, done=outcomes.done(number))
    for _ in range(2):
        assert entered.acquire(timeout=10)
    assert runner.load() == (2, 4)
    runner.concurrency = 5
    runner.start(holds, timeout=60, done=outcomes.done(6))
    for _ in range(3):
        assert entered.acquire(timeout=10)
    assert runner.load() == (5, 2)
    leave.set()
    outcomes.take(7)
    assert runner.drain(10)
    runner.close()


def test_the_context_goes_along(runner: Runner, outcomes: Any) -> None:
    async def areads() -> str:
        return variable.get()

    def run() -> None:
        variable.set("mine")
        runner.start(variable.get, timeout=10, done=outcomes.done("sync"))
        runner.start(areads, timeout=10, done=outcomes.done("async"))
        runner.start(lambda: areads(), timeout=10, done=outcomes.done("late"))

    contextvars.copy_context().run(run)
    assert {outcome.value for outcome in outcomes.take(3).values()} == {"mine"}
    runner.start(variable.get, timeout=10, done=outcomes.done("other"))
    assert outcomes.one().value == "unset"


def test_what_has_not_begun_can_be_cancelled_at_once(outcomes: Any) -> None:
    runner = Runner(name="pending", concurrency=1)
    leave = threading.Event()
    runner.start(lambda: leave.wait(30), timeout=60, done=outcomes.done("running"))
    for number in range(5):
        runner.start(lambda: None, timeout=60, done=outcomes.done(number))
    assert runner.cancel_pending("interrupted") == 5
    cancelled = outcomes.take(5)
    assert {(outcome.status, outcome.reason) for outcome in cancelled.values()} == {("cancelled", "interrupted")}
    leave.set()
    assert outcomes.one().status == "ok"
    runner.close()


def test_a_running_call_can_be_cancelled(runner: Runner, outcomes: Any) -> None:
    begun, ended, leave = threading.Event(), threading.Event(), threading.Event()

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = runner.start(waits, timeout=60, done=outcomes.done("async"))
    assert begun.wait(10)
    task.cancel("enough")
    assert (outcomes.one().status, ended.wait(10)) == ("cancelled", True)

    begun.clear()

    def blocks() -> None:
        begun.set()
        leave.wait(30)

    task = runner.start(blocks, timeout=60, done=outcomes.done("sync"))
    assert begun.wait(10)
    task.cancel("enough")
    assert outcomes.one().reason == "enough"
    assert runner.abandoned() == (1, 0)
    leave.set()
    assert runner.drain(10)


def test_running_tells_what_since_when_and_where(runner: Runner, outcomes: Any) -> None:
    begun, leave = threading.Semaphore(0), threading.Event()

    def inner() -> None:
        begun.release()
        leave.wait(30)

    async def ainner() -> None:
        begun.release()
        while not leave.is_set():
            await asyncio.sleep(0.01)

    async def outer() -> None:
        await ainner()

    before = time.time()
    runner.start(inner, timeout=60, done=outcomes.done(0), name="blocking")
    runner.start(outer, timeout=60, done=outcomes.done(1), name="awaiting")
    for _ in range(2):
        assert begun.acquire(timeout=10)
    calls = {call.name: call for call in runner.running()}
    assert set(calls) == {"blocking", "awaiting"}
    assert any("inner" in line and "test_runner.py" in line for line in calls["blocking"].stack)
    assert any("ainner" in line for line in calls["awaiting"].stack)
    assert calls["blocking"].where == "thread"
    assert calls["awaiting"].where == "loop"
    assert before <= calls["blocking"].since <= time.time()
    leave.set()
    outcomes.take(2)


def test_a_closed_runner_refuses_and_finishes_what_it_has(outcomes: Any) -> None:
    runner = Runner(name="closed", concurrency=1)
    leave = threading.Event()
    runner.start(lambda: leave.wait(30), timeout=60, done=outcomes.done("running"))
    runner.start(lambda: None, timeout=60, done=outcomes.done("waiting"))
    runner.close()
    with pytest.raises(RuntimeError, match="closed"):
        runner.start(lambda: None, timeout=1, done=outcomes.done("late"))
    assert outcomes.take(1)["waiting"].status == "cancelled"
    leave.set()
    assert outcomes.take(1)["running"].status == "ok"


@pytest.mark.slow
def test_a_finaliser_may_start_a_call_at_any_moment(runner: Runner, outcomes: Any) -> None:
    count = 300

    class Cycle:
        def __init__(self, number: int) -> None:
            self.me = self
            self.number = number

        def __del__(self) -> None:
            runner.start(answer, timeout=60, done=outcomes.done(("finaliser", self.number)))

    threshold = gc.get_threshold()
    gc.set_threshold(7)  # the collector runs inside nearly everything, the runner's own code included
    try:
        for number in range(count):
            Cycle(number)
            runner.start(lambda: None, timeout=60, done=outcomes.done(("plain", number)))
    finally:
        gc.set_threshold(*threshold)
    garbage.collect()
    assert all(outcome.ok for outcome in outcomes.take(2 * count).values())

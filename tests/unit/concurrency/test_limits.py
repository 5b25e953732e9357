"""Limits of a provider: how many at once and per minute, in order, from threads and several loops, with no holes."""

from __future__ import annotations

import asyncio
import gc
import heapq
import math
import os
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.loops import in_a_loop

from tracekeeper.concurrency.budget import Budget
from tracekeeper.concurrency.limits import FIRST, Limiter, Place, limiter_for

FOREVER = 30.0


class Time:
    """A clock that is moved by hand, and rings what is due."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def alarm(self, when: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._alarms, (when, len(self._alarms), callback))

    def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while self._alarms and self._alarms[0][0] <= end:
            self.now, _, callback = heapq.heappop(self._alarms)
            callback()
        self.now = end


def made(time: Time, **options: float) -> Limiter:
    return Limiter("test/model", clock=time, alarm=time.alarm, **options)  # type: ignore[arg-type]


class Queue:
    """Callers in a row, each of whom keeps its place until it is told to go."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.through: list[int] = []
        self.places: dict[int, Place] = {}

    def add(self, number: int, tokens: float = 0) -> asyncio.Task[None]:
        async def call() -> None:
            place = await self.limiter.atake(tokens, None)
            self.through.append(number)
            self.places[number] = place

        return asyncio.ensure_future(call())


async def settle() -> None:
    """Let everything that can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0)


@given(st.floats(0.2, 3000), st.lists(st.floats(0, 20), max_size=60))
def test_any_sixty_seconds_see_no_more_than_the_allowance(per_minute: float, gaps: list[float]) -> None:
    now, began = 0.0, []
    budget = Budget(per_minute, now)
    for gap in gaps:
        now += gap
        now += budget.wait(1, now)
        budget.take(1, now)
        began.append(now)
    for first in began:
        assert len([one for one in began if first <= one < first + 59.999]) <= math.ceil(per_minute)


@in_a_loop
async def test_requests_wait_for_their_minute_in_the_order_they_came() -> None:
    time = Time()
    queue = Queue(made(time, requests_per_minute=60, max_concurrency=1000, min_concurrency=1000))
    waiting = [queue.add(number) for number in range(100)]
    await settle()
    assert queue.through == list(range(6))  # a tenth of a minute's worth at once
    time.pass_by(59.9)
    await settle()
    assert queue.through == list(range(60))
    time.pass_by(60)
    await settle()
    assert queue.through == list(range(100))
    await asyncio.gather(*waiting)


@in_a_loop
async def test_tokens_hold_calls_back_and_are_corrected_by_what_was_used() -> None:
    time = Time()
    queue = Queue(made(time, tokens_per_minute=6000))
    waiting = [queue.add(number, tokens=600) for number in range(3)]
    await settle()
    assert queue.through == [0]
    queue.places[0].used(tokens=100)  # it was expected to be six times as long
    time.pass_by(1.2)  # 500 are back, and 1.2 s bring the rest
    await settle()
    assert queue.through == [0, 1]
    time.pass_by(1.2)
    await settle()
    assert queue.through == [0, 1]
    time.pass_by(6)
    await settle()
    assert queue.through == [0, 1, 2]
    await asyncio.gather(*waiting)


@in_a_loop
async def test_a_request_larger_than_the_burst_goes_and_is_paid_off() -> None:
    time = Time()
    queue = Queue(made(time, tokens_per_minute=6000))
    waiting = [queue.add(0, tokens=3000), queue.add(1, tokens=1)]
    await settle()
    assert queue.through == [0]
    time.pass_by(26)
    await settle()
    assert queue.through == [0]
    time.pass_by(2)
    await settle()
    assert queue.through == [0, 1]
    await asyncio.gather(*waiting)


@in_a_loop
async def test_retry_after_holds_everybody_back_for_that_long() -> None:
    time = Time()
    limiter = made(time)
    async with limiter.aplace() as place:
        place.too_much(retry_after=20)
    queue = Queue(limiter)
    waiting = [queue.add(number) for number in range(2)]
    time.pass_by(19.9)
    await settle()
    assert queue.through == []
    assert limiter.state()["paused_for"] == pytest.approx(0.1)
    time.pass_by(0.2)
    await settle()
    assert queue.through == [0, 1]
    await asyncio.gather(*waiting)


@in_a_loop
async def test_the_calls_in_flight_double_until_the_first_complaint_then_grow_by_one_and_halve() -> None:
    limiter = made(Time(), max_concurrency=100)

    async def one_round() -> list[Place]:
        return [await limiter.atake(0, None) for _ in range(limiter.state()["concurrency"])]

    async def answered() -> int:
        places = await one_round()
        for place in places:
            place.release()
        return int(limiter.state()["concurrency"])

    assert limiter.state()["concurrency"] == FIRST
    # Only calls that were given the last place say that more were needed: a round adds what filled up.
    for _ in range(200):
        await answered()
    assert limiter.state()["concurrency"] == 100
    places = await one_round()
    for place in places:
        place.too_much()
    assert limiter.state()["concurrency"] == 50, "one round of complaints halves once"
    widths = [await answered() for _ in range(200)]
    assert widths[-1] <= 54, "after a complaint it grows by one in a round of full places"
    for _ in range(20):
        for place in await one_round():
            place.too_much()
    assert limiter.state()["concurrency"] == 1, "never below its bound"


@in_a_loop
async def test_places_that_nobody_needs_do_not_widen_the_limit() -> None:
    limiter = made(Time())
    for _ in range(100):
        async with limiter.aplace():
            pass
    assert limiter.state()["concurrency"] == FIRST


@in_a_loop
async def test_who_leaves_the_queue_leaves_no_hole() -> None:
    limiter = made(Time(), max_concurrency=1)
    queue = Queue(limiter)
    first = await limiter.atake(0, None)
    waiting = [queue.add(number) for number in range(5)]
    await settle()
    waiting[0].cancel()
    waiting[2].cancel()
    await settle()
    first.release()
    waiting[1].cancel()  # at the very moment: it was given the place and is cancelled before it runs
    await settle()
    assert queue.through == [3]
    queue.places[3].release()
    await settle()
    assert queue.through == [3, 4]
    queue.places[4].release()
    assert limiter.state() | {"key": ""} == limiter.state() | {"key": "", "in_flight": 0, "waiting": 0}


@in_a_loop
async def test_a_wait_that_ends_says_what_it_waited_for() -> None:
    time = Time()
    limiter = made(time, max_concurrency=1, requests_per_minute=1)
    place = await limiter.atake(0, None)
    with pytest.raises(
        TimeoutError, match=r"no place at test/model within 0.01 s: 1 calls are in flight, and 1 may be"
    ):
        async with limiter.aplace(timeout=0.01):
            pass
    place.release()
    with pytest.raises(TimeoutError, match=r"requests or tokens per minute are used up"), limiter.place(timeout=0.01):
        pass
    limiter.pause(50)
    with pytest.raises(TimeoutError, match=r"the provider asked to wait 50.0 s longer"), limiter.place(timeout=0.01):
        pass
    assert limiter.state()["waiting"] == 0


def test_threads_and_three_loops_share_the_places_and_all_come_through() -> None:
    limiter = Limiter("test/shared", max_concurrency=4)
    inside, most, done = Counter[str](), [0], Counter[str]()
    lock = threading.Lock()

    def change(by: int) -> None:
        with lock:
            inside["now"] += by
            most[0] = max(most[0], inside["now"])

    def thread() -> None:
        for _ in range(50):
            with limiter.place(timeout=FOREVER):
                change(1)
                os.sched_yield()
                change(-1)
            done["thread"] += 1

    async def call() -> None:
        async with limiter.aplace(timeout=FOREVER):
            change(1)
            await asyncio.sleep(0)
            change(-1)
        done["task"] += 1

    async def tasks() -> None:
        await asyncio.gather(*(call() for _ in range(100)))

    threads = [threading.Thread(target=thread) for _ in range(4)]
    threads += [threading.Thread(target=lambda: asyncio.run(tasks())) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(FOREVER)
    assert done == {"thread": 200, "task": 300}
    assert most[0] == 4
    assert limiter.state()["in_flight"] == 0


def test_a_loop_that_was_closed_with_a_waiter_in_it_holds_up_nobody() -> None:
    limiter = Limiter("test/closed", max_concurrency=1)
    first = limiter.take(0, None)
    loop = asyncio.new_event_loop()
    forgotten = loop.create_task(limiter.atake(0, None))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    first.release()
    with limiter.place(timeout=FOREVER):
        pass
    forgotten._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_waiter_that_is_collected_gives_back_what_it_was_given() -> None:
    limiter = Limiter("test/collected", max_concurrency=1)
    first = limiter.take(0, None)
    loop = asyncio.new_event_loop()
    forgotten = loop.create_task(limiter.atake(0, None))
    loop.run_until_complete(asyncio.sleep(0))
    first.release()  # given to the task, whose loop does not run any more
    forgotten._log_destroy_pending = False  # type: ignore[attr-defined]
    del forgotten
    loop.close()
    gc.collect()
    with limiter.place(timeout=FOREVER):
        pass


def test_the_real_clock_lets_the_next_one_through() -> None:
    limiter = Limiter("test/clock", requests_per_minute=600, max_concurrency=200)
    for _ in range(62):  # 60 at once, then one each 0.11 s
        with limiter.place(timeout=FOREVER):
            pass


def test_limits_may_change_while_calls_wait() -> None:
    limiter = Limiter("test/changed", max_concurrency=1)
    first = limiter.take(0, None)
    through = threading.Event()

    def call() -> None:
        with limiter.place(timeout=FOREVER):
            through.set()

    thread = threading.Thread(target=call)
    thread.start()
    limiter.allow(max_concurrency=2, min_concurrency=2)
    assert through.wait(FOREVER)
    thread.join(FOREVER)
    first.release()
    assert limiter_for("a/b") is limiter_for("a/b")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_all_places_to_itself() -> None:
    limiter = Limiter("test/forked", max_concurrency=1)
    with limiter.place():
        child = os.fork()
        if child == 0:
            try:
                with limiter.place(timeout=5):
                    pass
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert limiter.state()["in_flight"] == 0

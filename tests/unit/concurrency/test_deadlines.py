"""Calls that do not come back: threads and coroutines that hang, loops that are blocked, a process that is stopped."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from tracekeeper.concurrency import Runner, loops, watchdog


class Gate:
    """Blocks whoever comes until it is opened; says when somebody came."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def block(self) -> str:
        self.entered.set()
        self.open.wait(60)
        return "late"

    async def block_the_loop(self) -> str:
        return self.block()


@pytest.fixture
def gate() -> Any:
    made = Gate()
    yield made
    made.open.set()


def test_a_call_that_blocks_is_settled_at_its_deadline(runner: Runner, outcomes: Any, gate: Gate) -> None:
    began = time.monotonic()
    runner.start(gate.block, timeout=0.3, done=outcomes.done(0))
    outcome = outcomes.one()
    assert outcome.status == "timed_out"
    assert 0.3 <= time.monotonic() - began < 0.9 + 1
    assert "timed out after 0.3 s" in outcome.reason
    assert runner.abandoned() == (1, 0)
    assert [call.settled for call in runner.running()] == [True]
    gate.open.set()
    runner.start(lambda: 42, timeout=10, done=outcomes.done(1))
    assert outcomes.one().value == 42
    assert runner.drain(10)
    assert outcomes.nothing_more()


def test_a_late_result_is_discarded_counted_and_its_thread_serves_again(
    runner: Runner, outcomes: Any, gate: Gate
) -> None:
    runner.abandoned_limit = 1
    runner.start(gate.block, timeout=0.1, done=outcomes.done(0))
    assert outcomes.one().status == "timed_out"
    runner.start(lambda: 42, timeout=10, done=outcomes.done(1))  # waits: the limit is reached
    assert runner.load() == (0, 1)
    gate.open.set()
    assert outcomes.one().value == 42
    assert runner.late == 1
    assert runner.abandoned() == (0, 0)


def test_at_the_limit_of_abandoned_threads_a_call_that_cannot_start_fails_with_that_reason(
    runner: Runner, outcomes: Any, gate: Gate
) -> None:
    runner.abandoned_limit = 2
    for number in range(2):
        runner.start(gate.block, timeout=0.1, done=outcomes.done(number))
    outcomes.take(2)
    runner.start(lambda: 42, timeout=10, start_within=0.2, done=outcomes.done("waits"))
    outcome = outcomes.one()
    assert (outcome.status, outcome.attempts) == ("error", 0)
    assert "could not start within 0.2 s: 2 threads and 0 event loops are held" in outcome.reason


def test_a_call_behind_too_many_others_fails_with_that_reason(outcomes: Any, gate: Gate) -> None:
    runner = Runner(name="full", concurrency=1)
    runner.start(gate.block, timeout=60, done=outcomes.done(0))
    runner.start(lambda: 42, timeout=10, start_within=0.2, done=outcomes.done(1))
    assert "1 calls were running (the limit is 1)" in outcomes.one().reason
    runner.close()


async def waits_for_ever() -> None:
    await asyncio.Event().wait()


async def swallows_cancellation() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


@pytest.mark.parametrize("call", [waits_for_ever, swallows_cancellation, lambda: waits_for_ever()])
def test_a_coroutine_that_never_returns_is_settled_at_its_deadline(runner: Runner, outcomes: Any, call: Any) -> None:
    began = time.monotonic()
    runner.start(call, timeout=0.3, done=outcomes.done(0))
    assert outcomes.one().status == "timed_out"
    assert 0.3 <= time.monotonic() - began < 0.9 + 1
    runner.start(waits_for_ever, timeout=0.1, done=outcomes.done(1))
    assert outcomes.one().status == "timed_out"


@pytest.mark.slow
def test_a_coroutine_that_ignores_its_cancellation_is_counted(
    runner: Runner, outcomes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracekeeper.concurrency.rescue.MOMENT", 0.05)
    let_go = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def swallows() -> None:
        loops.append(asyncio.get_running_loop())
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    runner.start(swallows, timeout=0.1, done=outcomes.done(0))
    assert outcomes.one().status == "timed_out"
    counted = threading.Event()
    runner.clock.at(runner.clock.now() + 0.3, counted.set)
    assert counted.wait(10)
    assert runner.ignoring_cancellation() == 1
    loops[0].call_soon_threadsafe(let_go.set)
    runner.start(lambda: waits_for_ever(), timeout=0.1, done=outcomes.done(1))
    outcomes.one()
    assert runner.ignoring_cancellation() == 0


@pytest.mark.slow
def test_a_blocked_loop_is_abandoned_and_its_neighbours_go_on(runner: Runner, outcomes: Any, gate: Gate) -> None:
    runs: dict[str, int] = {"restartable": 0, "once": 0, "quick": 0}
    ready = threading.Semaphore(0)

    def neighbour(name: str) -> Any:
        async def call() -> str:
            runs[name] += 1
            ready.release()
            if runs[name] == 1:
                await asyncio.Event().wait()
            return name

        return call

    runner.start(neighbour("restartable"), timeout=30, done=outcomes.done("restartable"), restartable=True)
    runner.start(neighbour("once"), timeout=30, done=outcomes.done("once"))
    for _ in range(2):
        assert ready.acquire(timeout=10)
    began = time.monotonic()
    runner.start(gate.block_the_loop, timeout=4, done=outcomes.done("blocker"), name="the blocker", restartable=True)
    assert gate.entered.wait(10)
    settled = outcomes.take(2)
    assert time.monotonic() - began < 3.5
    assert settled["restartable"].value == "restartable"
    assert settled["restartable"].attempts == 2
    assert "blocked by the blocker" in settled["restartable"].interruptions[0]
    assert settled["once"].status == "timed_out"
    assert "blocked by the blocker" in settled["once"].reason
    assert runner.abandoned() == (0, 1)
    runner.start(waits_for_ever, timeout=0.2, done=outcomes.done("new"))  # a new loop serves
    assert outcomes.take(1)["new"].status == "timed_out"
    blocker = outcomes.take(1)["blocker"]
    assert blocker.status == "timed_out"
    assert 4 <= time.monotonic() - began < 6
    assert "in Gate.block (test_deadlines.py" in blocker.reason
    assert blocker.attempts == 1
    assert runs == {"restartable": 2, "once": 1, "quick": 0}


@pytest.mark.slow
def test_a_blocker_that_comes_back_before_its_deadline_has_its_result(
    runner: Runner, outcomes: Any, gate: Gate
) -> None:
    async def neighbour() -> str:
        return "moved"

    runner.start(gate.block_the_loop, timeout=30, done=outcomes.done("blocker"))
    assert gate.entered.wait(10)
    runner.start(neighbour, timeout=30, done=outcomes.done("neighbour"))  # has not begun: it moves, restartable or not
    moved = outcomes.take(1)["neighbour"]
    assert (moved.value, moved.attempts) == ("moved", 1)
    gate.open.set()
    assert outcomes.take(1)["blocker"].value == "late"
    runner.start(neighbour, timeout=30, done=outcomes.done("again"))
    assert outcomes.one().value == "moved"


@pytest.mark.slow
def test_a_child_task_that_blocks_the_loop_is_blamed_on_its_call(runner: Runner, outcomes: Any, gate: Gate) -> None:
    async def parent() -> None:
        await asyncio.gather(gate.block_the_loop(), asyncio.sleep(0))

    async def once() -> None:
        await asyncio.Event().wait()

    runner.start(once, timeout=30, done=outcomes.done("once"))
    runner.start(parent, timeout=2, done=outcomes.done("parent"), name="the parent")
    assert "blocked by the parent" in outcomes.take(1)["once"].reason
    assert outcomes.take(1)["parent"].status == "timed_out"


@pytest.mark.slow
def test_a_neighbour_whose_deadline_comes_while_the_loop_is_blocked_begins_again(
    runner: Runner, outcomes: Any, gate: Gate
) -> None:
    begun = threading.Event()

    async def neighbour() -> str:
        first = not begun.is_set()
        begun.set()
        if first:
            await asyncio.sleep(30)
        return "done"

    runner.start(neighbour, timeout=0.9, done=outcomes.done("neighbour"), restartable=True)
    assert begun.wait(10)
    runner.start(gate.block_the_loop, timeout=30, done=outcomes.done("blocker"))
    settled = outcomes.take(1)["neighbour"]
    assert (settled.status, settled.value, settled.attempts) == ("ok", "done", 2)


@pytest.mark.slow
def test_a_loop_that_is_only_busy_is_left_alone(runner: Runner, outcomes: Any) -> None:
    runner.concurrency = 64

    async def computes() -> None:
        for _ in range(3):
            end = time.thread_time() + 0.02
            while time.thread_time() < end:
                pass
            await asyncio.sleep(0)

    for number in range(64):  # one round of steps takes 1.3 s: no heartbeat is answered in time
        runner.start(computes, timeout=60, done=outcomes.done(number))
    settled = outcomes.take(64, timeout=60)
    assert all(outcome.ok and outcome.attempts == 1 for outcome in settled.values())
    assert runner.abandoned() == (0, 0)


def test_a_pause_of_the_whole_process_is_taken_off_the_clock() -> None:
    dog = watchdog.Watchdog()
    before = dog.now()
    dog._forgive(0.05)  # noise of the scheduler
    assert dog.slip == 0.0
    dog._forgive(10.0)
    assert dog.now() - before < -9


def test_settled_calls_leave_the_heap() -> None:
    dog = watchdog.Watchdog()
    fired = threading.Event()
    for _ in range(50_000):
        dog.at(dog.now() + 3600, fired.set).cancel()
    kept = dog.at(dog.now() + 0.05, fired.set)
    assert fired.wait(10)
    assert kept.action is None
    turned = threading.Event()
    dog.at(dog.now(), turned.set)  # due in the next turn, so the turn that fired the other one has come to its end
    assert turned.wait(10)
    assert len(dog._heap) < 1024


def test_work_that_got_no_thread_is_tried_again(
    runner: Runner, outcomes: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tracekeeper.concurrency import loops, workers

    refusals = {"workers": 2, "loops": 2}

    def reluctant(room: Any, name: str) -> None:
        real = room.start_daemon

        def start(*args: Any) -> None:
            if refusals[name]:
                refusals[name] -= 1
                raise RuntimeError("can't start new thread")
            real(*args)

        monkeypatch.setattr(room, "start_daemon", start)

    reluctant(workers, "workers")
    reluctant(loops, "loops")
    runner.start(lambda: 42, timeout=10, done=outcomes.done("sync"))

    async def answer() -> int:
        return 42

    runner.start(answer, timeout=10, done=outcomes.done("async"))
    assert [outcome.value for outcome in outcomes.take(2).values()] == [42, 42]
    assert refusals == {"workers": 0, "loops": 0}


@pytest.mark.slow
def test_a_loop_whose_first_heartbeat_came_before_it_existed_is_not_taken_for_blocked(
    runner: Runner, outcomes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinged = threading.Event()
    heartbeat, make = loops.EngineLoop.heartbeat, asyncio.new_event_loop

    def noting(loop: loops.EngineLoop, now: float) -> bool:
        blocked = heartbeat(loop, now)
        pinged.set()
        return blocked

    def slowly() -> asyncio.AbstractEventLoop:
        assert pinged.wait(20)  # the thread gets no processor time until the watchdog has looked
        return make()

    monkeypatch.setattr(loops.EngineLoop, "heartbeat", noting)
    monkeypatch.setattr(asyncio, "new_event_loop", slowly)
    runs: list[int] = []

    async def waits() -> None:
        runs.append(1)
        await asyncio.Event().wait()

    runner.start(waits, timeout=2 * loops.SILENCE + 1, done=outcomes.done(0), restartable=True)
    outcome = outcomes.one()
    assert (outcome.status, outcome.interruptions, runs) == ("timed_out", (), [1])

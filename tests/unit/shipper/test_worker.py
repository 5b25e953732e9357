"""The thread: started by a wake-up, restarted when it is lost, never waited for by who wakes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

import pytest

from tracekeeper.shipper.worker import Crew, Request, Worker


class Recorder:
    """A crew that tells each turn it does."""

    def __init__(self, act: Callable[[list[Request]], float] = lambda _: 60.0) -> None:
        self.turns: SimpleQueue[list[Request]] = SimpleQueue()
        self.act = act

    def turn(self, requests: list[Request]) -> float:
        wait = self.act(requests)
        self.turns.put(requests)
        return wait


def answering(requests: list[Request]) -> float:
    for request in requests:
        request.answer()
    return 60.0


def request(seconds: float = 10.0) -> Request:
    return Request("ship", target=0, deadline=time.monotonic() + seconds)


def test_the_first_wake_starts_a_named_daemon_thread() -> None:
    seen: SimpleQueue[tuple[str, bool]] = SimpleQueue()

    def make() -> Crew:
        seen.put((threading.current_thread().name, threading.current_thread().daemon))
        return Recorder()

    worker = Worker(make, name="a-shipper")
    worker.wake()
    assert seen.get(timeout=10) == ("a-shipper", True)
    worker.stop()


def test_a_request_is_answered_in_the_thread() -> None:
    worker = Worker(lambda: Recorder(answering), name="shipper")
    asked = worker.ask(request())
    assert asked.wait()
    assert asked.reason is None
    worker.stop()


def test_who_asks_waits_no_longer_than_its_deadline_when_the_thread_hangs() -> None:
    release = threading.Event()

    def hang(_: list[Request]) -> float:
        release.wait(30)
        return 60.0

    worker = Worker(lambda: Recorder(hang), name="shipper")
    began = time.monotonic()
    assert not worker.ask(request(0.2)).wait()
    assert time.monotonic() - began < 5
    release.set()
    worker.stop()


def test_a_thread_that_died_comes_back_with_the_next_wake(caplog: pytest.LogCaptureFixture) -> None:
    turns: SimpleQueue[int] = SimpleQueue()
    count = [0]

    def die_once(_: list[Request]) -> float:
        count[0] += 1
        turns.put(count[0])
        if count[0] == 1:
            raise RuntimeError("unforeseen")
        return 60.0

    worker = Worker(lambda: Recorder(die_once), name="shipper")
    worker.wake()
    assert turns.get(timeout=10) == 1
    deadline = time.monotonic() + 10
    while worker.running and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    worker.wake()
    assert turns.get(timeout=10) == 2
    assert "unforeseen" in caplog.text
    worker.stop()


def test_a_crew_that_cannot_be_made_is_said_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[bool] = []

    def make() -> Crew:
        attempts.append(True)
        if len(attempts) < 3:
            raise ImportError("no database layer")
        return Recorder(answering)

    worker = Worker(make, name="shipper")
    for _ in range(2):
        asked = worker.ask(request())
        assert asked.wait()
        assert asked.reason is not None
        assert "no database layer" in asked.reason
    asked = worker.ask(request())
    assert asked.wait()
    assert asked.reason is None
    assert caplog.text.count("nothing can be stored at present") == 1
    worker.stop()


def test_a_pause_holds_the_thread_between_turns() -> None:
    crew = Recorder(answering)
    worker = Worker(lambda: crew, name="shipper")
    assert worker.ask(request()).wait()
    assert worker.pause(10)
    asked = worker.ask(request(0.2))
    assert not asked.wait()
    worker.resume()
    assert worker.ask(request()).wait()
    worker.stop()


def test_without_threads_the_caller_does_the_turn_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    worker = Worker(lambda: Recorder(answering), name="shipper")
    worker.wake()
    assert not worker.running
    asked = worker.ask(request())
    assert asked.done
    assert asked.reason is None


def test_many_wakes_leave_one_token() -> None:
    gate = threading.Event()
    crew = Recorder(lambda _: 60.0 if gate.wait(10) else 0.0)
    worker = Worker(lambda: crew, name="shipper")
    worker.wake()
    for _ in range(1000):
        worker.wake()
    assert worker._queue.qsize() <= 2
    gate.set()
    assert crew.turns.get(timeout=10) == []
    worker.stop()

"""A thread that goes on whatever its work does."""

from __future__ import annotations

import logging
import queue
import threading
import time

import pytest

from tracekeeper.scoring.worker import beat as beats
from tracekeeper.scoring.worker.beat import Beat
from tracekeeper.types import StoreError


@pytest.mark.slow
def test_it_goes_on_after_anything_and_says_so_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    turns: queue.SimpleQueue[int] = queue.SimpleQueue()
    errors: list[BaseException] = [StoreError("locked"), StoreError("locked"), SystemExit(), ValueError("odd")]

    def turn() -> float:
        turns.put(1)
        if errors:
            raise errors.pop(0)
        return 60.0

    beat = Beat("test-beat", "testing", turn)
    with caplog.at_level(logging.INFO, "tracekeeper"):
        beat.start()
        went_well = beat.ask()
        assert went_well.wait(20)
    assert (beat.failures, beat.turns, beat.trouble) == (4, 1, None)
    assert caplog.text.count("testing failed (the database cannot be used now: locked)") == 1
    assert "SystemExit" in caplog.text
    assert "ValueError: odd" in caplog.text
    assert "testing works again" in caplog.text
    beat.stop()
    assert beat.join(time.monotonic() + 10)


def test_it_sleeps_until_it_is_woken_or_stopped() -> None:
    turns: queue.SimpleQueue[int] = queue.SimpleQueue()

    def turn() -> float:
        turns.put(1)
        return 3600.0

    beat = Beat("test-beat", "testing", turn)
    assert beat.join(0)  # it was not started
    beat.start()
    beat.start()
    turns.get(timeout=10)
    beat.wake()
    turns.get(timeout=10)
    beat.stop()
    assert beat.join(time.monotonic() + 10)
    assert turns.qsize() == 0


def test_a_fork_waits_until_no_turn_is_under_way_and_none_begins_meanwhile() -> None:
    inside, leave = threading.Event(), threading.Event()

    def turn() -> float:
        inside.set()
        assert leave.wait(20)
        return 3600.0

    beat = Beat("test-beat", "testing", turn)
    beat.start()
    assert inside.wait(10)
    closed = threading.Event()
    gate = beats._gate

    def close() -> None:
        gate.close()
        closed.set()

    threading.Thread(target=close, daemon=True).start()
    assert not closed.wait(0.05)
    leave.set()
    assert closed.wait(10)
    inside.clear()
    asked = beat.ask()
    assert not inside.wait(0.05)
    gate.open()
    assert asked.wait(10)
    beat.stop()
    assert beat.join(time.monotonic() + 10)

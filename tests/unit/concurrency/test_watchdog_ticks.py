"""While anything runs or waits the watchdog looks at it, whatever else it was waiting for."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tracekeeper.concurrency import Runner, workers
from tracekeeper.concurrency.watchdog import TICK, Watchdog, watchdog


def test_a_timer_that_is_far_away_does_not_put_off_the_ticks() -> None:
    clock, ticked, busy = Watchdog(), threading.Event(), False

    class Room:
        def busy(self) -> bool:
            return busy

        def tick(self, now: float) -> None:
            ticked.set()

    clock.watch(Room())
    clock.at(clock.now() + 600, lambda: None)
    while not 500 < clock._until - clock.now() < 700:  # it sleeps until then
        threading.Event().wait(0.001)
    busy = True
    clock.ensure_ticking()
    assert ticked.wait(20 * TICK)
    busy = False


def test_a_call_that_got_no_thread_is_tried_again_although_a_timer_is_far_away(
    runner: Runner, outcomes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = workers.start_daemon, []

    def start(*args: Any) -> None:
        if not refused:
            refused.append(args)
            raise RuntimeError("can't start new thread")
        real(*args)

    clock = watchdog()
    far = clock.at(clock.now() + 60, lambda: None)
    monkeypatch.setattr(workers, "start_daemon", start)
    runner.start(lambda: 42, timeout=None, done=outcomes.done("sync"))
    assert outcomes.one().value == 42
    far.cancel()

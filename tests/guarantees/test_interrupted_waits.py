"""G1: Ctrl-C ends every wait of ours in the main thread, also when its signal wakes nobody.

The system may give a signal to any thread, and one may come as the main thread is on its way into a wait. In both cases
Python is only left a mark, which it looks at when the wait is over. Here the signal goes to another thread, always.
"""

from __future__ import annotations

import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.concurrency import waits
from tracekeeper.concurrency.limits import Limiter
from tracekeeper.tracing.keeper import Keeper

SOON = 10.0
"""Far more than the interrupt takes, far less than any of the waits would."""

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals cannot be sent to a thread here")


@pytest.fixture
def release(keeper: object) -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@contextmanager
def ctrl_c() -> Iterator[None]:
    """Ctrl-C that the thread in this block hears only if it looks: it reaches another one while this one waits."""
    main = threading.main_thread().ident
    assert main == threading.get_ident()
    over = threading.Event()

    def send() -> None:
        until = time.monotonic() + SOON
        while time.monotonic() < until and not over.is_set():
            if waits_in(sys._current_frames().get(main)):
                signal.pthread_kill(threading.get_ident(), signal.SIGINT)
                return
            time.sleep(0.001)

    thread = threading.Thread(target=send)
    thread.start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        over.set()
        thread.join()
    assert time.monotonic() - began < SOON


def waits_in(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code in (waits.get.__code__, waits.wait.__code__):
            return True
        frame = frame.f_back
    return False


def judged(release: threading.Event, **options: Any) -> Any:
    """A metric that does not end before the test does."""

    def waits_for_release(output: str) -> bool:
        return release.wait()

    return tk.metric(waits_for_release, timeout=600, **options)


def traced(*metrics: Any) -> Callable[[], str]:
    @tk.app(name="app", version="1", metrics=metrics)
    def app() -> str:
        return "answer"

    return app


def test_waiting_for_scores(release: threading.Event) -> None:
    app = traced(judged(release))
    with tk.recording() as recording:
        app()
    record = recording.get()
    with ctrl_c():
        record.wait_for_scores(timeout=600)
    with ctrl_c():
        list(tk.as_completed([record], timeout=600))


def test_an_inline_metric(release: threading.Event) -> None:
    app = traced(judged(release, mode="inline"))
    with ctrl_c():
        app()


def test_a_guard(release: threading.Event) -> None:
    guarded = tk.guard.output(judged(release), on_failure="allow")(lambda: "answer")
    with ctrl_c():
        guarded()


def test_a_models_call_and_a_place_at_a_model(release: threading.Event) -> None:
    model = tk.LM(lambda prompt: str(release.wait()), timeout=tk.Timeouts(total=600))
    with ctrl_c():
        model("Hello")
    limiter = Limiter("test/interrupted", max_concurrency=1)
    with limiter.place(), ctrl_c():
        limiter.take(timeout=600)
    with limiter.place(), ctrl_c():
        limiter.take()
    limiter.take(timeout=0).release()  # nobody who left holds a place


def test_a_pool_that_is_left(release: threading.Event) -> None:
    pool = tk.ThreadPoolExecutor(1)
    pool.submit(release.wait)
    with ctrl_c():
        pool.shutdown(wait=True)


def test_a_flush_while_the_database_is_locked(keeper: Keeper) -> None:
    traced()()
    tk.flush(timeout=SOON)
    other = sqlite3.connect(keeper.store_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    traced()()
    with ctrl_c():
        tk.flush(timeout=600)
    other.close()
    assert not tk.flush(timeout=SOON).error

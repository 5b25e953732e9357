"""The order of leaving, its deadlines, and a SIGTERM handler that is only installed where it can be."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tracekeeper.tracing import exit as leaving


@pytest.fixture(autouse=True)
def _own_callbacks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(leaving, "_callbacks", [])
    monkeypatch.setattr(leaving, "_handled", [])
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_low_orders_run_first_each_with_the_time_that_is_its() -> None:
    ran: list[tuple[int, float]] = []
    now = time.monotonic()
    for order in (40, 10, 30, 15, 20):
        leaving.at_exit(lambda deadline, order=order: ran.append((order, deadline - now)), order=order)  # type: ignore[misc]
    leaving.leave(7.0)
    assert [order for order, _ in ran] == [10, 15, 20, 30, 40]
    left = dict(ran)
    assert left[10] == left[15] == pytest.approx(7.0, abs=1)
    assert left[20] == left[30] == left[40] == pytest.approx(leaving.GRACE, abs=1)


def test_a_step_that_raises_is_logged_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []

    def broken(_: float) -> None:
        raise RuntimeError("unforeseen")

    leaving.at_exit(broken, order=10)
    leaving.at_exit(lambda _: ran.append("next"), order=11)
    leaving.leave(1.0)
    assert ran == ["next"]
    assert "unforeseen" in caplog.text


def test_the_sigterm_handler_needs_the_main_thread() -> None:
    result: list[bool] = []
    thread = threading.Thread(target=lambda: result.append(leaving.handle_sigterm(lambda: None, lambda: None)))
    thread.start()
    thread.join(10)
    assert result == [False]
    assert leaving.handle_sigterm(lambda: None, lambda: None)


def test_a_handler_of_the_programs_own_is_called_though_shipping_fails(caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []

    def ship() -> None:
        called.append("ship")
        raise OSError("no disk")

    signal.signal(signal.SIGTERM, lambda *_: called.append("theirs"))
    assert leaving.handle_sigterm(lambda: called.append("leave"), ship)
    assert leaving.handle_sigterm(lambda: called.append("leave"), ship), "once is enough"
    signal.raise_signal(signal.SIGTERM)
    assert called == ["ship", "theirs"]
    assert "no disk" in caplog.text

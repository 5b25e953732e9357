"""What runs alongside gives its value or its exception to whoever asks, with a thread or without."""

from __future__ import annotations

import threading

import pytest

from tracekeeper.concurrency.alongside import Alongside


def test_both_run_at_once() -> None:
    met = threading.Barrier(2, timeout=30)
    other = Alongside(lambda: met.wait() is not None, "test")
    met.wait()
    assert other.result() is True


def test_an_exception_is_raised_where_the_result_is_asked_for() -> None:
    other = Alongside(lambda: 1 // 0, "test")
    with pytest.raises(ZeroDivisionError):
        other.result()


def test_without_a_thread_it_runs_where_the_result_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    other = Alongside(threading.get_ident, "test")
    assert other.result() == threading.get_ident()

"""Waits that Ctrl-C and the program's own signal handlers always reach.

A signal that comes while the main thread is on its way into a wait only leaves a mark, and CPython looks at marks when
the wait is over, which may be never: with another thread at work a ``signal.pause()`` right after a ``print`` overlooks
about one signal in a hundred. So the main thread never waits for longer than ``LOOK`` seconds without looking.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK = 0.2
"""Seconds after which the main thread looks whether a signal came as it began to wait."""


def get(source: queue.SimpleQueue[T], timeout: float | None = None) -> T:
    """``source.get(timeout=timeout)``, in whatever thread.

    Raises
    ------
    queue.Empty
        Nothing came within ``timeout`` seconds.

    Examples
    --------
    >>> arrived = queue.SimpleQueue()
    >>> arrived.put("word")
    >>> get(arrived, timeout=10)
    'word'
    """
    if threading.current_thread() is not threading.main_thread():
        return source.get(timeout=timeout)
    end = _end(timeout)
    while True:
        left = _left(end)
        try:
            return source.get(timeout=min(left, LOOK))
        except queue.Empty:
            if left <= LOOK:
                raise


def wait(attempt: Callable[[float], bool], timeout: float | None = None) -> bool:
    """Whether ``attempt`` came true within ``timeout`` seconds, in whatever thread.

    Parameters
    ----------
    attempt:
        Waits for as many seconds as it is given and says whether what it waits for is there: the ``wait`` of an event,
        or a lock's ``acquire`` with ``timeout=``.

    Examples
    --------
    >>> wait(threading.Event().wait, timeout=0.01)
    False
    """
    step = LOOK if threading.current_thread() is threading.main_thread() else threading.TIMEOUT_MAX
    end = _end(timeout)
    while True:
        left = _left(end)
        if attempt(min(left, step)):
            return True
        if left <= step:
            return False


def _end(timeout: float | None) -> float:
    return math.inf if timeout is None else time.monotonic() + timeout


def _left(end: float) -> float:
    return max(0.0, end - time.monotonic())

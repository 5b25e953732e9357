"""Calling something at a given time, from one daemon thread that sleeps until then.

``Alarm.at`` takes no lock of its own (``SimpleQueue.put`` may be called again from within itself), so a finaliser may
set an alarm. The thread starts with the first one. A forked child has none of its parent's alarms and a thread of its
own.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import queue
import time
from collections.abc import Callable
from functools import partial

from tracekeeper.concurrency.threads import start_daemon

logger = logging.getLogger("tracekeeper")

_Set = tuple[float, int, Callable[[], None]]


class Alarm:
    """The alarms of a process.

    Example
    -------
    >>> import threading, time
    >>> rang = threading.Event()
    >>> Alarm().at(time.monotonic() + 0.01, rang.set)
    >>> rang.wait(5)
    True
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._new: queue.SimpleQueue[_Set] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._starter: dict[str, object] = {}

    def at(self, when: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` once ``time.monotonic()`` is ``when``. It must be quick; what it raises is logged.

        Raises
        ------
        RuntimeError
            The system gives no thread.
        """
        if os.getpid() != self._process:
            self._forget()
        self._new.put((when, next(self._numbers), callback))
        mine = object()
        if self._starter.setdefault("thread", mine) is mine:  # of several that come at once, one starts it
            try:
                start_daemon(partial(_ring, self._new), "tracekeeper-alarm", self._not_started)
            except RuntimeError:
                self._not_started()
                raise

    def _not_started(self) -> None:
        self._starter.pop("thread", None)


def _ring(new: queue.SimpleQueue[_Set]) -> None:
    waiting: list[_Set] = []
    while True:
        left = waiting[0][0] - time.monotonic() if waiting else None
        if left is None or left > 0:
            with contextlib.suppress(queue.Empty):
                heapq.heappush(waiting, new.get(timeout=left))
            continue
        _, _, callback = heapq.heappop(waiting)
        try:
            callback()
        except Exception as error:  # noqa: BLE001  the others still want to be called
            logger.warning("tracekeeper: what was to be called at a time raised %r", error)


ALARM = Alarm()
"""The one that everybody uses."""

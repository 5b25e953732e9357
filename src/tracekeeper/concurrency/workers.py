"""Threads for calls that block: as many as are needed, each a daemon, none ever joined.

Workers take from one ``SimpleQueue``. A thread is started only when more is queued than threads wait for it; a thread
that is woken starts the next one if there is still more, so a burst of blocking calls grows the pool at the speed of
thread creation while a burst of tiny ones needs two or three threads. Nothing here takes a lock.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable

from tracekeeper.concurrency.threads import at_shutdown, start_daemon

logger = logging.getLogger("tracekeeper")

IDLE_SECONDS = 10.0
"""An idle worker ends after that long."""

Job = Callable[["Worker"], None]


class Worker:
    """A thread of the pool."""

    __slots__ = ("ident",)

    def __init__(self) -> None:
        self.ident = threading.get_ident()


class Workers:
    """An elastic pool of daemon threads. It has no limit of its own: its owner decides how much it hands over."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._idle: deque[None] = deque()  # one token per thread that waits; append and pop are atomic
        self._starting: deque[None] = deque()  # one token per thread being started
        self._closed = False
        self.threads: set[Worker] = set()

    def put(self, job: Job) -> None:
        """Run ``job(worker)`` on a worker. Lock-free."""
        self._jobs.put(job)
        self._grow()

    def backlog(self) -> int:
        """Jobs that no thread has taken."""
        return self._jobs.qsize()

    def warm(self, count: int = 1) -> None:
        """Have so many threads at hand. Lock-free, and next to nothing when there are."""
        for _ in range(len(self.threads) + len(self._starting), count):
            self._start()

    def ensure(self) -> None:
        """Start a thread if jobs wait for one (an earlier start may have failed)."""
        self._grow()

    def close(self) -> None:
        """Let idle threads end, and busy ones once they are done. Does not wait for any."""
        self._closed = True
        for _ in range(len(self.threads) + len(self._starting)):
            self._jobs.put(None)

    def _grow(self) -> None:
        if self._jobs.qsize() <= len(self._idle) or self._starting:
            return  # a thread that is being started looks at the queue itself and goes on growing
        self._start()

    def _start(self) -> None:
        self._starting.append(None)
        try:
            start_daemon(self._run, f"tracekeeper-{self._name}", self._started)
        except RuntimeError as error:
            self._started()
            level = logging.DEBUG if at_shutdown(error) else logging.WARNING
            logger.log(level, "tracekeeper cannot start a thread for %s: %s; it tries again", self._name, error)

    def _started(self) -> None:
        try:
            self._starting.pop()
        except IndexError:  # two of them saw the same token: the count is a hint, never the truth
            logger.debug("tracekeeper: start token already taken")

    def _run(self) -> None:
        worker = Worker()
        self.threads.add(worker)
        self._started()
        try:
            while (job := self._take()) is not None:
                try:
                    job(worker)
                except BaseException:  # jobs catch what the calls raise; a worker outlives even a mistake of ours
                    logger.exception("tracekeeper: a worker of %s met an error and goes on", self._name)
                del job
        finally:
            self.threads.discard(worker)

    def _take(self) -> Job | None:
        self._idle.append(None)
        try:
            if self._closed and not self._jobs.qsize():
                return None
            return self._jobs.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return None
        finally:
            # Order matters: first this thread no longer counts as idle, then it looks whether anything would be left
            # waiting for nobody. A `put` before sees a queue too long, a `put` after sees one idle thread less.
            self._idle.pop()
            self._grow()

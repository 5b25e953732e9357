"""The event loop on which model calls run, in a daemon thread: one door for threads, one for tasks of any loop.

A call that is awaited on one loop and one that a thread waits for take the same way, share one pool of connections and
keep the same deadlines; who goes away (Ctrl-C, a cancelled task) cancels the call, which closes its connection. A loop
of the program that is blocked holds up no other call. The price is two changes of thread for a call and for a chunk.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from tracekeeper.concurrency.threads import start_daemon
from tracekeeper.concurrency.waits import get

T = TypeVar("T")
_inherited: list[Any] = []
"""Loops of the parent process, kept alive in a forked child, whose file descriptors they share."""


class Engine:
    """One loop, made at its first use; a forked child makes its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._making = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None
        self.generation = 0
        """Counts the loops: what belongs to one (connections) is useless for the next."""
        _engines.append(self)

    def run(self, work: Coroutine[Any, Any, T], context: contextvars.Context | None = None) -> T:
        """Run to its end and wait for it, in a thread. Whatever ends the wait ends the work."""
        if threading.get_ident() == self._thread:
            work.close()
            raise RuntimeError("a model cannot be called synchronously from within another model's call; use acall")
        future = self.submit(work, context)
        over: queue.SimpleQueue[object] = queue.SimpleQueue()
        future.add_done_callback(over.put)
        try:
            get(over)
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def arun(self, work: Coroutine[Any, Any, T], context: contextvars.Context | None = None) -> T:
        """The same for a task."""
        return await asyncio.wrap_future(self.submit(work, context))

    def submit(self, work: Coroutine[Any, Any, T], context: contextvars.Context | None = None) -> Future[T]:
        """Begin it; cancelling the future cancels the work."""
        loop = self._ready()
        context = contextvars.copy_context() if context is None else context
        return context.copy().run(asyncio.run_coroutine_threadsafe, work, loop)

    def runs(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether that is its loop."""
        return loop is self._loop

    def call_soon(self, callback: Any, *args: Any) -> None:
        """For finalisers: takes no lock; nothing happens where the loop is gone."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(callback, *args)

    def _ready(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            with self._making:
                if self._loop is None:
                    made: queue.SimpleQueue[asyncio.AbstractEventLoop | BaseException] = queue.SimpleQueue()
                    start_daemon(lambda: self._live(made), f"tracekeeper-{self.name}")
                    got = made.get()
                    if isinstance(got, BaseException):
                        raise RuntimeError(f"no event loop for model calls: {got}") from got
                    self._loop = got
        return self._loop

    def _live(self, made: queue.SimpleQueue[asyncio.AbstractEventLoop | BaseException]) -> None:
        try:
            loop = asyncio.new_event_loop()
        except OSError as error:  # no file descriptors left
            made.put(error)
            return
        asyncio.set_event_loop(loop)
        self._thread = threading.get_ident()
        made.put(loop)
        loop.run_forever()

    def _forget(self) -> None:
        _inherited.append(self._loop)
        self._making, self._loop, self._thread = threading.Lock(), None, None
        self.generation += 1


_engines: list[Engine] = []
HTTP = Engine("lm")
"""For clients that do nothing but wait for the network."""
OTHERS = Engine("lm-others")
"""For code that may compute for a while: LiteLLM, and the program's own functions."""


def _after_fork_in_child() -> None:
    for engine in _engines:
        engine._forget()


if hasattr(os, "register_at_fork"):  # absent on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)

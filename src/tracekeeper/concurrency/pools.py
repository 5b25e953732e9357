"""A thread pool whose work sees the context of whoever submitted it, and that never keeps a process from exiting.

``concurrent.futures.ThreadPoolExecutor`` does neither: a worker sees the context it was born with, and the interpreter
joins every worker at its exit, for ever if one hangs. This one is the same to its users (it is a subclass, so that
asyncio takes it for its default executor), and shares nothing with it inside: its threads are those of a ``Runner``.
"""

from __future__ import annotations

import contextvars
import itertools
import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor as _Executor
from concurrent.futures.thread import BrokenThreadPool
from functools import partial
from typing import Any, ParamSpec, TypeVar

from tracekeeper.concurrency.runner import Runner
from tracekeeper.concurrency.shapes import describe

P = ParamSpec("P")
T = TypeVar("T")

_numbers = itertools.count(1)


class ThreadPoolExecutor(_Executor):
    """``concurrent.futures.ThreadPoolExecutor``, with context, and with daemon threads.

    Each ``submit`` takes a copy of the caller's whole context along. Work that hangs does not keep the interpreter from
    exiting; ``shutdown(wait=True)`` and the end of a ``with`` block wait for it, as they always did.

    Parameters
    ----------
    max_workers:
        Threads at most; default: the number of processors + 4, at most 32, as in the standard library.
    thread_name_prefix:
        Default: ``pool-1``, ``pool-2``, …; the threads are called ``tracekeeper-`` and that.
    initializer, initargs:
        Called at the beginning of each thread. When it raises, the pool is broken: what waits and what comes fails with
        ``BrokenThreadPool``. Threads that had nothing to do for 10 s end, and begin anew with it.

    Raises
    ------
    ValueError, TypeError
        ``max_workers`` is not positive; ``initializer`` is not callable.

    Example
    -------
    >>> import tracekeeper as tk
    >>> with tk.context(session_id="s-1"), ThreadPoolExecutor(4) as pool:
    ...     pool.submit(lambda: tk.settings().session_id).result()
    's-1'
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if max_workers is None:
            max_workers = min(32, (os.cpu_count() or 1) + 4)
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._max_workers = max_workers
        self._initializer: Any = initializer
        self._initargs = initargs
        self._thread_name_prefix = thread_name_prefix or f"pool-{next(_numbers)}"
        self._shutdown = False
        self._failure = ""
        self._here = threading.local()
        self._pending: dict[Future[Any], None] = {}
        self._accepting = threading.Lock()
        self._runner = Runner(name=self._thread_name_prefix, concurrency=max_workers)
        # A pool that nobody holds any more, and that has nothing to do (its work holds it), lets its threads go.
        weakref.finalize(self, self._runner.close).atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` in a thread, in a copy of the caller's context.

        Raises
        ------
        RuntimeError
            The pool was shut down.
        BrokenThreadPool
            Its initializer raised.
        """
        future: Future[T] = Future()
        with self._accepting:
            if self._failure:
                raise BrokenThreadPool(self._failure)
            if self._shutdown:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._pending[future] = None
            self._runner.start(
                partial(self._work, future, partial(fn, *args, **kwargs)),
                timeout=None,
                done=_nothing,
                name=describe(fn),
                context=contextvars.copy_context(),
                asynchronous=False,
            )
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work.

        Parameters
        ----------
        wait:
            Return when all work is done.
        cancel_futures:
            Cancel what has not begun.

        Raises
        ------
        RuntimeError
            ``wait`` in one of the pool's own threads: it would wait for itself.
        """
        with self._accepting:
            self._shutdown = True
        if cancel_futures:
            for future in self._pending.copy():
                future.cancel()
        if wait:
            if getattr(self._here, "working", False):
                raise RuntimeError("cannot wait for the pool in one of its own threads")
            self._runner.drain(None)
            self._runner.close()

    def _work(self, future: Future[Any], call: Callable[[], Any]) -> None:
        """One piece of work, on a thread of the runner."""
        self._pending.pop(future, None)
        if not self._begun():
            if future.set_running_or_notify_cancel():
                future.set_exception(BrokenThreadPool(self._failure))
            return
        if not future.set_running_or_notify_cancel():
            return
        self._here.working = True
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  whatever it raises is the future's
            future.set_exception(error)
            future = None  # type: ignore[assignment]  # error -> traceback -> this frame -> future -> error
        else:
            future.set_result(result)
        finally:
            self._here.working = False

    def _begun(self) -> bool:
        """Whether this thread's initializer has run, now or before."""
        if self._failure:
            return False
        if self._initializer is None or getattr(self._here, "initialized", False):
            return True
        try:
            self._initializer(*self._initargs)
        except BaseException:
            logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            self._failure = "A thread initializer failed, the thread pool is not usable anymore"
            return False
        self._here.initialized = True
        return True


def _nothing(outcome: object) -> None:
    """The future has been told already."""

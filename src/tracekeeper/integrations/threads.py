"""Plain threads and thread pools carry the context of whoever started them, opt-in: ``tk.instrument("threads")``.

A context variable is seen by the thread that set it and by nobody else, so what a ``threading.Thread`` or a
``ThreadPoolExecutor`` does for a traced call knows neither its span nor its settings. With this installed, ``start``
and ``submit`` take a copy of the caller's context along: into threads, timers and subclasses of both, into pools, and
so into ``loop.run_in_executor``. Python 3.14 can do the same for threads by itself (``Thread(context=…)``,
``sys.flags.thread_inherit_context``); a context that was given there is left alone.

Invariants
----------
- One copy for each ``start`` and ``submit``: no two threads are ever in one ``Context``.
- Nothing of ours is on the stack between the call and whoever catches its exception, so tracebacks are as they were.
- A copy lives as long as the work. The threads of a pool outlive many calls and carry nothing of the first one's.
- Variables that a pool's initializer set in its thread keep their values there, as without this.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from tracekeeper.configuration.settings import overrides_variable
from tracekeeper.tracing import lost_context
from tracekeeper.tracing.context import VAR
from tracekeeper.tracing.recordings import active

_CARRIED = "_tracekeeper_context"
_OURS: tuple[Any, ...] = (VAR, overrides_variable, active)
"""The variables in which the caller's word counts, whatever a pool's thread was left with by earlier work."""

_changing = threading.Lock()
_before: dict[str, tuple[Any, Any]] = {}
"""What was there before, and what we put in its place, by name; entries stay while ours lies below somebody else's."""
_on = False


def install() -> Callable[[], None]:
    """Have threads and pools carry the context, also those that were made before. Idempotent.

    Returns
    -------
    Callable
        Undoes it. Work that was started meanwhile keeps its context.

    Raises
    ------
    RuntimeError
        This Python's threads cannot be made to; nothing was changed.

    Example
    -------
    >>> import threading, tracekeeper as tk
    >>> seen = []
    >>> undo = install()
    >>> with tk.context(session_id="s-1"):
    ...     thread = threading.Thread(target=lambda: seen.append(tk.settings().session_id))
    ...     thread.start()
    >>> thread.join()
    >>> undo()
    >>> seen
    ['s-1']
    """
    global _on
    from concurrent.futures import thread as pools

    with _changing:
        if not hasattr(threading.Thread, "_bootstrap_inner"):
            raise RuntimeError("this Python's threads are built otherwise: use contextvars.copy_context().run")
        _replace(threading.Thread, "start", functools.partial(_start, pools._worker))
        _replace(threading.Thread, "_bootstrap_inner", _bootstrap_inner)
        _replace(pools.ThreadPoolExecutor, "submit", _submit)
        _on = True
        lost_context.watching(False)
    return uninstall


def uninstall() -> None:
    """Undo ``install``. Where somebody wrapped ours meanwhile it stays, and does nothing any more."""
    global _on
    from concurrent.futures import thread as pools

    with _changing:
        if not _on:
            return
        _on = False
        for owner in (threading.Thread, pools.ThreadPoolExecutor):
            for name in ("start", "_bootstrap_inner", "submit"):
                original, ours = _before.get(name, (None, None))
                if ours is not None and owner.__dict__.get(name) is ours:
                    setattr(owner, name, original)
                    del _before[name]
        lost_context.watching(True)


def _replace(owner: type, name: str, make: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    if name in _before and original is not _before[name][0]:  # still there, perhaps below somebody else's
        return
    ours = functools.update_wrapper(make(original), original)
    setattr(owner, name, ours)
    _before[name] = (original, ours)


def _start(worker: Any, start: Callable[[Any], None]) -> Callable[[Any], None]:
    def carrying(self: threading.Thread) -> None:
        if not _on or getattr(self, "_target", None) is worker:
            return start(self)
        held = self.__dict__
        if held.get("_context") is not None:
            return start(self)  # Python 3.14, and the program said which one
        held[_CARRIED] = carried = copy_context()
        if "_context" in held:
            held["_context"] = carried
        try:
            return start(self)
        except BaseException:  # it could not be started, and may be tried again elsewhere
            held.pop(_CARRIED, None)
            if held.get("_context") is carried:
                held["_context"] = None
            raise

    return carrying


def _bootstrap_inner(run: Callable[[Any], None]) -> Callable[[Any], None]:
    def carried(self: threading.Thread) -> None:
        # Exceptions are caught and reported inside `run`, so this frame is in none of their tracebacks.
        context = self.__dict__.pop(_CARRIED, None)
        if context is None:
            return run(self)
        if self.__dict__.get("_context") is not context:
            return context.run(run, self)  # type: ignore[no-any-return]
        del context
        try:
            return run(self)  # Python 3.14 enters it by itself
        finally:
            self.__dict__["_context"] = None

    return carried


def _submit(submit: Callable[..., Any]) -> Callable[..., Any]:
    def carrying(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if not _on:
            return submit(self, fn, *args, **kwargs)
        context = copy_context()
        if getattr(self, "_initializer", None) is None:
            return submit(self, context.run, fn, *args, **kwargs)
        return submit(self, _Joined(context), fn, *args, **kwargs)

    return carrying


class _Joined:
    """``context.run`` where the thread has a context of its own, made by the pool's initializer: both count.

    The joining happens while ``__call__`` is looked up, not in it: a frame of ours would be in every traceback.
    """

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def __call__(self) -> Callable[..., Any]:
        there = copy_context()
        if there:
            self._context.run(_take, there)
        return self._context.run


def _take(there: Context) -> None:
    here = copy_context()
    for variable, value in there.items():
        if variable not in here or variable not in _OURS:
            variable.set(value)

"""Work that lost its context says so once, with the remedy.

A plain thread does not know the span of the call that started it. What it traces is then a record of its own, which is
right for a server's threads and wrong for a thread that works for a traced call. The two look the same from inside. But
where a traced call *waits* for the thread (``join``, ``result``, ``map``, the end of a ``with`` block, an awaited
executor), its stack, or the task that awaits, proves it. So whenever a root begins outside the main thread, and at most
ten times a second, this looks who waits for the thread at hand. What is found is certain; what is not found (work that
nobody waits for) is not reported. See ``docs/design/context.md``.

Only frames of the standard library and of our own wrappers are read. Reading a frame's locals keeps them alive until it
returns, and that must not happen to the program's objects.
"""

from __future__ import annotations

import _thread
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextvars import Context, ContextVar
from types import CodeType, FrameType
from typing import Any

from tracekeeper.tracing import trouble
from tracekeeper.tracing.context import KEY, VAR
from tracekeeper.tracing.runtime import open_spans

log = logging.getLogger("tracekeeper")

INTERVAL = 0.1
"""Seconds between two looks."""
_DEPTH = 1_000
_CALLBACKS = 8

main_thread = _thread.get_ident()
"""Roots that begin in the thread that imported this (nearly always the main one) are not looked at."""
on = True
"""Whether roots are looked at: until the warning was given, and not while threads carry the context."""

_said = False
_next = 0.0
_wrappers: set[CodeType] = set()


def watching(wanted: bool) -> None:
    """Look, or do not: threads carry the context."""
    global on
    on = wanted and not _said


def wrapper(code: CodeType) -> None:
    """A function with this code holds, while it is on a stack, the open span of a call in its local ``span``."""
    _wrappers.add(code)


def look() -> None:
    """A root begins in this thread: warn if a traced call waits for what the thread does. Raises no ``Exception``."""
    global _next
    now = time.monotonic()
    if now < _next:
        return
    _next = now + INTERVAL
    try:
        if open_spans:
            waiting = _waiting_call()
            if waiting is not None:
                _say(waiting)
    except Exception as error:  # noqa: BLE001
        trouble.note("looking for work that lost its context", error)


def forget() -> None:
    """As if it had never been said. For tests."""
    global _said, _next, on
    _said, _next, on = False, 0.0, True


def _say(name: str) -> None:
    global _said, on
    if _said:
        return
    _said, on = True, False
    log.warning(
        "work that thread %r does for the traced call %r lost its context: it is recorded as calls of their own, "
        'without that call\'s settings, session and tags. tk.instrument("threads") makes threads and pools carry it '
        "(or run the work with contextvars.copy_context().run); this is said once",
        threading.current_thread().name,
        name,
    )


def _waiting_call() -> str | None:
    """The name of the traced call that waits for this thread's work, if there is one."""
    from concurrent.futures import _base
    from concurrent.futures import thread as pools

    me = threading.current_thread()
    item = future = None
    for frame in _stack(sys._getframe(1)):
        if frame.f_code is pools._WorkItem.run.__code__:
            item = frame.f_locals.get("self")
            future = getattr(item, "future", None)
    if future is not None and (name := _awaiting(future)) is not None:
        return name
    joins = threading.Thread.join.__code__
    results = _base.Future.result.__code__
    many = {function.__code__ for function in (_base.wait, _base.as_completed)}
    mapped = _mapped(_base.Executor.map.__code__)
    for ident, innermost in sys._current_frames().items():
        if ident == me.ident:
            continue
        waits = False
        for frame in _stack(innermost):
            code = frame.f_code
            if code is joins:
                waits = waits or frame.f_locals.get("self") is me
            elif code is pools.ThreadPoolExecutor.shutdown.__code__:
                waits = waits or me in getattr(frame.f_locals.get("self"), "_threads", ())
            elif future is None:
                pass
            elif code is results:
                waits = waits or frame.f_locals.get("self") is future
            elif code in many or code is mapped:
                waits = waits or _holds(frame.f_locals.get("fs"), future)
            if waits and code in _wrappers:
                span = frame.f_locals.get("span")
                if span is not None and span.is_open():
                    return str(span.name)
    return None


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    """A stack from the inside out."""
    for _ in range(_DEPTH):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _holds(futures: Any, future: Any) -> bool:
    return isinstance(futures, list | set | deque) and future in futures


def _mapped(code: CodeType) -> CodeType | None:
    """The generator inside ``Executor.map``, whose ``fs`` are the results that are still to come."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == "result_iterator"]
    return inner[0] if inner else None


def _awaiting(future: Any) -> str | None:
    """The span of the task that awaits this pool's future, by the context in which it is to be continued."""
    for callback in list(getattr(future, "_done_callbacks", ()))[:_CALLBACKS]:
        for cell in (getattr(callback, "__closure__", None) or ())[:_CALLBACKS]:
            for _, context in list(getattr(_contents(cell), "_callbacks", None) or ())[:_CALLBACKS]:
                name = _current_in(context)
                if name is not None:
                    return name
    return None


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty: not bound yet
        return None


def _current_in(context: Any) -> str | None:
    if not isinstance(context, Context) or not isinstance(VAR, ContextVar):
        return None
    around = context.get(VAR)
    span: Any = None if around is None else around.get(KEY)
    is_open = getattr(span, "is_open", None)
    return str(span.name) if is_open is not None and is_open() else None


def _after_fork_in_child() -> None:
    global main_thread
    main_thread = _thread.get_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""Ctrl-C while maps run: the first stops them and keeps what is finished, the second is a ``KeyboardInterrupt``.

A ``KeyboardInterrupt`` may come between any two instructions of the main thread, also between those that keep a map's
books. So while a map runs in the main thread its own handler lies above what was there: Python's, the one of
``asyncio.run``, or the program's own, which is called as before. Where that raises ``KeyboardInterrupt`` for the first
time, ours leaves a note instead, and the maps of all threads read it.

A map in another thread, with none in the main thread, cannot have a handler: Python installs them from the main thread
alone. There the ``KeyboardInterrupt`` ends the main thread, and the interpreter then waits for the others. At that
moment their maps are stopped, so that it does not wait for long. A thread whose ``join`` was interrupted counts as
ended on Python 3.11, and the interpreter would not wait for it at all: these threads have ``LAST`` seconds to use what
is finished.

Waiting needs care as well: see ``waits``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import weakref
from types import FrameType, TracebackType
from typing import Any, Protocol

LAST = 1.5
"""Seconds that threads with a map have after Ctrl-C ended the main thread."""


class Interruptible(Protocol):
    """What can be stopped: a map."""

    interrupted: bool

    def interrupt(self) -> None:
        """Begin nothing more and give what is finished. Called from signal handlers: takes no lock."""
        ...

    def abort(self) -> None:
        """End with ``KeyboardInterrupt``. Called from signal handlers: takes no lock."""
        ...


_maps: dict[Interruptible, threading.Event | None] = {}
"""All that run. In threads that the interpreter waits for, with what is set when the thread ends."""
_in_main: dict[Interruptible, None] = {}
_previous: Any = None
_following_the_end = False
_ended = False


class Interrupting:
    """A block in which Ctrl-C stops a map.

    Parameters
    ----------
    interruptible:
        The map; it is told by ``interrupt`` and, at the second time, in other threads than the main one, by ``abort``.
    """

    def __init__(self, interruptible: Interruptible) -> None:
        self._map = interruptible

    def __enter__(self) -> None:
        thread = threading.current_thread()
        if thread is threading.main_thread():
            _maps[self._map] = _in_main[self._map] = None
            _install()
        else:
            _maps[self._map] = None if thread.daemon else _end_of_thread()
            _follow_the_end()
            if _ended:
                self._map.interrupt()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _maps.pop(self._map, None)
        if self._map in _in_main:
            del _in_main[self._map]
            if not _in_main:
                _put_back()


def _install() -> None:
    global _previous
    try:
        present = signal.getsignal(signal.SIGINT)
        # What asyncio's `add_signal_handler` puts there stands for a callback of the loop, and is left alone.
        of_asyncio = getattr(present, "__module__", "") in ("asyncio.unix_events", "asyncio.windows_events")
        if callable(present) and present is not _on_ctrl_c and not of_asyncio:
            signal.signal(signal.SIGINT, _on_ctrl_c)
            _previous = present
    except ValueError:  # a subinterpreter: its main thread is not the one that signals reach
        return


def _put_back() -> None:
    global _previous
    if _previous is not None and signal.getsignal(signal.SIGINT) is _on_ctrl_c:
        signal.signal(signal.SIGINT, _previous)
        _previous = None


def _is_of_asyncio_run(handler: Any) -> bool:
    method = getattr(getattr(handler, "func", None), "__func__", None)
    return method is not None and method is getattr(asyncio.Runner, "_on_sigint", None)


def _on_ctrl_c(number: int, frame: FrameType | None) -> None:
    first = not all(each.interrupted for each in _in_main)
    if first and _is_of_asyncio_run(_previous):  # it would cancel the main task
        for each in _maps.copy():
            each.interrupt()
        return
    try:
        _previous(number, frame)
    except KeyboardInterrupt:
        for each in _maps.copy():
            if first:
                each.interrupt()
            elif each not in _in_main:
                each.abort()
        if not first:
            raise


def _follow_the_end() -> None:
    """Have the end of the main thread looked at. Once."""
    global _following_the_end
    if _following_the_end:
        return
    _following_the_end = True
    # Private, as `concurrent.futures` uses it: `atexit` would come after the threads were waited for.
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        try:
            register(_main_thread_ended)
        except RuntimeError:  # it has ended already
            _main_thread_ended()


def _main_thread_ended() -> None:
    global _ended
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    if isinstance(error, KeyboardInterrupt):
        _ended = True
        stopped = _maps.copy()
        for each in stopped:
            each.interrupt()
        deadline = time.monotonic() + LAST
        for end in stopped.values():
            if end is not None:
                end.wait(max(0.0, deadline - time.monotonic()))


class _Here(threading.local):
    """Lives as long as its thread."""

    end: threading.Event | None = None


class _Token:
    """Dies with the thread that holds it."""


_here = _Here()


def _end_of_thread() -> threading.Event:
    """What is set when this thread ends."""
    if _here.end is None:
        token, end = _Token(), threading.Event()
        weakref.finalize(token, end.set).atexit = False
        _here.end, _here.token = end, token
    return _here.end


def _after_fork_in_child() -> None:
    """The maps are the parent's: their threads are not here, and Ctrl-C must reach what the child does."""
    _maps.clear()
    _in_main.clear()
    _put_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

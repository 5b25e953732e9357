"""Ctrl-C while maps run: the first stops them and keeps what is finished, the second is a ``KeyboardInterrupt``.

A ``KeyboardInterrupt`` may come between any two instructions of the main thread, also between those that keep a map's
books. So while a map runs in the main thread its own handler takes the place of Python's (or of asyncio's, which
``asyncio.run`` installs); a handler that the program installed is left alone. It only leaves a note, and the maps of
all threads read it.

A map in another thread, with none in the main thread, cannot have a handler: Python installs them from the main thread
alone. There the ``KeyboardInterrupt`` ends the main thread, and the interpreter then waits for the others. At that
moment their maps are stopped, so that it does not wait for long.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Protocol


class Interruptible(Protocol):
    """What can be stopped: a map."""

    interrupted: bool

    def interrupt(self) -> None:
        """Begin nothing more and give what is finished. Called from signal handlers: takes no lock."""
        ...

    def abort(self) -> None:
        """End with ``KeyboardInterrupt``. Called from signal handlers: takes no lock."""
        ...


_maps: dict[Interruptible, None] = {}
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
        _maps[self._map] = None
        if threading.current_thread() is threading.main_thread():
            _in_main[self._map] = None
            _install()
        else:
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
        if present is signal.default_int_handler or _is_of_asyncio(present):
            signal.signal(signal.SIGINT, _on_ctrl_c)
            _previous = present
    except ValueError:  # a subinterpreter: its main thread is not the one that signals reach
        return


def _put_back() -> None:
    global _previous
    if _previous is not None and signal.getsignal(signal.SIGINT) is _on_ctrl_c:
        signal.signal(signal.SIGINT, _previous)
        _previous = None


def _is_of_asyncio(handler: Any) -> bool:
    method = getattr(getattr(handler, "func", None), "__func__", None)
    return method is not None and method is getattr(asyncio.Runner, "_on_sigint", None)


def _on_ctrl_c(number: int, frame: FrameType | None) -> None:
    if not all(each.interrupted for each in _in_main):
        for each in _maps.copy():
            each.interrupt()
        return
    for each in _maps.copy():
        if each not in _in_main:
            each.abort()
    if callable(_previous):
        _previous(number, frame)  # raises, or cancels the main task


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
        for each in _maps.copy():
            each.interrupt()


def _after_fork_in_child() -> None:
    """The maps are the parent's: their threads are not here, and Ctrl-C must reach what the child does."""
    _maps.clear()
    _in_main.clear()
    _put_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

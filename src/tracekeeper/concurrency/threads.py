"""Starting daemon threads from anywhere, even from a finaliser.

``threading.Thread.start`` takes locks of the ``threading`` module. A finaliser may run while its own thread holds one
of them, so starting a thread there could wait for itself for ever. A raw thread takes no such lock; it does nothing but
start the real one. All threads of this package are daemons: the interpreter never waits for one at its exit, which is
why ``concurrent.futures`` (whose threads are joined) is not used anywhere.

From Python 3.12 on no thread can be started once the interpreter has begun to shut down, and the program's last call
may have come a moment before. The raw thread is there by then, and does the work itself.
"""

from __future__ import annotations

import _thread
import logging
import threading
from collections.abc import Callable

logger = logging.getLogger("tracekeeper")


def start_daemon(target: Callable[[], None], name: str, failed: Callable[[], None] | None = None) -> None:
    """Start a daemon thread without taking a lock: a finaliser may call this.

    ``failed`` is called, from another thread, when the second half of the start fails.

    Raises
    ------
    RuntimeError
        When the system gives no more threads, or the interpreter is shutting down.
    """
    _thread.start_new_thread(_bootstrap, (target, name, failed))


def at_shutdown(error: RuntimeError) -> bool:
    """Whether a thread could not be started because the interpreter shuts down (and not for want of room)."""
    return "interpreter shutdown" in str(error)


def _bootstrap(target: Callable[[], None], name: str, failed: Callable[[], None] | None) -> None:
    try:
        threading.Thread(target=target, name=name, daemon=True).start()
    except RuntimeError as error:  # nobody is left to raise to; the watchdog tries again while work waits
        if at_shutdown(error):
            target()
            return
        logger.warning("tracekeeper could not start thread %s: %s", name, error)
        if failed is not None:
            failed()

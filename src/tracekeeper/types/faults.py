"""Named places where a test can make something go wrong.

Code that talks to a disk, a database or another process names the moment: ``faults.point("journal.grow")``. Nothing
happens there unless a test armed that name with an action, which then runs at exactly this moment: it raises (a full
disk), kills the process (a crash between two steps), or waits (a step that takes long). So tests need no sleeps and no
luck. Disarmed, a point costs one call and one attribute check; hot paths have none.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Action = Callable[[], None]

_armed: dict[str, Action] | None = None


def point(name: str) -> None:
    """Run the action that is armed under ``name``, if any.

    Raises
    ------
    BaseException
        Whatever the armed action raises; nothing when nothing is armed.

    Example
    -------
    >>> point("journal.grow")
    """
    if _armed is not None:
        action = _armed.get(name)
        if action is not None:
            action()


def arm(name: str, action: Action) -> None:
    """Let ``action`` run whenever the point ``name`` is passed, on the thread that passes it, until ``disarm``."""
    global _armed
    _armed = {**(_armed or {}), name: action}


def disarm(name: str | None = None) -> None:
    """Take back what was armed under ``name``, or everything."""
    global _armed
    left = {key: action for key, action in (_armed or {}).items() if name is not None and key != name}
    _armed = left or None


@contextmanager
def armed(name: str, action: Action) -> Iterator[None]:
    """Arm ``name`` inside a ``with`` block.

    Example
    -------
    >>> import errno
    >>> with armed("example", failing(errno.ENOSPC)):
    ...     try:
    ...         point("example")
    ...     except OSError as error:
    ...         print(errno.errorcode[error.errno])
    ENOSPC
    """
    arm(name, action)
    try:
        yield
    finally:
        disarm(name)


def failing(number: int, *, times: int | None = None) -> Action:
    """An action that raises ``OSError`` with this ``errno``, always or only the first ``times`` times."""
    left = [times]

    def fail() -> None:
        if left[0] is not None:
            if left[0] <= 0:
                return
            left[0] -= 1
        raise OSError(number, f"injected: {os.strerror(number)}")

    return fail


def killing(*, after: int = 0) -> Action:
    """An action that kills this process as ``kill -9`` does, after it was passed ``after`` times."""
    left = [after]

    def kill() -> None:
        if left[0] > 0:
            left[0] -= 1
            return
        if hasattr(signal, "SIGKILL"):
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(137)

    return kill

"""Marks what a thread does for Tracekeeper itself: storing, sending copies.

Programs instrument their database drivers and HTTP clients, and ours are the same ones. A span of the statement that
stores a span would be stored as well, by a statement that makes another span, and so on for ever: so what is done in
here is not traced.
"""

from __future__ import annotations

import threading
from types import TracebackType

_here = threading.local()


class own_work:
    """``with own_work(): …`` around a database transaction or a request of our own. May be nested.

    Example
    -------
    >>> with own_work():
    ...     doing_own_work()
    True
    >>> doing_own_work()
    False
    """

    __slots__ = ()

    def __enter__(self) -> own_work:
        _here.depth = getattr(_here, "depth", 0) + 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _here.depth -= 1


def doing_own_work() -> bool:
    """Whether this thread works for Tracekeeper at the moment."""
    return getattr(_here, "depth", 0) > 0

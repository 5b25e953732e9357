"""A function that runs while its caller does something else: two halves of one question to a database, on two cores."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Alongside(Generic[T]):
    """Begins at once in a daemon thread of its own; ``result`` waits for it. Where there is no thread, it runs there.

    Example
    -------
    >>> other = Alongside(lambda: sum(range(10)), "example")
    >>> max(range(10)), other.result()
    (9, 45)
    """

    def __init__(self, function: Callable[[], T], name: str) -> None:
        self._function = function
        self._value: T
        self._error: BaseException | None = None
        thread = threading.Thread(target=self._run, name=f"tracekeeper-{name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads, or the interpreter shuts down
            self._thread = None
        else:
            self._thread = thread

    def result(self) -> T:
        """What it returned.

        Raises
        ------
        BaseException
            What it raised.
        """
        if self._thread is None:
            self._run()
        else:
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001  it is raised where the result is asked for
            self._error = error

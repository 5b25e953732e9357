"""What an engine has to offer so that calls can be made on it: a page. ``on_ray`` is one.

An engine starts processes that host a ``worker.Workplace`` and carries messages; it decides nothing. Deadlines, which
call goes where, what is made again, and what is kept are the same for all engines (``places``, ``remote``).

To add one: write these two classes, then ``RemoteExecutor(MyEngine(), concurrency=…, timeout=…, retries=…)`` is what
``tk.evaluate(executor=…)`` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from tracekeeper.evaluation.executors.elsewhere.messages import Message, Order, Setup


class Gone(NamedTuple):
    """A worker that will never answer again, and why, in words."""

    reason: str


class Hosted(Protocol):
    """A ``Workplace`` in another process. No method waits for it."""

    def begin(self, orders: list[Order]) -> None:
        """``Workplace.begin``."""
        ...

    def cancel(self, number: int) -> None:
        """``Workplace.cancel``."""
        ...

    def leave(self, seconds: float) -> list[Message]:
        """``Workplace.leave``: the one that waits, at most a second longer than ``seconds``. Raises if it is gone."""
        ...

    def kill(self) -> None:
        """End the process at once, whatever it does, if it has not ended. Nothing that it still says is heard."""
        ...


class Engine(Protocol):
    """Where workers are started. Used by one run."""

    name: str
    """In messages: ``Ray``."""

    @property
    def dumps(self) -> Callable[[Any], bytes]:
        """Pickles a task, by value where its module cannot be imported elsewhere; ``pickle`` must read it there."""
        ...

    def room(self) -> int:
        """Workers that are reasonable here, when all of it is free. At least 1."""
        ...

    def start(self, setup: Setup) -> Hosted:
        """Begin to start a worker. It may take as long as it takes; ``wait`` brings its ``Ready``."""
        ...

    def wait(self, workers: Sequence[Any], timeout: float) -> list[tuple[Any, list[Message] | Gone]]:
        """What ``Workplace.poll`` gave, of any of these workers; waits for one answer, at most ``timeout`` seconds.

        Each worker is always polled, once at a time. Called from one thread.
        """
        ...

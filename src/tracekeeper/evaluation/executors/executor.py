"""What an executor is: somewhere to make the calls of a run.

A run hands it callables of no arguments, in order, and is told of each one's outcome as it comes. All else, what is
called, journaled, judged and counted, is the run's. So an executor has to promise five things, and no more:

1. Every call gets exactly one ``Outcome`` (``ok``, ``error``, ``timed_out``, ``cancelled``), its place in ``index``.
2. ``timeout`` holds for each attempt, whatever the call does; ``retries`` of those that raised or timed out.
3. No call is made twice but for ``retries``, and for a machine that was lost while it may have been making it: that is
   as a resume does after a crash, and bounded, and each attempt is a record of its own that ends.
4. After ``stop`` nothing begins; what runs goes on to its end. The first Ctrl-C does the same and gives up what still
   runs after a moment; the second raises ``KeyboardInterrupt``.
5. ``told`` is called in the thread (task) that called ``run`` (``arun``), as calls end, and may call ``stop``.

One that makes calls in other processes is an ``Elsewhere`` too. For another cluster or queue than Ray do not write one:
write an engine (``elsewhere.engine``, also a page), which starts processes and carries messages, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from tracekeeper.concurrency import Outcome
from tracekeeper.concurrency.mapping import Call

Told = Callable[[Outcome[Any]], None]


class Executor(Protocol):
    """Made for one run, with its concurrency, timeout and retries."""

    def run(self, calls: Iterator[Call], total: int, told: Told) -> None:
        """Make the calls; return when each has its outcome."""
        ...

    async def arun(self, calls: Iterator[Call], total: int, told: Told) -> None:
        """The same without blocking the running loop."""
        ...

    def stop(self, reason: str) -> None:
        """Begin nothing more: what has not begun ends ``cancelled`` with this reason. From any thread."""
        ...

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C stopped it."""
        ...


@runtime_checkable
class Paced(Protocol):
    """What an executor has besides when it can wait before it begins a call, for scores that lag behind."""

    concurrency: int
    hold: Callable[[], bool] | None
    """Asked before each call is begun, in the thread (task) of ``run``: whether to begin none for now."""

    def look(self) -> None:
        """Have ``hold`` asked again. From any thread."""
        ...


@runtime_checkable
class Elsewhere(Protocol):
    """What an executor has besides when the task itself runs in other processes."""

    trouble: str | None
    """Why it could not make all calls, in a sentence: a note of the experiment."""

    def sent(self, task: Callable[..., Any]) -> Callable[..., Any]:
        """What is called here in the task's place, inside the item's record. Called once, before anything is written.

        Raises
        ------
        ConfigurationError
            The task cannot be sent; in one sentence.
        """
        ...

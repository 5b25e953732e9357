"""One deadline runner, and what it stands on: daemon workers, engine loops, a watchdog, shapes of callables.

Import it freely: ``asyncio`` and the runner itself are loaded at their first use only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracekeeper.concurrency.outcome import Outcome, OutcomeStatus, RunningCall
from tracekeeper.concurrency.shapes import describe, is_async, is_awaitable

if TYPE_CHECKING:
    from tracekeeper.concurrency.processes.child import tell
    from tracekeeper.concurrency.processes.pool import ProcessCall, ProcessOutcome, ProcessPool
    from tracekeeper.concurrency.runner import Runner
    from tracekeeper.concurrency.task import Task

__all__ = [
    "Outcome",
    "OutcomeStatus",
    "ProcessCall",
    "ProcessOutcome",
    "ProcessPool",
    "Runner",
    "RunningCall",
    "Task",
    "describe",
    "is_async",
    "is_awaitable",
    "tell",
]


def __getattr__(name: str) -> Any:
    if name == "Runner":
        from tracekeeper.concurrency.runner import Runner

        return Runner
    if name == "Task":
        from tracekeeper.concurrency.task import Task

        return Task
    if name in ("ProcessCall", "ProcessOutcome", "ProcessPool"):
        from tracekeeper.concurrency.processes import pool as processes

        return getattr(processes, name)
    if name == "tell":
        from tracekeeper.concurrency.processes.child import tell

        return tell
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

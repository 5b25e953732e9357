"""The asyncio task of a call. Apart from the loops, whose module is imported by programs that never use asyncio."""

from __future__ import annotations

import asyncio
import contextvars
from contextvars import ContextVar
from typing import Any

from tracekeeper.concurrency.task import Task

call: ContextVar[Task | None] = ContextVar("tracekeeper_call", default=None)
"""The call that an asyncio task works for."""


class EngineTask(asyncio.Task[Any]):
    """An asyncio task that remembers which call it works for."""

    def __init__(self, coro: Any, *, context: contextvars.Context | None = None, **kwargs: Any) -> None:
        super().__init__(coro, context=context, **kwargs)
        self.owner: Task | None = context.get(call) if context is not None else call.get()
        # A timed-out call may outlive the loop at exit; that it was pending was said in its outcome.
        self._log_destroy_pending = False

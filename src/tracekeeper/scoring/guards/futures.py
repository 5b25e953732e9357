"""A guarded function that returns a ``concurrent.futures.Future``: another one, which follows it and is judged.

Nothing waits: the first future's callback has the result judged on the deadline runner, whose outcome settles the
second one.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from tracekeeper.concurrency import Outcome
from tracekeeper.scoring.runners import inline_runner


def judged_future(
    future: concurrent.futures.Future[Any], judge: Callable[[Any], Coroutine[Any, Any, Any]]
) -> concurrent.futures.Future[Any]:
    """A future of ``judge(result)``. Cancelling it before the first one has run cancels that one."""
    judged: concurrent.futures.Future[Any] = concurrent.futures.Future()
    context = contextvars.copy_context()

    def arrived(first: concurrent.futures.Future[Any]) -> None:
        if first.cancelled():
            judged.cancel()
            judged.set_running_or_notify_cancel()
            return
        if not judged.set_running_or_notify_cancel():
            return
        error = first.exception()
        if error is not None:
            judged.set_exception(error)
            return
        inline_runner().start(
            partial(judge, first.result()), timeout=None, done=settle, name="guard", context=context, asynchronous=True
        )

    def settle(outcome: Outcome[Any]) -> None:
        try:
            judged.set_result(outcome.unwrap())
        except BaseException as error:  # noqa: BLE001  the future's owner gets it, whatever it is
            judged.set_exception(error)

    judged.add_done_callback(lambda one: future.cancel() if one.cancelled() else None)
    future.add_done_callback(arrived)
    return judged
